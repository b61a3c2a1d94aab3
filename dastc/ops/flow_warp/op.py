"""``torch.ops.dastc.flow_warp`` and its backward: schema, implementations, fake, autograd."""

from typing import Any

import torch
from torch import Tensor

from dastc.ops._backend import current_device_of, use_triton
from dastc.ops._precision import compute_dtype
from dastc.ops.flow_warp.reference import flow_warp_reference, sampling_grid

_BILINEAR, _BORDER = 0, 1  # aten's codes for the interpolation and the padding


@torch.library.custom_op("dastc::flow_warp", mutates_args=())
def flow_warp_op(x: Tensor, flow: Tensor, backend: str = "auto") -> tuple[Tensor, Tensor]:
    if use_triton("flow_warp", "flow_warp", backend, x):
        from dastc.ops.flow_warp._triton import flow_warp_triton

        with current_device_of(x):
            return flow_warp_triton(x, flow)
    warped, valid = flow_warp_reference(x, flow)
    return warped.contiguous(), valid


@flow_warp_op.register_fake
def _fake(x: Tensor, flow: Tensor, backend: str = "auto") -> tuple[Tensor, Tensor]:
    n, _, height, width = x.shape
    return x.new_empty(x.shape), flow.new_empty((n, height, width), dtype=torch.bool)


@torch.library.custom_op("dastc::flow_warp_backward", mutates_args=())
def flow_warp_backward_op(grad: Tensor, x: Tensor, flow: Tensor, backend: str = "auto") -> tuple[Tensor, Tensor]:
    if use_triton("flow_warp", "flow_warp", backend, x):
        from dastc.ops.flow_warp._triton import flow_warp_backward_triton

        with current_device_of(x):
            return flow_warp_backward_triton(grad, x, flow)
    dtype = compute_dtype(x)
    grid, _ = sampling_grid(flow.to(dtype))
    to_x, to_grid = torch.ops.aten.grid_sampler_2d_backward(
        grad.to(dtype), x.to(dtype), grid, _BILINEAR, _BORDER, True, (True, True)
    )
    height, width = x.shape[-2:]
    scale = torch.tensor([2 / max(width - 1, 1), 2 / max(height - 1, 1)], dtype=dtype, device=x.device)
    to_flow = (to_grid * scale).movedim(-1, 1)
    return to_x.to(x.dtype).contiguous(), to_flow.to(flow.dtype).contiguous()


@flow_warp_backward_op.register_fake
def _fake_backward(grad: Tensor, x: Tensor, flow: Tensor, backend: str = "auto") -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), flow.new_empty(flow.shape)


def _setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, str], output: tuple[Tensor, Tensor]) -> None:
    x, flow, ctx.backend = inputs
    ctx.save_for_backward(x, flow)
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None]:
    x, flow = ctx.saved_tensors
    to_x, to_flow = flow_warp_backward_op(grad, x, flow, ctx.backend)
    return to_x, to_flow, None


flow_warp_op.register_autograd(_backward, setup_context=_setup_context)
