"""Ground truth for ``pseudo_label``: plain PyTorch, any device, one band of rows at a time."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dastc._core.precision import compute_dtype
from dastc.ops._bands import Interpolation, row_bands

_FLOW_BAND = 2  # bands are smaller with flow, since they draw on rows around them
_WINDOW = 6  # up to how many times a band's rows its flow may reach before neighbours are recomputed


def pseudo_label_reference(
    logits: Tensor,
    flow: Tensor | None,
    previous: Tensor | None,
    height: int,
    width: int,
    by_entropy: bool = False,
    noise: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Label and confidence of each output pixel; see :func:`dastc.functional.pseudo_labels`."""
    n, classes = logits.shape[:2]
    logits = logits.to(compute_dtype(logits))
    labels = torch.empty((n, height, width), dtype=torch.int64, device=logits.device)
    confidence = torch.empty((n, height, width), dtype=logits.dtype, device=logits.device)
    own = Interpolation(logits, (height, width)) if flow is None or previous is not None else None
    earlier = (
        None
        if flow is None
        else Interpolation(logits if previous is None else previous.to(logits.dtype), (height, width))
    )
    window = None if earlier is None else _Window(earlier)
    factors = None if noise is None else _Factors(noise.to(logits.dtype), (height, width))
    for rows in row_bands(n * classes * width * (1 if flow is None else _FLOW_BAND), height, logits.device):
        probability = None if own is None else own.rows(rows).softmax(dim=1)
        if window is not None and flow is not None:
            warped, inside = _warped_probability(window, flow[:, :, rows].to(logits.dtype), rows.start)
            probability = warped * inside if probability is None else _mean_where(inside, probability, warped)
        if probability is not None:  # always: without flow there is the frame's own
            largest, labels[:, rows] = probability.max(dim=1)
            if factors is not None:  # the largest sum of logarithms is the largest product
                labels[:, rows] = (probability * factors.rows(rows)).argmax(dim=1)
            confidence[:, rows] = _certainty(probability, largest) if by_entropy else largest
    return labels, confidence


def _certainty(probability: Tensor, largest: Tensor) -> Tensor:
    """Return 1 minus the entropy as a share of the largest there can be, (N, R, W); 0 where there is no class."""
    entropy: Tensor = -torch.special.xlogy(probability, probability).sum(dim=1)
    certainty: Tensor = (1 - entropy / math.log(max(probability.shape[1], 2))).clamp(0, 1) * (largest > 0)
    return certainty


def _mean_where(inside: Tensor, own: Tensor, warped: Tensor) -> Tensor:
    # what is seen for the first time is known from its own frame only
    return torch.where(inside, (own + warped) / 2, own)


class _Factors:
    """Powers of noise (N, K, r, c), each for all pixels of its cell."""

    def __init__(self, noise: Tensor, size: tuple[int, int]) -> None:
        row, column = (
            torch.arange(pixels, device=noise.device) * cells // max(pixels, 1)
            for pixels, cells in zip(size, noise.shape[-2:], strict=True)
        )
        self.row, self.wide = row, noise.exp().index_select(-1, column)

    def rows(self, rows: slice) -> Tensor:
        """Return the factors of some rows, (N, K, R, width)."""
        return self.wide.index_select(-2, self.row[rows])


class _Window:
    """Full-size probabilities of some rows; bands follow each other, so most rows of the next are here already."""

    def __init__(self, source: Interpolation) -> None:
        self.source = source
        self.start = self.stop = 0
        self.kept = source.wide[:, :, :0]

    def rows(self, start: int, stop: int) -> Tensor:
        """Return the probabilities of rows, (N, K, stop - start, width); compute those that are not kept."""
        first, last = max(start, self.start), min(stop, self.stop)
        if first >= last:
            first = last = start
        new = self.kept.new_empty((*self.kept.shape[:2], stop - start, self.source.width))
        new[:, :, first - start : last - start] = self.kept[:, :, first - self.start : last - self.start]
        self.kept, self.start, self.stop = new, start, stop  # the old rows are let go before more are computed
        for missing in (slice(start, first), slice(last, stop)):
            if missing.start < missing.stop:
                new[:, :, missing.start - start : missing.stop - start] = self.source.rows(missing).softmax(dim=1)
        return new


def _warped_probability(window: _Window, flow: Tensor, first_row: int) -> tuple[Tensor, Tensor]:
    """Sample the full-resolution probabilities of the earlier frame at the points of a band of rows."""
    (rows, width), height = flow.shape[-2:], window.source.height
    x = flow[:, 0] + torch.arange(width, device=flow.device, dtype=flow.dtype)
    y = flow[:, 1] + torch.arange(first_row, first_row + rows, device=flow.device, dtype=flow.dtype)[:, None]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    x, y = x.nan_to_num(0).clamp(0, width - 1), y.nan_to_num(0).clamp(0, height - 1)
    if flow.device.type == "cpu" and flow.numel():
        # on the CPU the host may look at the flow: if it points to few rows, their probabilities are made once
        top, bottom = int(y.min()), min(int(y.max()) + 2, height)
        if bottom - top <= _WINDOW * rows:
            return _sampled(window.rows(top, bottom), x, y - top), inside.unsqueeze(1)
    return _from_neighbours(window.source, x, y), inside.unsqueeze(1)


def _sampled(probability: Tensor, x: Tensor, y: Tensor) -> Tensor:
    height, width = probability.shape[-2:]
    grid = torch.stack((x * (2 / max(width - 1, 1)) - 1, y * (2 / max(height - 1, 1)) - 1), dim=-1)
    return F.grid_sample(probability, grid, padding_mode="border", align_corners=True)


def _from_neighbours(earlier: Interpolation, x: Tensor, y: Tensor) -> Tensor:
    """Recompute and blend the probabilities of the four full-resolution pixels around each sample point."""
    rows, (height, width) = x.shape[-2], (earlier.height, earlier.width)
    left, top = x.floor(), y.floor()
    xs = torch.stack((left, left + 1, left, left + 1), dim=1).clamp(max=width - 1)  # (N, 4, R, W)
    ys = torch.stack((top, top, top + 1, top + 1), dim=1).clamp(max=height - 1)
    right, below = (x - left).unsqueeze(1), (y - top).unsqueeze(1)
    share = torch.cat((1 - right, right, 1 - right, right), dim=1) * torch.cat((1 - below,) * 2 + (below,) * 2, dim=1)
    # pixel centres of the full grid, in the coordinates that bilinear upsampling with align_corners=False reads
    grid = torch.stack(((2 * xs + 1) / width - 1, (2 * ys + 1) / height - 1), dim=-1)
    near = F.grid_sample(earlier.source, grid.flatten(1, 2), padding_mode="border", align_corners=False)
    probability = near.softmax(dim=1).view(*near.shape[:2], 4, rows, width)  # (N, K, 4, R, W)
    return (probability * share.unsqueeze(1)).sum(dim=2)
