"""Small pure functions of integer labels."""

import torch
from torch import Tensor

from dastc._core.checks import check_between, check_dtype, check_same_device, check_shape, check_size, check_whole
from dastc._core.distributed import batch_rand
from dastc._core.precision import compute_dtype
from dastc.ops.flow_warp.reference import sampling_grid

__all__ = ["class_presence", "draw_classes", "resize_labels", "warp_labels"]


def resize_labels(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring labels to another grid: each cell takes the label at its centre.

    The rule for labels at feature resolution everywhere in dastc (nearest neighbour, exact pixel centres).

    Args:
        labels: Integer labels.
        size: ``(height, width)`` of the new grid.

    Shape:
        - labels: ``(..., H, W)``, int64; at least three axes.
        - output: ``(..., height, width)``, int64.

    Raises:
        ValueError: If ``labels`` has fewer than three axes, or no pixel, or ``size`` is not positive.
        TypeError: If ``labels`` is not int64.

    Source:
        The released code's rule, the nearest pixel (docs/method.md#aggregation-of-classes).

    Example:
        >>> resize_labels(torch.arange(16).view(1, 4, 4), (2, 2))
        tensor([[[ 5,  7],
                 [13, 15]]])
    """
    check_dtype("resize_labels", "labels", labels, "int64")
    size = check_size("resize_labels", "size", size)
    if labels.dim() < 3 or 0 in labels.shape[-2:]:
        raise ValueError(f"resize_labels: `labels` must have shape (..., H, W), none empty; got {tuple(labels.shape)}.")
    height, width = labels.shape[-2:]
    rows = _centres(size[0], height, labels.device)
    columns = _centres(size[1], width, labels.device)
    return labels.index_select(-2, rows).index_select(-1, columns)


def _centres(cells: int, pixels: int, device: torch.device) -> Tensor:
    # in integers: floating point would land on the wrong side of a boundary for some sizes
    return ((2 * torch.arange(cells, device=device) + 1) * pixels // (2 * cells)).clamp(max=pixels - 1)


def warp_labels(labels: Tensor, flow: Tensor, *, ignore_index: int = 255) -> Tensor:
    """Bring the labels of an earlier frame onto the grid of a later one along backward flow, by nearest neighbour.

    Args:
        labels: Labels on the grid of the earlier frame.
        flow: Backward flow in pixels of this grid.
        ignore_index: What pixels get whose sample point lies outside the picture.

    Shape:
        - labels: ``(N, H, W)``, int64.
        - flow: ``(N, 2, H, W)``, float.
        - output: ``(N, H, W)``, int64.

    Raises:
        ValueError: If the shapes do not fit.
        TypeError: If a tensor has the wrong kind of dtype.

    Source:
        Ours.

    Example:
        >>> labels = torch.tensor([[[1, 2, 3]]])
        >>> warp_labels(labels, torch.tensor([-1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 1, 3))
        tensor([[[255,   1,   2]]])
    """
    sizes = check_shape("warp_labels", "labels", labels, "N H W")
    check_shape("warp_labels", "flow", flow, "N 2 H W", sizes | {"2": 2})
    check_dtype("warp_labels", "labels", labels, "int64")
    check_dtype("warp_labels", "flow", flow, "float")
    check_whole("warp_labels", "ignore_index", ignore_index)
    check_same_device("warp_labels", {"labels": labels, "flow": flow})
    height, width = sizes["H"], sizes["W"]
    flow = flow.to(compute_dtype(flow))  # half precision cannot count the columns
    _, valid = sampling_grid(flow)
    x = flow[:, 0] + torch.arange(width, device=flow.device)
    y = flow[:, 1] + torch.arange(height, device=flow.device)[:, None]
    column = x.nan_to_num(0).round().clamp(0, width - 1).long()
    row = y.nan_to_num(0).round().clamp(0, height - 1).long()
    warped = labels.flatten(1).gather(1, (row * width + column).flatten(1)).view(labels.shape)
    return warped.where(valid, ignore_index)


def class_presence(labels: Tensor, num_classes: int) -> Tensor:
    """Say which classes occur in each sample.

    Args:
        labels: Integer labels; those outside [0, K) take no part.
        num_classes: K.

    Shape:
        - labels: ``(B, ...)``, int64.
        - output: ``(B, K)``, bool.

    Raises:
        TypeError: If ``labels`` is not int64.

    Example:
        >>> class_presence(torch.tensor([[0, 2, 255]]), 3)
        tensor([[ True, False,  True]])
    """
    check_dtype("class_presence", "labels", labels, "int64")
    check_whole("class_presence", "num_classes", num_classes, 1)
    rows = labels.reshape(len(labels), labels.numel() // max(len(labels), 1))
    rows = rows.where((rows >= 0) & (rows < num_classes), num_classes)
    seen = torch.zeros((len(labels), num_classes + 1), dtype=torch.bool, device=labels.device)
    return seen.scatter_(1, rows, True)[:, :num_classes]


def draw_classes(candidates: Tensor, amount: float, *, generator: torch.Generator | None = None) -> Tensor:
    """Draw some of the candidate classes of each sample, without replacement.

    Args:
        candidates: The classes that may be drawn.
        amount: Below 1, the share of each sample's candidates to draw, rounded up; from 1 on, how many (an integer;
            fewer where there are not as many).
        generator: Source of randomness, on the CPU.

    Shape:
        - candidates: ``(B, K)``, bool.
        - output: ``(B, K)``, bool: at least one class for each sample that has a candidate.

    Raises:
        ValueError: If ``amount`` is neither a share in (0, 1) nor a whole number from 1 on.
        TypeError: If ``candidates`` is not bool.

    Source:
        Two: the released code (docs/method.md#fusion-of-clips). Half of them: Olsson et al. 2021 (ClassMix), and
        Tranheden et al. 2021 (DACS).

    Example:
        >>> draw_classes(torch.tensor([[True, True, False, True]]), 2).sum()
        tensor(2)
    """
    check_shape("draw_classes", "candidates", candidates, "B K")
    check_dtype("draw_classes", "candidates", candidates, "bool")
    check_between("draw_classes", "amount", amount, 0, float("inf"))
    if amount == 0 or (amount > 1 and amount % 1 != 0):
        raise ValueError(f"draw_classes: `amount` must be a share in (0, 1) or a whole number >= 1; got {amount}.")
    # drawn on the CPU: the same classes on every device
    keys = batch_rand(*candidates.shape, generator=generator).to(candidates.device, non_blocking=True)
    rank = keys.where(candidates, 2.0).argsort(dim=1).argsort(dim=1)
    # a hair less, so that rounding does not lift 25 * 0.6 above 15
    wanted = (candidates.sum(dim=1, keepdim=True) * (amount * (1 - 1e-6))).ceil() if amount < 1 else amount
    return candidates & (rank < wanted)
