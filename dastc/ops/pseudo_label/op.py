"""``torch.ops.dastc.pseudo_label``: schema, implementations, fake. Labels have no derivative."""

import torch
from torch import Tensor

from dastc._core.precision import compute_dtype
from dastc.ops._backend import current_device_of, use_triton
from dastc.ops.pseudo_label.reference import pseudo_label_reference


@torch.library.custom_op("dastc::pseudo_label", mutates_args=())
def pseudo_label_op(
    logits: Tensor,
    flow: Tensor | None,
    previous: Tensor | None,
    height: int,
    width: int,
    by_entropy: bool,
    backend: str = "auto",
    noise: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    if use_triton("pseudo_labels", "pseudo_label", backend, logits, {"K": logits.shape[1]}):
        from dastc.ops.pseudo_label._triton import pseudo_label_triton

        with current_device_of(logits):
            return pseudo_label_triton(logits, flow, previous, height, width, by_entropy, noise)
    return pseudo_label_reference(logits, flow, previous, height, width, by_entropy, noise)


@pseudo_label_op.register_fake
def _fake(
    logits: Tensor,
    flow: Tensor | None,
    previous: Tensor | None,
    height: int,
    width: int,
    by_entropy: bool,
    backend: str = "auto",
    noise: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    shape = (logits.shape[0], height, width)
    return logits.new_empty(shape, dtype=torch.int64), logits.new_empty(shape, dtype=compute_dtype(logits))
