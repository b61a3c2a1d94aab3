"""Fused kernel for ``clip_paste``: everything that a clip holds, in one launch. Imported once it runs."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from dastc.ops._triton import block_of, row_of_picture

_Pair = tuple[Tensor, Tensor]


def clip_paste_triton(
    frames: _Pair,
    labels: _Pair,
    flow: _Pair | None,
    weights: _Pair | None,
    key: Tensor,
    table: Tensor,
    eligible: Tensor | None,
    opacity: float,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor]:
    """Compose foreground and background, in this order in each pair."""
    samples, times, _, height, width = frames[0].shape
    out_frames, out_labels = frames[0].new_empty(frames[0].shape), labels[0].new_empty(labels[0].shape)
    out_flow = None if flow is None else flow[0].new_empty(flow[0].shape)
    out_weights = None if weights is None else weights[0].new_empty(weights[0].shape)
    mask = key.new_empty(key.shape, dtype=torch.bool)
    block = block_of(width, most=256)
    programs = samples * times * height * triton.cdiv(width, block)
    if programs:
        _paste[(programs,)](
            *frames, out_frames, *labels, out_labels, *(flow or (None, None)), out_flow,
            *(weights or (None, None)), out_weights, key, table, eligible, mask,
            opacity, table.shape[1], times, height, width,
            *frames[0].stride(), *frames[1].stride(), *labels[0].stride(), *labels[1].stride(),
            *_strides(flow, 5), *_strides(weights, 4), *key.stride(), *table.stride(),
            *((0, 0, 0, 0) if eligible is None else eligible.stride()),
            BLEND=opacity != 1, FLOW=flow is not None, WEIGHTS=weights is not None, CUT=eligible is not None,
            BLOCK=block,
        )  # fmt: skip
    return out_frames, out_labels, out_flow, out_weights, mask


def _strides(pair: _Pair | None, axes: int) -> tuple[int, ...]:
    return (0,) * (2 * axes) if pair is None else (*pair[0].stride(), *pair[1].stride())


@triton.jit
def _choose(front, back, out, take, live):
    """Copy each pixel from one side; the other side is not read."""
    ours = tl.load(front, mask=live & take, other=0)
    theirs = tl.load(back, mask=live & (take == 0), other=0)
    tl.store(out, tl.where(take, ours, theirs), mask=live)


@triton.jit
def _paste(
    frames, back_frames, out_frames, labels, back_labels, out_labels, flow, back_flow, out_flow,
    weights, back_weights, out_weights, key, table, eligible, mask,
    opacity, classes, times, height, width,
    x_b, x_t, x_c, x_h, x_w, bx_b, bx_t, bx_c, bx_h, bx_w,
    l_b, l_t, l_h, l_w, bl_b, bl_t, bl_h, bl_w,
    f_b, f_t, f_c, f_h, f_w, bf_b, bf_t, bf_c, bf_h, bf_w,
    w_b, w_t, w_h, w_w, bw_b, bw_t, bw_h, bw_w,
    k_b, k_t, k_h, k_w, table_b, table_k, e_b, e_t, e_h, e_w,
    BLEND: tl.constexpr, FLOW: tl.constexpr, WEIGHTS: tl.constexpr, CUT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    b, row, x = row_of_picture(times * height, width, BLOCK)
    t, y = row // height, row % height
    live = x < width
    label = tl.load(key + b * k_b + t * k_t + y * k_h + x * k_w, mask=live, other=-1)
    known = (label >= 0) & (label < classes)
    take = tl.load(table + b * table_b + label * table_k, mask=known, other=0) != 0
    if CUT:
        take = take & (tl.load(eligible + b * e_b + t * e_t + y * e_h + x * e_w, mask=live, other=0) != 0)
    plane = (b * times + t) * height + y
    tl.store(mask + plane * width + x, take, mask=live)
    _choose(
        labels + b * l_b + t * l_t + y * l_h + x * l_w, back_labels + b * bl_b + t * bl_t + y * bl_h + x * bl_w,
        out_labels + plane * width + x, take, live,
    )  # fmt: skip
    if WEIGHTS:
        _choose(
            weights + b * w_b + t * w_t + y * w_h + x * w_w, back_weights + b * bw_b + t * bw_t + y * bw_h + x * bw_w,
            out_weights + plane * width + x, take, live,
        )  # fmt: skip
    for c in range(3):
        ours = frames + b * x_b + t * x_t + c * x_c + y * x_h + x * x_w
        theirs = back_frames + b * bx_b + t * bx_t + c * bx_c + y * bx_h + x * bx_w
        out = out_frames + (((b * times + t) * 3 + c) * height + y) * width + x
        if BLEND:
            back = tl.load(theirs, mask=live, other=0)
            front = tl.load(ours, mask=live & take, other=0).to(tl.float32)
            wide = back.to(tl.float32)
            # from the nearer end, so that equal pixels stay equal
            mixed = tl.where(
                opacity < 0.5, wide + opacity * (front - wide), front - (front - wide) * (1 - opacity)
            )  # fmt: skip
            tl.store(out, tl.where(take, mixed, wide), mask=live)
        else:
            _choose(ours, theirs, out, take, live)
    if FLOW:  # noqa: SIM102 one is known when compiling, the other is not
        # the flow between two frames lies on the grid of the later one
        if t > 0:
            for c in range(2):
                _choose(
                    flow + b * f_b + (t - 1) * f_t + c * f_c + y * f_h + x * f_w,
                    back_flow + b * bf_b + (t - 1) * bf_t + c * bf_c + y * bf_h + x * bf_w,
                    out_flow + (((b * (times - 1) + t - 1) * 2 + c) * height + y) * width + x,
                    take, live,
                )  # fmt: skip
