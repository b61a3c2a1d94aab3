"""Anyone's own folders of pictures, labels and flow."""

from collections import Counter
from collections.abc import Mapping, Sequence
from colorsys import hsv_to_rgb
from pathlib import Path
from typing import Literal

from dastc._core.checks import check_choice
from dastc.data.clip_files import ClipFiles, LabelFiles
from dastc.data.clip_lists import choose, list_clips, only
from dastc.data.file_patterns import Key, fields_of, find_files
from dastc.data.label_space import LabelSpace
from dastc.data.unicode_names import as_on_disk, composed

__all__ = ["FolderClips"]

_LARGEST_ID = 2**16 - 1
_IGNORED = 255  # what nearly every data set stores for it


class FolderClips(ClipFiles):
    """Read clips from your own folders, told by patterns for the names of the files.

    In a pattern ``{sequence}`` is the name of a video and ``{number}`` the number of a frame, ``{number:05}`` if it
    always has five digits; ``*`` is anything else within one folder's or file's name. Numbers of pictures and labels
    may have zeros before them or not, suffixes may be in capitals or not, and accents may be part of their letters or
    not. Without ``{number}`` each file is a video of one frame: for single pictures,
    ``{sequence}`` is then the name they share with their labels.

    Args:
        root: The folder that the patterns start from.
        images: Pattern of the pictures, such as ``"{sequence}/frames/{number}.jpg"``.
        labels: Pattern of the label files, with the same fields: pictures of one index per pixel. ``None`` for clips
            without labels.
        flow: Pattern of the flow files, named after the later of two frames: ``"{sequence}/flow/{number}.npy"``, or
            after both: ``"{sequence}_{number}_{previous}.flo"``. Of any resolution and any form that
            :func:`read_flow` knows. Every two neighbours need one.
        label_space: Names and colours of the classes, or names alone, each once; with more than 255 names the ignored
            label is 65535, else 255. May be left out if ``labels`` is.
        label_map: The label of each id in the files, in [0, K) or the ignored label; ``None`` if they are the same.
        other_ids: What an id is that ``label_map`` does not name: an ``"error"``, or pixels to ``"ignore"``. The
            ignored label itself may always be there.
        all_labelled: Whether every picture should have labels: one without is reported, and its clips are left out.
            Else clips end at the frames that have labels, and the others have the ignored label everywhere.
        sequences: Names of the sequences to use; ``None`` means all.
        frames: Frames per clip T, at least 1.
        interval: Difference of neighbouring numbers in a clip; ``None`` takes the frames in the order of their
            numbers, whatever the gaps.
        size: ``(height, width)`` to resize to, pictures bilinearly and labels by nearest pixel; ``None`` keeps the
            size of the files.

    Shape:
        - item: an unbatched :class:`dastc.Clip`: frames ``(T, 3, H, W)``, float32, normalised by :func:`from_rgb`;
          with ``labels``, labels ``(T, H, W)``, int64, in [0, K) or the ignored label; with ``flow``, flow
          ``(T-1, 2, H, W)``, float32.

    Attributes:
        sequence_names: The sequences in use, in order.

    Raises:
        ValueError: If a pattern has unknown fields, leads out of ``root`` or finds nothing, names of classes repeat,
            files are missing, no clip is possible, or ``label_map`` leads out of the label space. When reading: if
            labels and picture differ in size, the pictures of a clip do, labels are colours, or an id is unknown.
        RuntimeError: Without Pillow; when reading, if a file is missing or broken.

    Source:
        Ours.

    Example:
        >>> from dastc.data import FolderClips
        >>> FolderClips(".", images="no/such/{sequence}.png")
        Traceback (most recent call last):
        ...
        ValueError: FolderClips: `images` must find files in .; got none by 'no/such/{sequence}.png'.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        images: str,
        labels: str | None = None,
        flow: str | None = None,
        label_space: LabelSpace | Sequence[str] | None = None,
        label_map: Mapping[int, int] | None = None,
        other_ids: Literal["error", "ignore"] = "error",
        all_labelled: bool = True,
        sequences: str | Sequence[str] | None = None,
        frames: int = 1,
        interval: int | None = 1,
        size: tuple[int, int] | None = None,
    ) -> None:
        self.root, self.frames, self.interval = as_on_disk(Path(root)), frames, interval
        self.patterns = {"images": images, "labels": labels, "flow": flow}
        _check_patterns(images, labels, flow, frames)
        if labels is not None and label_space is None:
            raise ValueError("FolderClips: `label_space` must be given with `labels`; got None.")
        space = label_space if isinstance(label_space, LabelSpace) else named_space(label_space or ())
        found = {name: _find(name, self.root, pattern) for name, pattern in self.patterns.items() if pattern}
        wanted = sequences if sequences is None else [composed(name) for name in _listed(sequences)]
        names = choose("FolderClips", "sequences", (key.sequence for key in found["images"]), wanted, self.root)
        self.sequence_names = tuple(sorted(names))
        if sequences is not None:
            found = {name: only(files, names) for name, files in found.items()}
        clips, missing = list_clips(
            "FolderClips",
            found["images"],
            found.get("labels"),
            found.get("flow") if frames > 1 else None,
            frames=frames,
            interval=interval,
            all_labelled=all_labelled,
        )
        super().__init__(
            clips,
            label_space=space,
            label_files=label_files_of(space, label_map, other_ids) if labels is not None else None,
            size=size,
            missing=missing,
        )


def _listed(names: str | Sequence[str]) -> Sequence[str]:
    return (names,) if isinstance(names, str) else names


def named_space(names: Sequence[str]) -> LabelSpace:
    """Give classes colours of their own."""
    if isinstance(names, str):
        raise ValueError(f"FolderClips: `label_space` must be a list of names; got the text {names!r}.")
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise ValueError(f"FolderClips: `label_space` must name each class once; got {', '.join(twice)} twice.")
    if len(names) > _LARGEST_ID:
        raise ValueError(f"FolderClips: `label_space` must have at most {_LARGEST_ID} names; got {len(names)}.")
    # steps of the golden ratio: neighbours are far apart, whatever their number
    hues = [(0.618034 * label) % 1 for label in range(len(names))]
    colours = [tuple(round(255 * x) for x in hsv_to_rgb(hue, 0.75, 0.9)) for hue in hues]
    ignored = _IGNORED if len(names) <= _IGNORED else _LARGEST_ID  # no class of its own
    return LabelSpace(tuple(names), tuple((r, g, b) for r, g, b in colours), ignore_index=ignored)


def _check_patterns(images: str, labels: str | None, flow: str | None, frames: int) -> None:
    given = fields_of(images)
    if "previous" in given or not given:
        raise ValueError(
            f"FolderClips: `images` must have the fields {{sequence}}, {{number}} or both; got {images!r}."
        )
    if frames > 1 and "number" not in given:
        raise ValueError(f"FolderClips: `images` must have the field {{number}} for clips of {frames}; got {images!r}.")
    if labels is not None and fields_of(labels) != given:
        raise ValueError(f"FolderClips: `labels` must have the fields of `images`, {images!r}; got {labels!r}.")
    if flow is not None and fields_of(flow) - {"previous"} != given:
        raise ValueError(
            f"FolderClips: `flow` must have the fields of `images`, {images!r}, and may have {{previous}}; "
            f"got {flow!r}."
        )


def _find(name: str, root: Path, pattern: str) -> dict[Key, Path]:
    if not root.is_dir():
        raise ValueError(f"FolderClips: `root` must be an existing folder; got {root}.")
    found = find_files("FolderClips", name, root, pattern)
    if not found:
        raise ValueError(f"FolderClips: `{name}` must find files in {root}; got none by {pattern!r}.")
    return found


def label_files_of(space: LabelSpace, label_map: Mapping[int, int] | None, other_ids: str) -> LabelFiles:
    """Return how label files are read; see :class:`FolderClips`."""
    check_choice("FolderClips", "other_ids", other_ids, ("error", "ignore"))
    classes = len(space.names)
    labels = {label: label for label in range(classes)} if label_map is None else dict(label_map)
    for raw, label in labels.items():
        if not 0 <= raw <= _LARGEST_ID or not (0 <= label < classes or label == space.ignore_index):
            raise ValueError(
                f"FolderClips: `label_map` must map ids in [0, {_LARGEST_ID}] to labels in [0, {classes}) or "
                f"{space.ignore_index}; got {raw}: {label}."
            )
    known = sorted({*labels, space.ignore_index})
    return LabelFiles(
        "FolderClips",
        labels,
        ignored=(space.ignore_index,),
        ignore_index=space.ignore_index,
        strict=f"the ids {', '.join(map(str, known))}" if other_ids == "error" else None,
    )
