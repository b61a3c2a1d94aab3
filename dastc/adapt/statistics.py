"""Adaptation of normalisation statistics alone."""

from collections.abc import Iterable
from itertools import chain

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from dastc._core.modes import evaluation_mode
from dastc.clip import Clip
from dastc.labelling.segment import segment

__all__ = ["adapt_statistics"]


@torch.no_grad()
def adapt_statistics(model: nn.Module, clips: Iterable[Clip], *, device: torch.device | str | None = None) -> int:
    """Replace the running statistics of every BatchNorm by those of a new domain; no weight changes.

    The cheapest adaptation there is. Where a model has BatchNorm, it can be worth more than any loss, so a comparison
    with such a model needs it as a row.

    Args:
        model: An image model, or a :class:`~dastc.models.VideoSegmenter`; changed in place.
        clips: Batches of clips of the new domain; labels are not looked at. Every batch counts alike.
        device: Where to compute; ``None`` means where each batch lies.

    Returns:
        The number of layers that were adapted.

    Raises:
        ValueError: If the model has no running statistics, or there is no clip: they would be left empty.

    Source:
        Li et al. 2017 (AdaBN).

    Example:
        >>> from dastc.models import TinySegmenter
        >>> adapt_statistics(TinySegmenter(3, norm="batch"), [Clip(torch.randn(2, 1, 3, 16, 16))])
        11
    """
    layers = [x for x in model.modules() if isinstance(x, _BatchNorm) and x.track_running_stats]
    if not layers:
        raise ValueError("adapt_statistics: `model` must have BatchNorm layers with running statistics; got none.")
    batches = iter(clips)
    first = next(batches, None)
    if first is None:
        raise ValueError("adapt_statistics: `clips` must hold at least one batch of clips; got none.")
    momenta = [layer.momentum for layer in layers]
    with evaluation_mode(model):
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # the plain mean over all batches
            layer.train()
        try:
            for batch in chain([first], batches):
                segment(model, batch if device is None else batch.to(device))
        finally:
            for layer, momentum in zip(layers, momenta, strict=True):
                layer.momentum = momentum
    return len(layers)
