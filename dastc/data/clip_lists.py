"""Which frames make clips: pictures, labels and flow put together by sequence and number."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from dastc._core.checks import check_at_least
from dastc.data.file_patterns import Key

__all__: list[str] = []  # for the data sets of this package

Files = Mapping[Key, Path]


class FrameFile(NamedTuple):
    """The files of one frame; ``flow`` leads to the frame before it in the clip."""

    image: Path
    labels: Path | None = None
    flow: Path | None = None
    sequence: str = ""
    number: int = 0


FileClips = Sequence[Sequence[FrameFile]]


class Listing(NamedTuple):
    """The clips there are, and a sentence for each that is not there for want of a file."""

    clips: list[list[FrameFile]]
    missing: list[str]


def list_clips(
    caller: str,
    images: Files,
    labels: Files | None,
    flow: Files | None,
    *,
    frames: int,
    interval: int | None = 1,
    every: int = 1,
    all_labelled: bool = True,
    may_begin_within: bool = True,
) -> Listing:
    """Put clips together, each ending at a labelled frame if there are labels.

    Args:
        caller: Who asks, for the messages.
        images: Pictures by sequence and number.
        labels: Labels likewise; ``None`` for clips without labels.
        flow: Flow by sequence, number and, where the names tell it, number of the frame it leads to.
        frames: Frames per clip.
        interval: Difference of neighbouring numbers in a clip; ``None`` takes the files in order, whatever their gaps.
        every: Clips end at numbers divisible by it.
        all_labelled: Whether every picture should have labels; else only those that have end a clip.
        may_begin_within: Whether a video may begin within what would be a clip, which is then no clip; else it is
            taken to be incomplete.
    """
    check_at_least(caller, "frames", frames, 1)
    check_at_least(caller, "every", every, 1)
    if interval is not None:
        check_at_least(caller, "interval", interval, 1)
    wanted = _wanted(images, labels, every=every, all_labelled=all_labelled)
    orders = _orders(images)
    clips: list[list[FrameFile]] = []
    missing: list[str] = []
    for key in wanted:
        order = orders.get(key.sequence, [])
        numbers = _numbers(order, key.number, frames, interval) if key in images else [key.number]
        if may_begin_within and key in images and numbers[0] < order[0]:
            continue
        keys = [Key(key.sequence, number) for number in numbers]
        absent = _absent(keys, images, labels if all_labelled else None)
        if absent:
            missing.append(f"{absent} is missing, which the clip that ends with {_named(key)} needs.")
            continue
        clips.append([_frame(one, images, labels) for one in keys])
    if flow is not None:
        clips = _with_flow(caller, clips, flow)
    if not clips:
        raise _no_clip(caller, orders, missing, frames, interval)
    return Listing(clips, missing)


def choose(
    caller: str, argument: str, found: Iterable[str], wanted: str | Sequence[str] | None, where: Path
) -> set[str]:
    """Return the names wanted, all if none are; refuse what is not there."""
    there = sorted(set(found))
    names = there if wanted is None else (wanted,) if isinstance(wanted, str) else tuple(wanted)
    if wanted is not None and not names:
        raise ValueError(f"{caller}: `{argument}` must name at least one of {_few(there)}; got none.")
    for name in names:
        if name not in there:
            folded = {other.casefold(): other for other in there}
            near = [folded[match] for match in get_close_matches(str(name).casefold(), folded)]
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise ValueError(f"{caller}: `{argument}` must be of those in {where}: {_few(there)}; got {name!r}.{hint}")
    return set(names)


def only(files: Files, sequences: set[str]) -> dict[Key, Path]:
    """Keep the files of some sequences."""
    return {key: path for key, path in files.items() if key.sequence in sequences}


def _wanted(images: Files, labels: Files | None, *, every: int, all_labelled: bool) -> list[Key]:
    # labels without a picture are asked for, too: the picture is missing then
    both = set(images) if labels is None else set(images) | set(labels) if all_labelled else set(labels)
    return sorted(key for key in both if key.number % every == 0)


def _orders(images: Files) -> dict[str, list[int]]:
    orders: dict[str, list[int]] = {}
    for key in sorted(images):
        orders.setdefault(key.sequence, []).append(key.number)
    return orders


def _numbers(order: list[int], number: int, frames: int, interval: int | None) -> list[int]:
    """Return the numbers of a clip's frames; before the video begins, what they would be."""
    if interval is not None:
        return list(range(number - (frames - 1) * interval, number + 1, interval))
    end = bisect_right(order, number)
    return order[end - frames : end] if end >= frames else [order[0] - 1, number]


def _absent(keys: list[Key], images: Files, labels: Files | None) -> str:
    for key in keys:
        if key not in images:
            return f"The picture of {_named(key)}"
        if labels is not None and key not in labels:
            return f"The labels of {images[key]}"
    return ""


def _named(key: Key) -> str:
    return f"frame {key.number} of {key.sequence}" if key.sequence else f"frame {key.number}"


def _frame(key: Key, images: Files, labels: Files | None) -> FrameFile:
    return FrameFile(images[key], None if labels is None else labels.get(key), None, key.sequence, key.number)


def _with_flow(caller: str, clips: list[list[FrameFile]], flow: Files) -> list[list[FrameFile]]:
    shared = all(not key.sequence for key in flow)  # names without a sequence, of the one sequence there is
    pairs: dict[tuple[str, int, int], Path | None] = {}
    for clip in clips:
        for before, frame in pairwise(clip):
            sequence = "" if shared else frame.sequence
            path = flow.get(Key(sequence, frame.number, before.number), flow.get(Key(sequence, frame.number)))
            pairs[frame.sequence, frame.number, before.number] = path
    without = [pair for pair, path in pairs.items() if path is None]
    if without:
        sequence, number, before_number = without[0]
        raise ValueError(
            f"{caller}: `flow` must hold one file for each of the {len(pairs)} pairs of neighbouring frames; "
            f"got {len(pairs) - len(without)}. None leads from {_named(Key(sequence, number))} to {before_number}."
        )
    return [
        [clip[0], *(b._replace(flow=pairs[b.sequence, b.number, a.number]) for a, b in pairwise(clip))]
        for clip in clips
    ]


def _no_clip(
    caller: str, orders: dict[str, list[int]], missing: list[str], frames: int, interval: int | None
) -> ValueError:
    if missing:
        return ValueError(f"{caller}: all {len(missing)} clips want a file. {missing[0]}")
    gaps = [b - a for numbers in orders.values() for a, b in pairwise(numbers)]
    if interval is not None and frames > 1 and gaps and interval not in gaps:
        return ValueError(
            f"{caller}: `interval` must be a difference of numbers that occurs, such as {min(gaps)}; got {interval}."
        )
    longest = max(map(len, orders.values()), default=0)
    return ValueError(f"{caller}: `frames` must be at most {longest}, the longest sequence; got {frames}.")


def _few(names: Sequence[str], most: int = 30) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
