"""``torch.ops.dastc.clip_paste``: schema, implementations, fake, autograd.

An operator cannot return "nothing": flow or weights that were not given come back as empty tensors.
"""

from typing import Any

import torch
from torch import Tensor

from dastc.ops._backend import current_device_of, use_triton
from dastc.ops.clip_paste.reference import clip_paste_reference

_Result = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


@torch.library.custom_op("dastc::clip_paste", mutates_args=())
def clip_paste_op(
    frames: Tensor,
    back_frames: Tensor,
    labels: Tensor,
    back_labels: Tensor,
    flow: Tensor | None,
    back_flow: Tensor | None,
    weights: Tensor | None,
    back_weights: Tensor | None,
    key: Tensor,
    table: Tensor,
    eligible: Tensor | None,
    opacity: float,
    backend: str = "auto",
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    flows = None if flow is None or back_flow is None else (flow, back_flow)
    all_weights = None if weights is None or back_weights is None else (weights, back_weights)
    arguments = (frames, back_frames), (labels, back_labels), flows, all_weights, key, table, eligible, opacity
    if use_triton("clip_paste", "clip_paste", backend, frames):
        from dastc.ops.clip_paste._triton import clip_paste_triton

        with current_device_of(frames):
            out = clip_paste_triton(*arguments)
    else:
        out = clip_paste_reference(*arguments)
    mask = out[4].clone() if out[4] is eligible else out[4]
    new_frames, new_labels, new_flow, new_weights = (frames.new_empty(0) if x is None else x for x in out[:4])
    return new_frames.contiguous(), new_labels.contiguous(), new_flow.contiguous(), new_weights.contiguous(), mask


@clip_paste_op.register_fake
def _fake(
    frames: Tensor,
    back_frames: Tensor,
    labels: Tensor,
    back_labels: Tensor,
    flow: Tensor | None,
    back_flow: Tensor | None,
    weights: Tensor | None,
    back_weights: Tensor | None,
    key: Tensor,
    table: Tensor,
    eligible: Tensor | None,
    opacity: float,
    backend: str = "auto",
) -> _Result:
    return (
        frames.new_empty(frames.shape),
        labels.new_empty(labels.shape),
        frames.new_empty(0) if flow is None else flow.new_empty(flow.shape),
        frames.new_empty(0) if weights is None else weights.new_empty(weights.shape),
        key.new_empty(key.shape, dtype=torch.bool),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: _Result) -> None:
    ctx.opacity, ctx.has_flow, ctx.has_weights = inputs[11], inputs[4] is not None, inputs[6] is not None
    ctx.mark_non_differentiable(output[1], output[4])
    ctx.save_for_backward(output[4])


def _backward(ctx: Any, to_frames: Tensor, _: Tensor, to_flow: Tensor, to_weights: Tensor, __: Tensor) -> Any:
    (mask,) = ctx.saved_tensors
    front = to_frames.where(mask.unsqueeze(2), 0) * ctx.opacity
    flows = _split(to_flow, mask[:, 1:].unsqueeze(2)) if ctx.has_flow else (None, None)
    weights = _split(to_weights, mask) if ctx.has_weights else (None, None)
    return front, to_frames - front, None, None, *flows, *weights, None, None, None, None, None


def _split(grad: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    return grad.where(mask, 0), grad.where(~mask, 0)


clip_paste_op.register_autograd(_backward, setup_context=_setup_context)
