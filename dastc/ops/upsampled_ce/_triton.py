"""Fused kernels for ``upsampled_ce`` and its gradient. Imported once one of them runs.

A program holds all classes of a few pixels of one row in registers; no map with K channels exists at full size. For the
sum of the losses no map does: each program leaves its part, and the parts are added up in fixed order. The gradient is
gathered, first down the columns and then along the rows, so it needs no atomics and always repeats.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from dastc.ops._triton import (
    between,
    block_of,
    columns_beside,
    exponentials,
    first_in_reach,
    lanes,
    neighbours,
    program,
    row_of_picture,
    share_of,
)


def upsampled_ce_triton(logits: Tensor, labels: Tensor, weights: Tensor | None, ignore_index: int) -> Tensor:
    """Weighted cross entropy of each pixel, 0 where its label is ignored or outside [0, K)."""
    loss = logits.new_empty(labels.shape, dtype=torch.float32)
    _launch(logits, labels, weights, ignore_index, loss, None)
    return loss


def upsampled_ce_sum_triton(
    logits: Tensor, labels: Tensor, weights: Tensor | None, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """Return the sum of all pixels' losses, and how many pixels count."""
    programs = _programs(labels, logits.shape[1])
    parts, counted = logits.new_empty(programs, dtype=torch.float32), labels.new_empty(programs)
    _launch(logits, labels, weights, ignore_index, parts, counted)
    return parts.sum(), counted.sum()


def _launch(
    logits: Tensor, labels: Tensor, weights: Tensor | None, ignore_index: int, loss: Tensor, counted: Tensor | None
) -> None:
    classes, height, width = logits.shape[1:]
    programs = _programs(labels, classes)
    if programs:
        block_k, block_x = _tile(classes)
        _cross_entropy[(programs,)](
            logits, labels, weights, loss, counted,
            ignore_index, classes, height, width, *labels.shape[1:],
            *logits.stride(), *labels.stride(), *_strides(weights),
            WEIGHTED=weights is not None, SUM=counted is not None, BLOCK_K=block_k, BLOCK_X=block_x,
        )  # fmt: skip


def upsampled_ce_backward_triton(
    grad: Tensor, logits: Tensor, labels: Tensor, weights: Tensor | None, ignore_index: int
) -> Tensor:
    """Gradient to the low-resolution logits, given one gradient for each pixel."""
    samples, classes, height, width = logits.shape
    full_height, full_width = labels.shape[1:]
    if not logits.numel() or not labels.numel():
        return logits.new_zeros(logits.shape)
    out = logits.new_empty(logits.shape)
    wide = logits.new_empty((samples, classes, height, full_width), dtype=torch.float32)
    block_k, block_x = _tile(classes)
    _to_rows[(samples * height * triton.cdiv(full_width, block_x),)](
        grad, logits, labels, weights, wide,
        ignore_index, classes, height, width, full_height, full_width,
        *grad.stride(), *logits.stride(), *labels.stride(), *_strides(weights),
        WEIGHTED=weights is not None, BLOCK_K=block_k, BLOCK_X=block_x, num_warps=8,
    )  # fmt: skip
    rows, block_x = samples * classes * height, block_of(width, most=128)
    _to_columns[(triton.cdiv(rows, 8) * triton.cdiv(width, block_x),)](
        wide, out,
        rows, width, full_width, triton.cdiv(2 * full_width, width) + 2,
        BLOCK_R=8, BLOCK_X=block_x,
    )  # fmt: skip
    return out


def _tile(classes: int) -> tuple[int, int]:
    block_k = block_of(classes)
    return block_k, columns_beside(block_k, elements=2048, least=8)


def _programs(labels: Tensor, classes: int) -> int:
    samples, height, width = labels.shape
    block_x = _tile(classes)[1]
    return samples * height * ((width + block_x - 1) // block_x)


def _strides(weights: Tensor | None) -> tuple[int, ...]:
    return (0, 0, 0) if weights is None else weights.stride()


@triton.jit
def _counts(label, classes, ignore_index):
    return (label >= 0) & (label < classes) & (label != ignore_index)


@triton.jit
def _cross_entropy(
    logits, labels, weights, loss, counted,
    ignore_index, classes, height, width, full_height, full_width,
    logit_n, logit_k, logit_h, logit_w, label_n, label_h, label_w, weight_n, weight_h, weight_w,
    WEIGHTED: tl.constexpr, SUM: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_X: tl.constexpr,
):  # fmt: skip
    sample, row, column = row_of_picture(full_height, full_width, BLOCK_X)
    inside, k = column < full_width, lanes(BLOCK_K)
    label = tl.load(labels + sample * label_n + row * label_h + column * label_w, mask=inside, other=-1)
    counts = _counts(label, classes, ignore_index)
    there = (k < classes)[:, None]
    above, below, down = neighbours(row, height, full_height)
    left, right, along = neighbours(column[None, :], width, full_width)
    scores = between(
        logits + sample * logit_n + k[:, None] * logit_k,
        above, below, down, left, right, along, there & counts[None, :], logit_h, logit_w,
    )  # fmt: skip
    _, total, largest = exponentials(scores, there)
    own = tl.sum(tl.where(k[:, None] == label[None, :], scores, 0), axis=0)
    value = tl.log(total) + largest - own
    if WEIGHTED:
        at = weights + sample * weight_n + row * weight_h + column * weight_w
        value *= tl.load(at, mask=counts, other=0).to(tl.float32)
    value = tl.where(counts, value, 0)
    if SUM:
        tl.store(loss + program(), tl.sum(value))
        tl.store(counted + program(), tl.sum(counts.to(tl.int64)))
    else:
        tl.store(loss + (sample * full_height + row) * full_width + column, value, mask=inside)


@triton.jit
def _to_rows(
    grad, logits, labels, weights, wide,
    ignore_index, classes, height, width, full_height, full_width,
    grad_n, grad_h, grad_w, logit_n, logit_k, logit_h, logit_w, label_n, label_h, label_w, weight_n, weight_h, weight_w,
    WEIGHTED: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_X: tl.constexpr,
):  # fmt: skip
    """Gather, for one row of the logits and some full-size columns, what all full-size rows in its reach bring."""
    sample, row, column = row_of_picture(height, full_width, BLOCK_X)
    inside, k = column < full_width, lanes(BLOCK_K)
    there = (k < classes)[:, None]
    left, right, along = neighbours(column[None, :], width, full_width)
    logits += sample * logit_n + k[:, None] * logit_k
    total = tl.zeros((BLOCK_K, BLOCK_X), tl.float32)
    first = first_in_reach(row, height, full_height)
    last = tl.minimum(first_in_reach(row + 2, height, full_height) + 1, full_height)
    for step in range(0, last - first):
        full_row = first + step  # int64, which a loop's own counter is not everywhere
        pixel = labels + sample * label_n + full_row * label_h + column * label_w
        label = tl.load(pixel, mask=inside, other=-1)
        above, below, down = neighbours(full_row, height, full_height)
        share = tl.zeros((BLOCK_X,), tl.float32) + share_of(row, above, below, down)
        counts = _counts(label, classes, ignore_index) & (share > 0)
        up = tl.load(grad + sample * grad_n + full_row * grad_h + column * grad_w, mask=counts, other=0).to(tl.float32)
        if WEIGHTED:
            at = weights + sample * weight_n + full_row * weight_h + column * weight_w
            up *= tl.load(at, mask=counts, other=0).to(tl.float32)
        live = there & counts[None, :]
        scores = between(logits, above, below, down, left, right, along, live, logit_h, logit_w)
        powers, powers_total, _ = exponentials(scores, there)
        slope = powers / powers_total[None, :] - (k[:, None] == label[None, :]).to(tl.float32)
        # where, not times zero: a NaN at an ignored pixel must not spread
        total += tl.where(counts[None, :], slope * (up * share)[None, :], 0)
    out = wide + ((sample * classes + k[:, None]) * height + row) * full_width + column[None, :]
    tl.store(out, total, mask=there & inside[None, :])


@triton.jit
def _to_columns(wide, out, rows, width, full_width, reach, BLOCK_R: tl.constexpr, BLOCK_X: tl.constexpr):
    """Gather, for some rows, what the full-size columns in reach of each of the logits' columns bring."""
    blocks = tl.cdiv(width, BLOCK_X)
    row = ((program() // blocks) * BLOCK_R + lanes(BLOCK_R))[:, None]
    column = (program() % blocks) * BLOCK_X + lanes(BLOCK_X)
    first = first_in_reach(column, width, full_width)
    total = tl.zeros((BLOCK_R, BLOCK_X), tl.float32)
    for step in range(0, reach):
        full_column = first + step
        left, right, along = neighbours(full_column, width, full_width)
        share = share_of(column, left, right, along)
        live = (full_column < full_width) & (column < width) & (share > 0)
        value = tl.load(wide + row * full_width + full_column[None, :], mask=live[None, :] & (row < rows), other=0)
        total += share[None, :] * value
    tl.store(out + row * width + column[None, :], total, mask=(row < rows) & (column < width)[None, :])
