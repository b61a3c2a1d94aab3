"""Clips with random changes that are the same wherever and whenever a step is read."""

from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from dastc.augment import RandomCrop, RandomFlip, RandomScale
from dastc.augment.transforms import RandomTransform
from dastc.clip import Clip

__all__ = ["ChangedClips", "random_change"]


class ChangedClips(Dataset[Clip]):
    """Apply a change to each clip; what it draws follows from torch's own generator.

    :class:`~dastc.training.StepBatches` sets that one by the seed, the step and the place in the batch, so that neither
    workers, nor ranks, nor an interruption change what is drawn.

    Args:
        clips: A data set of clips.
        change: Such as :func:`random_change` makes.

    Example:
        >>> from dastc.data import StreetClips
        >>> clips = ChangedClips(StreetClips("source", length=2, size=(32, 48)), random_change(crop=(16, 24)))
        >>> clips[1].frames.shape
        torch.Size([2, 3, 16, 24])
    """

    def __init__(self, clips: Any, change: nn.Module) -> None:
        self.clips, self.change = clips, change

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Clip:
        clip = self.clips[index]
        for part in self.change.modules():
            if isinstance(part, RandomTransform):
                part.random.generator.manual_seed(int(torch.randint(2**62, ())))
        changed: Clip = self.change(clip)
        return changed


def random_change(
    *,
    scale: tuple[float, float] | None = None,
    crop: tuple[int, int] | None = None,
    flip: bool = False,
) -> nn.Sequential | None:
    """Make the usual change of clips for training, in the order scale, crop, flip; ``None`` if nothing is to be done.

    Args:
        scale: Smallest and largest factor; clips are never made smaller than ``crop``.
        crop: ``(height, width)`` of a window at a random place.
        flip: Mirror every other clip.

    Raises:
        ValueError: If clips are scaled and not cropped: those of a batch would differ in size.

    Example:
        >>> [type(part).__name__ for part in random_change(crop=(16, 24), flip=True)]
        ['RandomCrop', 'RandomFlip']
    """
    if scale is not None and crop is None:
        raise ValueError(f"--scale needs --crop, or the clips of a batch differ in size; got {scale} alone.")
    parts: list[nn.Module] = []
    if scale is not None:
        parts.append(RandomScale(*scale, smallest=crop))
    if crop is not None:
        parts.append(RandomCrop(crop))
    if flip:
        parts.append(RandomFlip())
    return nn.Sequential(*parts) if parts else None
