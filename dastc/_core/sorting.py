"""Sorting along the last axis, fast where it can be."""

import numpy as np
import torch
from torch import Tensor

__all__ = ["sorted_values", "stable_order"]


def sorted_values(x: Tensor) -> Tensor:
    """Return the values of each row in ascending order."""
    if _by_numpy(x):
        return torch.from_numpy(np.sort(x.contiguous().numpy(), axis=-1))
    return x.sort(dim=-1).values


def stable_order(x: Tensor) -> Tensor:
    """Return the indices that sort each row in ascending order; equal values stay in their order."""
    if not _by_numpy(x):
        return x.argsort(dim=-1, stable=True)
    # values in the upper half of a whole number and places in the lower one: numbers alone sort much faster
    bits = (x + 0.0).view(torch.int32)  # -0 is as large as 0
    keys = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long() << 32
    keys |= torch.arange(x.shape[-1])
    keys.numpy().sort(axis=-1)
    return keys & 0xFFFFFFFF


def _by_numpy(x: Tensor) -> bool:
    # NumPy sorts numbers by vector instructions, five times as fast as PyTorch does on a CPU
    if torch.compiler.is_compiling():
        return False
    return x.device.type == "cpu" and x.dtype == torch.float32 and type(x) is Tensor and not x.requires_grad
