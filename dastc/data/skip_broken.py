"""An epoch that goes on where a file is broken."""

from operator import index as as_index
from typing import Any
from warnings import warn

import torch
from torch.utils.data import Dataset

from dastc.clip import Clip

__all__ = ["SkipBroken"]


class SkipBroken(Dataset[Clip]):
    """Take the next clip where one cannot be read; say so once for each, and count.

    Without it a broken file ends the epoch, with an error that names it. Look through all files before training with
    ``check()``; this is for files that break, or disks that fail, later.

    Args:
        clips: A data set of clips, with a length.

    Shape:
        - item: what ``clips`` gives.

    Attributes:
        counts: How often each clip was left out, ``(len(clips),)``, int64, in memory that the workers of a loader
            share.

    Raises:
        RuntimeError: When reading, if no clip at all can be read.

    Source:
        Ours.

    Example:
        >>> from dastc.data import StreetClips
        >>> clips = SkipBroken(StreetClips("source", length=2, size=(32, 64)))
        >>> len(clips), clips[0].frames.shape, clips.skipped
        (2, torch.Size([2, 3, 32, 64]), {})
    """

    def __init__(self, clips: Any) -> None:
        self.clips = clips  # torch's Dataset promises no length
        self.counts = torch.zeros(len(self.clips), dtype=torch.int64)
        self.counts.share_memory_()  # type: ignore[no-untyped-call]

    @property
    def skipped(self) -> dict[int, int]:
        """How often each clip was left out, by index, over all workers; empty if none was."""
        return {index: int(self.counts[index]) for index in self.counts.nonzero().flatten().tolist()}

    def __len__(self) -> int:
        """Return the number of clips, the broken ones included."""
        return len(self.counts)

    def __getitem__(self, index: int) -> Clip:
        """Return the clip, or the first after it that can be read."""
        position = as_index(index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"SkipBroken: `index` must lie in [-{len(self)}, {len(self)}); got {position}.")
        for step in range(len(self)):
            candidate = (position + step) % len(self)
            try:
                clip: Clip = self.clips[candidate]
            except (OSError, RuntimeError, ValueError) as error:
                first = int(self.counts[candidate]) == 0
                self.counts[candidate] += 1
                last = error
                if first:
                    warn(f"SkipBroken: clip {candidate} is left out. {error}", stacklevel=2)
            else:
                return clip
        raise RuntimeError(f"SkipBroken: no clip can be read. {last}") from last
