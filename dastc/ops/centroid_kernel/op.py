"""``torch.ops.dastc.centroid_kernel``: schema, default implementation, fake, autograd."""

from typing import Any

import torch
from torch import Tensor

from dastc.ops._precision import compute_dtype, without_autocast
from dastc.ops.centroid_kernel.reference import bandwidths, centroid_kernel_reference, squared_distances


@torch.library.custom_op("dastc::centroid_kernel", mutates_args=())
def centroid_kernel_op(source: Tensor, target: Tensor, present: Tensor, factor: float, count: int) -> Tensor:
    return centroid_kernel_reference(source, target, present, factor, count).contiguous()


@centroid_kernel_op.register_fake
def _fake(source: Tensor, target: Tensor, present: Tensor, factor: float, count: int) -> Tensor:
    rows = 2 * source.shape[0]
    return source.new_empty((rows, rows), dtype=compute_dtype(source))


def _setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, float, int], output: Tensor) -> None:
    source, target, present, ctx.factor, ctx.count = inputs
    ctx.save_for_backward(source, target, present)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
    source, target, present = ctx.saved_tensors
    rows = torch.cat((source, target)).to(grad.dtype)
    distance, pairs = squared_distances(rows, present)
    widths = bandwidths(distance, pairs, ctx.factor, ctx.count)
    slope = -(torch.exp(-distance.unsqueeze(-1) / widths) / widths).sum(dim=-1) * pairs * grad
    slope = slope + slope.T
    # seen from one of the rows: what all have in common would drown their differences in rounding
    both = present.repeat(2)
    rows = (rows - rows.index_select(0, both.int().argmax(dim=0, keepdim=True))).where(both[:, None], 0)
    with without_autocast(rows):
        to_rows = 2 * (slope.sum(dim=1, keepdim=True) * rows - slope @ rows)
    to_source, to_target = to_rows.chunk(2)
    return to_source.to(source.dtype), to_target.to(target.dtype), None, None, None


centroid_kernel_op.register_autograd(_backward, setup_context=_setup_context)
