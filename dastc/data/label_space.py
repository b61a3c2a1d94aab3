"""What the label indices of a data set mean: names, colours and the ids in the files, as data."""

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["CAMVID", "STREET", "LabelSpace"]


class LabelSpace(NamedTuple):
    """Names and display colours of the classes, in label order, and where they are found in the files.

    Args:
        names: One name for each class.
        colours: One RGB colour, 0 to 255, for each class.
        rare: Labels of the thin and rare classes, for recipes that treat them separately.
        ignore_index: The label that takes no part.
        scored: Labels that the published mean is over; ``None`` means all. The others are trained, and predicting
            them costs. It fits ``classes`` of :class:`~dastc.metrics.MeanIoU` and :func:`dastc.adapt.evaluate`.
        raw_ids: For each data set the space can be read from: the id in its files, and the label it becomes. An id
            that is not there becomes ``ignore_index``.

    Example:
        >>> STREET.names[2], len(STREET.names)
        ('road', 9)
    """

    names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    rare: tuple[int, ...] = ()
    ignore_index: int = 255
    scored: tuple[int, ...] | None = None
    raw_ids: Mapping[str, Mapping[int, int]] = {}  # a read-only view could not be pickled


STREET = LabelSpace(
    names=("sky", "building", "road", "pavement", "vegetation", "pole", "sign", "person", "car"),
    colours=(
        (70, 130, 180), (70, 70, 70), (128, 64, 128), (244, 35, 232), (107, 142, 35),
        (153, 153, 153), (220, 220, 0), (220, 20, 60), (0, 0, 142),
    ),
    rare=(5, 6, 7),
)  # fmt: skip

CAMVID = LabelSpace(
    names=(
        "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
    ),
    colours=(
        (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (0, 0, 192), (128, 128, 0),
        (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
    ),
    rare=(2, 6, 9, 10),
    raw_ids={"camvid": {label: label for label in range(11)}},
)  # fmt: skip
