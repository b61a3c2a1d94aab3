"""``torch.ops.dastc.centroid_kernel`` and its fused gradient: schema, implementations, fake, autograd."""

from typing import Any

import torch
from torch import Tensor

from dastc._core.precision import compute_dtype, without_autocast
from dastc.ops._backend import current_device_of, use_triton
from dastc.ops.centroid_kernel.reference import bandwidths, centroid_kernel_reference, squared_distances


@torch.library.custom_op("dastc::centroid_kernel", mutates_args=())
def centroid_kernel_op(
    source: Tensor, target: Tensor, present: Tensor, factor: float, count: int, backend: str = "auto"
) -> Tensor:
    if _fused(source, backend):
        from dastc.ops.centroid_kernel._triton import centroid_kernel_triton

        with current_device_of(source):
            return centroid_kernel_triton(source, target, present, factor, count)
    return centroid_kernel_reference(source, target, present, factor, count).contiguous()


@centroid_kernel_op.register_fake
def _fake(source: Tensor, target: Tensor, present: Tensor, factor: float, count: int, backend: str = "auto") -> Tensor:
    rows = 2 * source.shape[0]
    return source.new_empty((rows, rows), dtype=compute_dtype(source))


@torch.library.custom_op("dastc::centroid_kernel_backward", mutates_args=())
def centroid_kernel_backward_op(
    grad: Tensor, source: Tensor, target: Tensor, present: Tensor, factor: float, count: int
) -> tuple[Tensor, Tensor]:
    from dastc.ops.centroid_kernel._triton import centroid_kernel_backward_triton

    with current_device_of(source):
        return centroid_kernel_backward_triton(grad, source, target, present, factor, count)


@centroid_kernel_backward_op.register_fake
def _fake_backward(
    grad: Tensor, source: Tensor, target: Tensor, present: Tensor, factor: float, count: int
) -> tuple[Tensor, Tensor]:
    return source.new_empty(source.shape), target.new_empty(target.shape)


def _fused(source: Tensor, backend: str) -> bool:
    sizes = {"K": source.shape[0], "D": source.shape[1]}
    return use_triton("centroid_kernel", "centroid_kernel", backend, source, sizes)


def _setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, float, int, str], output: Tensor) -> None:
    source, target, present, ctx.factor, ctx.count, backend = inputs
    ctx.fused = _fused(source, backend)
    ctx.save_for_backward(source, target, present)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
    # whoever differentiates again records this gradient, and gets one that is made of PyTorch's operations
    fused = ctx.fused and not torch.is_grad_enabled()
    arguments = (grad, *ctx.saved_tensors, ctx.factor, ctx.count)
    to_source, to_target = centroid_kernel_backward_op(*arguments) if fused else _by_products(*arguments)
    return to_source, to_target, None, None, None, None


def _by_products(
    grad: Tensor, source: Tensor, target: Tensor, present: Tensor, factor: float, count: int
) -> tuple[Tensor, Tensor]:
    rows = torch.cat((source, target)).to(grad.dtype)
    distance, pairs = squared_distances(rows, present)
    widths = bandwidths(distance, pairs, factor, count)
    slope = -(torch.exp(-distance.unsqueeze(-1) / widths) / widths).sum(dim=-1)
    slope = (slope * grad).where(pairs, 0)
    slope = slope + slope.T
    # seen from one of the rows: what all have in common would drown their differences in rounding
    both = present.repeat(2)
    rows = (rows - rows.index_select(0, both.int().argmax(dim=0, keepdim=True))).where(both[:, None], 0)
    with without_autocast(rows):
        to_rows = 2 * (slope.sum(dim=1, keepdim=True) * rows - slope @ rows)
    to_source, to_target = to_rows.where(both[:, None], 0).chunk(2)
    return to_source.to(source.dtype), to_target.to(target.dtype)


centroid_kernel_op.register_autograd(_backward, setup_context=_setup_context)
