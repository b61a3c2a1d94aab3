"""``torch.ops.dastc.class_pool``: schema, default implementation, fake, autograd."""

from typing import Any

import torch
from torch import Tensor

from dastc.ops._precision import compute_dtype, without_autocast
from dastc.ops.class_pool.reference import class_assignment, class_pool_reference


@torch.library.custom_op("dastc::class_pool", mutates_args=())
def class_pool_op(features: Tensor, labels: Tensor, weights: Tensor | None, num_classes: int) -> tuple[Tensor, Tensor]:
    with without_autocast(features):
        sums, mass = class_pool_reference(features, labels, weights, num_classes)
    return sums.contiguous(), mass.contiguous()


@class_pool_op.register_fake
def _fake(features: Tensor, labels: Tensor, weights: Tensor | None, num_classes: int) -> tuple[Tensor, Tensor]:
    n, width, _ = features.shape
    dtype = compute_dtype(features)
    return features.new_empty((n, num_classes, width), dtype=dtype), features.new_empty((n, num_classes), dtype=dtype)


def _setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None, int], output: Any) -> None:
    features, labels, weights, ctx.num_classes = inputs
    # the features themselves are needed for the gradient to the weights only
    needed = features if weights is not None and weights.requires_grad else None
    ctx.dtypes = features.dtype, compute_dtype(features)
    ctx.save_for_backward(needed, labels, weights)


def _backward(ctx: Any, to_sums: Tensor, to_mass: Tensor) -> tuple[Tensor | None, None, Tensor | None, None]:
    features, labels, weights = ctx.saved_tensors
    feature_dtype, dtype = ctx.dtypes
    to_features, to_weights = None, None
    if ctx.needs_input_grad[0]:
        cast = None if weights is None else weights.to(dtype)
        assignment = class_assignment(labels, cast, ctx.num_classes, dtype)
        with without_autocast(to_sums):
            to_features = (assignment @ to_sums).transpose(1, 2).to(feature_dtype)
    if ctx.needs_input_grad[2]:
        with without_autocast(to_sums):
            per_class = to_sums @ features.to(dtype) + to_mass.unsqueeze(-1)  # (N, K, P)
        counted = (labels >= 0) & (labels < ctx.num_classes)
        own = per_class.gather(1, labels.where(counted, 0).unsqueeze(1)).squeeze(1)
        to_weights = own.where(counted, 0).to(weights.dtype)
    return to_features, None, to_weights, None


class_pool_op.register_autograd(_backward, setup_context=_setup_context)
