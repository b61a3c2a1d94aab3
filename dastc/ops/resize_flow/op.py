"""``torch.ops.dastc.resize_flow`` and its backward: schema, default implementation, fake, autograd."""

from typing import Any

import torch
from torch import Tensor

from dastc._core.precision import compute_dtype
from dastc.ops.resize_flow.reference import axis_ratios, resize_flow_reference


@torch.library.custom_op("dastc::resize_flow", mutates_args=())
def resize_flow_op(flow: Tensor, height: int, width: int) -> Tensor:
    return resize_flow_reference(flow, height, width).contiguous()


@resize_flow_op.register_fake
def _fake(flow: Tensor, height: int, width: int) -> Tensor:
    return flow.new_empty((flow.shape[0], 2, height, width))


@torch.library.custom_op("dastc::resize_flow_backward", mutates_args=())
def resize_flow_backward_op(grad: Tensor, height: int, width: int) -> Tensor:
    # the input's grid is (height, width) here: the ratios are those of the way there
    n, _, out_height, out_width = grad.shape
    ratios = axis_ratios(grad.new_empty((1, 2, height, width)), out_height, out_width)
    scaled = grad.to(compute_dtype(grad)) * ratios
    back = torch.ops.aten.upsample_bilinear2d_backward(
        scaled.contiguous(), [out_height, out_width], [n, 2, height, width], False, None, None
    )
    out: Tensor = back.to(grad.dtype).contiguous()
    return out


@resize_flow_backward_op.register_fake
def _fake_backward(grad: Tensor, height: int, width: int) -> Tensor:
    return grad.new_empty((grad.shape[0], 2, height, width))


def _setup_context(ctx: Any, inputs: tuple[Tensor, int, int], output: Tensor) -> None:
    ctx.size = inputs[0].shape[-2:]


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    return resize_flow_backward_op(grad, *ctx.size), None, None


def _setup_second(ctx: Any, inputs: tuple[Tensor, int, int], output: Tensor) -> None:
    ctx.size = inputs[0].shape[-2:]


def _second_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    # the operator is linear, so the derivative of its adjoint is the operator
    return resize_flow_op(grad, *ctx.size), None, None


resize_flow_op.register_autograd(_backward, setup_context=_setup_context)
resize_flow_backward_op.register_autograd(_second_backward, setup_context=_setup_second)
