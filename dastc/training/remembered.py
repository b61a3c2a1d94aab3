"""Clips that are kept in memory."""

from typing import Any

from torch.utils.data import Dataset

from dastc.clip import Clip

__all__ = ["Remembered"]


class Remembered(Dataset[Clip]):
    """Keep every clip that was asked for: the second epoch costs nothing.

    Args:
        clips: A data set of clips that fit into memory.

    Example:
        >>> from dastc.data import StreetClips
        >>> clips = Remembered(StreetClips("source", length=2))
        >>> clips[0] is clips[0]
        True
    """

    def __init__(self, clips: Any) -> None:
        self.clips, self.seen = clips, dict[int, Clip]()

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Clip:
        if index not in self.seen:
            self.seen[index] = self.clips[index]
        return self.seen[index]
