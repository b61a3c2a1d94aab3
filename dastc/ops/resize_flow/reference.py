"""Ground truth for ``resize_flow``: plain PyTorch, any device, any order of derivative."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dastc._core.precision import compute_dtype


def resize_flow_reference(flow: Tensor, height: int, width: int) -> Tensor:
    """Resize a flow field and its vectors; see :func:`dastc.functional.resize_flow`."""
    resized = F.interpolate(flow.to(compute_dtype(flow)), size=(height, width), mode="bilinear", align_corners=False)
    return (resized * axis_ratios(flow, height, width)).to(flow.dtype)


def axis_ratios(flow: Tensor, height: int, width: int) -> Tensor:
    """Return how much longer dx and dy become, as (2, 1, 1)."""
    ratios = (width / flow.shape[-1], height / flow.shape[-2])
    # number by number: a tensor of both would be copied from the host, which waits
    return torch.stack([flow.new_full((1, 1), ratio, dtype=compute_dtype(flow)) for ratio in ratios])
