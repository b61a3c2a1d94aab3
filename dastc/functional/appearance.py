"""Appearance of frames: matching histograms across domains, hiding blocks."""

import torch
from torch import Tensor

from dastc._core.checks import check_between, check_dtype, check_grid, check_same_device, check_shape, check_whole
from dastc._core.distributed import batch_rand
from dastc._core.sorting import sorted_values, stable_order

__all__ = ["hide_blocks", "match_histograms"]


def hide_blocks(frames: Tensor, share: float, *, block: int, generator: torch.Generator | None = None) -> Tensor:
    """Set random square blocks of a clip to 0, the same ones in all of its frames.

    What is hidden must then be told from what is around it.

    Args:
        frames: Normalised frames, so that 0 is the mean colour.
        share: Probability of each block to be hidden, in [0, 1].
        block: Side of the blocks in pixels; those at the right and the lower border may be cut.
        generator: CPU generator to draw from.

    Shape:
        - frames: ``(B, T, C, H, W)``, any dtype.
        - output: the same.

    Raises:
        ValueError: If the shape does not fit or an argument is out of range.

    Source:
        Hoyer et al. 2023 (MIC); the same blocks in all frames are ours.

    Example:
        >>> hide_blocks(torch.ones(1, 2, 3, 4, 4), 1.0, block=2).sum()
        tensor(0.)
    """
    check_shape("hide_blocks", "frames", frames, "B T C H W")
    hidden = hidden_blocks(frames, share, block=block, generator=generator)
    return frames.masked_fill(hidden.unsqueeze(2), 0)


def hidden_blocks(frames: Tensor, share: float, *, block: int, generator: torch.Generator | None = None) -> Tensor:
    """Return which pixels :func:`hide_blocks` hides, (B, T, H, W), bool."""
    check_between("hide_blocks", "share", share, 0, 1)
    check_whole("hide_blocks", "block", block, 1)
    batch, time, _, height, width = frames.shape
    hidden = batch_rand(batch, 1, -(-height // block), -(-width // block), generator=generator) < share
    hidden = hidden.to(frames.device, non_blocking=True)
    hidden = hidden.repeat_interleave(block, dim=2).repeat_interleave(block, dim=3)
    return hidden[..., :height, :width].expand(-1, time, -1, -1)


def match_histograms(frames: Tensor, reference: Tensor, *, grid: tuple[int, int] = (1, 1)) -> Tensor:
    """Give each channel of each frame the distribution of values of the reference clip's current frame.

    Pixels keep their order within a channel; their values become those of the reference of the same rank. With a grid
    each window of the picture is matched to the same window of the reference: above the horizon to what is above it.

    Args:
        frames: The frames to change.
        reference: The clip to look like; its last frame is read.
        grid: Rows and columns of windows, each >= 1; a picture with fewer pixels than that has a window for each. A
            window reaches to the middle of the next and fades into it, so that no seam is left.

    Shape:
        - frames: ``(B, T, C, H, W)``, float.
        - reference: ``(B, T', C, H', W')``, float.
        - output: like ``frames``, without gradient.

    Raises:
        ValueError: If the shapes do not fit, or ``grid`` is no pair of numbers.
        TypeError: If a tensor is not float.

    Source:
        The released code matches source frames to the current target frame, channel by channel
        (docs/method.md#pictures-and-labels). The grid is ours.

    Example:
        >>> import torch
        >>> frames = torch.tensor([3.0, 1.0, 2.0]).expand(1, 1, 3, 1, 3)
        >>> reference = torch.tensor([30.0, 20.0, 10.0]).expand(1, 1, 3, 1, 3)
        >>> match_histograms(frames, reference)[0, 0, 0]
        tensor([[30., 10., 20.]])
    """
    sizes = check_shape("match_histograms", "frames", frames, "B T C H W")
    known = {axis: sizes[axis] for axis in "BC"}
    of = check_shape("match_histograms", "reference", reference, "B T' C H' W'", known)
    check_dtype("match_histograms", "frames", frames, "float")
    check_dtype("match_histograms", "reference", reference, "float")
    check_same_device("match_histograms", {"frames": frames, "reference": reference})
    check_grid("match_histograms", "grid", grid)
    frames, reference = frames.detach(), reference.detach()[:, -1:]
    rows, columns = (max(1, min(cells, sizes[axis], of[axis + "'"])) for cells, axis in zip(grid, "HW", strict=True))
    if rows * columns == 1:
        return _matched(frames, reference)
    out = frames.new_zeros(frames.shape, dtype=torch.promote_types(frames.dtype, torch.float32))
    for row in range(rows):
        y, y_of = _window(sizes["H"], rows, row), _window(of["H'"], rows, row)
        down = _hat(sizes["H"], rows, row, out)[y].unsqueeze(1)
        for column in range(columns):
            x, x_of = _window(sizes["W"], columns, column), _window(of["W'"], columns, column)
            share = down * _hat(sizes["W"], columns, column, out)[x]
            out[..., y, x] += share * _matched(frames[..., y, x], reference[..., y_of, x_of])
    return out.to(frames.dtype)


def _matched(frames: Tensor, reference: Tensor) -> Tensor:
    values = sorted_values(reference.flatten(3)).to(frames.dtype)  # (B, 1, 3, P')
    flat = frames.flatten(3)  # (B, T, 3, P)
    pixels, wanted = flat.shape[-1], values.shape[-1]
    rank = torch.arange(pixels, device=flat.device)
    by_rank = values[..., (rank * (wanted - 1) + (pixels - 1) // 2) // max(pixels - 1, 1)]
    # sorting once: the value of each rank goes where the pixel of that rank is
    matched = flat.new_empty(flat.shape).scatter_(-1, stable_order(flat), by_rank.expand_as(flat))
    return matched.view(frames.shape)


def _window(size: int, cells: int, index: int) -> slice:
    """Return the pixels on which :func:`_hat` is above 0."""
    if cells == 1:
        return slice(0, size)
    first, after = (index - 1) * (size - 1), (index + 1) * (size - 1)  # times cells - 1: whole numbers
    return slice(max(0, first // (cells - 1) + 1), min(size, -(-after // (cells - 1))))


def _hat(size: int, cells: int, index: int, like: Tensor) -> Tensor:
    """Fade from 1 in the middle of one cell to 0 in that of the next; over all cells the sum is 1."""
    away = torch.arange(size, device=like.device, dtype=like.dtype) * (cells - 1) / max(size - 1, 1) - index
    return (1 - away.abs()).clamp(min=0)
