"""Ground truth for ``class_pool``: plain PyTorch, any device, any order of derivative.

A sum per class is a product of the features with one-hot columns. Two things make that product cheap. The pixels of
a single sample are cut into chunks, so that every core has a product of its own. And a chunk seldom holds more than
a few of the classes: the columns of a product are the classes that are there, not all K.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from dastc._core.precision import compute_dtype

_MOST_CHUNKS = 16
_COLUMNS = 16  # a CPU's vector registers hold as many; a product with fewer columns takes the same time


def class_pool_reference(
    features: Tensor, labels: Tensor, weights: Tensor | None, num_classes: int
) -> tuple[Tensor, Tensor]:
    """Sum features (N, D, P) per class; see :func:`dastc.functional.class_pool`."""
    sums, mass = _summed(features, labels, weights, num_classes)
    if features.device.type == "cpu" and bool(sums.isfinite().all()):
        return sums, mass  # the usual case, without a pass over the features; elsewhere, asking would wait
    counts = counted(labels, weights, num_classes)
    return _summed(features.where(counts.unsqueeze(1), 0), labels, weights, num_classes)


def counted(labels: Tensor, weights: Tensor | None, num_classes: int) -> Tensor:
    """Return which pixels count, (N, P): zero times what is not finite would be NaN."""
    counts = (labels >= 0) & (labels < num_classes)
    return counts if weights is None else counts & (weights != 0)


def _summed(features: Tensor, labels: Tensor, weights: Tensor | None, num_classes: int) -> tuple[Tensor, Tensor]:
    dtype = compute_dtype(features)
    samples, width, pixels = features.shape
    chunks = _chunks(pixels) if samples == 1 else 1
    size = samples * chunks, pixels // chunks  # (B, Q)
    # samples or chunks are 1, so this is a view: (B, D, Q)
    parts = features.to(dtype).reshape(samples, width, chunks, size[1]).transpose(1, 2).flatten(0, 1)

    rows = class_rows(labels, num_classes).view(size)
    rows = rows + torch.arange(size[0], device=rows.device).unsqueeze(1) * (num_classes + 2)
    columns = _columns_of_classes(rows, num_classes, dtype)  # (B, K+2, C)
    assignment = F.embedding(rows, columns.flatten(0, 1))  # (B, Q, C)
    if weights is not None:
        weights = weights.where(counted(labels, None, num_classes), 0)
        assignment = assignment * weights.to(dtype).view(size).unsqueeze(-1)

    to_class = columns[:, 1:-1].transpose(1, 2)  # (B, C, K)
    sums = (torch.bmm(parts, assignment) @ to_class).view(samples, chunks, width, num_classes).sum(1)
    mass = (assignment.sum(1, keepdim=True) @ to_class).view(samples, chunks, num_classes).sum(1)
    return sums.transpose(1, 2), mass


def class_rows(labels: Tensor, num_classes: int) -> Tensor:
    """Return 1 to K for the classes; 0 and K+1 hold every label that does not count."""
    return labels.clamp(-1, num_classes) + 1


def class_assignment(labels: Tensor, weights: Tensor | None, num_classes: int, dtype: torch.dtype) -> Tensor:
    """Return (N, P, K): the weight of each pixel in the column of its class, zeros where it does not count."""
    # looking rows up in a small table writes them once; a one-hot or a scatter writes the whole map several times
    table = F.pad(torch.eye(num_classes, dtype=dtype, device=labels.device), (0, 0, 1, 1))
    assignment = F.embedding(class_rows(labels, num_classes), table)
    if weights is None:
        return assignment
    return assignment * weights.where(counted(labels, None, num_classes), 0).unsqueeze(-1)


def _chunks(pixels: int) -> int:
    return next(n for n in range(_MOST_CHUNKS, 0, -1) if pixels % n == 0)


def _columns_of_classes(rows: Tensor, num_classes: int, dtype: torch.dtype) -> Tensor:
    """Return (B, K+2, C): a one in the column that a class has in the product of its chunk; the ends have none."""
    shape = len(rows), num_classes + 2
    present = torch.zeros(shape, dtype=torch.bool, device=rows.device)
    present.view(-1).index_fill_(0, rows.flatten(), True)
    present[:, :: num_classes + 1] = False
    ranks = present.cumsum(1)
    width = num_classes
    if rows.device.type == "cpu" and len(rows):  # elsewhere, asking how many there are would wait for the device
        width = min(num_classes, -(-max(1, int(ranks[:, -1].max())) // _COLUMNS) * _COLUMNS)
    own = ranks.unsqueeze(-1) == torch.arange(1, width + 1, device=rows.device)
    return (own & present.unsqueeze(-1)).to(dtype)
