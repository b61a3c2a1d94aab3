"""Sums over ranks, with gradients."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def sum_over_ranks(x: Tensor) -> Tensor:
    """Add a tensor over all ranks if there are several; the gradient is added likewise.

    With the mean over ranks that DistributedDataParallel takes of gradients, N ranks then equal one process on the
    whole batch.
    """
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        total: Tensor = _SumOverRanks.apply(x)  # type: ignore[no-untyped-call]
        return total
    return x


class _SumOverRanks(torch.autograd.Function):
    # torch.distributed.nn.functional.all_reduce does the same, and is deprecated without a public successor

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, grad: Tensor) -> Any:
        return _SumOverRanks.apply(grad)  # type: ignore[no-untyped-call]
