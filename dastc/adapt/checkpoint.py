"""Checkpoints that survive a crash, and say what does not fit."""

import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dastc._core.wrappers import unwrapped
from dastc.adapt.recipe import Recipe

__all__ = ["load_checkpoint", "load_model", "read_about", "save_checkpoint"]

_FORMAT = 2
_TEACHER = "labels.teacher.copy."


def save_checkpoint(
    path: str | os.PathLike[str],
    recipe: nn.Module,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: Any = None,
    step: int = 0,
    about: dict[str, Any] | None = None,
) -> None:
    """Write everything that a run needs to go on, atomically: a crash leaves the old file or the new one.

    Args:
        path: The file to write; its folder is made if need be.
        recipe: A recipe, or any module; what wraps it, such as DistributedDataParallel, is looked through.
        optimizer: Its optimiser.
        scheduler: Of the learning rate, or whatever else has a ``state_dict``.
        step: How many steps are done.
        about: Plain values (numbers, strings, lists, dicts, tensors) to keep beside, such as the settings of the run.

    Raises:
        OSError: If the file cannot be written.

    Example:
        >>> model = nn.Linear(2, 2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_checkpoint(f"{folder}/last.pt", model, step=7)
        ...     load_checkpoint(f"{folder}/last.pt", model)["step"]
        7
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    recipe = unwrapped(recipe)
    state = {
        "format": _FORMAT,
        "recipe": type(recipe).__name__,
        "network": _prefix(recipe),
        "state": recipe.state_dict(),
        "optimizer": None if optimizer is None else optimizer.state_dict(),
        "scheduler": None if scheduler is None else scheduler.state_dict(),
        "rng": torch.get_rng_state(),
        "step": step,
        "about": about or {},
    }
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            _written(state, file, path)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load_checkpoint(
    path: str | os.PathLike[str],
    recipe: nn.Module,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: Any = None,
    about: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Restore what :func:`save_checkpoint` wrote, with ``weights_only=True``: nothing in the file is executed.

    Args:
        path: The file to read.
        recipe: The recipe to restore, made with the same arguments as the one that was saved. Its model may be
            wrapped where that of the file was not, or the other way round.
        optimizer: Its optimiser, to restore as well, along with torch's random state: the run goes on.
        scheduler: Likewise.
        about: Settings that must be those of the file, such as the data and the seed.

    Returns:
        The file's ``step`` and ``about``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no checkpoint or damaged, of another version, recipe or model, or of other settings.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_checkpoint(f"{folder}/a.pt", nn.Linear(2, 2), about={"seed": 1})
        ...     load_checkpoint(f"{folder}/a.pt", nn.Linear(2, 2), about={"seed": 2})
        Traceback (most recent call last):
        ...
        ValueError: ... must be 2; got 1.
    """
    state, recipe = _read(Path(path)), unwrapped(recipe)
    if state["recipe"] != type(recipe).__name__:
        raise ValueError(f"load_checkpoint: {path} must hold a {type(recipe).__name__}; got a {state['recipe']}.")
    for name, wanted in (about or {}).items():
        if state["about"].get(name) != wanted:
            raise ValueError(f"load_checkpoint: `{name}` of {path} must be {wanted}; got {state['about'].get(name)}.")
    for name, given in {"optimizer": optimizer, "scheduler": scheduler}.items():
        if given is not None and state[name] is None:
            raise ValueError(f"load_checkpoint: {path} must hold the state of the `{name}`; it was saved without.")
    try:
        recipe.load_state_dict(_renamed(state["state"], state["network"], _prefix(recipe)))
        if optimizer is not None:
            optimizer.load_state_dict(state["optimizer"])
            torch.set_rng_state(state["rng"].cpu())
        if scheduler is not None:
            scheduler.load_state_dict(state["scheduler"])
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"load_checkpoint: {path} must be of the same model; {error}") from error
    return {"step": state["step"], "about": state["about"]}


def load_model(path: str | os.PathLike[str], model: nn.Module, *, teacher: bool = False) -> None:
    """Load the model of a recipe, and nothing else, from what :func:`save_checkpoint` wrote.

    Args:
        path: The file to read.
        model: Made with the same arguments as the model that the recipe had; it may be wrapped.
        teacher: Load the teacher in place of the student: their average over the training, often the better one.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no checkpoint or damaged, its model is another one, or there is no teacher in it.

    Example:
        >>> from dastc.adapt import SourceOnly
        >>> from dastc.models import TinySegmenter
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_checkpoint(f"{folder}/a.pt", SourceOnly(TinySegmenter(3), 3))
        ...     load_model(f"{folder}/a.pt", TinySegmenter(3))
    """
    state, model = _read(Path(path)), unwrapped(model)
    prefix = _TEACHER if teacher else state["network"]
    weights = {key.removeprefix(prefix): value for key, value in state["state"].items() if key.startswith(prefix)}
    if teacher and not weights:
        raise ValueError(f"load_model: {path} must hold a teacher; got a {state['recipe']} without one.")
    try:
        model.load_state_dict(weights)
    except (RuntimeError, KeyError, ValueError, TypeError) as error:
        raise ValueError(f"load_model: {path} must hold a {type(model).__name__} like this one; {error}") from error


def read_about(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what was kept beside a checkpoint, such as the settings of the run, without its model.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no checkpoint or damaged.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_checkpoint(f"{folder}/a.pt", nn.Linear(2, 2), about={"seed": 1})
        ...     read_about(f"{folder}/a.pt")
        {'seed': 1}
    """
    about: dict[str, Any] = _read(Path(path))["about"]
    return about


def _written(state: dict[str, Any], file: Any, path: Path) -> None:
    try:
        torch.save(state, file)
    except RuntimeError as error:  # torch's own, in place of what the file system said
        raise OSError(f"save_checkpoint: {path} could not be written; {error}") from error


def _prefix(recipe: nn.Module) -> str:
    """Return what the names of the network's weights begin with: nothing if there is no recipe around it."""
    if not isinstance(recipe, Recipe):
        return ""
    network = unwrapped(recipe.model)
    return next(f"{name}." for name, module in recipe.named_modules() if module is network)


def _renamed(state: dict[str, Any], before: str, now: str) -> dict[str, Any]:
    return {f"{now}{key.removeprefix(before)}" if key.startswith(before) else key: x for key, x in state.items()}


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"load_checkpoint: `path` must be a file; {path} does not exist.")
    try:
        # torch.load looks at no checksum: a flipped bit would become a wrong weight
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"the checksum of {damaged} is wrong")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises a different kind for each way to be damaged
        raise ValueError(f"load_checkpoint: {path} must be a whole checkpoint; reading it gave: {error}") from error
    if not isinstance(state, dict) or "format" not in state:
        raise ValueError(f"load_checkpoint: {path} must be written by save_checkpoint; got something else.")
    if state["format"] != _FORMAT:
        raise ValueError(f"load_checkpoint: {path} must have format {_FORMAT}; got {state['format']}.")
    found: dict[str, Any] = state
    return found
