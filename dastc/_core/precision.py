"""Half precision is for storage: every operator computes in float32, or in float64 when it is given that."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def compute_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype to compute in: never below float32, never down from float64."""
    return torch.promote_types(x.dtype, torch.float32)


def without_autocast(x: Tensor) -> AbstractContextManager[None]:
    """Return a context in which autocast leaves the matrix products on the device of ``x`` as they are."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()
