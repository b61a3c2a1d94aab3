"""Names that have moved: still found where they were, with a word on where they are."""

import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["moved"]


def moved(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a package's ``__getattr__`` that finds names in the modules they have moved to, given by module."""
    where = {name: module for module, names in homes.items() for name in names.split()}

    def find(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        warnings.warn(f"{package}.{name} is now {where[name]}.{name}.", DeprecationWarning, stacklevel=2)
        return getattr(import_module(where[name]), name)

    return find
