"""What the fused kernels share. Imported only by them, so that ``import dastc`` needs no Triton.

Inside a kernel every index is int64, and values are float32 as soon as they are loaded.
"""

import triton
import triton.language as tl


def block_of(size: int, least: int = 1, most: int = 1 << 20) -> int:
    """Return the power of two that covers ``size``, within bounds."""
    return int(min(max(triton.next_power_of_2(max(size, 1)), least), most))


def columns_beside(block: int, elements: int = 4096, least: int = 16, most: int = 128) -> int:
    """Return how many columns a tile has beside ``block`` rows, so that it stays in registers."""
    return max(least, min(most, elements // block))


@triton.jit
def program():
    """Return the number of this program, as int64."""
    return tl.program_id(0).to(tl.int64)


@triton.jit
def lanes(BLOCK: tl.constexpr):
    """Return 0 to BLOCK - 1, as int64."""
    return tl.arange(0, BLOCK).to(tl.int64)


@triton.jit
def row_of_picture(height, width, BLOCK: tl.constexpr):
    """Return sample, row and columns of this program, one of ``rows * cdiv(width, BLOCK)``."""
    blocks = tl.cdiv(width, BLOCK)
    row = program() // blocks
    return row // height, row % height, (program() % blocks) * BLOCK + lanes(BLOCK)


@triton.jit
def scaled_position(pixel, source, size):
    """Return where a pixel of ``size`` lies among ``source``, in units of 1 / (2 * size): whole numbers, so exact."""
    last = (tl.zeros((), tl.int64) + 2) * size * (source - 1)
    return tl.minimum(tl.maximum((2 * pixel + 1) * source - size, 0), last)


@triton.jit
def neighbours(pixel, source, size):
    """Return the pixels of ``source`` before and after one of ``size``, and the share of the latter."""
    position = scaled_position(pixel, source, size)
    before = position // (2 * size)
    share = (position - before * (2 * size)).to(tl.float32) / (2 * size)
    # where nothing is resized, the next pixel has no share and is not read
    after = tl.where(source == size, before, tl.minimum(before + 1, source - 1))
    return before, after, share


@triton.jit
def share_of(pixel, neighbour, source, size):
    """Return the share that a pixel of ``source`` has in one of ``size``; 0 beyond its reach."""
    distance = tl.abs(scaled_position(pixel, source, size) - 2 * neighbour * size)
    return tl.maximum(1 - distance.to(tl.float32) / (2 * size), 0)


@triton.jit
def first_in_reach(neighbour, source, size):
    """Return a pixel of ``size`` before which a pixel of ``source`` has no share."""
    return tl.maximum(2 * (neighbour - 1) * size + size - source, 0) // (2 * source)


@triton.jit
def blend(before, after, share, same):
    """Return the value between two neighbours; infinite values survive where both are one pixel."""
    return tl.where(same, before, before * (1 - share) + after * share)


@triton.jit
def upsampled(x, channel, row, column, live, height, width, size_h, size_w, stride_c, stride_h, stride_w):
    """Return ``x`` (C, height, width) upsampled to (size_h, size_w), at the pixels asked for; 0 where not live."""
    above, below, down = neighbours(row, height, size_h)
    left, right, along = neighbours(column, width, size_w)
    x += channel * stride_c
    upper = blend(
        tl.load(x + above * stride_h + left * stride_w, mask=live, other=0).to(tl.float32),
        tl.load(x + above * stride_h + right * stride_w, mask=live, other=0).to(tl.float32),
        along,
        left == right,
    )
    lower = blend(
        tl.load(x + below * stride_h + left * stride_w, mask=live, other=0).to(tl.float32),
        tl.load(x + below * stride_h + right * stride_w, mask=live, other=0).to(tl.float32),
        along,
        left == right,
    )
    return blend(upper, lower, down, above == below)


@triton.jit
def exponentials(logits, there):
    """Return exp(logits - maximum), its sum, and the maximum, over the classes in axis 0 that are there."""
    logits = tl.where(there, logits, -float("inf"))
    largest = tl.max(logits, axis=0)
    powers = tl.exp(logits - largest[None, :])
    return powers, tl.sum(powers, axis=0), largest
