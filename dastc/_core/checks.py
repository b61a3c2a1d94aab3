"""Argument checks. Every message names the caller, the argument, the rule and what arrived."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

_MAY_BE_EMPTY = frozenset(("N", "B", "C", "P", "T-1"))  # a batch, channels, pixels that are no picture, an image's flow


def check_shape(
    caller: str, name: str, x: Tensor, axes: str, known: Mapping[str, int] | None = None, *, hint: str = ""
) -> dict[str, int]:
    """Match ``x.shape`` against named axes; return the size of every axis seen so far.

    A batch may be empty, and so may flow between the frames of an image. Pictures, clips, features and class sets may
    not.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"{caller}: `{name}` must be a tensor; got {type(x).__name__}.")
    sizes, names = dict(known or {}), axes.split()
    if x.dim() == len(names):
        found = dict(zip(names, x.shape, strict=True))
        if all(sizes.get(axis, n) == n for axis, n in found.items()):
            _check_not_empty(caller, name, x, found)
            return sizes | found
    want = ", ".join(_axis(axis, sizes) for axis in names)
    raise ValueError(f"{caller}: `{name}` must have shape ({want}); got {tuple(x.shape)}.{hint and ' ' + hint}")


def _axis(axis: str, sizes: Mapping[str, int]) -> str:
    if axis.isdigit():
        return axis
    return f"{axis}={sizes[axis]}" if axis in sizes else axis


def _check_not_empty(caller: str, name: str, x: Tensor, sizes: Mapping[str, int]) -> None:
    empty = [axis for axis, n in sizes.items() if n == 0 and not axis.isdigit() and axis not in _MAY_BE_EMPTY]
    if empty:
        raise ValueError(
            f"{caller}: `{name}` must have a size of at least 1 along {', '.join(empty)}; got {tuple(x.shape)}."
        )


def check_dtype(caller: str, name: str, x: Tensor, kind: str) -> None:
    """Check the kind of a tensor's dtype: ``"float"``, ``"int64"`` or ``"bool"``."""
    fits = {"float": x.is_floating_point(), "int64": x.dtype == torch.int64, "bool": x.dtype == torch.bool}[kind]
    if not fits:
        raise TypeError(f"{caller}: `{name}` must be of dtype {kind}; got {x.dtype}.")


def check_same_device(caller: str, tensors: Mapping[str, Tensor | None]) -> None:
    """Check that all tensors given lie on one device."""
    devices = {name: x.device for name, x in tensors.items() if x is not None}
    if len(set(devices.values())) > 1:
        places = ", ".join(f"`{name}` on {device}" for name, device in devices.items())
        raise ValueError(f"{caller}: all tensors must lie on one device; got {places}.")


def check_between(caller: str, name: str, value: float, low: float, high: float) -> None:
    """Check that a scalar lies in the closed interval [low, high]; NaN never does."""
    if not low <= value <= high:
        raise ValueError(f"{caller}: `{name}` must lie in [{low}, {high}]; got {value}.")


def check_at_least(caller: str, name: str, value: float, low: float) -> None:
    """Check that a scalar is at least ``low``; NaN never is."""
    if not value >= low:
        raise ValueError(f"{caller}: `{name}` must be at least {low}; got {value}.")


def check_views(caller: str, name: str, views: Sequence[float]) -> None:
    """Check a largest zoom of at least 1 and a largest shift in [0, 1)."""
    if not isinstance(views, Sequence) or len(views) != 2 or not (1 <= views[0] < float("inf") and 0 <= views[1] < 1):
        raise ValueError(
            f"{caller}: {name} must be a zoom of at least 1 and a shift in [0, 1), finite both; got {views}."
        )


def check_grid(caller: str, name: str, grid: Sequence[int]) -> None:
    """Check that there are rows and columns, at least one of each."""
    if not isinstance(grid, Sequence) or len(grid) != 2 or any(not n >= 1 or n % 1 != 0 for n in grid):
        raise ValueError(f"{caller}: `{name}` must be (rows, columns), two whole numbers of at least 1; got {grid}.")


def check_choice(caller: str, name: str, value: object, choices: tuple[object, ...]) -> None:
    """Check that an option is one of those there are."""
    if value not in choices:
        raise ValueError(f"{caller}: `{name}` must be one of {', '.join(map(repr, choices))}; got {value!r}.")


def check_classes(caller: str, name: str, classes: Sequence[int], num_classes: int, ignore_index: int) -> None:
    """Check that labels name classes, and not what takes no part."""
    if any(not 0 <= c < num_classes for c in classes):
        raise ValueError(f"{caller}: `{name}` must be labels in [0, K={num_classes}); got {list(classes)}.")
    if ignore_index in classes:
        raise ValueError(f"{caller}: `{name}` must not hold `ignore_index`, {ignore_index}; got {list(classes)}.")
