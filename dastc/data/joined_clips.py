"""Several data sets as one."""

from collections.abc import Sequence
from typing import Any

from torch.utils.data import ConcatDataset

from dastc.clip import Clip
from dastc.data.label_space import LabelSpace

__all__ = ["JoinedClips"]


class JoinedClips(ConcatDataset[Clip]):
    """The clips of several data sets, one after the other.

    Args:
        parts: Data sets of clips, of one label space.

    Attributes:
        label_space: That of the first one.

    Example:
        >>> from dastc.data import StreetClips
        >>> joined = JoinedClips([StreetClips("source", length=2), StreetClips("source", length=3, seed=1)])
        >>> len(joined), joined.label_space.names[0]
        (5, 'sky')
    """

    def __init__(self, parts: Sequence[Any]) -> None:
        super().__init__(parts)
        self.parts, self.label_space = tuple(parts), _space(parts)


def _space(parts: Sequence[Any]) -> LabelSpace:
    space: LabelSpace = parts[0].label_space
    return space
