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
    # divided as int32, which programs are counted in: it takes a fraction of the time
    blocks = tl.cdiv(width, BLOCK)
    row, block = tl.program_id(0) // blocks, tl.program_id(0) % blocks
    return (row // height).to(tl.int64), (row % height).to(tl.int64), block.to(tl.int64) * BLOCK + lanes(BLOCK)


@triton.jit
def neighbours(pixel, source, size):
    """Return the pixels of ``source`` before and after one of ``size``, and the share of the latter."""
    # in units of 1 / (2 * size) positions are whole numbers, so they are exact
    last = (tl.zeros((), tl.int64) + 2) * size * (source - 1)
    position = tl.minimum(tl.maximum((2 * pixel + 1) * source - size, 0), last)
    before = position // (2 * size)
    share = (position - before * (2 * size)).to(tl.float32) / (2 * size)
    # where nothing is resized, the next pixel has no share and is not read
    after = tl.where(source == size, before, tl.minimum(before + 1, source - 1))
    return before, after, share


@triton.jit
def share_of(neighbour, before, after, share):
    """Return the share that one pixel of the source has in a pixel with these neighbours."""
    return tl.where(before == neighbour, 1 - share, tl.where(after == neighbour, share, 0.0))


@triton.jit
def first_in_reach(neighbour, source, size):
    """Return a pixel of ``size`` before which a pixel of ``source`` has no share."""
    return tl.maximum(2 * (neighbour - 1) * size + size - source, 0) // (2 * source)


@triton.jit
def between(x, above, below, down, left, right, along, live, stride_h, stride_w):
    """Return the bilinear mixture of four pixels as float32; 0 where not live. One pixel alone is not mixed."""
    # offsets before the pointer: a loop in which only the pointer moves works them out once
    nw = tl.load(x + (above * stride_h + left * stride_w), mask=live, other=0).to(tl.float32)
    ne = tl.load(x + (above * stride_h + right * stride_w), mask=live, other=0).to(tl.float32)
    sw = tl.load(x + (below * stride_h + left * stride_w), mask=live, other=0).to(tl.float32)
    se = tl.load(x + (below * stride_h + right * stride_w), mask=live, other=0).to(tl.float32)
    upper = tl.where(left == right, nw, nw * (1 - along) + ne * along)
    lower = tl.where(left == right, sw, sw * (1 - along) + se * along)
    return tl.where(above == below, upper, upper * (1 - down) + lower * down)


@triton.jit
def nothing_yet(BLOCK: tl.constexpr):
    """Return the largest of no scores, and the sum of their exponentials; the first is finite, so minus it is, too."""
    return tl.full((BLOCK,), -3.4028234663852886e38, tl.float32), tl.zeros((BLOCK,), tl.float32)


@triton.jit
def one_more(score, largest, total):
    """Return the largest score so far, and the sum of exp(score - largest), after one more; a NaN stays in the sum."""
    more, power = score > largest, tl.exp(-tl.abs(score - largest))
    return tl.where(more, score, largest), tl.where(more, total * power + 1, total + power)


@triton.jit
def sum_or_nan(largest, total):
    """Return the sum of exp(score - largest), NaN where the largest is infinite and has no difference to itself."""
    return tl.where((total > 0) & (largest < float("inf")), total, float("nan"))


@triton.jit
def largest_and_sum(
    x, classes, stride_k, above, below, down, left, right, along, live, stride_h, stride_w, BLOCK: tl.constexpr
):
    """Return pixels' largest score, and the sum of exp(score - largest) or NaN; ``x`` points to the first class."""
    largest, total = nothing_yet(BLOCK)
    for _ in range(0, classes):
        score = between(x, above, below, down, left, right, along, live, stride_h, stride_w)
        largest, total = one_more(score, largest, total)
        x += stride_k
    return largest, sum_or_nan(largest, total)


@triton.jit
def sample_point(position, size):
    """Return the pixels around a point on one axis, the share of the second, and whether the point lay inside.

    Last comes whether it lay strictly inside: elsewhere the nearest pixel is repeated and moving changes nothing. A
    position that is NaN is that of the first pixel, and not inside.
    """
    last = (tl.zeros((), tl.float32) + size) - 1
    inside, free = (position >= 0) & (position <= last), (position > 0) & (position < last)
    # where, since neither maximum nor minimum is sure to drop a NaN
    position = tl.where(position > 0, position, 0.0)
    position = tl.where(position < last, position, last)
    before = tl.floor(position)
    first = before.to(tl.int64)
    return first, tl.minimum(first + 1, size - 1), position - before, inside, free
