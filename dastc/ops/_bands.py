"""Bilinear upsampling one band of rows at a time, so that no map with K channels exists at full size."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

_CACHED = 2**19  # what fits a core's cache
_LAUNCHED = 2**25  # what keeps a GPU busy for longer than a launch takes, and is still a small part of its memory


def band_elements(device: torch.device) -> int:
    """Return how many elements a band has: few enough for a CPU's cache, elsewhere enough to be worth a launch."""
    return _CACHED if device.type == "cpu" else _LAUNCHED


def row_bands(elements_per_row: float, height: int, device: torch.device) -> Iterator[slice]:
    """Cut ``height`` rows into bands of about as many elements as suit the device."""
    step = max(1, int(band_elements(device) / max(elements_per_row, 1)))
    return (slice(start, min(start + step, height)) for start in range(0, height, step))


class Interpolation:
    """Bilinear resizing with ``align_corners=False``, in two steps: columns at once, rows band by band.

    Rows come last because they are whole: two of them are blended at the speed of memory, where columns would be
    gathered one number at a time.
    """

    def __init__(self, x: Tensor, size: tuple[int, int]) -> None:
        self.height, self.width = size
        self.source, self.shape = x, x.shape
        self.wide = _resize(x, (x.shape[-2], self.width))

    def rows(self, rows: slice) -> Tensor:
        """Return the rows asked for, (N, C, R, width)."""
        if self.height == self.shape[-2]:
            return self.wide[:, :, rows]
        above, below, share = self._neighbours(rows)
        # only what a row lies between is read: a NaN elsewhere in the band must not reach it
        blended = self.wide.index_select(2, above).mul_(1 - share)
        return blended.addcmul_(self.wide.index_select(2, below), share)

    def zeros(self) -> Tensor:
        """Return where the gradients of all bands are added up, (N, C, h, width)."""
        return torch.zeros_like(self.wide)

    def add_backward(self, total: Tensor, grad: Tensor, rows: slice) -> None:
        """Bring the gradient of a band, (N, C, R, width), back to the rows that it was made of."""
        if self.height == self.shape[-2]:
            total[:, :, rows] += grad
            return
        first, last = _reach(rows, self.height, self.shape[-2])
        # a small matrix per band: a row has few neighbours, and a product adds up faster than a scatter
        distance = self._position(rows, total.device).unsqueeze(0) - 2 * self.height * torch.arange(
            first, last, device=total.device
        ).unsqueeze(1)
        shares = (1 - distance.abs().to(total.dtype) / (2 * self.height)).clamp(min=0)
        total[:, :, first:last] += shares @ grad

    def backward(self, total: Tensor) -> Tensor:
        """Bring the gradient of all wide rows, (N, C, h, width), back to the input."""
        return _resize_backward(total, (self.shape[-2], self.shape[-1]))

    def _position(self, rows: slice, device: torch.device) -> Tensor:
        """Return where rows lie among those of the input, in units of 1 / (2 * height): whole numbers, so exact."""
        centre = (2 * torch.arange(rows.start, rows.stop, device=device) + 1) * self.shape[-2] - self.height
        return centre.clamp(0, 2 * self.height * (self.shape[-2] - 1))

    def _neighbours(self, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        position = self._position(rows, self.wide.device)
        above = position // (2 * self.height)
        share = (position % (2 * self.height)).to(self.wide.dtype) / (2 * self.height)
        return above, (above + 1).clamp(max=self.shape[-2] - 1), share.unsqueeze(1)


def _reach(rows: slice, height: int, source: int) -> tuple[int, int]:
    """Return the first of the input's rows that a band draws on, and the one after the last."""
    first, last = (((2 * row + 1) * source - height) // (2 * height) for row in (rows.start, rows.stop - 1))
    return max(first, 0), min(last + 2, source)


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return x if x.shape[-2:] == size else F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def _resize_backward(grad: Tensor, size: tuple[int, int]) -> Tensor:
    if grad.shape[-2:] == size:
        return grad
    out: Tensor = torch.ops.aten.upsample_bilinear2d_backward(
        grad.contiguous(), list(grad.shape[-2:]), [*grad.shape[:2], *size], False, None, None
    )
    return out
