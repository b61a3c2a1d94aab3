"""Random changes of a clip that keep frames, labels, flow and weights consistent."""

from collections.abc import Callable

import torch
from torch import Tensor

from dastc._core.checks import check_between, check_number, check_size, check_whole
from dastc.augment.transforms import RandomTransform, resize_clip
from dastc.clip import Clip, map_clip, stack_clips
from dastc.functional.flow import flip_flow

__all__ = ["RandomCrop", "RandomFlip", "RandomScale"]


class RandomScale(RandomTransform):
    """Resize clips by a random factor, the same for both axes, all frames and all clips of a batch.

    Args:
        low: Smallest factor, > 0.
        high: Largest factor.
        smallest: ``(height, width)`` that the result has at least, such as the size of the crop that follows.
        seed: Seed of the draws; the generator is part of ``state_dict``.

    Shape:
        - clip: with or without the batch axis; see :class:`dastc.Clip`.
        - output: likewise, in another size during training. See :class:`Resize`.

    Raises:
        ValueError: If an argument is out of range, or the fields of a clip differ in size.
        TypeError: If a field has the wrong kind of dtype.

    Source:
        Common practice; not a part of DA-STC (docs/method.md#pictures-and-labels).

    Example:
        >>> RandomScale(2.0, 2.0)(Clip(torch.zeros(1, 2, 3, 4, 6))).frames.shape
        torch.Size([1, 2, 3, 8, 12])
    """

    def __init__(
        self, low: float = 0.5, high: float = 2.0, *, smallest: tuple[int, int] | None = None, seed: int = 0
    ) -> None:
        super().__init__(seed)
        check_number("RandomScale", "low", low)
        check_number("RandomScale", "high", high)
        if not 0 < low <= high < float("inf"):
            raise ValueError(f"RandomScale: `low` and `high` must satisfy 0 < low <= high; got {low} and {high}.")
        self.low, self.high = low, high
        self.smallest = (1, 1) if smallest is None else check_size("RandomScale", "smallest", smallest)

    def _changed(self, clip: Clip) -> Clip:
        own = clip.frames.shape[-2:]
        factor = self.low + (self.high - self.low) * float(torch.rand((), generator=self.random.generator))
        factor = max(factor, *(least / pixels for least, pixels in zip(self.smallest, own, strict=True)))
        height, width = (max(round(pixels * factor), least) for least, pixels in zip(self.smallest, own, strict=True))
        return resize_clip(clip, (height, width))

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return f"low={self.low}, high={self.high}, smallest={self.smallest}, seed={self.seed}"


class RandomFlip(RandomTransform):
    """Mirror clips from left to right, each clip with all its frames or not at all; dx changes its sign.

    Args:
        probability: Of each clip to be mirrored, in [0, 1].
        seed: Seed of the draws; the generator is part of ``state_dict``.

    Shape:
        - clip: with or without the batch axis; see :class:`dastc.Clip`.
        - output: the same.

    Raises:
        ValueError: If ``probability`` is out of range, or the fields of a clip differ in size.
        TypeError: If a field has the wrong kind of dtype.

    Source:
        Common practice; not a part of DA-STC (docs/method.md#pictures-and-labels).

    Example:
        >>> clip = Clip(torch.zeros(2, 3, 1, 2), flow=torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]]))
        >>> RandomFlip(1.0)(clip).flow.flatten()
        tensor([-2., -1.,  4.,  3.])
    """

    def __init__(self, probability: float = 0.5, *, seed: int = 0) -> None:
        super().__init__(seed)
        check_between("RandomFlip", "probability", probability, 0, 1)
        self.probability = probability

    def _changed(self, clip: Clip) -> Clip:
        drawn = torch.rand(len(clip.frames), generator=self.random.generator) < self.probability
        turned = drawn.to(clip.frames.device, non_blocking=True)

        def mirrored(x: Tensor, mirror: Callable[[Tensor], Tensor]) -> Tensor:
            return mirror(x).where(turned.view(-1, *[1] * (x.dim() - 1)), x)

        mirrored_clip = map_clip(clip, lambda x: mirrored(x, lambda y: y.flip(-1)))
        return mirrored_clip._replace(flow=None if clip.flow is None else mirrored(clip.flow, flip_flow))

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return f"probability={self.probability}, seed={self.seed}"


class RandomCrop(RandomTransform):
    """Cut the same window out of all frames of a clip, at a random place, another for each clip of a batch.

    Flow keeps its values: what it points at may lie outside the window, where a warp will say that it is not valid.

    Args:
        size: ``(height, width)`` of the window in pixels.
        largest_share: Largest share of the labelled pixels of the window's current frame that one class may have, in
            (0, 1]. Windows that show less of the picture's variety are drawn again, up to 10 times. For labelled
            source clips only: on the target it would look at labels that no method has.
        ignore_index: The label that counts for no class.
        seed: Seed of the draws; the generator is part of ``state_dict``.

    Shape:
        - clip: with or without the batch axis; see :class:`dastc.Clip`.
        - output: likewise, at ``size`` during training.

    Raises:
        ValueError: If an argument is out of range, the window is larger than the clip, or the clip has no labels where
            ``largest_share`` is below 1.
        TypeError: If a field has the wrong kind of dtype.

    Source:
        The share: mmseg's crop, which Hoyer et al. 2022 (DAFormer) use at 0.75; the released code crops without it
        (docs/method.md#fusion-of-clips).

    Example:
        >>> RandomCrop((2, 3))(Clip(torch.zeros(2, 3, 4, 6))).frames.shape
        torch.Size([2, 3, 2, 3])
    """

    def __init__(
        self, size: tuple[int, int], *, largest_share: float = 1.0, ignore_index: int = 255, seed: int = 0
    ) -> None:
        super().__init__(seed)
        self.size = check_size("RandomCrop", "size", size)
        check_number("RandomCrop", "largest_share", largest_share)
        check_whole("RandomCrop", "ignore_index", ignore_index)
        if not 0 < largest_share <= 1:
            raise ValueError(f"RandomCrop: `largest_share` must lie in (0, 1]; got {largest_share}.")
        self.largest_share, self.ignore_index = largest_share, ignore_index

    def _changed(self, clip: Clip) -> Clip:
        height, width = clip.frames.shape[-2:]
        if self.size[0] > height or self.size[1] > width:
            raise ValueError(
                f"RandomCrop: `size` must be at most that of the clip, (H={height}, W={width}); got {self.size}. "
                "Resize the clip first."
            )
        if clip.labels is None and self.largest_share < 1:
            raise ValueError("RandomCrop: `clip.labels` must be given for `largest_share` below 1; got None.")
        if len(clip.frames) == 0:
            return map_clip(clip, lambda x: x[..., : self.size[0], : self.size[1]])
        return stack_clips([self._window(clip, index) for index in range(len(clip.frames))])

    def _window(self, clip: Clip, index: int) -> Clip:
        for _ in range(10):
            rows, columns = (self._drawn(*sides) for sides in zip(clip.frames.shape[-2:], self.size, strict=True))
            window = _cut(clip, index, rows, columns)
            if self.largest_share == 1 or self._varied(window):
                break
        return window

    def _drawn(self, pixels: int, kept: int) -> slice:
        first = int(torch.randint(pixels - kept + 1, (), generator=self.random.generator))
        return slice(first, first + kept)

    def _varied(self, window: Clip) -> bool:
        current = window.labels[-1]  # type: ignore[index]  # _changed has refused clips without labels
        counts = torch.unique(current[current != self.ignore_index], return_counts=True)[1]
        return len(counts) > 0 and bool(counts.max() <= self.largest_share * counts.sum())

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return (
            f"size={self.size}, largest_share={self.largest_share}, ignore_index={self.ignore_index}, seed={self.seed}"
        )


def _cut(clip: Clip, index: int, rows: slice, columns: slice) -> Clip:
    return map_clip(clip, lambda x: x[index, ..., rows, columns])
