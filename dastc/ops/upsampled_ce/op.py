"""``torch.ops.dastc.upsampled_ce`` and its backward: schema, implementations, fake, autograd."""

from typing import Any

import torch
from torch import Tensor

from dastc.ops._backend import current_device_of, use_triton
from dastc.ops._precision import compute_dtype
from dastc.ops.upsampled_ce.reference import upsampled_ce_backward_reference, upsampled_ce_reference


@torch.library.custom_op("dastc::upsampled_ce", mutates_args=())
def upsampled_ce_op(logits: Tensor, labels: Tensor, backend: str = "auto") -> Tensor:
    if _fused(logits, backend):
        from dastc.ops.upsampled_ce._triton import upsampled_ce_triton

        with current_device_of(logits):
            return upsampled_ce_triton(logits, labels)
    return upsampled_ce_reference(logits, labels)


@upsampled_ce_op.register_fake
def _fake(logits: Tensor, labels: Tensor, backend: str = "auto") -> Tensor:
    return logits.new_empty(labels.shape, dtype=compute_dtype(logits))


@torch.library.custom_op("dastc::upsampled_ce_backward", mutates_args=())
def upsampled_ce_backward_op(grad: Tensor, logits: Tensor, labels: Tensor, backend: str = "auto") -> Tensor:
    if _fused(logits, backend):
        from dastc.ops.upsampled_ce._triton import upsampled_ce_backward_triton

        with current_device_of(logits):
            return upsampled_ce_backward_triton(grad, logits, labels)
    out = upsampled_ce_backward_reference(grad, logits, labels).contiguous()
    return out.clone() if out.data_ptr() == grad.data_ptr() else out


@upsampled_ce_backward_op.register_fake
def _fake_backward(grad: Tensor, logits: Tensor, labels: Tensor, backend: str = "auto") -> Tensor:
    return logits.new_empty(logits.shape)


def _fused(logits: Tensor, backend: str) -> bool:
    return use_triton("upsampled_cross_entropy", "upsampled_ce", backend, logits, {"K": logits.shape[1]})


def _setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, str], output: Tensor) -> None:
    logits, labels, ctx.backend = inputs
    ctx.save_for_backward(logits, labels)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    return upsampled_ce_backward_op(grad, *ctx.saved_tensors, ctx.backend), None, None


upsampled_ce_op.register_autograd(_backward, setup_context=_setup_context)
