"""Scores of a model on clips without labels, to choose between models where nobody may look at labels."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dastc._core.checks import check_at_least
from dastc._core.modes import evaluation_mode
from dastc.clip import Clip
from dastc.functional import pseudo_labels
from dastc.labelling.segment import segment
from dastc.metrics import TemporalConsistency

__all__ = ["LabelFreeScores", "evaluate_without_labels"]


class LabelFreeScores(NamedTuple):
    """What :func:`evaluate_without_labels` returns.

    Args:
        entropy: Mean entropy of the predictions, as a share of its largest value, in [0, 1]. Sure models have little;
            so has one that says a single class everywhere.
        diversity: Entropy of the mean prediction, as a share of its largest value, in [0, 1]: 0 if one class is all
            that is ever said.
        consistency: Share of pixels, in percent, whose predicted label persists along the flow; NaN without flow.
        density: Soft neighbourhood density, in nats: large where predictions form dense groups.

    Example:
        >>> LabelFreeScores._fields
        ('entropy', 'diversity', 'consistency', 'density')
    """

    entropy: float
    diversity: float
    consistency: float
    density: float


@torch.no_grad()
def evaluate_without_labels(
    model: nn.Module,
    clips: Iterable[Clip],
    num_classes: int,
    *,
    device: torch.device | str | None = None,
    pixels: int = 1024,
    temperature: float = 0.05,
    seed: int = 0,
) -> LabelFreeScores:
    """Score a model on batches of clips whose labels, if there are any, are not looked at.

    No score is a substitute for labels: a collapsed model is sure and consistent. Look at several, and at pictures.

    Args:
        model: An image model, or a :class:`~dastc.models.VideoSegmenter`.
        clips: Batches of clips, such as a loader's.
        num_classes: Number of classes K.
        device: Where to compute; ``None`` means where each batch lies.
        pixels: Predictions drawn from each batch for ``density``; its cost grows with their square.
        temperature: Of ``density``, > 0, dimensionless.
        seed: Of the draw.

    Raises:
        ValueError: If there is no clip, an argument is out of range, or the model's logits are not of K classes.

    Source:
        Density: Saito et al. 2021 (soft neighbourhood density), on softmax outputs; the others are common.

    Example:
        >>> from dastc.models import TinySegmenter
        >>> scores = evaluate_without_labels(TinySegmenter(3), [Clip(torch.randn(2, 1, 3, 16, 16))], 3)
        >>> 0 < scores.entropy <= 1
        True
    """
    check_at_least("evaluate_without_labels", "pixels", pixels, 2)
    if not temperature > 0:
        raise ValueError(f"evaluate_without_labels: `temperature` must be above 0; got {temperature}.")
    generator, consistency = torch.Generator().manual_seed(seed), TemporalConsistency()
    entropies, means, densities = [], [], []
    with evaluation_mode(model):
        for batch in clips:
            clip = batch if device is None else batch.to(device)
            logits = segment(model, clip, num_classes).flatten(0, 1).float()
            probability = logits.softmax(dim=1)
            entropies.append(_entropy(probability, dim=1).flatten())
            means.append(probability.mean(dim=(2, 3)))
            rows = probability.movedim(1, -1).flatten(0, 2)
            drawn = torch.randperm(len(rows), generator=generator)[:pixels].to(rows.device, non_blocking=True)
            densities.append(_density(rows[drawn], temperature))
            if clip.flow is not None and clip.flow.shape[1] > 0:
                size = (clip.frames.shape[-2], clip.frames.shape[-1])
                labels = pseudo_labels(logits, size).labels.view(*clip.frames.shape[:2], *size)
                consistency = consistency.to(labels.device)
                consistency.update(labels, clip.flow)
    if not means:
        raise ValueError("evaluate_without_labels: `clips` must hold at least one batch of clips; got none.")
    most = math.log(max(num_classes, 2))
    return LabelFreeScores(
        float(torch.cat(entropies).mean()) / most,
        float(_entropy(torch.cat(means).mean(dim=0), dim=0)) / most,
        float(consistency.compute()),
        float(torch.cat(densities).mean()),
    )


def _entropy(probability: Tensor, *, dim: int) -> Tensor:
    entropy: Tensor = -torch.special.xlogy(probability, probability).sum(dim=dim)
    return entropy


def _density(predictions: Tensor, temperature: float) -> Tensor:
    near = F.normalize(predictions, dim=1)
    # a prediction is no neighbour of its own
    similarity = (near @ near.T / temperature).fill_diagonal_(-torch.inf)
    return _entropy(similarity.softmax(dim=1), dim=1)
