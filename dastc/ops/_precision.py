"""Half precision is for storage: every operator computes in float32, or in float64 when it is given that."""

import torch
from torch import Tensor


def compute_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype to compute in: never below float32, never down from float64."""
    return torch.promote_types(x.dtype, torch.float32)
