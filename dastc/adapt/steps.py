"""What the parts of a recipe are made of: a few functions on clips and models."""

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn

from dastc._core.checks import check_shape
from dastc._core.compiling import left_eager
from dastc._core.wrappers import unwrapped
from dastc.adapt.teacher import Teacher
from dastc.clip import Clip, check_clip
from dastc.functional import upsampled_cross_entropy
from dastc.models import VideoSegmenter, logits_of

__all__ = ["check_pair", "concatenated", "is_video", "segment", "segmentation_loss"]


def is_video(model: nn.Module) -> bool:
    """Say whether a model takes whole clips; a teacher is what it teaches with."""
    return isinstance(unwrapped(model.model if isinstance(model, Teacher) else model), VideoSegmenter)


def segment(model: nn.Module, clip: Clip, num_classes: int | None = None) -> Tensor:
    """Run an image model on every frame, or a video model on the clip; return logits (B, T, K, h, w)."""
    if is_video(model):
        logits: Tensor = model(clip.frames, clip.flow)
    else:
        flat = logits_of(model(rearrange(clip.frames, "b t c h w -> (b t) c h w")))
        logits = flat.view(*clip.frames.shape[:2], *flat.shape[1:])
    if num_classes is not None and logits.shape[2] != num_classes:
        raise ValueError(
            f"segment: `model` must return logits of {num_classes} classes, as `num_classes` says; got "
            f"{logits.shape[2]}. Models of transformers take num_labels={num_classes}."
        )
    return logits


def segmentation_loss(logits: Tensor, clip: Clip, *, ignore_index: int = 255) -> Tensor:
    """Compare the logits of a clip, (B, T, K, h, w), with its labels, weighted by its weights."""
    if clip.labels is None:
        raise ValueError("segmentation_loss: `clip.labels` must be given; got None.")
    weights = None if clip.weights is None else clip.weights.flatten(0, 1)
    return upsampled_cross_entropy(
        logits.flatten(0, 1), clip.labels.flatten(0, 1), weights=weights, ignore_index=ignore_index, sync=True
    )


@left_eager
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
    return torch.ones_like(clip.frames[:, :, 0]) if clip.weights is None else clip.weights


def check_pair(caller: str, source: Clip, target: Clip) -> tuple[Clip, Clip]:
    """Check a step's clips, and forget whatever labels the target has."""
    check_clip(caller, "source", source, labelled=True)
    sizes = check_clip(caller, "target", target) | {"C": target.frames.shape[2]}
    check_shape(caller, "source.frames", source.frames, "B T C H W", sizes, hint="As target.frames.")
    return source, target._replace(labels=None, weights=None)
