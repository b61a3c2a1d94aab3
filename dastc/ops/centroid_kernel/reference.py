"""Ground truth for ``centroid_kernel``: plain PyTorch, any device."""

import torch
from torch import Tensor

from dastc._core.precision import compute_dtype


def centroid_kernel_reference(source: Tensor, target: Tensor, present: Tensor, factor: float, count: int) -> Tensor:
    """Multi-bandwidth RBF kernel among both centroid sets; see :func:`dastc.ops.centroid_kernel.centroid_kernel`."""
    dtype = compute_dtype(source)
    rows = torch.cat((source, target)).to(dtype)
    distance, pairs = squared_distances(rows, present)
    kernel = torch.exp(-distance.unsqueeze(-1) / bandwidths(distance, pairs, factor, count)).sum(dim=-1)
    return kernel.where(pairs, 0)


def squared_distances(rows: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Return squared distances (2K, 2K), 0 where a class is absent, and which pairs are present."""
    both = present.repeat(2)
    pairs = both[:, None] & both
    rows = rows.where(both[:, None], 0)
    # by differences, not by products: the distance of equal rows is then exactly 0
    return torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").square() * pairs, pairs


def bandwidths(distance: Tensor, pairs: Tensor, factor: float, count: int) -> Tensor:
    """Return (count,) bandwidths around the mean squared distance, which is treated as a constant."""
    rows = pairs.diagonal().sum()
    mean = distance.detach().sum() / (rows * (rows - 1)).clamp(min=1)
    powers = factor ** torch.arange(count, device=distance.device, dtype=distance.dtype)
    smallest = torch.finfo(distance.dtype).tiny ** 0.5  # all rows equal: distance 0, kernel 1, no division by 0
    return (mean / factor ** (count // 2)).clamp(min=smallest) * powers
