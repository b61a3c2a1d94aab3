"""Argument checks. Every message names the caller, the argument, the rule and what arrived."""

from collections.abc import Mapping, Sequence
from typing import Any

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
    check_tensor(caller, name, x)
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


def check_tensor(caller: str, name: str, x: object) -> None:
    """Check that something is a tensor."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{caller}: `{name}` must be a tensor; got {type(x).__name__}.")


def check_dtype(caller: str, name: str, x: Tensor, kind: str) -> None:
    """Check the kind of a tensor's dtype: ``"float"``, ``"int64"`` or ``"bool"``."""
    check_tensor(caller, name, x)
    fits = {"float": x.is_floating_point(), "int64": x.dtype == torch.int64, "bool": x.dtype == torch.bool}[kind]
    if not fits:
        raise TypeError(f"{caller}: `{name}` must be of dtype {kind}; got {x.dtype}.")


def check_same_device(caller: str, tensors: Mapping[str, Tensor | None]) -> None:
    """Check that all tensors given lie on one device."""
    devices = {name: x.device for name, x in tensors.items() if x is not None}
    if len(set(devices.values())) > 1:
        places = ", ".join(f"`{name}` on {device}" for name, device in devices.items())
        raise ValueError(f"{caller}: all tensors must lie on one device; got {places}.")


def check_fits_weights(caller: str, name: str, x: Tensor, weights: Tensor) -> None:
    """Check that a layer with these weights can take a tensor: floating point, on their device and of their dtype."""
    check_dtype(caller, name, x, "float")
    check_same_device(caller, {name: x, "weights": weights})
    if x.dtype != weights.dtype and not torch.is_autocast_enabled(x.device.type):
        raise TypeError(f"{caller}: `{name}` must be of dtype {weights.dtype}, as the weights are; got {x.dtype}.")


def check_number(caller: str, name: str, value: object) -> None:
    """Check that something is a real number."""
    if not isinstance(value, (int, float)) and not _counts_as_number(value):
        raise TypeError(f"{caller}: `{name}` must be a number; got {value!r}.")


def _counts_as_number(value: object) -> bool:
    # NumPy's numbers, and tensors of one: what has a place on the line
    return hasattr(value, "__float__") and getattr(value, "ndim", 0) == 0


def check_between(caller: str, name: str, value: float, low: float, high: float) -> None:
    """Check that a scalar lies in the closed interval [low, high]; NaN never does."""
    check_number(caller, name, value)
    if not low <= value <= high:
        raise ValueError(f"{caller}: `{name}` must lie in [{low}, {high}]; got {value}.")


def check_at_least(caller: str, name: str, value: float, low: float) -> None:
    """Check that a scalar is at least ``low``; NaN never is."""
    check_number(caller, name, value)
    if not value >= low:
        raise ValueError(f"{caller}: `{name}` must be at least {low}; got {value}.")


def check_above(caller: str, name: str, value: float, low: float) -> None:
    """Check that a scalar is greater than ``low``; NaN never is."""
    check_number(caller, name, value)
    if not value > low:
        raise ValueError(f"{caller}: `{name}` must be greater than {low}; got {value}.")


def check_whole(caller: str, name: str, value: Any, low: int | None = None) -> None:
    """Check that something is a whole number, a count of at least ``low`` or, without that, a label."""
    check_number(caller, name, value)
    if not isinstance(value, int) and not hasattr(value, "__index__"):
        raise ValueError(f"{caller}: `{name}` must be a whole number; got {value!r}.")
    if low is not None:
        check_at_least(caller, name, value, low)


def check_size(caller: str, name: str, size: Any) -> tuple[int, int]:
    """Check that a size is (height, width), in pixels, and return it."""
    if not _is_pair_of_whole(size) or min(size) < 1:
        raise ValueError(f"{caller}: `{name}` must be (height, width), both at least 1; got {size!r}.")
    return size[0], size[1]


def _is_pair_of_whole(pair: Any) -> bool:
    if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
        return False
    return all(isinstance(n, int) or (hasattr(n, "__index__") and getattr(n, "ndim", 0) == 0) for n in pair)


def check_views(caller: str, name: str, views: Sequence[float]) -> None:
    """Check a pair: a largest zoom of at least 1 and a largest shift in [0, 1)."""
    if not all(isinstance(value, (int, float)) for value in views):
        raise TypeError(f"{caller}: {name} must be numbers; got {views}.")
    if not (1 <= views[0] < float("inf") and 0 <= views[1] < 1):
        raise ValueError(
            f"{caller}: {name} must be a zoom of at least 1 and a shift in [0, 1), finite both; got {views}."
        )


def check_grid(caller: str, name: str, grid: Any) -> None:
    """Check that there are rows and columns, at least one of each."""
    if not _is_pair_of_whole(grid) or min(grid) < 1:
        raise ValueError(f"{caller}: `{name}` must be (rows, columns), two whole numbers of at least 1; got {grid}.")


def check_choice(caller: str, name: str, value: object, choices: tuple[object, ...]) -> None:
    """Check that an option is one of those there are."""
    if value not in choices:
        raise ValueError(f"{caller}: `{name}` must be one of {', '.join(map(repr, choices))}; got {value!r}.")


def check_classes(caller: str, name: str, classes: Any, num_classes: int, ignore_index: int) -> None:
    """Check that labels name classes, and not what takes no part."""
    check_whole(caller, "num_classes", num_classes, 1)
    check_whole(caller, "ignore_index", ignore_index)
    if not isinstance(classes, Sequence) or isinstance(classes, str):
        raise TypeError(f"{caller}: `{name}` must be a sequence of labels; got {classes!r}.")
    for label in classes:
        check_whole(caller, name, label)
    if any(not 0 <= c < num_classes for c in classes):
        raise ValueError(f"{caller}: `{name}` must be labels in [0, K={num_classes}); got {list(classes)}.")
    if ignore_index in classes:
        raise ValueError(f"{caller}: `{name}` must not hold `ignore_index`, {ignore_index}; got {list(classes)}.")
