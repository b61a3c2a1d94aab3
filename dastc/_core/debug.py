"""Checks of tensor contents: off by default, because they make the host wait for the device."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

_enabled = False


@contextmanager
def debug_checks(enabled: bool = True) -> Iterator[None]:
    """Check the contents of tensors inside the ``with`` block: labels out of range and NaN become errors.

    Args:
        enabled: ``False`` switches the checks off inside a block that has them on.

    Example:
        >>> import torch
        >>> from dastc.functional import class_pool
        >>> with debug_checks():
        ...     class_pool(torch.zeros(1, 2, 3), torch.tensor([[0, 1, 7]]), num_classes=2)
        Traceback (most recent call last):
        ...
        ValueError: class_pool: `labels` must lie in [0, 2) or be 255; got values from 0 to 7.
    """
    global _enabled
    before, _enabled = _enabled, enabled
    try:
        yield
    finally:
        _enabled = before


def debug_labels(caller: str, name: str, labels: Tensor, num_classes: int, ignore_index: int) -> None:
    """Under :func:`debug_checks`, refuse labels that are neither a class nor the ignored label."""
    if not _enabled:
        return
    counted = labels[labels != ignore_index]
    if counted.numel() and (int(counted.min()) < 0 or int(counted.max()) >= num_classes):
        raise ValueError(
            f"{caller}: `{name}` must lie in [0, {num_classes}) or be {ignore_index}; "
            f"got values from {int(counted.min())} to {int(counted.max())}."
        )


def debug_finite(caller: str, name: str, x: Tensor) -> None:
    """Under :func:`debug_checks`, refuse NaN and infinities."""
    if _enabled and not bool(x.isfinite().all()):
        raise ValueError(f"{caller}: `{name}` must be finite; got NaN or infinite values.")
