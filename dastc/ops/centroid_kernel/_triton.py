"""Fused kernels for ``centroid_kernel`` and its gradient, two launches each. Imported once one of them runs.

The first launch compares all rows by differences, a few rows with a few others in each program, and adds up its part of
the mean; the second adds up the parts, in fixed order, and takes the exponentials. The gradient repeats the first and
gathers, for a few rows and columns, what all other rows bring, so it needs no atomics.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from dastc.ops._triton import block_of, lanes, program

_TILE = {"BLOCK_R": 8, "BLOCK_D": 64}


def centroid_kernel_triton(source: Tensor, target: Tensor, present: Tensor, factor: float, count: int) -> Tensor:
    """Multi-bandwidth RBF kernel (2K, 2K) among both centroid sets (K, D)."""
    distance, parts = _compared(source, target, present)
    out = torch.empty_like(distance)
    blocks = triton.cdiv(len(distance), _TILE["BLOCK_R"])
    if blocks:
        _exponentials[(blocks * blocks,)](
            distance, parts, present, out,
            *_shared(source, present, factor, count),
            BLOCK_T=block_of(len(parts)), BLOCK_K=block_of(len(source)), BLOCK_R=_TILE["BLOCK_R"],
        )  # fmt: skip
    return out


def centroid_kernel_backward_triton(
    grad: Tensor, source: Tensor, target: Tensor, present: Tensor, factor: float, count: int
) -> tuple[Tensor, Tensor]:
    """Gradients to both centroid sets."""
    distance, parts = _compared(source, target, present)
    classes, width = source.shape
    to_source, to_target = source.new_empty(source.shape), target.new_empty(target.shape)
    blocks = triton.cdiv(2 * classes, _TILE["BLOCK_R"]) * triton.cdiv(width, _TILE["BLOCK_D"])
    if blocks:
        _to_rows[(blocks,)](
            grad, source, target, distance, parts, present, to_source, to_target,
            width, *grad.stride(), *source.stride(), *target.stride(),
            *_shared(source, present, factor, count),
            BLOCK_T=block_of(len(parts)), BLOCK_K=block_of(classes), **_TILE,
        )  # fmt: skip
    return to_source, to_target


def _compared(source: Tensor, target: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Return squared distances (2K, 2K), 0 where a class is absent, and the parts of their sum, one per program."""
    classes, width = source.shape
    blocks = triton.cdiv(2 * classes, _TILE["BLOCK_R"])
    distance = source.new_empty((2 * classes, 2 * classes), dtype=torch.float32)
    parts = source.new_empty(blocks * blocks, dtype=torch.float32)
    if blocks:
        _distances[(blocks * blocks,)](
            source, target, present, distance, parts,
            classes, width, *source.stride(), *target.stride(), present.stride(0),
            **_TILE,
        )  # fmt: skip
    return distance, parts


def _shared(source: Tensor, present: Tensor, factor: float, count: int) -> tuple[float, ...]:
    """Return what all widths are made of: classes, stride of presence, ratio, number, centre, and their least value."""
    least = torch.finfo(torch.float32).tiny ** 0.5
    return len(source), present.stride(0), float(factor), count, float(factor) ** (count // 2), least


@triton.jit
def _present(present, row, classes, stride):
    return tl.load(present + (row % classes) * stride, mask=row < 2 * classes, other=0) != 0


@triton.jit
def _values(source, target, row, d, live, classes, source_k, source_d, target_k, target_d):
    """Return elements as float32 of source rows followed by target rows; 0 where not live."""
    ours = tl.load(source + row * source_k + d * source_d, mask=live & (row < classes), other=0)
    theirs = tl.load(target + (row - classes) * target_k + d * target_d, mask=live & (row >= classes), other=0)
    return tl.where(row < classes, ours.to(tl.float32), theirs.to(tl.float32))


@triton.jit
def _smallest_width(
    parts, present, classes, present_k, centre, least, blocks, BLOCK_T: tl.constexpr, BLOCK_K: tl.constexpr
):
    """Return the mean squared distance of different present rows, over the centre; never so small that it divides."""
    part, k = lanes(BLOCK_T), lanes(BLOCK_K)
    total = tl.sum(tl.load(parts + part, mask=part < blocks * blocks, other=0))
    there = tl.load(present + k * present_k, mask=k < classes, other=0) != 0
    rows = 2 * tl.sum(there.to(tl.float32))
    width = total / tl.maximum(rows * (rows - 1), 1.0) / centre
    # where, since maximum is not sure to keep a NaN
    return tl.where(width < least, least, width)


@triton.jit
def _distances(
    source, target, present, distance, parts,
    classes, width, source_k, source_d, target_k, target_d, present_k,
    BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    blocks = tl.cdiv(2 * classes, BLOCK_R)
    row = (program() // blocks) * BLOCK_R + lanes(BLOCK_R)
    other = (program() % blocks) * BLOCK_R + lanes(BLOCK_R)
    row_there, other_there = (
        _present(present, row, classes, present_k), _present(present, other, classes, present_k)
    )  # fmt: skip
    total = tl.zeros((BLOCK_R, BLOCK_R, BLOCK_D), tl.float32)
    for start in range(0, width, BLOCK_D):
        d = (start + lanes(BLOCK_D))[None, :]
        here = _values(
            source, target, row[:, None], d, row_there[:, None] & (d < width),
            classes, source_k, source_d, target_k, target_d,
        )  # fmt: skip
        there = _values(
            source, target, other[:, None], d, other_there[:, None] & (d < width),
            classes, source_k, source_d, target_k, target_d,
        )  # fmt: skip
        # by differences, not by products: the distance of equal rows is then exactly 0
        difference = here[:, None, :] - there[None, :, :]
        total += difference * difference
    squared = tl.where(row_there[:, None] & other_there[None, :], tl.sum(total, axis=2), 0.0)
    tl.store(parts + program(), tl.sum(squared))
    inside = (row < 2 * classes)[:, None] & (other < 2 * classes)[None, :]
    tl.store(distance + row[:, None] * 2 * classes + other[None, :], squared, mask=inside)


@triton.jit
def _exponentials(
    distance, parts, present, out,
    classes, present_k, factor, count, centre, least,
    BLOCK_T: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    blocks = tl.cdiv(2 * classes, BLOCK_R)
    row = (program() // blocks) * BLOCK_R + lanes(BLOCK_R)
    other = (program() % blocks) * BLOCK_R + lanes(BLOCK_R)
    pair = _present(present, row, classes, present_k)[:, None] & _present(present, other, classes, present_k)[None, :]
    at = row[:, None] * 2 * classes + other[None, :]
    squared = tl.load(distance + at, mask=pair, other=0)
    width = _smallest_width(parts, present, classes, present_k, centre, least, blocks, BLOCK_T, BLOCK_K)
    total = tl.zeros((BLOCK_R, BLOCK_R), tl.float32)
    for _ in range(0, count):
        total += tl.exp(-squared / width)
        width *= factor
    inside = (row < 2 * classes)[:, None] & (other < 2 * classes)[None, :]
    tl.store(out + at, tl.where(pair, total, 0.0), mask=inside)


@triton.jit
def _to_rows(
    grad, source, target, distance, parts, present, to_source, to_target,
    columns, grad_i, grad_j, source_k, source_d, target_k, target_d,
    classes, present_k, factor, count, centre, least,
    BLOCK_T: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    blocks, across = tl.cdiv(2 * classes, BLOCK_R), tl.cdiv(columns, BLOCK_D)
    row = (program() // across) * BLOCK_R + lanes(BLOCK_R)
    d = ((program() % across) * BLOCK_D + lanes(BLOCK_D))[None, :]
    row_there = _present(present, row, classes, present_k)
    smallest = _smallest_width(parts, present, classes, present_k, centre, least, blocks, BLOCK_T, BLOCK_K)
    here = _values(
        source, target, row[:, None], d, row_there[:, None] & (d < columns),
        classes, source_k, source_d, target_k, target_d,
    )  # fmt: skip
    total = tl.zeros((BLOCK_R, BLOCK_D), tl.float32)
    for start in range(0, 2 * classes, BLOCK_R):
        other = start + lanes(BLOCK_R)
        other_there = _present(present, other, classes, present_k)
        pair = row_there[:, None] & other_there[None, :]
        squared = tl.load(distance + row[:, None] * 2 * classes + other[None, :], mask=pair, other=0)
        up = tl.load(grad + row[:, None] * grad_i + other[None, :] * grad_j, mask=pair, other=0).to(tl.float32)
        up += tl.load(grad + other[None, :] * grad_i + row[:, None] * grad_j, mask=pair, other=0).to(tl.float32)
        slope, width = tl.zeros((BLOCK_R, BLOCK_R), tl.float32), smallest
        for _ in range(0, count):
            slope -= tl.exp(-squared / width) / width
            width *= factor
        there = _values(
            source, target, other[:, None], d, other_there[:, None] & (d < columns),
            classes, source_k, source_d, target_k, target_d,
        )  # fmt: skip
        slope = tl.where(pair, 2 * slope * up, 0.0)
        total += tl.sum(slope[:, :, None] * (here[:, None, :] - there[None, :, :]), axis=1)
    total = tl.where(row_there[:, None], total, 0.0)
    ours, inside = row[:, None] < classes, (row[:, None] < 2 * classes) & (d < columns)
    tl.store(to_source + row[:, None] * columns + d, total, mask=inside & ours)
    tl.store(to_target + (row[:, None] - classes) * columns + d, total, mask=inside & (row[:, None] >= classes))
