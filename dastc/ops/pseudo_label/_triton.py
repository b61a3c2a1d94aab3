"""Fused kernel for ``pseudo_label``. Imported once it runs.

A program holds all classes of a few pixels of one row in registers: no map with K channels exists at full size. Along
the flow, the probabilities of the four full-size pixels around each point are computed where they are needed.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from dastc.ops._triton import (
    between,
    block_of,
    columns_beside,
    exponentials,
    lanes,
    neighbours,
    row_of_picture,
    sample_point,
)


def pseudo_label_triton(
    logits: Tensor, flow: Tensor | None, previous: Tensor | None, height: int, width: int, by_entropy: bool
) -> tuple[Tensor, Tensor]:
    """Label and confidence of each output pixel."""
    samples, classes, low_height, low_width = logits.shape
    labels = logits.new_empty((samples, height, width), dtype=torch.int64)
    confidence = logits.new_empty((samples, height, width), dtype=torch.float32)
    if labels.numel():
        block_k = block_of(classes)
        block_x = columns_beside(block_k, elements=2048, least=8)
        earlier = logits if previous is None else previous
        _label[(samples * height * triton.cdiv(width, block_x),)](
            logits, flow, earlier, labels, confidence,
            math.log(max(classes, 2)), classes, low_height, low_width, height, width,
            *logits.stride(), *earlier.stride(), *((0, 0, 0, 0) if flow is None else flow.stride()),
            OWN=flow is None or previous is not None, FLOW=flow is not None, ENTROPY=by_entropy,
            BLOCK_K=block_k, BLOCK_X=block_x, num_warps=8,
        )  # fmt: skip
    return labels, confidence


@triton.jit
def _probability(
    x, row, column, live, there, height, width, size_h, size_w, stride_h, stride_w,
):  # fmt: skip
    """Return the probabilities (BLOCK_K, BLOCK_X) at full-size pixels; ``x`` points to the classes, (BLOCK_K, 1)."""
    above, below, down = neighbours(row[None, :], height, size_h)
    left, right, along = neighbours(column[None, :], width, size_w)
    scores = between(x, above, below, down, left, right, along, live, stride_h, stride_w)
    powers, total, _ = exponentials(scores, there)
    return powers / total[None, :]


@triton.jit
def _label(
    logits, flow, earlier, labels, confidence,
    most, classes, low_height, low_width, height, width,
    own_n, own_k, own_h, own_w, earlier_n, earlier_k, earlier_h, earlier_w, flow_n, flow_c, flow_h, flow_w,
    OWN: tl.constexpr, FLOW: tl.constexpr, ENTROPY: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_X: tl.constexpr,
):  # fmt: skip
    sample, y, column = row_of_picture(height, width, BLOCK_X)
    inside, k = column < width, lanes(BLOCK_K)
    row = y + tl.zeros((BLOCK_X,), tl.int64)
    there = (k < classes)[:, None]
    live = there & inside[None, :]
    probability = tl.zeros((BLOCK_K, BLOCK_X), tl.float32)
    if OWN:
        own = logits + sample * own_n + k[:, None] * own_k
        probability = _probability(
            own, row, column, live, there, low_height, low_width, height, width, own_h, own_w
        )  # fmt: skip
    if FLOW:
        at = flow + sample * flow_n + row * flow_h + column * flow_w
        dx = tl.load(at, mask=inside, other=0).to(tl.float32)
        dy = tl.load(at + flow_c, mask=inside, other=0).to(tl.float32)
        left, right, along, within_x, _ = sample_point(column.to(tl.float32) + dx, width)
        above, below, down, within_y, _ = sample_point(row.to(tl.float32) + dy, height)
        x = earlier + sample * earlier_n + k[:, None] * earlier_k
        warped = tl.zeros((BLOCK_K, BLOCK_X), tl.float32)
        for corner in range(4):
            corner_y, corner_x = tl.where(corner < 2, above, below), tl.where(corner % 2 == 0, left, right)
            share = tl.where(corner < 2, 1 - down, down) * tl.where(corner % 2 == 0, 1 - along, along)
            warped += share[None, :] * _probability(
                x, corner_y, corner_x, live, there, low_height, low_width, height, width, earlier_h, earlier_w
            )  # fmt: skip
        seen = (within_x & within_y)[None, :]
        if OWN:  # noqa: SIM108 a branch when compiling
            # what is seen for the first time is known from its own frame only
            probability = tl.where(seen, (probability + warped) / 2, probability)
        else:
            probability = warped * seen.to(tl.float32)
    largest = tl.max(probability, axis=0)
    first = tl.min(tl.where((probability == largest[None, :]) & there, k[:, None], BLOCK_K), axis=0)
    # where one probability is not a number, all are: the sum says so, and no class is the largest
    total = tl.sum(probability, axis=0)
    number = total == total
    if ENTROPY:
        # where there is no probability, that of 1 has the same entropy: none
        some = tl.where(probability > 0, probability, 1.0)
        certainty = 1 + tl.sum(some * tl.log(some), axis=0) / most
        certainty = tl.minimum(tl.maximum(certainty, 0.0), 1.0)
        largest = tl.where(largest > 0, certainty, 0.0)
    out = (sample * height + y) * width + column
    tl.store(labels + out, tl.where(number, first, 0), mask=inside)
    tl.store(confidence + out, tl.where(number, largest, total), mask=inside)
