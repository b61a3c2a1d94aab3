"""Which files of a data set are missing, broken or do not fit."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from dastc.data.class_shares import ClassShare, class_findings, table
from dastc.data.clip_lists import FileClips
from dastc.data.label_look import LabelLook
from dastc.data.label_space import LabelSpace
from dastc.data.progress import with_progress

__all__ = ["FileReport"]

_SHOWN = 20


class Look(NamedTuple):
    """What is known of files that were opened together.

    Args:
        size: That of the picture, ``(height, width)``; ``None`` for flow.
        turned: Whether the picture asks for a turn or a mirror.
        labels: What the label file shows; ``None`` without one.
    """

    size: tuple[int, int] | None = None
    turned: bool = False
    labels: LabelLook | None = None


_LookAt = Callable[[Path, "Path | None", "Path | None"], Look]


class FileReport(NamedTuple):
    """What the ``check()`` of a data set found; true if there is no problem, and readable when printed.

    Args:
        files: How many files were opened.
        problems: A sentence for each problem, with the file's name in it.
        notes: What is unusual and does no harm, such as ids that the data set does not define.
        usable: Indices of the clips without a problem, for ``torch.utils.data.Subset``.
        clips: How many clips there are.
        shares: How much of the labelled pixels each class has, in the order of the labels; empty without labels.

    Example:
        >>> report = FileReport(8, ("x.png is missing.",), (), (0, 2), 3)
        >>> bool(report)
        False
        >>> print(report)
        8 files opened, 2 of 3 clips usable, 1 problem:
        - x.png is missing.
    """

    files: int
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    usable: tuple[int, ...]
    clips: int
    shares: tuple[ClassShare, ...] = ()

    @property
    def ok(self) -> bool:
        """Tell whether there is no problem."""
        return not self.problems

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        count = len(self.problems)
        problems = "no problems" if self.ok else f"{count} problem{'s' * (count > 1)}"
        head = f"{self.files} files opened, {len(self.usable)} of {self.clips} clips usable, {problems}"
        lines = [*self.problems[:_SHOWN], *([f"and {count - _SHOWN} more, in `problems`"] if count > _SHOWN else [])]
        listed = [f"- {line}" for line in (*lines, *(f"note: {note}" for note in self.notes))]
        return "\n".join([f"{head}{':' if listed else '.'}", *listed, *table(self.shares)])


class _Unit(NamedTuple):
    """What is opened together: a picture and its labels, or a flow field."""

    image: Path
    labels: Path | None
    flow: Path | None


class _Seen(NamedTuple):
    look: Look
    problem: str | None


def report_on(
    caller: str,
    clips: FileClips,
    look: _LookAt,
    *,
    space: LabelSpace,
    missing: Sequence[str],
    one_size: bool,
    progress: bool,
) -> FileReport:
    """Open the files of all clips once, and report on them."""
    units = [
        [
            *(_Unit(frame.image, frame.labels, None) for frame in clip),
            *(_Unit(frame.image, None, frame.flow) for frame in clip[1:] if frame.flow is not None),
        ]
        for clip in clips
    ]
    distinct = list(dict.fromkeys(unit for clip in units for unit in clip))
    seen = dict(zip(distinct, _look_at(caller, look, distinct, progress), strict=True))
    problems = [*missing, *(one.problem for one in seen.values() if one.problem is not None)]
    usable = []
    for number, clip in enumerate(units):
        sizes = {size for unit in clip if (size := seen[unit].look.size) is not None}
        if one_size and len(sizes) > 1:
            problems.append(f"{_sizes(sizes)} are the sizes in the clip that ends with {clips[number][-1].image}.")
        elif all(seen[unit].problem is None for unit in clip):
            usable.append(number)
    if one_size:
        problems += _mixed(seen)
    classes = class_findings(space, _labels(seen))
    problems += classes.problems
    files = sum(sum(path is not None for path in (None if u.flow else u.image, u.labels, u.flow)) for u in distinct)
    notes = (*classes.notes, *_turned(seen))
    return FileReport(files, tuple(problems), notes, tuple(usable), len(clips), classes.shares)


def _look_at(caller: str, look: _LookAt, units: Sequence[_Unit], progress: bool) -> Iterator[_Seen]:
    def safely(unit: _Unit) -> _Seen:
        try:
            return _Seen(look(*unit), None)
        except (OSError, RuntimeError, ValueError) as error:
            return _Seen(Look(), str(error))

    pool = ThreadPoolExecutor()  # decoders let other threads run
    try:
        results = pool.map(safely, units)
        yield from with_progress(f"{caller}.check", results, f"{caller}: checking", total=len(units), wanted=progress)
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupt does not wait for the rest


def _mixed(seen: dict[_Unit, _Seen]) -> list[str]:
    sizes: dict[tuple[int, int], list[Path]] = {}
    for unit, one in seen.items():
        if one.look.size is not None:
            sizes.setdefault(one.look.size, []).append(unit.image)
    if len(sizes) < 2:
        return []
    examples = "; ".join(f"{size} in {len(paths)}, such as {paths[0]}" for size, paths in sorted(sizes.items()))
    return [f"The pictures have {len(sizes)} sizes, which do not stack into a batch: {examples}. Give `size`."]


def _labels(seen: dict[_Unit, _Seen]) -> dict[Path, LabelLook]:
    return {
        unit.labels: one.look.labels
        for unit, one in seen.items()
        if unit.labels is not None and one.look.labels is not None
    }


def _turned(seen: dict[_Unit, _Seen]) -> list[str]:
    paths = list(dict.fromkeys(unit.image for unit, one in seen.items() if one.look.turned))
    if not paths:
        return []
    return [
        f"{len(paths)} picture{'s are' if len(paths) > 1 else ' is'} turned as the EXIF orientation asks, and as "
        f"viewers show it, such as {paths[0]}. Labels and flow must be of the turned picture."
    ]


def _sizes(sizes: set[tuple[int, int]]) -> str:
    return ", ".join(map(str, sorted(sizes)))
