"""Bilinear upsampling one band of rows at a time, so that no map with K channels exists at full size."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

_BAND_ELEMENTS = 2**19  # what fits a core's cache


def row_bands(elements_per_row: float, height: int) -> Iterator[slice]:
    """Cut ``height`` rows into bands of about as many elements as fit the cache."""
    step = max(1, int(_BAND_ELEMENTS / max(elements_per_row, 1)))
    return (slice(start, min(start + step, height)) for start in range(0, height, step))


class Interpolation:
    """Bilinear resizing with ``align_corners=False``, in two steps: rows at once, columns band by band."""

    def __init__(self, x: Tensor, size: tuple[int, int]) -> None:
        self.height, self.width = size
        self.source, self.shape = x, x.shape
        self.tall = _resize(x, (self.height, x.shape[-1]))

    def rows(self, rows: slice) -> Tensor:
        """Return the rows asked for, (N, C, R, width)."""
        return _resize(self.tall[:, :, rows], (rows.stop - rows.start, self.width))

    def rows_backward(self, grad: Tensor) -> Tensor:
        """Bring the gradient of a band, (N, C, R, width), back to narrow rows."""
        return _resize_backward(grad, (grad.shape[-2], self.shape[-1]))

    def backward(self, grad: Tensor) -> Tensor:
        """Bring the gradient of all narrow rows, (N, C, height, w), back to the input."""
        return _resize_backward(grad, (self.shape[-2], self.shape[-1]))


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return x if x.shape[-2:] == size else F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def _resize_backward(grad: Tensor, size: tuple[int, int]) -> Tensor:
    if grad.shape[-2:] == size:
        return grad
    out: Tensor = torch.ops.aten.upsample_bilinear2d_backward(
        grad.contiguous(), list(grad.shape[-2:]), [*grad.shape[:2], *size], False, None, None
    )
    return out
