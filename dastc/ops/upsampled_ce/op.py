"""``torch.ops.dastc.upsampled_ce``, its sum, and their backward: schema, implementations, fake, autograd."""

from typing import Any

import torch
from torch import Tensor

from dastc._core.precision import compute_dtype
from dastc.ops._backend import current_device_of, use_triton
from dastc.ops.upsampled_ce.reference import (
    upsampled_ce_backward_reference,
    upsampled_ce_reference,
    upsampled_ce_sum_reference,
)

_Inputs = tuple[Tensor, Tensor, Tensor | None, int, str]


@torch.library.custom_op("dastc::upsampled_ce", mutates_args=())
def upsampled_ce_op(
    logits: Tensor, labels: Tensor, weights: Tensor | None, ignore_index: int, backend: str = "auto"
) -> Tensor:
    if _fused(logits, backend):
        from dastc.ops.upsampled_ce._triton import upsampled_ce_triton

        with current_device_of(logits):
            return upsampled_ce_triton(logits, labels, weights, ignore_index)
    return upsampled_ce_reference(logits, labels, weights, ignore_index)


@upsampled_ce_op.register_fake
def _fake(logits: Tensor, labels: Tensor, weights: Tensor | None, ignore_index: int, backend: str = "auto") -> Tensor:
    return logits.new_empty(labels.shape, dtype=compute_dtype(logits))


@torch.library.custom_op("dastc::upsampled_ce_sum", mutates_args=())
def upsampled_ce_sum_op(
    logits: Tensor, labels: Tensor, weights: Tensor | None, ignore_index: int, backend: str = "auto"
) -> tuple[Tensor, Tensor]:
    if _fused(logits, backend):
        from dastc.ops.upsampled_ce._triton import upsampled_ce_sum_triton

        with current_device_of(logits):
            return upsampled_ce_sum_triton(logits, labels, weights, ignore_index)
    return upsampled_ce_sum_reference(logits, labels, weights, ignore_index)


@upsampled_ce_sum_op.register_fake
def _fake_sum(
    logits: Tensor, labels: Tensor, weights: Tensor | None, ignore_index: int, backend: str = "auto"
) -> tuple[Tensor, Tensor]:
    return logits.new_empty((), dtype=compute_dtype(logits)), labels.new_empty(())


@torch.library.custom_op("dastc::upsampled_ce_backward", mutates_args=())
def upsampled_ce_backward_op(
    grad: Tensor, logits: Tensor, labels: Tensor, weights: Tensor | None, ignore_index: int, backend: str = "auto"
) -> Tensor:
    if _fused(logits, backend):
        from dastc.ops.upsampled_ce._triton import upsampled_ce_backward_triton

        with current_device_of(logits):
            return upsampled_ce_backward_triton(grad, logits, labels, weights, ignore_index)
    out = upsampled_ce_backward_reference(grad, logits, labels, weights, ignore_index).contiguous()
    return out.clone() if out.data_ptr() == grad.data_ptr() else out


@upsampled_ce_backward_op.register_fake
def _fake_backward(
    grad: Tensor, logits: Tensor, labels: Tensor, weights: Tensor | None, ignore_index: int, backend: str = "auto"
) -> Tensor:
    return logits.new_empty(logits.shape)


def _fused(logits: Tensor, backend: str) -> bool:
    return use_triton("upsampled_cross_entropy", "upsampled_ce", backend, logits, {"K": logits.shape[1]})


def _setup_context(ctx: Any, inputs: _Inputs, output: Tensor) -> None:
    logits, labels, weights, ctx.ignore_index, ctx.backend = inputs
    ctx.save_for_backward(logits, labels, weights)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, Tensor | None, None, None]:
    logits, labels, weights = ctx.saved_tensors
    to_logits, to_weights = None, None
    if ctx.needs_input_grad[0]:
        to_logits = upsampled_ce_backward_op(grad, logits, labels, weights, ctx.ignore_index, ctx.backend)
    if ctx.needs_input_grad[2]:
        to_weights = (grad * upsampled_ce_op(logits, labels, None, ctx.ignore_index, ctx.backend)).to(weights.dtype)
    return to_logits, None, to_weights, None, None


upsampled_ce_op.register_autograd(_backward, setup_context=_setup_context)


def _setup_sum(ctx: Any, inputs: _Inputs, output: tuple[Tensor, Tensor]) -> None:
    _setup_context(ctx, inputs, output[0])
    ctx.mark_non_differentiable(output[1])


def _sum_backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, None, Tensor | None, None, None]:
    return _backward(ctx, grad.expand(ctx.saved_tensors[1].shape))


upsampled_ce_sum_op.register_autograd(_sum_backward, setup_context=_setup_sum)
