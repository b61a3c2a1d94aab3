"""Ground truth for ``flow_warp``: plain PyTorch, any device."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dastc._core.precision import compute_dtype


def flow_warp_reference(
    x: Tensor, flow: Tensor, other: Tensor | None = None, share: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Sample ``x`` at the points that ``flow`` names; see :func:`dastc.functional.flow_warp`."""
    grid, valid = sampling_grid(flow.to(compute_dtype(x)))
    wide = x.to(grid.dtype)
    warped = F.grid_sample(wide, grid, mode="bilinear", padding_mode="border", align_corners=True)
    warped = _whole_pixels_copied(warped, wide, flow.to(grid.dtype))
    if other is not None:
        warped = _blended(warped, other.to(grid.dtype), ~valid if share is None else share)
    return warped.to(x.dtype), valid


def sampling_grid(flow: Tensor) -> tuple[Tensor, Tensor]:
    """Turn backward flow (N, 2, H, W) into a corner-aligned grid (N, H, W, 2) and where it stays inside (N, H, W)."""
    height, width = flow.shape[-2:]
    x, y, valid = _points(flow)
    return torch.stack((x * (2 / max(width - 1, 1)) - 1, y * (2 / max(height - 1, 1)) - 1), dim=-1), valid


def within(flow: Tensor) -> Tensor:
    """Return where flow (N, 2, H, W) points between the borders, for each axis: beyond, it moves nothing."""
    height, width = flow.shape[-2:]
    x, y = _named(flow)
    return torch.stack(((x >= 0) & (x <= width - 1), (y >= 0) & (y <= height - 1)), dim=1)


def _points(flow: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return column and row of what each pixel samples, within the picture, and whether the flow pointed there."""
    height, width = flow.shape[-2:]
    x, y = _named(flow)
    valid = within(flow).all(dim=1)
    # the CPU's backward reads foreign memory at NaN and where a grid overflows; the border samples the same from here
    return x.nan_to_num(0).clamp(0, max(width - 1, 0)), y.nan_to_num(0).clamp(0, max(height - 1, 0)), valid


def _named(flow: Tensor) -> tuple[Tensor, Tensor]:
    """Return column and row that the flow of each pixel names, wherever that is."""
    height, width = flow.shape[-2:]
    x = flow[:, 0] + torch.arange(width, device=flow.device, dtype=flow.dtype)
    y = flow[:, 1] + torch.arange(height, device=flow.device, dtype=flow.dtype)[:, None]
    return x, y


def _whole_pixels_copied(warped: Tensor, x: Tensor, flow: Tensor) -> Tensor:
    """Put in what lies at the point where that is a pixel: grid_sample's rounding mixes in some of its neighbours."""
    with torch.no_grad():
        column, row, _ = _points(flow)
        whole = ((column == column.floor()) & (row == row.floor())).unsqueeze(1)
        place = (row.floor() * x.shape[-1] + column.floor()).long().flatten(1).unsqueeze(1)
        copied = x.flatten(2).gather(2, place.expand(-1, x.shape[1], -1)).view_as(warped)
    # the derivatives are those of the interpolation
    return torch.where(whole, warped - warped.detach() + copied if warped.requires_grad else copied, warped)


def _blended(warped: Tensor, other: Tensor, share: Tensor) -> Tensor:
    if share.dtype == torch.bool:
        return other.where(share.unsqueeze(1), warped)
    share = share.to(warped.dtype).unsqueeze(1)
    mixed = warped * (1 - share) + other * share
    # where, not times zero: what has no share is not looked at
    return torch.where(share == 0, warped, torch.where(share == 1, other, mixed))


def split_gradient(grad: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Return what of a blend's gradient is due to the warped and what to the other, given the other's share."""
    share = share.to(grad.dtype).unsqueeze(1)
    return (grad * (1 - share)).where(share != 1, 0), (grad * share).where(share != 0, 0)
