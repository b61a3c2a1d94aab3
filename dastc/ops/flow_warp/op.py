"""``torch.ops.dastc.flow_warp`` and its backward: schema, implementations, fake, autograd.

An operator cannot return "nothing": the gradient to what was not blended in comes back as an empty tensor.
"""

from typing import Any

import torch
from torch import Tensor

from dastc._core.precision import compute_dtype
from dastc.ops._backend import current_device_of, use_triton
from dastc.ops.flow_warp.reference import flow_warp_reference, sampling_grid, split_gradient, within

_BILINEAR, _BORDER = 0, 1  # aten's codes for the interpolation and the padding


@torch.library.custom_op("dastc::flow_warp", mutates_args=())
def flow_warp_op(
    x: Tensor, flow: Tensor, other: Tensor | None, share: Tensor | None, backend: str = "auto"
) -> tuple[Tensor, Tensor]:
    if use_triton("flow_warp", "flow_warp", backend, x):
        from dastc.ops.flow_warp._triton import flow_warp_triton

        with current_device_of(x):
            return flow_warp_triton(x, flow, other, share)
    warped, valid = flow_warp_reference(x, flow, other, share)
    return warped.contiguous(), valid


@flow_warp_op.register_fake
def _fake(
    x: Tensor, flow: Tensor, other: Tensor | None, share: Tensor | None, backend: str = "auto"
) -> tuple[Tensor, Tensor]:
    n, _, height, width = x.shape
    return x.new_empty(x.shape), flow.new_empty((n, height, width), dtype=torch.bool)


@torch.library.custom_op("dastc::flow_warp_backward", mutates_args=())
def flow_warp_backward_op(
    grad: Tensor, x: Tensor, flow: Tensor, share: Tensor | None, blended: bool, backend: str = "auto"
) -> tuple[Tensor, Tensor, Tensor]:
    if use_triton("flow_warp", "flow_warp", backend, x):
        from dastc.ops.flow_warp._triton import flow_warp_backward_triton

        with current_device_of(x):
            return flow_warp_backward_triton(grad, x, flow, share, blended)
    dtype = compute_dtype(x)
    grid, valid = sampling_grid(flow.to(dtype))
    grad, to_other = grad.to(dtype), x.new_empty(0)
    if blended:
        share = ~valid if share is None else share
        grad, to_other = split_gradient(grad, share)
    to_x, to_grid = torch.ops.aten.grid_sampler_2d_backward(
        grad, x.to(dtype), grid, _BILINEAR, _BORDER, True, (True, True)
    )
    # number by number: a tensor of both would be copied from the host, which waits
    to_dx, to_dy = (to_grid[..., i] * (2 / max(x.shape[-1 - i] - 1, 1)) for i in range(2))
    # a point that was held at the border may lie a rounding inside it
    to_flow = torch.stack((to_dx, to_dy), dim=1).where(within(flow.to(dtype)), 0)
    if share is not None:
        to_flow = to_flow.where(share.unsqueeze(1) != 1, 0)
    return to_x.to(x.dtype).contiguous(), to_flow.to(flow.dtype).contiguous(), to_other.to(x.dtype).contiguous()


@flow_warp_backward_op.register_fake
def _fake_backward(
    grad: Tensor, x: Tensor, flow: Tensor, share: Tensor | None, blended: bool, backend: str = "auto"
) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), flow.new_empty(flow.shape), x.new_empty(x.shape if blended else 0)


def _setup_context(
    ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None, Tensor | None, str], output: tuple[Tensor, Tensor]
) -> None:
    x, flow, other, share, ctx.backend = inputs
    ctx.blended = other is not None
    ctx.save_for_backward(x, flow, share)
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None, None]:
    to_x, to_flow, to_other = flow_warp_backward_op(grad, *ctx.saved_tensors, ctx.blended, ctx.backend)
    return to_x, to_flow, to_other if ctx.blended else None, None, None


flow_warp_op.register_autograd(_backward, setup_context=_setup_context)
