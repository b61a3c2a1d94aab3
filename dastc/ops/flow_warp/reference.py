"""Ground truth for ``flow_warp``: plain PyTorch, any device."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dastc.ops._precision import compute_dtype


def flow_warp_reference(x: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """Sample ``x`` at the points that ``flow`` names; see :func:`dastc.functional.flow_warp`."""
    grid, valid = sampling_grid(flow.to(compute_dtype(x)))
    warped = F.grid_sample(x.to(grid.dtype), grid, mode="bilinear", padding_mode="border", align_corners=True)
    return warped.to(x.dtype), valid


def sampling_grid(flow: Tensor) -> tuple[Tensor, Tensor]:
    """Turn backward flow (N, 2, H, W) into a corner-aligned grid (N, H, W, 2) and where it stays inside (N, H, W)."""
    height, width = flow.shape[-2:]
    x = flow[:, 0] + torch.arange(width, device=flow.device, dtype=flow.dtype)
    y = flow[:, 1] + torch.arange(height, device=flow.device, dtype=flow.dtype)[:, None]
    valid = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    # the CPU's backward reads foreign memory at NaN; "not valid" samples some pixel of the picture instead
    x, y = x.nan_to_num(0), y.nan_to_num(0)
    grid = torch.stack((x * (2 / max(width - 1, 1)) - 1, y * (2 / max(height - 1, 1)) - 1), dim=-1)
    return grid, valid
