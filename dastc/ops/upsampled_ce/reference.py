"""Ground truth for ``upsampled_ce`` and its gradient: plain PyTorch, any device, one band of rows at a time."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dastc._core.precision import compute_dtype
from dastc.ops._bands import Interpolation, row_bands

_SKIP = -100  # F.cross_entropy's own label for "does not count"


def upsampled_ce_reference(logits: Tensor, labels: Tensor, weights: Tensor | None, ignore_index: int) -> Tensor:
    """Weighted cross entropy of each pixel, 0 where its label is ignored or outside [0, K)."""
    n, classes = logits.shape[:2]
    dtype = compute_dtype(logits)
    loss = torch.empty(labels.shape, dtype=dtype, device=logits.device)
    upsampled = Interpolation(logits.to(dtype), (labels.shape[-2], labels.shape[-1]))
    for rows in row_bands(n * classes * labels.shape[-1], labels.shape[-2], logits.device):
        counts = _countable(labels[:, rows], classes, ignore_index)
        wanted = labels[:, rows].where(counts, _SKIP)
        band = F.cross_entropy(upsampled.rows(rows), wanted, ignore_index=_SKIP, reduction="none")
        # where, not times zero: the weight of an ignored pixel is not looked at
        loss[:, rows] = band if weights is None else (band * weights[:, rows].to(dtype)).where(counts, 0)
    return loss


def upsampled_ce_sum_reference(
    logits: Tensor, labels: Tensor, weights: Tensor | None, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """Return the sum of all pixels' losses, and how many pixels count."""
    loss = upsampled_ce_reference(logits, labels, weights, ignore_index)
    return loss.sum(), _countable(labels, logits.shape[1], ignore_index).sum()


def upsampled_ce_backward_reference(
    grad: Tensor, logits: Tensor, labels: Tensor, weights: Tensor | None, ignore_index: int
) -> Tensor:
    """Gradient to the low-resolution logits, given one gradient for each pixel."""
    n, classes = logits.shape[:2]
    dtype = compute_dtype(logits)
    upsampled = Interpolation(logits.to(dtype), (labels.shape[-2], labels.shape[-1]))
    wide = upsampled.zeros()
    # on the CPU the host may look, and save a pass over each band; elsewhere asking would wait for the device
    finite = logits.device.type == "cpu" and bool(logits.isfinite().all())
    for rows in row_bands(n * classes * labels.shape[-1], labels.shape[-2], logits.device):
        counts = _countable(labels[:, rows], classes, ignore_index)
        up = grad[:, rows].to(dtype)
        if weights is not None:
            up = up * weights[:, rows].to(dtype)
        to_band = upsampled.rows(rows).softmax(dim=1)
        own = labels[:, rows].where(counts, 0).unsqueeze(1)
        to_band.scatter_add_(1, own, to_band.new_full((), -1.0).expand(own.shape))
        to_band = to_band.mul_(up.where(counts, 0).unsqueeze(1))
        if not finite:  # times zero is not enough: a NaN at an ignored pixel must not spread
            to_band = torch.where(counts.unsqueeze(1), to_band, 0)
        upsampled.add_backward(wide, to_band, rows)
    return upsampled.backward(wide).to(logits.dtype)


def _countable(labels: Tensor, classes: int, ignore_index: int) -> Tensor:
    return (labels >= 0) & (labels < classes) & (labels != ignore_index)
