"""What ranks share: sums with gradients, counts, and draws for the whole batch."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_alone = False  # a plain global, since torch.compile guards on those


@contextmanager
def alone() -> Iterator[None]:
    """Let this rank compute as if there were no others: what it runs inside waits for nobody."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def world() -> int:
    """Return the number of ranks; 1 without torch.distributed, and inside :func:`alone`."""
    if _alone:
        return 1
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this rank; 0 without torch.distributed, and inside :func:`alone`."""
    if _alone:
        return 0
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def shared_count(count: Tensor, *, sync: bool = True) -> Tensor:
    """Return what to divide a sum over pixels by: their number, at least 1; over ranks, the mean of their numbers.

    With the mean of gradients that DistributedDataParallel takes, N ranks then equal one process on the whole batch,
    however unevenly the pixels that count are spread. A rank without any divides its 0 by what the others have.
    """
    if not sync or world() == 1:
        return count.clamp(min=1)
    total = count.detach().to(torch.float64)
    dist.all_reduce(total)
    return total.clamp(min=1) / world()


def batch_rand(batch: int, *shape: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw uniform numbers (batch, *shape) for this rank, out of those of the whole batch.

    Every rank draws for all of them and keeps its own, so that with one seed N ranks draw what one process would have
    drawn, and their generators stay in the same state.
    """
    drawn = torch.rand((batch * world(), *shape), generator=generator)
    return drawn[rank() * batch : (rank() + 1) * batch]


def sum_over_ranks(x: Tensor) -> Tensor:
    """Add a tensor over all ranks if there are several; the gradient is added likewise.

    With the mean over ranks that DistributedDataParallel takes of gradients, N ranks then equal one process on the
    whole batch.
    """
    if world() > 1:
        total: Tensor = _SumOverRanks.apply(x)  # type: ignore[no-untyped-call]
        return total
    return x


def most_over_ranks(amount: Tensor, *rows: Tensor) -> tuple[Tensor, ...]:
    """Return, for each row, the largest amount over ranks, and the rows of the first rank that has it."""
    if world() == 1:
        return amount, *rows
    amounts = torch.zeros((world(), len(amount)), dtype=amount.dtype, device=amount.device)
    amounts[rank()] = amount
    dist.all_reduce(amounts)
    most = amounts.max(dim=0).values
    # of several with as much, the first
    owner = ((amounts == most).cumsum(dim=0) == 0).sum(dim=0)
    out = []
    for x in rows:
        mine = x.where((owner == rank()).view(-1, *[1] * (x.dim() - 1)), 0).contiguous()
        dist.all_reduce(mine)
        out.append(mine)
    return most, *out


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
