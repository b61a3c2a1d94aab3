"""``torch.ops.dastc.class_pool``: schema, implementations, fake, autograd."""

from typing import Any

import torch
from torch import Tensor

from dastc._core.precision import compute_dtype, without_autocast
from dastc.ops._backend import current_device_of, use_triton
from dastc.ops.class_pool.reference import class_assignment, class_pool_reference


@torch.library.custom_op("dastc::class_pool", mutates_args=())
def class_pool_op(
    features: Tensor, labels: Tensor, weights: Tensor | None, num_classes: int, backend: str = "auto"
) -> tuple[Tensor, Tensor]:
    if _fused(features, num_classes, backend):
        from dastc.ops.class_pool._triton import class_pool_triton

        with current_device_of(features):
            return class_pool_triton(features, labels, weights, num_classes)
    with without_autocast(features):
        sums, mass = class_pool_reference(features, labels, weights, num_classes)
    return sums.contiguous(), mass.contiguous()


@class_pool_op.register_fake
def _fake(
    features: Tensor, labels: Tensor, weights: Tensor | None, num_classes: int, backend: str = "auto"
) -> tuple[Tensor, Tensor]:
    n, width, _ = features.shape
    dtype = compute_dtype(features)
    return features.new_empty((n, num_classes, width), dtype=dtype), features.new_empty((n, num_classes), dtype=dtype)


def _fused(features: Tensor, num_classes: int, backend: str) -> bool:
    return use_triton("class_pool", "class_pool", backend, features, {"K": num_classes, "D": features.shape[1]})


def _setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None, int, str], output: Any) -> None:
    features, labels, weights, ctx.num_classes, backend = inputs
    # the features themselves are needed for the gradient to the weights only
    needed = features if weights is not None and weights.requires_grad else None
    ctx.dtypes = features.dtype, compute_dtype(features)
    ctx.fused = _fused(features, ctx.num_classes, backend)
    ctx.save_for_backward(needed, labels, weights)


def _backward(ctx: Any, to_sums: Tensor, to_mass: Tensor) -> tuple[Tensor | None, None, Tensor | None, None, None]:
    to_features, to_weights = (_by_kernels if ctx.fused else _by_products)(ctx, to_sums, to_mass)
    return to_features, None, to_weights, None, None


def _by_products(ctx: Any, to_sums: Tensor, to_mass: Tensor) -> tuple[Tensor | None, Tensor | None]:
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
    return to_features, to_weights


def _by_kernels(ctx: Any, to_sums: Tensor, to_mass: Tensor) -> tuple[Tensor | None, Tensor | None]:
    features, labels, weights = ctx.saved_tensors
    to_features, to_weights = None, None
    if ctx.needs_input_grad[0]:
        to_features = class_spread_op(to_sums, labels, weights, ctx.dtypes[0])
    if ctx.needs_input_grad[2]:
        to_weights = class_match_op(features, labels, to_sums, to_mass, weights.dtype)
    return to_features, to_weights


class_pool_op.register_autograd(_backward, setup_context=_setup_context)


# The two halves of the fused gradient. With class_pool they are closed under differentiation: each one's derivatives
# are calls of the other two.


@torch.library.custom_op("dastc::class_spread", mutates_args=())
def class_spread_op(to_sums: Tensor, labels: Tensor, weights: Tensor | None, dtype: torch.dtype) -> Tensor:
    from dastc.ops.class_pool._triton import class_spread_triton

    with current_device_of(to_sums):
        return class_spread_triton(to_sums, labels, weights, dtype)


@class_spread_op.register_fake
def _fake_spread(to_sums: Tensor, labels: Tensor, weights: Tensor | None, dtype: torch.dtype) -> Tensor:
    return to_sums.new_empty((labels.shape[0], to_sums.shape[2], labels.shape[1]), dtype=dtype)


def _setup_spread(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None, torch.dtype], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])


def _spread_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, Tensor | None, None]:
    to_sums, labels, weights = ctx.saved_tensors
    first, second = None, None
    if ctx.needs_input_grad[0]:
        first = class_pool_op(grad, labels, weights, to_sums.shape[1], "triton")[0].to(to_sums.dtype)
    if ctx.needs_input_grad[2]:
        no_mass = to_sums.new_zeros(to_sums.shape[:2])
        second = class_match_op(grad, labels, to_sums, no_mass, weights.dtype)
    return first, None, second, None


class_spread_op.register_autograd(_spread_backward, setup_context=_setup_spread)


@torch.library.custom_op("dastc::class_match", mutates_args=())
def class_match_op(features: Tensor, labels: Tensor, to_sums: Tensor, to_mass: Tensor, dtype: torch.dtype) -> Tensor:
    from dastc.ops.class_pool._triton import class_match_triton

    with current_device_of(features):
        return class_match_triton(features, labels, to_sums, to_mass, dtype)


@class_match_op.register_fake
def _fake_match(features: Tensor, labels: Tensor, to_sums: Tensor, to_mass: Tensor, dtype: torch.dtype) -> Tensor:
    return features.new_empty(labels.shape, dtype=dtype)


def _setup_match(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, Tensor, torch.dtype], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])


def _match_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor, Tensor, None]:
    features, labels, to_sums = ctx.saved_tensors
    sums, mass = class_pool_op(features, labels, grad, to_sums.shape[1], "triton")
    return class_spread_op(to_sums, labels, grad, features.dtype), None, sums, mass, None


class_match_op.register_autograd(_match_backward, setup_context=_setup_match)
