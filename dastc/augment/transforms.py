"""Changes of a clip that keep frames, labels, flow and weights consistent. ``nn.Sequential`` composes them."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from zlib import crc32

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dastc._core.checks import check_size, check_whole
from dastc._core.precision import compute_dtype
from dastc._core.random_state import RandomState
from dastc.clip import Clip, check_clip, map_clip
from dastc.functional.labels import resize_labels
from dastc.ops.resize_flow import resize_flow

__all__ = ["ClipTransform", "OnFrames", "RandomTransform", "Resize", "resize_clip"]


class ClipTransform(ABC, nn.Module):
    """Takes a clip or a batch of clips, checks it, and hands it on as a batch."""

    def forward(self, clip: Clip) -> Clip:
        """Return the changed clip, batched if ``clip`` is."""
        single = isinstance(clip, Clip) and isinstance(clip.frames, Tensor) and clip.frames.dim() == 4
        # what is no tensor is left for the check to name
        batch = map_clip(clip, lambda x: x.unsqueeze(0) if isinstance(x, Tensor) else x) if single else clip
        check_clip(type(self).__name__, "clip", batch)
        changed = self._changed(batch)
        return map_clip(changed, lambda x: x.squeeze(0)) if single else changed

    @abstractmethod
    def _changed(self, clip: Clip) -> Clip:
        """Return the changed batch."""


class RandomTransform(ClipTransform):
    """Draws from a generator of its own, and changes nothing outside training."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        check_whole(type(self).__name__, "seed", seed)
        self.seed = seed
        # by its name: two transforms of one seed must not draw the same numbers
        self.random = RandomState(crc32(f"{type(self).__name__} {seed}".encode()))

    def forward(self, clip: Clip) -> Clip:
        """Return the changed clip, batched if ``clip`` is."""
        return super().forward(clip) if self.training else clip


class Resize(ClipTransform):
    """Resize clips: frames bilinearly, labels and weights by nearest pixel, flow with its vectors.

    Frames that shrink are smoothed first, as Pillow does. Flow that is unknown (NaN) makes its neighbours unknown.

    Args:
        size: ``(height, width)`` of the result in pixels.

    Shape:
        - clip: with or without the batch axis; see :class:`dastc.Clip`.
        - output: likewise, at ``size``.

    Raises:
        ValueError: If ``size`` is not positive, or the fields of a clip differ in size.
        TypeError: If a field has the wrong kind of dtype.

    Source:
        Ours; unlike in the released code, each axis of the flow is scaled by its own ratio (docs/method.md#flow-files).

    Example:
        >>> clip = Clip(torch.zeros(2, 3, 4, 6), flow=torch.ones(1, 2, 4, 6))
        >>> resized = Resize((8, 6))(clip)
        >>> resized.frames.shape, resized.flow[0, :, 0, 0]
        (torch.Size([2, 3, 8, 6]), tensor([1., 2.]))
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = check_size("Resize", "size", size)

    def _changed(self, clip: Clip) -> Clip:
        return resize_clip(clip, self.size)

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return f"size={self.size}"


class OnFrames(ClipTransform):
    """Apply a change of appearance to the frames of a clip, whatever else it holds.

    Such as :class:`PhotometricJitter`, or ``dastc.data.frames.renormalise`` for a model that wants another convention.

    Args:
        change: Takes and returns frames ``(B, T, 3, H, W)``, float.

    Shape:
        - clip: with or without the batch axis; see :class:`dastc.Clip`.
        - output: the same.

    Raises:
        ValueError: If the frames come back in another shape.

    Source:
        Ours.

    Example:
        >>> OnFrames(torch.neg)(Clip(torch.ones(2, 3, 4, 6))).frames.mean()
        tensor(-1.)
    """

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        if not callable(change):
            raise TypeError(f"OnFrames: `change` must be callable; got {type(change).__name__}.")
        self.change = change

    def _changed(self, clip: Clip) -> Clip:
        changed = clip._replace(frames=self.change(clip.frames))
        if changed.frames.shape != clip.frames.shape:
            raise ValueError(
                f"OnFrames: `change` must keep the shape of the frames, {tuple(clip.frames.shape)}; "
                f"got {tuple(changed.frames.shape)}."
            )
        return changed

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return "" if isinstance(self.change, nn.Module) else f"change={self.change!r}"


def resize_clip(clip: Clip, size: tuple[int, int]) -> Clip:
    """Bring every field of a batch of clips to another size; see :class:`Resize`."""
    if clip.frames.shape[-2:] == size:
        return clip
    flow, labels, weights = clip.flow, clip.labels, clip.weights
    if flow is not None:
        flow = resize_flow(flow.flatten(0, 1), size).view(*flow.shape[:3], *size)  # there may be no clip at all
    if weights is not None:  # each from the same pixel as its label
        height, width = weights.shape[-2:]
        pixels = torch.arange(height * width, device=weights.device).view(1, height, width)
        weights = weights.flatten(-2)[..., resize_labels(pixels, size)[0]]
    return Clip(
        _resized_frames(clip.frames, size), None if labels is None else resize_labels(labels, size), flow, weights
    )


def _resized_frames(frames: Tensor, size: tuple[int, int]) -> Tensor:
    if frames.numel() == 0:
        return frames.new_empty((*frames.shape[:3], *size))
    flat = frames.flatten(0, 1).to(compute_dtype(frames))
    resized = F.interpolate(flat, size=size, mode="bilinear", align_corners=False, antialias=True)
    return resized.to(frames.dtype).view(*frames.shape[:3], *size)
