"""What the recipes are made of: a few functions on clips and models."""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from dastc._core.checks import check_choice, check_shape
from dastc.adapt.teacher import Teacher
from dastc.clip import Clip, check_clip
from dastc.functional import confidence_weights, pseudo_labels, upsampled_cross_entropy
from dastc.functional.confidence import Weighting
from dastc.models import VideoSegmenter, logits_of

__all__ = [
    "CrossFrame",
    "augmented",
    "check_pair",
    "concatenated",
    "described",
    "labelled_by",
    "reweighted",
    "segment",
    "segmentation_loss",
]

CrossFrame = Literal["none", "warped", "averaged", "agreeing"]


def segment(model: nn.Module, clip: Clip) -> Tensor:
    """Run an image model on every frame, or a video model on the clip; return logits (B, T, K, h, w)."""
    network = model.model if isinstance(model, Teacher) else model
    if isinstance(network, VideoSegmenter):
        logits: Tensor = model(clip.frames, clip.flow)
        return logits
    flat = logits_of(model(clip.frames.flatten(0, 1)))
    return flat.view(*clip.frames.shape[:2], *flat.shape[1:])


def segmentation_loss(logits: Tensor, clip: Clip, *, ignore_index: int = 255) -> Tensor:
    """Compare the logits of a clip, (B, T, K, h, w), with its labels, weighted by its weights."""
    labels = clip.labels
    if labels is None:
        raise ValueError("segmentation_loss: `clip.labels` must be given; got None.")
    weights = None if clip.weights is None else clip.weights.flatten(0, 1)
    return upsampled_cross_entropy(
        logits.flatten(0, 1), labels.flatten(0, 1), weights=weights, ignore_index=ignore_index
    )


def labelled_by(
    teacher: Teacher,
    clip: Clip,
    *,
    cross_frame: CrossFrame = "none",
    adjust: Callable[[Tensor], Tensor] | None = None,
) -> Clip:
    """Give a clip the teacher's labels, weighted by their confidence; whatever labels it had are not looked at.

    Args:
        teacher: Labels the clean frames.
        clip: The target clip.
        cross_frame: Whether a frame is labelled from itself (``"none"``), from the frame before along the flow
            (``"warped"``), or from the mean of both (``"averaged"``; ``"agreeing"`` leaves out, with confidence 0,
            where the two would be labelled differently). The first frame, and clips without flow, are labelled from
            themselves: between unaligned frames a label would land on something else.
        adjust: Changes the teacher's logits ``(B, T, K, h, w)``, such as :class:`~dastc.adapt.ClassPrior`.

    Shape:
        - clip: any batched clip; flow is used unless ``cross_frame`` is ``"none"``.
        - output: the clip with labels and weights ``(B, T, H, W)``.

    Raises:
        ValueError: If ``cross_frame`` is unknown.

    Source:
        METHOD 5; ``"averaged"`` and ``"agreeing"`` are ours.

    Example:
        >>> from dastc.models import TinySegmenter
        >>> clip = labelled_by(Teacher(TinySegmenter(3)), Clip(torch.randn(1, 2, 3, 16, 16)))
        >>> clip.labels.shape
        torch.Size([1, 2, 16, 16])
    """
    check_choice("labelled_by", "cross_frame", cross_frame, get_args(CrossFrame))
    batch, time = clip.frames.shape[:2]
    size = (clip.frames.shape[-2], clip.frames.shape[-1])
    logits = segment(teacher, clip)
    if adjust is not None:
        logits = adjust(logits)
    if cross_frame == "none" or clip.flow is None or time == 1:
        flat = pseudo_labels(logits.flatten(0, 1), size)
        labels, confidence = (x.view(batch, time, *size) for x in flat)
    else:
        first = pseudo_labels(logits[:, 0], size)
        before, own, flow = logits[:, :-1].flatten(0, 1), logits[:, 1:].flatten(0, 1), clip.flow.flatten(0, 1)
        if cross_frame == "warped":
            later = pseudo_labels(before, size, flow=flow)
        else:
            later = pseudo_labels(own, size, flow=flow, previous=before)
        if cross_frame == "agreeing":
            later = later._replace(confidence=later.confidence.where(_agree(own, before, flow, size), 0))
        labels, confidence = (
            torch.cat((a.unsqueeze(1), b.view(batch, time - 1, *size)), dim=1)
            for a, b in zip(first, later, strict=True)
        )
    return clip._replace(labels=labels, weights=confidence.to(clip.frames.dtype))


def _agree(own: Tensor, before: Tensor, flow: Tensor, size: tuple[int, int]) -> Tensor:
    warped = pseudo_labels(before, size, flow=flow)
    # where nothing comes from the frame before, nothing contradicts
    return (pseudo_labels(own, size).labels == warped.labels) | (warped.confidence == 0)


def reweighted(clip: Clip, weighting: Weighting, *, threshold: float = 0.968) -> Clip:
    """Turn the confidence that :func:`labelled_by` left as weights into how much each label counts."""
    weights = clip.weights
    return (
        clip if weights is None else clip._replace(weights=confidence_weights(weights, weighting, threshold=threshold))
    )


def concatenated(clips: Sequence[Clip]) -> Clip:
    """Join clips along the batch axis; flow only if all have it, weights of 1 where some clips have none."""
    flows = [clip.flow for clip in clips if clip.flow is not None]
    labels = [clip.labels for clip in clips if clip.labels is not None]
    weighted = any(clip.weights is not None for clip in clips)
    return Clip(
        torch.cat([clip.frames for clip in clips]),
        torch.cat(labels) if len(labels) == len(clips) else None,
        torch.cat(flows) if len(flows) == len(clips) else None,
        torch.cat([_weights(clip) for clip in clips]) if weighted else None,
    )


def _weights(clip: Clip) -> Tensor:
    batch, time, _, height, width = clip.frames.shape
    return clip.frames.new_ones((batch, time, height, width)) if clip.weights is None else clip.weights


def described(module: nn.Module, *names: str) -> str:
    """Say what a recipe was made with."""
    return ", ".join(f"{name}={getattr(module, name)!r}" for name in names)


def augmented(augment: Callable[[Tensor], Tensor], clip: Clip) -> Clip:
    """Change the look of a clip's frames."""
    return clip._replace(frames=augment(clip.frames))


def check_pair(caller: str, source: Clip, target: Clip) -> tuple[Clip, Clip]:
    """Check a step's clips, and forget whatever labels the target has."""
    check_clip(caller, "source", source, labelled=True)
    sizes = check_clip(caller, "target", target)
    check_shape(caller, "source.frames", source.frames, "B T 3 H W", {**sizes, "3": 3}, hint="As target.frames.")
    return source, target._replace(labels=None, weights=None)
