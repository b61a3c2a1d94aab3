"""Sums over ranks, with gradients."""

import torch.distributed as dist
from torch import Tensor


def sum_over_ranks(x: Tensor) -> Tensor:
    """Add a tensor over all ranks if there are several; the gradient is added likewise.

    With the mean over ranks that DistributedDataParallel takes of gradients, N ranks then equal one process on the
    whole batch.
    """
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        from torch.distributed.nn.functional import all_reduce  # heavy, and needed on several ranks only

        total: Tensor = all_reduce(x.contiguous())  # type: ignore[no-untyped-call]
        return total
    return x
