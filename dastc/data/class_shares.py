"""How often the classes occur in the labels of a data set, and what does not add up."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dastc.data.id_pictures import Colour
from dastc.data.label_look import LabelLook
from dastc.data.label_space import LabelSpace

__all__ = ["ClassShare"]

_SHOWN = 40
_FEW = 10
_MANY_IDS = 8  # undefined ones, which no one has forgotten to define one by one


class ClassShare(NamedTuple):
    """How much of the labels one class has.

    Args:
        name: The class.
        share: Of all labelled pixels, in [0, 1]; the ignored ones are left out.
        files: How many label files show it.

    Example:
        >>> print(ClassShare("road", 0.25, 7))
         25.000 % in     7 files: road
    """

    name: str
    share: float
    files: int

    def __str__(self) -> str:
        if not self.files:
            return f"        nowhere        : {self.name}"
        return f"{100 * self.share:7.3f} % in {self.files:5} file{'s' if self.files > 1 else ' '}: {self.name}"


class Findings(NamedTuple):
    """The shares of the classes, and sentences on what is wrong or unusual."""

    shares: tuple[ClassShare, ...]
    problems: list[str]
    notes: list[str]


def class_findings(space: LabelSpace, looks: Mapping[Path, LabelLook]) -> Findings:
    """Put together what single label files show."""
    if not looks or not space.names:
        return Findings((), [], [])
    each = np.stack([look.counts for look in looks.values()])  # (files, K)
    counts, files = each.sum(axis=0), (each > 0).sum(axis=0)
    pixels = max(int(counts.sum()), 1)
    shares = tuple(
        ClassShare(name, int(counts[label]) / pixels, int(files[label])) for label, name in enumerate(space.names)
    )
    problems = [*_ignored_mask(space, shares, looks), *_lossy(looks), *_disagreeing(looks)]
    notes = [*_strange(looks), *_smooth(looks), *_nowhere(space, shares), *_ignored_class(space)]
    return Findings(shares, problems, notes)


def table(shares: Sequence[ClassShare]) -> list[str]:
    """Return the lines of a table, empty without shares."""
    if not shares:
        return []
    more = [f"and {len(shares) - _SHOWN} more, in `shares`"] if len(shares) > _SHOWN else []
    return ["Share of the labelled pixels:", *(f"  {share}" for share in shares[:_SHOWN]), *more]


def _ignored_mask(space: LabelSpace, shares: Sequence[ClassShare], looks: Mapping[Path, LabelLook]) -> list[str]:
    # what drawing programs store for "no" and "yes": 0 and 255, the ignored label of nearly everyone
    seen = [label for label, share in enumerate(shares) if share.files]
    ignored = sum(look.ignored for look in looks.values())
    if len(shares) != 2 or len(seen) > 1 or not ignored:
        return []
    (missing, *_), raw = [label for label in (1, 0) if label not in seen], space.ignore_index
    part = ignored / (ignored + sum(int(look.counts.sum()) for look in looks.values()))
    return [
        f"No label file shows the class {space.names[missing]}, and {100 * part:.3g} % of the pixels are ignored, such "
        f"as those of {next(path for path, look in looks.items() if look.ignored)}. If {raw} in the files means "
        f"{space.names[missing]}, say so: label_map={{{1 - missing}: {1 - missing}, {raw}: {missing}}}."
    ]


def _lossy(looks: Mapping[Path, LabelLook]) -> list[str]:
    kinds: dict[str, list[Path]] = {}
    for path, look in looks.items():
        if look.lossy:
            kinds.setdefault(look.lossy, []).append(path)
    return [
        f"{len(paths)} label file{'s are' if len(paths) > 1 else ' is'} compressed with loss ({kind}), such as "
        f"{paths[0]}: ids at edges become others. Make them again as PNG; converting them does not bring ids back."
        for kind, paths in kinds.items()
    ]


def _disagreeing(looks: Mapping[Path, LabelLook]) -> list[str]:
    first: dict[int, tuple[Colour, Path]] = {}
    found: dict[int, tuple[Path, Path]] = {}
    for path, look in looks.items():
        for label, colour in look.colours:
            known, where = first.setdefault(label, (colour, path))
            if known != colour:
                found.setdefault(label, (where, path))
    if not found:
        return []
    label, (one, other) = next(iter(found.items()))
    return [
        f"The palettes of the label files disagree on {len(found)} id{'s' if len(found) > 1 else ''}, such as {label}, "
        f"which is {first[label][0]} in {one} and {dict(looks[other].colours)[label]} in {other}: the same id may mean "
        "different classes. Save all of them with one palette, or from colours with LabelSpace.ids_from_colours."
    ]


def _strange(looks: Mapping[Path, LabelLook]) -> list[str]:
    files = Counter(strange for look in looks.values() for strange in look.strange)
    if not files:
        return []
    said = [f"{n} label files hold id {one}, which is not defined; it is ignored." for one, n in files.most_common()]
    if len(files) < _MANY_IDS:
        return said
    return [*said[:_FEW], f"{len(files)} ids are not defined. So many come from blending or from loss: {_CLEAN}"]


def _smooth(looks: Mapping[Path, LabelLook]) -> list[str]:
    paths = [path for path, look in looks.items() if look.smooth]
    if not paths:
        return []
    return [
        f"{len(paths)} label file{'s look' if len(paths) > 1 else ' looks'} blended at edges, such as {paths[0]}, "
        f"which makes ids of other classes: {_CLEAN}"
    ]


def _nowhere(space: LabelSpace, shares: Sequence[ClassShare]) -> list[str]:
    absent = [share.name for label, share in enumerate(shares) if not share.files and label != space.ignore_index]
    if not absent:
        return []
    few = ", ".join(absent[:_FEW]) + (f" and {len(absent) - _FEW} more" if len(absent) > _FEW else "")
    return [f"{len(absent)} of {len(shares)} classes are in no label file: {few}."]


def _ignored_class(space: LabelSpace) -> list[str]:
    if not 0 <= space.ignore_index < len(space.names):
        return []
    name = space.names[space.ignore_index]
    return [f"Label {space.ignore_index}, {name}, is also the ignored label, so that nothing learns it."]


_CLEAN = "labels are resized by nearest pixel, drawn without soft edges, and stored without loss."
