"""What the parts of a recipe are made of: a few functions on clips."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dastc._core.compiling import left_eager
from dastc.clip import Clip
from dastc.functional import upsampled_cross_entropy

__all__ = ["concatenated", "segmentation_loss"]


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
