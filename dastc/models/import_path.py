"""Models by import path, for programs that take theirs from a command line."""

import sys
from difflib import get_close_matches
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

__all__ = ["model_from"]


def model_from(path: str, num_classes: int, **arguments: Any) -> nn.Module:
    """Make the model that an import path names, by calling it with the number of classes.

    Importing runs code: name what you trust, and take no path from a file of somebody else.

    Args:
        path: ``"package.module:callable"``, or ``"folder/file.py:callable"``. The callable is a class or a
            function that returns an ``nn.Module``.
        num_classes: Its first argument.
        arguments: Further ones, by name.

    Raises:
        ValueError: If the path has another form, there is no such module, file or callable, the arguments do not fit,
            or what comes back is no module.

    Source:
        Ours; the form is that of entry points.

    Example:
        >>> model_from("dastc.models:TinySegmenter", 3, width=16).head
        Conv2d(32, 3, kernel_size=(1, 1), stride=(1, 1))
    """
    where, colon, name = path.rpartition(":")
    if not (colon and where and name):
        raise ValueError(f"model_from: `path` must be 'package.module:callable' or 'file.py:callable'; got {path!r}.")
    module = _module(where, path)
    make = getattr(module, name, None)
    if not callable(make):
        there = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        near = get_close_matches(name, there, n=5, cutoff=0.4) or sorted(there)[:5]
        raise ValueError(
            f"model_from: `path` must name a callable of {where}; got {name!r}. Near: {', '.join(near) or 'none'}."
        )
    try:
        model = make(num_classes, **arguments)
    except TypeError as error:
        raise ValueError(f"model_from: {path} must take ({num_classes}, {_shown(arguments)}); {error}.") from error
    if not isinstance(model, nn.Module):
        raise ValueError(f"model_from: {path} must return an nn.Module; got {type(model).__name__}.")
    return model


def _module(where: str, path: str) -> ModuleType:
    if not where.endswith(".py"):
        try:
            return import_module(where)
        except ModuleNotFoundError as error:
            # a module that is there, and imports one that is not, is another fault than a misspelt path
            if error.name is None or not (where == error.name or where.startswith(f"{error.name}.")):
                raise
            raise ValueError(
                f"model_from: `path` must name a module that Python finds; got {path!r}: {error}. "
                "Is its folder in PYTHONPATH?"
            ) from error
    file = Path(where)
    if not file.is_file():
        raise ValueError(f"model_from: `path` must name an existing file; got {path!r}.")
    spec = spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ValueError(f"model_from: `path` must name a Python file; got {path!r}.")
    module = module_from_spec(spec)
    sys.modules.setdefault(file.stem, module)  # where pickle and dataclasses look for it
    spec.loader.exec_module(module)
    return module


def _shown(arguments: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in arguments.items()) or "nothing else"
