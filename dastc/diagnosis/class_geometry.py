"""How far the deep features of the classes lie apart, within and across the domains."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from dastc._core.modes import evaluation_mode
from dastc.clip import Clip
from dastc.diagnosis._clips import check_some, mean, truth
from dastc.functional import class_pool, resize_labels
from dastc.models import FeatureTap, logits_of

__all__ = ["ClassGeometry", "class_geometry"]


class ClassGeometry(NamedTuple):
    """What :func:`class_geometry` returns: means over the classes that both domains show, NaN if there are none.

    Args:
        within_source: Distance of a pixel from the centroid of its class in the source, 1 - cosine.
        within_target: The same in the target.
        between_source: Distance of the centroids of two classes in the source; NaN of a single class.
        between_target: The same in the target.
        across: Distance of the centroids of one class in both domains.
        confused: Share of the target's centroids to which a source centroid of another class is nearer than that of
            their own, in [0, 1].

    Example:
        >>> ClassGeometry._fields
        ('within_source', 'within_target', 'between_source', 'between_target', 'across', 'confused')
    """

    within_source: float
    within_target: float
    between_source: float
    between_target: float
    across: float
    confused: float


@torch.no_grad()
def class_geometry(
    model: nn.Module,
    features: str,
    source: Sequence[Clip],
    target: Sequence[Clip],
    num_classes: int,
    *,
    ignore_index: int = 255,
) -> ClassGeometry:
    """Measure how far the deep features of the classes lie apart, by true labels, as distances 1 - cosine.

    Args:
        model: An image model.
        features: Dotted name of the submodule whose output is measured.
        source: Batches of labelled clips of the source.
        target: Batches of labelled clips of the target.
        num_classes: Number of classes K.
        ignore_index: Label of the pixels that take no part.

    Returns:
        Distances in [0, 2] within, between and across, and the share of the target's centroids that lie nearest to
        another class of the source.

    Raises:
        ValueError: If there is no clip, one is not labelled, or ``features`` is no submodule.

    Source:
        Ours.

    Example:
        >>> from dastc.models import TinySegmenter
        >>> clip = Clip(torch.randn(1, 1, 3, 16, 16), torch.randint(0, 3, (1, 1, 16, 16)))
        >>> class_geometry(TinySegmenter(3), "neck", [clip], [clip], 3).confused
        0.0
    """
    check_some("class_geometry", source=source, target=target)
    means, spreads, seen = [], [], []
    for clips in (source, target):
        total, mass = _unit_features(model, features, clips, num_classes, ignore_index)
        middle = total / mass.clamp(min=1).unsqueeze(1)
        # the mean of unit vectors is as long as they agree: 1 - length is the mean distance from their direction
        spreads.append(1 - middle.norm(dim=1))
        means.append(normalize(middle, dim=1))
        seen.append(mass > 0)
    shared = seen[0] & seen[1]
    ours, theirs = (directions[shared] for directions in means)
    others = ~torch.eye(len(ours), dtype=torch.bool, device=ours.device)
    distance = 1 - theirs @ ours.T  # (target, source)
    nearest = distance.argmin(dim=1) if len(ours) else torch.zeros(0, device=ours.device)
    return ClassGeometry(
        within_source=mean(spreads[0][shared]),
        within_target=mean(spreads[1][shared]),
        between_source=mean((1 - ours @ ours.T)[others]),
        between_target=mean((1 - theirs @ theirs.T)[others]),
        across=mean(distance.diagonal()),
        confused=mean(nearest != torch.arange(len(ours), device=ours.device)),
    )


def _unit_features(
    model: nn.Module, features: str, clips: Sequence[Clip], num_classes: int, ignore_index: int
) -> tuple[Tensor, Tensor]:
    tap, sums, masses = FeatureTap(model, features), [], []
    with evaluation_mode(model):
        for clip in clips:
            labels = truth("class_geometry", clip).flatten(0, 1)
            with tap.read() as reading:
                logits_of(model(clip.frames.flatten(0, 1)))
            unit = normalize(reading.feature, dim=1)
            cells = resize_labels(labels, (unit.shape[-2], unit.shape[-1]))
            total, mass = class_pool(unit, cells, num_classes, ignore_index=ignore_index)
            sums.append(total.sum(dim=0))
            masses.append(mass.sum(dim=0))
    return torch.stack(sums).sum(dim=0), torch.stack(masses).sum(dim=0)
