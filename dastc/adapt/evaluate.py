"""Scores of a model on labelled clips."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from dastc._core.modes import evaluation_mode
from dastc.clip import Clip
from dastc.functional import pseudo_labels, resize_flow
from dastc.labelling.segment import segment
from dastc.metrics import MeanIoU, TemporalConsistency
from dastc.metrics.mean_iou import MeanIoUResult

__all__ = ["Scores", "evaluate"]


class Scores(NamedTuple):
    """What :func:`evaluate` returns.

    Args:
        iou: Intersection over union, on the current frame of each clip.
        consistency: Share of pixels, in percent, whose predicted label persists along the flow; NaN without flow.

    Example:
        >>> Scores._fields
        ('iou', 'consistency')
    """

    iou: MeanIoUResult
    consistency: float


@torch.no_grad()
def evaluate(
    model: nn.Module,
    clips: Iterable[Clip],
    num_classes: int,
    *,
    device: torch.device | str | None = None,
    ignore_index: int = 255,
    classes: Sequence[int] | None = None,
    input_size: tuple[int, int] | None = None,
) -> Scores:
    """Score a model on batches of labelled clips, in evaluation mode.

    Args:
        model: An image model, or a :class:`~dastc.models.VideoSegmenter`.
        clips: Batches of labelled clips, such as a loader's.
        num_classes: Number of classes K.
        device: Where to compute; ``None`` means where each batch lies.
        ignore_index: Label of the pixels that take no part.
        classes: Labels that the mean is over, such as a label space's ``scored``; ``None`` means all.
        input_size: ``(height, width)`` at which the model sees the frames (resized bilinearly, with antialiasing);
            scores are at the size of the labels in any case. Published results on Cityscapes have (512, 1024) here
            and labels of (1024, 2048).

    Raises:
        ValueError: If a clip is not labelled, ``classes`` are none, or the model's logits are not of K classes.

    Example:
        >>> from dastc.models import TinySegmenter
        >>> clip = Clip(torch.randn(2, 1, 3, 16, 16), torch.zeros(2, 1, 16, 16, dtype=torch.long))
        >>> bool(0 <= evaluate(TinySegmenter(3), [clip], 3).iou.miou <= 100)
        True
    """
    iou, consistency = MeanIoU(num_classes, ignore_index=ignore_index, classes=classes), TemporalConsistency()
    with evaluation_mode(model):
        for batch in clips:
            clip = batch if device is None else batch.to(device)
            if clip.labels is None:
                raise ValueError("evaluate: `clips` must be labelled; got a clip without labels.")
            iou, consistency = iou.to(clip.frames.device), consistency.to(clip.frames.device)
            size = (clip.frames.shape[-2], clip.frames.shape[-1])
            logits = segment(model, _resized(clip, input_size), num_classes).flatten(0, 1)
            predictions = pseudo_labels(logits, size).labels.view(clip.labels.shape)
            iou.update(predictions[:, -1], clip.labels[:, -1])
            if clip.flow is not None and clip.flow.shape[1] > 0:
                consistency.update(predictions, clip.flow)
    return Scores(iou.compute(), float(consistency.compute()))


def _resized(clip: Clip, size: tuple[int, int] | None) -> Clip:
    """Return what a model needs of a clip, at another resolution."""
    if size is None or size == tuple(clip.frames.shape[-2:]):
        return clip
    frames = F.interpolate(clip.frames.flatten(0, 1), size, mode="bilinear", antialias=True)
    flow = None
    if clip.flow is not None:
        flow = resize_flow(clip.flow.flatten(0, 1), size).view(*clip.flow.shape[:3], *size)
    return Clip(frames.view(*clip.frames.shape[:3], *size), flow=flow)
