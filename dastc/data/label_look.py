"""What one label file shows: how often each class, and signs that its ids are not what was drawn."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dastc.data.id_pictures import Colour, Ids

__all__: list[str] = []  # for this package

Counts = npt.NDArray[np.int64]

_FEWEST_EDGES = 50  # that say something about how edges look
_MOST_SLOPES = 0.4  # of all edges; 0.33 in noise of many ids, where a triple is in order at random


class LabelLook(NamedTuple):
    """What the report on a data set keeps of a label file.

    Args:
        counts: Pixels of each class, ``(K,)``.
        ignored: Pixels with an id that stands for the ignored label.
        strange: Pixels of each id that nobody defines.
        lossy: How the file was compressed, if that changes ids.
        smooth: Whether edges look as if ids had been blended.
        colours: The colour of each id that occurs, if the file has a palette.
    """

    counts: Counts
    ignored: int
    strange: dict[int, int]
    lossy: str = ""
    smooth: bool = False
    colours: tuple[tuple[int, Colour], ...] = ()


def counted(labels: npt.NDArray[np.int64], num_classes: int) -> Counts:
    """Count the pixels of each class, ``(K,)``; other labels are left out."""
    counts: Counts = np.bincount(labels[(labels >= 0) & (labels < num_classes)], minlength=num_classes)
    return counts


def looks_smooth(ids: Ids) -> bool:
    """Tell whether ids change in slopes, as in labels that were resized bilinearly or drawn with soft edges.

    Between two areas of ids 2 and 9, a clean file jumps; a blended one passes ids that mean other classes.
    """
    steps = np.diff(ids.astype(np.int32), axis=1)
    edges = int(np.count_nonzero(steps))
    if edges < _FEWEST_EDGES:
        return False
    slopes = int(np.count_nonzero(np.sign(steps[:, 1:]) * np.sign(steps[:, :-1]) > 0))
    return slopes > _MOST_SLOPES * edges


def colours_in_use(ids: Ids, palette: tuple[Colour, ...]) -> tuple[tuple[int, Colour], ...]:
    """Return the palette's colour of each id that occurs."""
    if not palette:
        return ()
    return tuple((int(one), palette[one]) for one in np.unique(ids) if one < len(palette))
