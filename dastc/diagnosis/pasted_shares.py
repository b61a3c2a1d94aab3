"""Which classes are pasted into which context."""

import copy
from typing import NamedTuple

import torch

from dastc._core.distributed import alone
from dastc.clip import Clip
from dastc.fusion import SequencePatchFusion

__all__ = ["PastedShares", "pasted_shares"]


class PastedShares(NamedTuple):
    """What :func:`pasted_shares` returns: for each class, its share of all pixels of a context that were pasted.

    The sum over the classes is the share that was pasted at all, without ignored pixels.

    Args:
        in_source: Of the target's pixels in source context, in [0, 1].
        in_target: Of the source's pixels in target context, in [0, 1].

    Shape:
        - in_source, in_target: K numbers.

    Example:
        >>> PastedShares._fields
        ('in_source', 'in_target')
    """

    in_source: list[float]
    in_target: list[float]


@torch.no_grad()
def pasted_shares(
    fusion: SequencePatchFusion, source: Clip, target: Clip, num_classes: int, **templates: Clip
) -> PastedShares:
    """Say how much of each class is pasted, and into which context.

    Works on a copy: the fusion's bank and its random state stay as they were. Of several ranks, any may look alone.

    Args:
        fusion: The fusion of a recipe.
        source: A labelled clip.
        target: A labelled clip of the same size.
        num_classes: Number of classes K.
        templates: ``source_patches`` and ``target_patches``, as of the fusion.

    Returns:
        For both contexts, each class' share of all pixels that was pasted.

    Raises:
        ValueError: As of the fusion.

    Source:
        Ours.

    Example:
        >>> clip = Clip(torch.randn(1, 1, 3, 8, 8), torch.zeros(1, 1, 8, 8, dtype=torch.long))
        >>> pasted_shares(SequencePatchFusion(2), clip, clip, 2)
        PastedShares(in_source=[1.0, 0.0], in_target=[1.0, 0.0])
    """
    shares = []
    with alone():
        contexts = copy.deepcopy(fusion)(source, target, **templates)
    for context in contexts:
        labels = context.clip.labels
        pasted = labels[context.mask & (labels >= 0) & (labels < num_classes)]
        shares.append((torch.bincount(pasted, minlength=num_classes) / max(labels.numel(), 1)).tolist())
    return PastedShares(*shares)
