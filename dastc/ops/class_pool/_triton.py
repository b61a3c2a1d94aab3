"""Fused kernels for ``class_pool``: pooling, and the two halves of its gradient. Imported once one of them runs."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from dastc.ops._triton import block_of, columns_beside, lanes, program

_PRECISION = "ieee"  # no tf32: a sum of float32 has the precision of float32
_LEAST_PIXELS = 512  # of one program
_PIXELS_PER_CLASS = 16  # so that the partial sums are a small part of the features


def class_pool_triton(
    features: Tensor, labels: Tensor, weights: Tensor | None, num_classes: int
) -> tuple[Tensor, Tensor]:
    """Sum features (N, D, P) per class: partial sums of runs of pixels, then the sum over the runs, in fixed order."""
    samples, width, pixels = features.shape
    run = max(_LEAST_PIXELS, _PIXELS_PER_CLASS * block_of(num_classes))
    runs = triton.cdiv(pixels, run)
    sums = features.new_empty((samples, runs, num_classes, width), dtype=torch.float32)
    mass = features.new_empty((samples, runs, num_classes), dtype=torch.float32)
    block_k = block_of(num_classes, least=16)
    block_d = block_of(width, least=16, most=columns_beside(block_k, elements=2048, most=64))
    programs = samples * runs * max(triton.cdiv(width, block_d), 1)
    if programs:
        _pool[(programs,)](
            features, labels, weights, sums, mass,
            width, pixels, num_classes, runs, run,
            *features.stride(), *labels.stride(), *_strides(weights),
            WEIGHTED=weights is not None, PRECISION=_PRECISION, BLOCK_D=block_d, BLOCK_K=block_k, BLOCK_P=16,
            num_warps=8 if block_k > 64 else 4,
        )  # fmt: skip
    return sums.sum(1), mass.sum(1)


def class_spread_triton(to_sums: Tensor, labels: Tensor, weights: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Give each pixel the row of its class, times its weight: (N, D, P), zeros where its label does not count."""
    samples, num_classes, width = to_sums.shape
    pixels = labels.shape[1]
    out = to_sums.new_empty((samples, width, pixels), dtype=dtype)
    if out.numel():
        block_d = block_of(width, most=32)
        grid = samples * triton.cdiv(width, block_d) * triton.cdiv(pixels, 128)
        _spread[(grid,)](
            to_sums, labels, weights, out,
            width, pixels, num_classes,
            *to_sums.stride(), *labels.stride(), *_strides(weights),
            WEIGHTED=weights is not None, BLOCK_D=block_d, BLOCK_P=128,
        )  # fmt: skip
    return out


def class_match_triton(
    features: Tensor, labels: Tensor, to_sums: Tensor, to_mass: Tensor, dtype: torch.dtype
) -> Tensor:
    """Multiply each pixel's features with the row of its class and add its mass: (N, P), 0 where it does not count."""
    samples, width, pixels = features.shape
    out = features.new_empty((samples, pixels), dtype=dtype)
    if out.numel():
        _match[(samples * triton.cdiv(pixels, 128),)](
            features, labels, to_sums, to_mass, out,
            width, pixels, to_sums.shape[1],
            *features.stride(), *labels.stride(), *to_sums.stride(), *to_mass.stride(),
            BLOCK_D=block_of(width, most=32), BLOCK_P=128,
        )  # fmt: skip
    return out


def _strides(weights: Tensor | None) -> tuple[int, ...]:
    return (0, 0) if weights is None else weights.stride()


@triton.jit
def _pool(
    features, labels, weights, sums, mass,
    width, pixels, num_classes, runs, run,
    feature_n, feature_d, feature_p, label_n, label_p, weight_n, weight_p,
    WEIGHTED: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    blocks = tl.maximum(tl.cdiv(width, BLOCK_D), 1)
    part, block = program() // blocks, program() % blocks
    sample, start = part // runs, (part % runs) * run
    d, k, p = block * BLOCK_D + lanes(BLOCK_D), lanes(BLOCK_K), lanes(BLOCK_P)
    total = tl.zeros((BLOCK_D, BLOCK_K), tl.float32)
    weight_total = tl.zeros((BLOCK_K,), tl.float32)
    features += sample * feature_n + d[:, None] * feature_d
    for step in range(0, tl.minimum(run, pixels - start), BLOCK_P):
        pixel = start + step + p
        there = pixel < pixels
        label = tl.load(labels + sample * label_n + pixel * label_p, mask=there, other=-1)
        # lanes of the block beyond the last class are not stored, so a label there counts nowhere
        share = (label[:, None] == k[None, :]).to(tl.float32)
        counts = (label >= 0) & (label < num_classes)
        if WEIGHTED:
            weight = tl.load(weights + sample * weight_n + pixel * weight_p, mask=counts, other=0).to(tl.float32)
            share *= weight[:, None]
            counts = counts & (weight != 0)
        # what does not count is not read: zero times NaN is NaN
        tile = tl.load(features + pixel[None, :] * feature_p, mask=(d[:, None] < width) & counts[None, :], other=0)
        total = tl.dot(tile.to(tl.float32), share, total, input_precision=PRECISION)
        weight_total += tl.sum(share, axis=0)
    row = (part * num_classes + k) * width
    tl.store(sums + row[None, :] + d[:, None], total, mask=(d[:, None] < width) & (k[None, :] < num_classes))
    if block == 0:
        tl.store(mass + part * num_classes + k, weight_total, mask=k < num_classes)


@triton.jit
def _spread(
    to_sums, labels, weights, out,
    width, pixels, num_classes,
    sums_n, sums_k, sums_d, label_n, label_p, weight_n, weight_p,
    WEIGHTED: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    across, down = tl.cdiv(pixels, BLOCK_P), tl.cdiv(width, BLOCK_D)
    sample = program() // across // down
    d = ((program() // across) % down * BLOCK_D + lanes(BLOCK_D))[:, None]
    pixel = (program() % across) * BLOCK_P + lanes(BLOCK_P)
    label = tl.load(labels + sample * label_n + pixel * label_p, mask=pixel < pixels, other=-1)
    counts = (label >= 0) & (label < num_classes)
    row = to_sums + sample * sums_n + label[None, :] * sums_k + d * sums_d
    value = tl.load(row, mask=counts[None, :] & (d < width), other=0).to(tl.float32)
    if WEIGHTED:
        weight = tl.load(weights + sample * weight_n + pixel * weight_p, mask=counts, other=0).to(tl.float32)
        value *= weight[None, :]
    inside = (d < width) & (pixel[None, :] < pixels)
    tl.store(out + (sample * width + d) * pixels + pixel[None, :], value, mask=inside)


@triton.jit
def _match(
    features, labels, to_sums, to_mass, out,
    width, pixels, num_classes,
    feature_n, feature_d, feature_p, label_n, label_p, sums_n, sums_k, sums_d, mass_n, mass_k,
    BLOCK_D: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    across = tl.cdiv(pixels, BLOCK_P)
    sample = program() // across
    pixel = (program() % across) * BLOCK_P + lanes(BLOCK_P)
    label = tl.load(labels + sample * label_n + pixel * label_p, mask=pixel < pixels, other=-1)
    counts = (label >= 0) & (label < num_classes)
    total = tl.load(to_mass + sample * mass_n + label * mass_k, mask=counts, other=0).to(tl.float32)
    for start in range(0, width, BLOCK_D):
        d = (start + lanes(BLOCK_D))[:, None]
        live = counts[None, :] & (d < width)
        row = tl.load(to_sums + sample * sums_n + label[None, :] * sums_k + d * sums_d, mask=live, other=0)
        tile = tl.load(features + sample * feature_n + d * feature_d + pixel[None, :] * feature_p, mask=live, other=0)
        total += tl.sum(row.to(tl.float32) * tile.to(tl.float32), axis=0)
    tl.store(out + sample * pixels + pixel, total, mask=pixel < pixels)
