"""Fused kernels for ``pseudo_label``. Imported once one of them runs.

A thread has whole pixels and goes through their classes one by one, so that no two threads wait for each other and
nothing but the running maximum and sum is kept: no map with K channels exists at full size. One frame alone takes one
pass. Along the flow, a first pass finds maximum and sum for each of the four full-size pixels around a point, and a
second mixes their probabilities.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from dastc.ops._triton import (
    between,
    block_of,
    largest_and_sum,
    neighbours,
    nothing_yet,
    one_more,
    row_of_picture,
    sample_point,
    sum_or_nan,
)


def pseudo_label_triton(
    logits: Tensor,
    flow: Tensor | None,
    previous: Tensor | None,
    height: int,
    width: int,
    by_entropy: bool,
    noise: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Label and confidence of each output pixel."""
    samples, classes, low_height, low_width = logits.shape
    labels = logits.new_empty((samples, height, width), dtype=torch.int64)
    confidence = logits.new_empty((samples, height, width), dtype=torch.float32)
    if not labels.numel():
        return labels, confidence
    # one pixel a thread: its values then stay in registers, and many threads hide each other's waits
    block = block_of(width, least=32, most=128)
    grid = (samples * height * triton.cdiv(width, block),)
    sizes = math.log(max(classes, 2)), classes, low_height, low_width, height, width
    cells = logits if noise is None else noise  # where there is none, something that is not read
    drawn = *cells.shape[2:], *cells.stride()
    if flow is None:
        _label_own[grid](
            logits, cells, labels, confidence, *sizes, *drawn, *logits.stride(),
            DRAWN=noise is not None, ENTROPY=by_entropy, BLOCK=block, num_warps=block // 32,
        )  # fmt: skip
        return labels, confidence
    earlier = logits if previous is None else previous
    _label_along_flow[grid](
        logits, flow, earlier, cells, labels, confidence,
        *sizes, *drawn, *logits.stride(), *earlier.stride(), *flow.stride(),
        OWN=previous is not None, DRAWN=noise is not None, ENTROPY=by_entropy, BLOCK=block, num_warps=block // 32,
    )  # fmt: skip
    return labels, confidence


@triton.jit
def _label_own(
    logits, noise, labels, confidence,
    most, classes, low_height, low_width, height, width,
    cell_rows, cell_columns, noise_n, noise_k, noise_h, noise_w,
    own_n, own_k, own_h, own_w,
    DRAWN: tl.constexpr, ENTROPY: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    sample, row, column = row_of_picture(height, width, BLOCK)
    above, below, down = neighbours(row, low_height, height)
    left, right, along = neighbours(column, low_width, width)
    x = logits + sample * own_n
    # a column beyond the width lies between pixels that are there, so nothing has to be masked
    everywhere = tl.full((BLOCK,), 1, tl.int1)
    largest, total = nothing_yet(BLOCK)
    label, weighted = tl.zeros((BLOCK,), tl.int32), tl.zeros((BLOCK,), tl.float32)
    at = noise + sample * noise_n + row * cell_rows // height * noise_h
    at += tl.minimum(column, width - 1) * cell_columns // width * noise_w
    drawn = tl.full((BLOCK,), float("-inf"), tl.float32)
    for k in range(0, classes):
        score = between(x, above, below, down, left, right, along, everywhere, own_h, own_w)
        more = score > largest
        if DRAWN:
            luck = score + tl.load(at).to(tl.float32)
            label = tl.where(luck > drawn, k, label)
            drawn = tl.maximum(luck, drawn)
            at += noise_k
        else:
            label = tl.where(more, k, label)
        if ENTROPY:
            # the sum of exp(score - largest) * (score - largest), which moves with the largest
            power = tl.exp(-tl.abs(score - largest))
            ahead = tl.where(power > 0, score - largest, 0.0)
            weighted = tl.where(more, power * (weighted - total * ahead), weighted + power * ahead)
        largest, total = one_more(score, largest, total)
        x += own_k
    total = sum_or_nan(largest, total)
    value = 1 / total
    if ENTROPY:
        value = _certainty(weighted / total - tl.log(total), most)
    _write(labels, confidence, sample * height + row, column, width, label, value, total)


@triton.jit
def _label_along_flow(
    logits, flow, earlier, noise, labels, confidence,
    most, classes, low_height, low_width, height, width,
    cell_rows, cell_columns, noise_n, noise_k, noise_h, noise_w,
    own_n, own_k, own_h, own_w, earlier_n, earlier_k, earlier_h, earlier_w, flow_n, flow_c, flow_h, flow_w,
    OWN: tl.constexpr, DRAWN: tl.constexpr, ENTROPY: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    sample, y, column = row_of_picture(height, width, BLOCK)
    inside, row = column < width, y + tl.zeros((BLOCK,), tl.int64)
    at = flow + sample * flow_n + row * flow_h + column * flow_w
    dx = tl.load(at, mask=inside, other=0).to(tl.float32)
    dy = tl.load(at + flow_c, mask=inside, other=0).to(tl.float32)
    west, east, along, within_x, _ = sample_point(column.to(tl.float32) + dx, width)
    north, south, down, within_y, _ = sample_point(row.to(tl.float32) + dy, height)
    seen = within_x & within_y
    # what each of the four full-size pixels lies between: rows and columns are shared
    n_above, n_below, n_down = neighbours(north, low_height, height)
    s_above, s_below, s_down = neighbours(south, low_height, height)
    w_left, w_right, w_along = neighbours(west, low_width, width)
    e_left, e_right, e_along = neighbours(east, low_width, width)
    x = earlier + sample * earlier_n
    nw_largest, nw_total = largest_and_sum(
        x, classes, earlier_k,
        n_above, n_below, n_down, w_left, w_right, w_along, inside, earlier_h, earlier_w, BLOCK,
    )  # fmt: skip
    ne_largest, ne_total = largest_and_sum(
        x, classes, earlier_k,
        n_above, n_below, n_down, e_left, e_right, e_along, inside, earlier_h, earlier_w, BLOCK,
    )  # fmt: skip
    sw_largest, sw_total = largest_and_sum(
        x, classes, earlier_k,
        s_above, s_below, s_down, w_left, w_right, w_along, inside, earlier_h, earlier_w, BLOCK,
    )  # fmt: skip
    se_largest, se_total = largest_and_sum(
        x, classes, earlier_k,
        s_above, s_below, s_down, e_left, e_right, e_along, inside, earlier_h, earlier_w, BLOCK,
    )  # fmt: skip
    # with an own frame each counts half; what is seen for the first time is known from that frame only, or not at all
    counted = tl.where(seen, 0.5 if OWN else 1.0, 0.0)
    nw_share, ne_share = (1 - down) * (1 - along) * counted / nw_total, (1 - down) * along * counted / ne_total
    sw_share, se_share = down * (1 - along) * counted / sw_total, down * along * counted / se_total
    # where one probability is not a number, all are, and this sum says so
    number = nw_share + ne_share + sw_share + se_share
    if OWN:
        own = logits + sample * own_n
        above, below, o_down = neighbours(y, low_height, height)
        left, right, o_along = neighbours(column, low_width, width)
        own_largest, own_total = largest_and_sum(
            own, classes, own_k, above, below, o_down, left, right, o_along, inside, own_h, own_w, BLOCK
        )
        own_share = tl.where(seen, 0.5, 1.0) / own_total
        number = own_share + tl.where(seen, number, 0.0)
    best, label = tl.full((BLOCK,), -1, tl.float32), tl.zeros((BLOCK,), tl.int32)
    weighted = tl.zeros((BLOCK,), tl.float32)
    luckiest = tl.full((BLOCK,), -1, tl.float32)
    cell = noise + sample * noise_n + y * cell_rows // height * noise_h
    cell += tl.minimum(column, width - 1) * cell_columns // width * noise_w
    for k in range(0, classes):
        nw = between(x, n_above, n_below, n_down, w_left, w_right, w_along, inside, earlier_h, earlier_w)
        ne = between(x, n_above, n_below, n_down, e_left, e_right, e_along, inside, earlier_h, earlier_w)
        sw = between(x, s_above, s_below, s_down, w_left, w_right, w_along, inside, earlier_h, earlier_w)
        se = between(x, s_above, s_below, s_down, e_left, e_right, e_along, inside, earlier_h, earlier_w)
        probability = tl.exp(nw - nw_largest) * nw_share + tl.exp(ne - ne_largest) * ne_share
        probability += tl.exp(sw - sw_largest) * sw_share + tl.exp(se - se_largest) * se_share
        x += earlier_k
        if OWN:
            score = between(own, above, below, o_down, left, right, o_along, inside, own_h, own_w)
            # where, not times zero: a NaN that is not seen must not spread
            probability = tl.where(seen, probability, 0.0) + tl.exp(score - own_largest) * own_share
            own += own_k
        more = probability > best
        if DRAWN:
            # the largest sum of logarithms is the largest product
            luck = probability * tl.exp(tl.load(cell).to(tl.float32))
            label = tl.where(luck > luckiest, k, label)
            luckiest = tl.maximum(luck, luckiest)
            cell += noise_k
        else:
            label = tl.where(more, k, label)
        best = tl.where(more, probability, best)
        if ENTROPY:
            # where there is no probability, that of 1 has the same entropy: none
            some = tl.where(probability > 0, probability, 1.0)
            weighted += some * tl.log(some)
    if ENTROPY:
        best = tl.where(best > 0, _certainty(weighted, most), 0.0)
    _write(labels, confidence, sample * height + y, column, width, label, best, number)


@triton.jit
def _certainty(weighted, most):
    """Return 1 minus the entropy as a share of the largest there can be, from the sum of p * log(p)."""
    return tl.minimum(tl.maximum(1 + weighted / most, 0.0), 1.0)


@triton.jit
def _write(labels, confidence, row, column, width, label, value, number):
    """Store label and confidence; where ``number`` is NaN, a label in range and a confidence of NaN."""
    out, known = row * width + column, number == number
    tl.store(labels + out, tl.where(known, label, 0), mask=column < width)
    tl.store(confidence + out, tl.where(known, value, number), mask=column < width)
