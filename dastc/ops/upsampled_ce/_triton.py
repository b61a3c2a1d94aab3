"""Fused kernels for ``upsampled_ce`` and its gradient. Imported once one of them runs.

A thread has whole pixels and goes through their classes one by one, so that no two threads wait for each other; no map
with K channels exists at full size. For the sum of the losses no map does: each program leaves its part, and the parts
are added up in fixed order. For the gradient a first pass leaves a few numbers of each pixel, from which the
probability of any class follows. It is then gathered, first down the columns and then along the rows, so it needs no
atomics and always repeats.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from dastc.ops._triton import (
    between,
    block_of,
    first_in_reach,
    lanes,
    largest_and_sum,
    neighbours,
    program,
    row_of_picture,
    share_of,
)

_CLASSES = 8  # that a program gathers: as few as still read a pixel's numbers from the nearest cache


def upsampled_ce_triton(logits: Tensor, labels: Tensor, weights: Tensor | None, ignore_index: int) -> Tensor:
    """Weighted cross entropy of each pixel, 0 where its label is ignored or outside [0, K)."""
    loss = logits.new_empty(labels.shape, dtype=torch.float32)
    _launch(logits, labels, weights, ignore_index, loss, None)
    return loss


def upsampled_ce_sum_triton(
    logits: Tensor, labels: Tensor, weights: Tensor | None, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """Return the sum of all pixels' losses, and how many pixels count."""
    programs = _programs(labels)
    parts, counted = logits.new_empty(programs, dtype=torch.float32), labels.new_empty(programs)
    _launch(logits, labels, weights, ignore_index, parts, counted)
    return parts.sum(), counted.sum()


def _launch(
    logits: Tensor, labels: Tensor, weights: Tensor | None, ignore_index: int, loss: Tensor, counted: Tensor | None
) -> None:
    programs, block = _programs(labels), _block(labels)
    if programs:
        _cross_entropy[(programs,)](
            logits, labels, weights, loss, counted,
            ignore_index, *logits.shape[1:], *labels.shape[1:],
            *logits.stride(), *labels.stride(), *_strides(weights),
            WEIGHTED=weights is not None, SUM=counted is not None, BLOCK=block, num_warps=block // 32,
        )  # fmt: skip


def upsampled_ce_backward_triton(
    grad: Tensor, logits: Tensor, labels: Tensor, weights: Tensor | None, ignore_index: int
) -> Tensor:
    """Gradient to the low-resolution logits, given one gradient for each pixel."""
    samples, classes, height, width = logits.shape
    full_height, full_width = labels.shape[1:]
    if not logits.numel() or not labels.numel():
        return logits.new_zeros(logits.shape)
    block = _block(labels)
    own = logits.new_empty(labels.shape, dtype=torch.int16)
    largest, over_sum, up = (logits.new_empty(labels.shape, dtype=torch.float32) for _ in range(3))
    _pixels[(_programs(labels),)](
        grad, logits, labels, weights, own, largest, over_sum, up,
        ignore_index, classes, height, width, full_height, full_width,
        *grad.stride(), *logits.stride(), *labels.stride(), *_strides(weights),
        WEIGHTED=weights is not None, BLOCK=block, num_warps=block // 32,
    )  # fmt: skip
    out = logits.new_empty(logits.shape)
    wide = logits.new_empty((samples, classes, height, full_width), dtype=torch.float32)
    groups = triton.cdiv(classes, _CLASSES)
    _to_rows[(samples * height * triton.cdiv(full_width, block) * groups,)](
        logits, own, largest, over_sum, up, wide,
        groups, classes, height, width, full_height, full_width, *logits.stride(),
        CLASSES=_CLASSES, BLOCK=block, num_warps=block_of(block // 64),  # here what two pixels share is worth more
    )  # fmt: skip
    rows, block_x = samples * classes * height, block_of(width, most=128)
    _to_columns[(triton.cdiv(rows, 8) * triton.cdiv(width, block_x),)](
        wide, out,
        rows, width, full_width, triton.cdiv(2 * full_width, width) + 2,
        BLOCK_R=8, BLOCK_X=block_x,
    )  # fmt: skip
    return out


def _block(labels: Tensor) -> int:
    # one pixel a thread: its values then stay in registers, and many threads hide each other's waits
    return block_of(labels.shape[2], least=32, most=128)


def _programs(labels: Tensor) -> int:
    samples, height, width = labels.shape
    block = _block(labels)
    return samples * height * ((width + block - 1) // block)


def _strides(weights: Tensor | None) -> tuple[int, ...]:
    return (0, 0, 0) if weights is None else weights.stride()


@triton.jit
def _read(
    logits, labels,
    ignore_index, classes, height, width, full_height, full_width,
    logit_n, logit_k, logit_h, logit_w, label_n, label_h, label_w,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Return where a program's pixels are, their labels, which count, and what there is to know of their scores."""
    sample, row, column = row_of_picture(full_height, full_width, BLOCK)
    label = tl.load(labels + sample * label_n + row * label_h + column * label_w, mask=column < full_width, other=-1)
    counts = (label >= 0) & (label < classes) & (label != ignore_index)
    above, below, down = neighbours(row, height, full_height)
    left, right, along = neighbours(column, width, full_width)
    x = logits + sample * logit_n
    largest, total = largest_and_sum(
        x, classes, logit_k, above, below, down, left, right, along, counts, logit_h, logit_w, BLOCK
    )
    own = between(x + label * logit_k, above, below, down, left, right, along, counts, logit_h, logit_w)
    return sample, row, column, label, counts, own, largest, total


@triton.jit
def _cross_entropy(
    logits, labels, weights, loss, counted,
    ignore_index, classes, height, width, full_height, full_width,
    logit_n, logit_k, logit_h, logit_w, label_n, label_h, label_w, weight_n, weight_h, weight_w,
    WEIGHTED: tl.constexpr, SUM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    sample, row, column, _, counts, own, largest, total = _read(
        logits, labels, ignore_index, classes, height, width, full_height, full_width,
        logit_n, logit_k, logit_h, logit_w, label_n, label_h, label_w, BLOCK,
    )  # fmt: skip
    value = tl.log(total) + (largest - own)
    if WEIGHTED:
        at = weights + sample * weight_n + row * weight_h + column * weight_w
        value *= tl.load(at, mask=counts, other=0).to(tl.float32)
    value = tl.where(counts, value, 0)
    if SUM:
        tl.store(loss + program(), tl.sum(value))
        tl.store(counted + program(), tl.sum(counts.to(tl.int64)))
    else:
        tl.store(loss + (sample * full_height + row) * full_width + column, value, mask=column < full_width)


@triton.jit
def _pixels(
    grad, logits, labels, weights, own, largest, over_sum, up,
    ignore_index, classes, height, width, full_height, full_width,
    grad_n, grad_h, grad_w, logit_n, logit_k, logit_h, logit_w, label_n, label_h, label_w, weight_n, weight_h, weight_w,
    WEIGHTED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Leave what the gradient takes of each pixel: its class or -1, largest score, 1 / sum, and upstream gradient."""
    sample, row, column, label, counts, _, most, total = _read(
        logits, labels, ignore_index, classes, height, width, full_height, full_width,
        logit_n, logit_k, logit_h, logit_w, label_n, label_h, label_w, BLOCK,
    )  # fmt: skip
    inside = column < full_width
    slope = tl.load(grad + sample * grad_n + row * grad_h + column * grad_w, mask=counts, other=0).to(tl.float32)
    if WEIGHTED:
        at = weights + sample * weight_n + row * weight_h + column * weight_w
        slope *= tl.load(at, mask=counts, other=0).to(tl.float32)
    at = (sample * full_height + row) * full_width + column
    tl.store(own + at, tl.where(counts, label, -1).to(tl.int16), mask=inside)
    # where a pixel does not count, its probabilities are 0
    tl.store(largest + at, tl.where(counts, most, float("inf")), mask=inside)
    tl.store(over_sum + at, 1 / total, mask=inside)
    tl.store(up + at, slope, mask=inside)


@triton.jit
def _to_rows(
    logits, own, largest, over_sum, up, wide,
    groups, classes, height, width, full_height, full_width, logit_n, logit_k, logit_h, logit_w,
    CLASSES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gather, for one row of the logits, some full-size columns and some classes, what all rows in reach bring."""
    blocks = tl.cdiv(full_width, BLOCK)
    group, rest = tl.program_id(0) % groups, tl.program_id(0) // groups
    column, rest = (rest % blocks).to(tl.int64) * BLOCK + lanes(BLOCK), rest // blocks
    sample, row = (rest // height).to(tl.int64), (rest % height).to(tl.int64)
    inside = column < full_width
    left, right, along = neighbours(column, width, full_width)
    one, west, east = left == right, left * logit_w, right * logit_w
    # a full-size row in reach lies between this row and the one before it, or the one after
    before, after = tl.maximum(row - 1, 0), tl.minimum(row + 1, height - 1)
    alone = (after == row) | (height == full_height)
    first = first_in_reach(row, height, full_height)
    last = tl.minimum(first_in_reach(row + 2, height, full_height) + 1, full_height)
    start = group.to(tl.int64) * CLASSES
    x = logits + sample * logit_n + start * logit_k
    out = wide + ((sample * classes + start) * height + row) * full_width + column
    for step in range(0, tl.minimum(classes - start, CLASSES)):
        upper = _along_row(x + before * logit_h, west, east, one, along, inside)
        middle = _along_row(x + row * logit_h, west, east, one, along, inside)
        lower = _along_row(x + after * logit_h, west, east, one, along, inside)
        total = tl.zeros((BLOCK,), tl.float32)
        at = (sample * full_height + first) * full_width + column
        # in units of 1 / (2 * full_height), as in neighbours(), and without its division
        unit = 2 * full_height + tl.zeros((), tl.int64)
        position = (2 * first + 1) * height - full_height
        for _ in range(0, last - first):
            distance = tl.minimum(tl.maximum(position, 0), unit * (height - 1)) - unit * row
            is_below = distance >= 0
            down = tl.where(is_below, distance, distance + unit).to(tl.float32) / unit
            share = tl.zeros((BLOCK,), tl.float32) + tl.where(is_below, 1 - down, down)
            reached = inside & (share > 0)
            score = tl.where(is_below, middle, upper) * (1 - down) + tl.where(is_below, lower, middle) * down
            score = tl.where(is_below & alone, middle, score)
            label = tl.load(own + at, mask=reached, other=-1)
            power = tl.exp(score - tl.load(largest + at, mask=reached, other=float("inf")))
            slope = power * tl.load(over_sum + at, mask=reached, other=0) - (label == start + step).to(tl.float32)
            # where, not times zero: a NaN at an ignored pixel must not spread
            total += tl.where(label >= 0, slope * (tl.load(up + at, mask=reached, other=0) * share), 0)
            at += full_width
            position += 2 * height
        tl.store(out, total, mask=inside)
        x += logit_k
        out += height * full_width


@triton.jit
def _along_row(x, west, east, one, along, live):
    """Return the mixture of two pixels of one row, given their offsets; one pixel alone is not mixed."""
    first = tl.load(x + west, mask=live, other=0).to(tl.float32)
    second = tl.load(x + east, mask=live, other=0).to(tl.float32)
    return tl.where(one, first, first * (1 - along) + second * along)


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
