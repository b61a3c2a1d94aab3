"""How good a teacher's labels are, and which of two frames is right where their labels differ."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dastc._core.checks import check_at_least
from dastc.clip import Clip
from dastc.diagnosis._clips import check_some, mean, truth
from dastc.labelling.target_labels import CrossFrame, labelled_by
from dastc.labelling.teacher import Teacher

__all__ = ["Disagreement", "LabelQuality", "disagreement", "label_quality"]

_MOVES = 1.0  # pixels from frame to frame


class LabelQuality(NamedTuple):
    """What :func:`label_quality` returns: everything in [0, 1], NaN where there was nothing to count.

    Args:
        accuracy: Share of the labels that are right.
        confidence: Mean confidence.
        calibration_error: Expected difference of confidence and accuracy.
        confident: Share of the labels at or above the threshold.
        accuracy_of_confident: Accuracy of those alone.
        accuracy_of_moving: Accuracy where the flow is longer than 1 pixel; NaN without flow.
        accuracy_of_still: Accuracy where it is not; NaN without flow.
        recall: For each class, the share of its pixels that are labelled so.
        precision: For each class, the share of the pixels labelled so that are of it.

    Shape:
        - recall, precision: K numbers.

    Example:
        >>> LabelQuality._fields[:4]
        ('accuracy', 'confidence', 'calibration_error', 'confident')
    """

    accuracy: float
    confidence: float
    calibration_error: float
    confident: float
    accuracy_of_confident: float
    accuracy_of_moving: float
    accuracy_of_still: float
    recall: list[float]
    precision: list[float]


class Disagreement(NamedTuple):
    """What :func:`disagreement` returns: everything in [0, 1].

    Args:
        share: Share of the pixels whose labels differ; NaN where there was nothing to count.
        own: Accuracy of the frame's own labels on those pixels; NaN if there are none.
        warped: Accuracy there of the labels that come from the frame before, along the flow; NaN if there are none.

    Example:
        >>> Disagreement._fields
        ('share', 'own', 'warped')
    """

    share: float
    own: float
    warped: float


@torch.no_grad()
def label_quality(
    teacher: Teacher,
    clips: Sequence[Clip],
    num_classes: int,
    *,
    cross_frame: CrossFrame = "none",
    adjust: Callable[[Tensor], Tensor] | None = None,
    threshold: float = 0.968,
    bins: int = 15,
    ignore_index: int = 255,
) -> LabelQuality:
    """Compare a teacher's labels with the truth, on every frame that has one before it (or the only one).

    Args:
        teacher: Labels the clips.
        clips: Batches of labelled clips of the target. The labels are for looking at, never for training.
        num_classes: Number of classes K.
        cross_frame: Where labels come from, as of :class:`~dastc.adapt.TeacherLabels`.
        adjust: Changes the teacher's logits, as of :class:`~dastc.adapt.TeacherLabels`.
        threshold: From which confidence on a label is confident, in [0, 1].
        bins: Intervals of confidence that the calibration error compares.
        ignore_index: Label of the pixels that take no part.

    Returns:
        Accuracies, confidence, and recall and precision of each class, by name, all in [0, 1].

    Raises:
        ValueError: If there is no clip, one is not labelled, or ``bins`` < 1.

    Source:
        Guo et al. 2017 for the calibration error.

    Example:
        >>> from dastc.models import TinySegmenter
        >>> clip = Clip(torch.randn(1, 1, 3, 16, 16), torch.zeros(1, 1, 16, 16, dtype=torch.long))
        >>> quality = label_quality(Teacher(TinySegmenter(3)), [clip], 3)
        >>> quality.recall[0] == quality.accuracy
        True
    """
    check_at_least("label_quality", "bins", bins, 1)
    check_some("label_quality", clips=clips)
    batches = []
    for clip in clips:
        labels = truth("label_quality", clip)
        labelled = labelled_by(teacher, clip, cross_frame=cross_frame, adjust=adjust)
        counted = _later((labels >= 0) & (labels < num_classes) & (labels != ignore_index))
        rows = (_later(labelled.labels), _later(labels), _later(labelled.weights), _motion(clip))
        batches.append([row[counted].cpu() for row in rows])
    label, wanted, sure, motion = (torch.cat(parts) for parts in zip(*batches, strict=True))
    right = (label == wanted).double()
    interval = (sure * bins).long().clamp(0, bins - 1)
    gap = torch.zeros(bins, dtype=torch.float64).index_add_(0, interval, right - sure.double())
    hits = torch.bincount(wanted[right > 0], minlength=num_classes)
    return LabelQuality(
        accuracy=mean(right),
        confidence=mean(sure),
        calibration_error=float(gap.abs().sum() / max(len(right), 1)),
        confident=mean(sure >= threshold),
        accuracy_of_confident=mean(right[sure >= threshold]),
        accuracy_of_moving=mean(right[motion > _MOVES]),
        accuracy_of_still=mean(right[motion <= _MOVES]),
        recall=(hits / torch.bincount(wanted, minlength=num_classes)).tolist(),
        precision=(hits / torch.bincount(label, minlength=num_classes)).tolist(),
    )


@torch.no_grad()
def disagreement(teacher: Teacher, clips: Sequence[Clip], num_classes: int, *, ignore_index: int = 255) -> Disagreement:
    """Say where the label of a frame and that of the frame before, along the flow, differ, and which one is right.

    Args:
        teacher: Labels the clips.
        clips: Batches of labelled clips of the target with flow.
        num_classes: Number of classes K.
        ignore_index: Label of the pixels that take no part.

    Returns:
        The share that differs and both accuracies there. Pixels that come from outside of the frame before do not
        count.

    Raises:
        ValueError: If there is no clip, one is not labelled.

    Source:
        Ours.

    Example:
        >>> from dastc.models import TinySegmenter
        >>> labels, flow = torch.zeros(1, 2, 16, 16, dtype=torch.long), torch.zeros(1, 1, 2, 16, 16)
        >>> clip = Clip(torch.ones(1, 2, 3, 16, 16), labels, flow)
        >>> disagreement(Teacher(TinySegmenter(3)), [clip], 3).share
        0.0
    """
    check_some("disagreement", clips=clips)
    differs, own_right, warped_right = [], [], []
    for clip in clips:
        wanted = _later(truth("disagreement", clip))
        own, warped = (labelled_by(teacher, clip, cross_frame=rule) for rule in ("none", "warped"))
        comes = _later(warped.weights) > 0
        counted = comes & (wanted >= 0) & (wanted < num_classes) & (wanted != ignore_index)
        mine, theirs = (_later(one.labels)[counted] for one in (own, warped))
        differs.append(mine != theirs)
        own_right.append((mine == wanted[counted])[mine != theirs])
        warped_right.append((theirs == wanted[counted])[mine != theirs])
    return Disagreement(*(mean(torch.cat(batches)) for batches in (differs, own_right, warped_right)))


def _later(x: Tensor | None) -> Tensor:
    if x is None:
        raise ValueError("diagnosis: `labelled_by` must give labels and weights; got None.")
    return x[:, 1:] if x.shape[1] > 1 else x


def _motion(clip: Clip) -> Tensor:
    if clip.flow is None or clip.flow.shape[1] == 0:
        # neither moving nor still
        return torch.full_like(_later(clip.frames)[:, :, 0], torch.nan)
    motion: Tensor = clip.flow.norm(dim=2)
    return motion
