"""Ground truth for ``pseudo_label``: plain PyTorch, any device, one band of rows at a time."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dastc.ops._bands import Interpolation, row_bands
from dastc.ops._precision import compute_dtype


def pseudo_label_reference(
    logits: Tensor, flow: Tensor | None, previous: Tensor | None, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """Label and confidence of each output pixel; see :func:`dastc.functional.pseudo_labels`."""
    n, classes = logits.shape[:2]
    logits = logits.to(compute_dtype(logits))
    labels = torch.empty((n, height, width), dtype=torch.int64, device=logits.device)
    confidence = torch.empty((n, height, width), dtype=logits.dtype, device=logits.device)
    own = Interpolation(logits, (height, width)) if flow is None or previous is not None else None
    earlier = (logits if previous is None else previous).to(logits.dtype)
    for rows in row_bands(n * classes * width, height):
        probability = None if own is None else own.rows(rows).softmax(dim=1)
        if flow is not None:
            warped, inside = _warped_probability(earlier, flow[:, :, rows].to(logits.dtype), rows.start, height)
            probability = _combine(probability, warped, inside.unsqueeze(1))
        assert probability is not None
        confidence[:, rows], labels[:, rows] = probability.max(dim=1)
    return labels, confidence


def _combine(own: Tensor | None, warped: Tensor, inside: Tensor) -> Tensor:
    # what is seen for the first time is known from its own frame only, or not at all
    return warped * inside if own is None else torch.where(inside, (own + warped) / 2, own)


def _warped_probability(logits: Tensor, flow: Tensor, first_row: int, height: int) -> tuple[Tensor, Tensor]:
    """Blend the probabilities of the four full-resolution pixels around each sample point of a band of rows."""
    rows, width = flow.shape[-2:]
    x = flow[:, 0] + torch.arange(width, device=flow.device, dtype=flow.dtype)
    y = flow[:, 1] + torch.arange(first_row, first_row + rows, device=flow.device, dtype=flow.dtype)[:, None]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    x, y = x.nan_to_num(0).clamp(0, width - 1), y.nan_to_num(0).clamp(0, height - 1)
    left, top = x.floor(), y.floor()
    xs = torch.stack((left, left + 1, left, left + 1), dim=1).clamp(max=width - 1)  # (N, 4, R, W)
    ys = torch.stack((top, top, top + 1, top + 1), dim=1).clamp(max=height - 1)
    right, below = (x - left).unsqueeze(1), (y - top).unsqueeze(1)
    share = torch.cat((1 - right, right, 1 - right, right), dim=1) * torch.cat((1 - below,) * 2 + (below,) * 2, dim=1)
    # pixel centres of the full grid, in the coordinates that bilinear upsampling with align_corners=False reads
    grid = torch.stack(((2 * xs + 1) / width - 1, (2 * ys + 1) / height - 1), dim=-1)
    near = F.grid_sample(logits, grid.flatten(1, 2), padding_mode="border", align_corners=False)
    probability = near.softmax(dim=1).view(*near.shape[:2], 4, rows, width)  # (N, K, 4, R, W)
    return (probability * share.unsqueeze(1)).sum(dim=2), inside
