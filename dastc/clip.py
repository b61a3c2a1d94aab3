"""The one currency: a batch of short clips with what is known about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dastc._core.checks import check_dtype, check_same_device, check_shape, check_tensor, check_whole

__all__ = ["Clip", "check_clip", "map_clip", "stack_clips"]


class Clip(NamedTuple):
    """A batch of clips: frames and, where known, labels, flow and weights.

    An image is a clip of one frame without flow; whatever takes a clip takes it at T = 1.

    Args:
        frames: Frames normalised by the caller, oldest first; the last one is the current frame.
        labels: Class indices in [0, K) or the ignored label (255 by default).
        flow: Backward flow in pixels: ``flow[:, t]`` lies on the grid of frame t+1 and says where to sample
            frame t, ``frame_{t+1}(x, y) ~ frame_t(x + dx, y + dy)``. Channel 0 is dx, channel 1 is dy.
        weights: How much each label counts, in [0, 1], dimensionless; ``None`` means 1.

    Shape:
        - frames: ``(B, T, C, H, W)``, float; C is 3 but for pictures of other channels.
        - labels: ``(B, T, H, W)``, int64.
        - flow: ``(B, T-1, 2, H, W)``, float.
        - weights: ``(B, T, H, W)``, float.

    Example:
        >>> clip = Clip(torch.zeros(1, 2, 3, 4, 6))
        >>> clip.frames.shape, clip.labels is None
        (torch.Size([1, 2, 3, 4, 6]), True)
    """

    frames: Tensor
    labels: Tensor | None = None
    flow: Tensor | None = None
    weights: Tensor | None = None

    def to(self, *args: Any, **kwargs: Any) -> Clip:
        """Move every tensor to a device, e.g. ``clip.to("cuda", non_blocking=True)``."""
        return map_clip(self, lambda x: x.to(*args, **kwargs))

    def last(self, frames: int = 1) -> Clip:
        """Keep the last ``frames`` frames, and the flow between them."""
        check_tensor("Clip.last", "frames", self.frames)
        check_whole("Clip.last", "frames", frames)
        if self.frames.dim() < 4:
            rule = "have shape (..., T, C, H, W)"
            raise ValueError(f"Clip.last: `clip.frames` must {rule}; got {tuple(self.frames.shape)}.")
        total = self.frames.shape[-4]
        if not 1 <= frames <= total:
            raise ValueError(f"Clip.last: `frames` must lie in [1, T={total}]; got {frames}.")
        flow = self.flow
        if flow is not None:
            flow = flow.narrow(-4, flow.shape[-4] - frames + 1, frames - 1) if frames > 1 else None
        return Clip(
            self.frames.narrow(-4, total - frames, frames),
            None if self.labels is None else self.labels.narrow(-3, total - frames, frames),
            flow,
            None if self.weights is None else self.weights.narrow(-3, total - frames, frames),
        )


def map_clip(clip: Clip, fn: Callable[[Tensor], Tensor]) -> Clip:
    """Apply ``fn`` to every tensor that a clip holds; what is missing stays missing."""
    return Clip(fn(clip.frames), *(None if x is None else fn(x) for x in clip[1:]))


def stack_clips(clips: Sequence[Clip]) -> Clip:
    """Stack single clips (without the batch axis) into a batch; the ``collate_fn`` of a loader of clips.

    Args:
        clips: Clips whose frames are ``(T, 3, H, W)``, all holding the same fields at the same sizes.

    Raises:
        ValueError: If there are none, or if a field is given in some clips only, or has another size in some.

    Example:
        >>> stack_clips([Clip(torch.zeros(2, 3, 4, 6))] * 5).frames.shape
        torch.Size([5, 2, 3, 4, 6])
    """
    if not isinstance(clips, Sequence) or not all(isinstance(clip, Clip) for clip in clips):
        raise TypeError(f"stack_clips: `clips` must be a sequence of dastc.Clip; got {type(clips).__name__}.")
    if not clips:
        raise ValueError("stack_clips: `clips` must hold at least one clip; got none.")
    for name, values in zip(Clip._fields, zip(*clips, strict=True), strict=True):
        shapes = sorted({"missing" if v is None else str(tuple(v.shape)) for v in values})
        if len(shapes) > 1:
            raise ValueError(f"stack_clips: `{name}` must have one shape in all clips; got {', '.join(shapes)}.")
    return Clip(
        torch.stack([clip.frames for clip in clips]), *(_stack(field) for field in list(zip(*clips, strict=True))[1:])
    )


def _stack(values: Sequence[Tensor | None]) -> Tensor | None:
    given = [x for x in values if x is not None]
    return torch.stack(given) if given else None


def check_clip(caller: str, name: str, clip: Clip, *, labelled: bool = False) -> dict[str, int]:
    """Check the shapes, kinds and devices of a batched clip; return its sizes B, T, H, W.

    Raises:
        TypeError: If ``clip`` is no :class:`Clip` or a field has the wrong kind of dtype.
        ValueError: If a shape does not fit, the devices differ, or labels are missing where ``labelled``.
    """
    if not isinstance(clip, Clip):
        raise TypeError(f"{caller}: `{name}` must be a dastc.Clip; got {type(clip).__name__}.")
    sizes = check_shape(caller, f"{name}.frames", clip.frames, "B T C H W")
    check_dtype(caller, f"{name}.frames", clip.frames, "float")
    if clip.labels is not None:
        check_shape(caller, f"{name}.labels", clip.labels, "B T H W", sizes)
        check_dtype(caller, f"{name}.labels", clip.labels, "int64")
    elif labelled:
        raise ValueError(f"{caller}: `{name}.labels` must be given; got None.")
    if clip.flow is not None:
        known = sizes | {"T-1": sizes["T"] - 1, "2": 2}
        check_shape(caller, f"{name}.flow", clip.flow, "B T-1 2 H W", known, hint="One flow field between two frames.")
        check_dtype(caller, f"{name}.flow", clip.flow, "float")
    if clip.weights is not None:
        check_shape(caller, f"{name}.weights", clip.weights, "B T H W", sizes)
        check_dtype(caller, f"{name}.weights", clip.weights, "float")
    check_same_device(caller, {f"{name}.{field}": x for field, x in zip(Clip._fields, clip, strict=True)})
    return {axis: sizes[axis] for axis in "BTHW"}


def check_pair(
    caller: str, source: Clip, target: Clip, *, alike: bool = True, labelled: bool = False
) -> tuple[Clip, Clip]:
    """Check the clips of a step, of one size if ``alike``; forget the labels of a target that need not be ``labelled``.

    Raises:
        TypeError, ValueError: As of :func:`check_clip`, and if the sizes differ.
    """
    check_clip(caller, "source", source, labelled=True)
    sizes = check_clip(caller, "target", target, labelled=labelled) | {"C": target.frames.shape[2]}
    if alike:
        check_shape(caller, "source.frames", source.frames, "B T C H W", sizes, hint="As target.frames.")
    return source, target if labelled else target._replace(labels=None, weights=None)
