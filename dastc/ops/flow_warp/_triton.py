"""Fused kernels for ``flow_warp`` and its gradient. Imported once one of them runs.

Forward, each program samples some pixels straight from the flow, some channels at a time, and blends. Backward, each
pixel adds to the four that it was made of. Atomic additions of floats come in any order, so their sum may differ in the
last bits from run to run; under ``torch.use_deterministic_algorithms`` whole numbers are added up instead, whose sum
does not depend on the order.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from dastc.ops._triton import between, block_of, lanes, program, sample_point

_STEPS = 2**40  # of a channel's largest gradient, in the deterministic sum: 2**22 such gradients still fit


def flow_warp_triton(x: Tensor, flow: Tensor, other: Tensor | None, share: Tensor | None) -> tuple[Tensor, Tensor]:
    """Sample ``x`` (N, C, H, W) at the points that ``flow`` names, blend, and say which points lay inside."""
    samples, channels, height, width = x.shape
    warped = x.new_empty(x.shape)
    valid = flow.new_empty((samples, height, width), dtype=torch.bool)
    blocks = samples * triton.cdiv(height * width, 128)
    if blocks:
        block_c = block_of(channels, most=8)
        groups = max(triton.cdiv(channels, block_c), 1)  # validity is wanted even of no channels
        _warp[(blocks * groups,)](
            x, flow, other, share, warped, valid,
            channels, height, width, groups,
            *x.stride(), *flow.stride(), *_strides(other, 4), *_strides(share, 3),
            BLEND=other is not None, SHARE=share is not None, BLOCK_C=block_c, BLOCK_P=128,
        )  # fmt: skip
    return warped, valid


def flow_warp_backward_triton(
    grad: Tensor, x: Tensor, flow: Tensor, share: Tensor | None, blended: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients to ``x``, to ``flow``, and to what was blended in; the last is empty if nothing was."""
    samples, channels, height, width = x.shape
    to_flow, to_other = flow.new_empty(flow.shape), x.new_empty(x.shape if blended else 0)
    exact = torch.are_deterministic_algorithms_enabled()
    to_x = torch.zeros(x.shape, dtype=torch.int64 if exact else torch.float32, device=x.device)
    largest = grad.detach().abs().amax((2, 3), keepdim=True).float().clamp(min=1e-30) if exact and x.numel() else None
    blocks = samples * triton.cdiv(height * width, 128)
    if blocks:
        _warp_backward[(blocks,)](
            grad, x, flow, share, to_x, to_flow, to_other, largest,
            channels, height, width,
            *grad.stride(), *x.stride(), *flow.stride(), *_strides(share, 3),
            BLEND=blended, SHARE=share is not None, EXACT=largest is not None, STEPS=_STEPS,
            BLOCK_C=block_of(channels, most=4), BLOCK_P=128,
        )  # fmt: skip
    return (to_x if largest is None else to_x * (largest / _STEPS)).to(x.dtype), to_flow, to_other


def _strides(x: Tensor | None, axes: int) -> tuple[int, ...]:
    return (0,) * axes if x is None else x.stride()


@triton.jit
def _share_of_other(share, at, inside, live, SHARE: tl.constexpr):
    """Return how much of each pixel comes from what is blended in: as given, or all where the point lay outside."""
    if SHARE:  # noqa: SIM108 a branch when compiling
        part = tl.load(share + at, mask=live, other=0).to(tl.float32)
    else:
        part = tl.where(inside, 0.0, 1.0)
    return part


@triton.jit
def _warp(
    x, flow, other, share, warped, valid,
    channels, height, width, groups,
    x_n, x_c, x_h, x_w, flow_n, flow_c, flow_h, flow_w, other_n, other_c, other_h, other_w, share_n, share_h, share_w,
    BLEND: tl.constexpr, SHARE: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    pixels = (tl.zeros((), tl.int64) + height) * width
    block, group = program() // groups, program() % groups
    blocks = (pixels + BLOCK_P - 1) // BLOCK_P
    sample, pixel = block // blocks, (block % blocks) * BLOCK_P + lanes(BLOCK_P)
    live = pixel < pixels
    row, column = pixel // width, pixel % width
    at = flow + sample * flow_n + row * flow_h + column * flow_w
    dx = tl.load(at, mask=live, other=0).to(tl.float32)
    dy = tl.load(at + flow_c, mask=live, other=0).to(tl.float32)
    left, right, along, inside_x, _ = sample_point(column.to(tl.float32) + dx, width)
    above, below, down, inside_y, _ = sample_point(row.to(tl.float32) + dy, height)
    c = group * BLOCK_C + lanes(BLOCK_C)
    there = (c < channels)[:, None] & live[None, :]
    sampled = there
    if BLEND:
        at = sample * share_n + row * share_h + column * share_w
        part = _share_of_other(share, at, inside_x & inside_y, live, SHARE)[None, :]
        # what has no share is not read
        sampled = there & (part != 1)
    value = between(
        x + sample * x_n + c[:, None] * x_c,
        above[None, :], below[None, :], down[None, :], left[None, :], right[None, :], along[None, :], sampled, x_h, x_w,
    )  # fmt: skip
    if BLEND:
        at = sample * other_n + c[:, None] * other_c + (row * other_h + column * other_w)[None, :]
        theirs = tl.load(other + at, mask=there & (part != 0), other=0).to(tl.float32)
        mixed = value * (1 - part) + theirs * part
        value = tl.where(part == 0, value, tl.where(part == 1, theirs, mixed))
    tl.store(warped + (sample * channels + c[:, None]) * pixels + pixel[None, :], value, mask=there)
    if group == 0:
        tl.store(valid + sample * pixels + pixel, inside_x & inside_y, mask=live)


@triton.jit
def _corner(source, out, row, column, share, up, scaled, there, width, x_h, x_w, EXACT: tl.constexpr):
    """Add a pixel's share of the gradient to one of its four; return the sum over channels of that one times it."""
    part = scaled * share[None, :]
    if EXACT:
        part = tl.floor(part + 0.5).to(tl.int64)
    tl.atomic_add(out + (row * width + column)[None, :], part, mask=there, sem="relaxed")
    value = tl.load(source + (row * x_h + column * x_w)[None, :], mask=there, other=0).to(tl.float32)
    return tl.sum(value * up, axis=0)


@triton.jit
def _warp_backward(
    grad, x, flow, share, to_x, to_flow, to_other, largest,
    channels, height, width,
    grad_n, grad_c, grad_h, grad_w, x_n, x_c, x_h, x_w, flow_n, flow_c, flow_h, flow_w, share_n, share_h, share_w,
    BLEND: tl.constexpr, SHARE: tl.constexpr, EXACT: tl.constexpr, STEPS: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    pixels = (tl.zeros((), tl.int64) + height) * width
    blocks = (pixels + BLOCK_P - 1) // BLOCK_P
    sample, pixel = program() // blocks, (program() % blocks) * BLOCK_P + lanes(BLOCK_P)
    live = pixel < pixels
    row, column = pixel // width, pixel % width
    at = flow + sample * flow_n + row * flow_h + column * flow_w
    dx = tl.load(at, mask=live, other=0).to(tl.float32)
    dy = tl.load(at + flow_c, mask=live, other=0).to(tl.float32)
    left, right, along, inside_x, free_x = sample_point(column.to(tl.float32) + dx, width)
    above, below, down, inside_y, free_y = sample_point(row.to(tl.float32) + dy, height)
    if BLEND:
        at = sample * share_n + row * share_h + column * share_w
        part = _share_of_other(share, at, inside_x & inside_y, live, SHARE)
        free_x, free_y = free_x & (part != 1), free_y & (part != 1)
    slope_x, slope_y = tl.zeros((BLOCK_P,), tl.float32), tl.zeros((BLOCK_P,), tl.float32)
    for start in range(0, channels, BLOCK_C):
        c = (start + lanes(BLOCK_C))[:, None]
        there = (c < channels) & live[None, :]
        up = tl.load(
            grad + sample * grad_n + c * grad_c + (row * grad_h + column * grad_w)[None, :], mask=there, other=0
        )
        up = up.to(tl.float32)
        if BLEND:
            theirs = tl.where(part[None, :] != 0, up * part[None, :], 0)
            tl.store(to_other + (sample * channels + c) * pixels + pixel[None, :], theirs, mask=there)
            up = tl.where(part[None, :] != 1, up * (1 - part)[None, :], 0)
        if EXACT:
            bound = tl.load(largest + sample * channels + c, mask=c < channels, other=1)
            # a channel with a gradient that is not finite is not finite as a whole: its bound says so
            scale = tl.where(bound < float("inf"), STEPS / bound, 0)
            scaled = tl.where(scale > 0, up * scale, 0)
        else:
            scaled = up
        out = to_x + (sample * channels + c) * pixels
        source = x + sample * x_n + c * x_c
        nw = _corner(source, out, above, left, (1 - down) * (1 - along), up, scaled, there, width, x_h, x_w, EXACT)
        ne = _corner(source, out, above, right, (1 - down) * along, up, scaled, there, width, x_h, x_w, EXACT)
        sw = _corner(source, out, below, left, down * (1 - along), up, scaled, there, width, x_h, x_w, EXACT)
        se = _corner(source, out, below, right, down * along, up, scaled, there, width, x_h, x_w, EXACT)
        slope_x += (ne - nw) * (1 - down) + (se - sw) * down
        slope_y += (sw - nw) * (1 - along) + (se - ne) * along
    out = to_flow + sample * 2 * pixels + pixel
    # where, not times zero: beyond the border the value is constant, whatever it is
    tl.store(out, tl.where(free_x, slope_x, 0), mask=live)
    tl.store(out + pixels, tl.where(free_y, slope_y, 0), mask=live)
