"""Ground truth for ``class_pool``: plain PyTorch, any device, any order of derivative."""

import torch
from torch import Tensor

from dastc.ops._precision import compute_dtype

_SPLITS = 16


def class_pool_reference(
    features: Tensor, labels: Tensor, weights: Tensor | None, num_classes: int
) -> tuple[Tensor, Tensor]:
    """Sum features (N, D, P) per class; see :func:`dastc.functional.class_pool`."""
    dtype = compute_dtype(features)
    assignment = class_assignment(labels, None if weights is None else weights.to(dtype), num_classes, dtype)
    sums = _matmul_over_pixels(features.to(dtype), assignment)[..., :num_classes]  # (N, D, K)
    return sums.transpose(1, 2), assignment[:, :num_classes].sum(-1)


def class_assignment(labels: Tensor, weights: Tensor | None, num_classes: int, dtype: torch.dtype) -> Tensor:
    """Return (N, K+1, P): the weight of each pixel in the row of its class; row K takes what does not count."""
    n, pixels = labels.shape
    rows = labels.where((labels >= 0) & (labels < num_classes), num_classes).unsqueeze(1)
    out = torch.zeros((n, num_classes + 1, pixels), dtype=dtype, device=labels.device)
    if weights is None:
        return out.scatter_(1, rows, 1.0)
    return out.scatter(1, rows, weights.unsqueeze(1))


def _matmul_over_pixels(features: Tensor, assignment: Tensor) -> Tensor:
    # one sample would leave all but one core of a batched product idle: split its pixels into a batch of their own
    samples, width, pixels = features.shape
    if samples != 1 or pixels % _SPLITS:
        return features @ assignment.transpose(1, 2)
    left = features[0].reshape(width, _SPLITS, pixels // _SPLITS).transpose(0, 1)  # (S, D, P/S)
    right = assignment[0].view(assignment.shape[1], _SPLITS, pixels // _SPLITS).permute(1, 2, 0)  # (S, P/S, K+1)
    return torch.bmm(left, right).sum(0, keepdim=True)
