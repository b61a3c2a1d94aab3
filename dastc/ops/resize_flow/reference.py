"""Ground truth for ``resize_flow``: plain PyTorch, any device, any order of derivative."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dastc.ops._precision import compute_dtype


def resize_flow_reference(flow: Tensor, height: int, width: int) -> Tensor:
    """Resize a flow field and its vectors; see :func:`dastc.functional.resize_flow`."""
    resized = F.interpolate(flow.to(compute_dtype(flow)), size=(height, width), mode="bilinear", align_corners=False)
    return (resized * axis_ratios(flow, height, width)).to(flow.dtype)


def axis_ratios(flow: Tensor, height: int, width: int) -> Tensor:
    """Return how much longer dx and dy become, as (2, 1, 1)."""
    ratios = (width / flow.shape[-1], height / flow.shape[-2])
    return torch.tensor(ratios, dtype=compute_dtype(flow), device=flow.device).view(2, 1, 1)
