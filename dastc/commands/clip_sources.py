"""Data sets of clips from what a command line names: folders, patterns, video files, or lists of them."""

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from glob import glob
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from dastc.data import FolderClips, LabelSpace
from dastc.data.clip_files import LabelFiles
from dastc.data.file_patterns import find_files
from dastc.data.folder_clips import label_files_of, named_space
from dastc.data.joined_clips import JoinedClips
from dastc.data.picture_clips import PictureClips
from dastc.data.picture_folders import PICTURES, pictures_of
from dastc.data.video_clips import VideoClips

__all__ = ["Reading", "check_clips", "clips_from", "clips_of"]

_IMAGES, _LABELS = "{sequence}/{number}.png", "{sequence}/labels/{number}.png"


class Reading(NamedTuple):
    """How files become clips: see :class:`dastc.data.FolderClips`.

    Args:
        classes: Their names, or a label space; ``None`` for clips without labels.
        label_map: The label of each id in the files; ``None`` if they are the same.
        other_ids: What an id is that the map does not name.
        frames: Frames of a clip.
        interval: From one frame of a clip to the next.
        size: To resize to.
    """

    classes: Sequence[str] | LabelSpace | None = None
    label_map: Mapping[int, int] | None = None
    other_ids: str = "error"
    frames: int = 2
    interval: int = 1
    size: tuple[int, int] | None = None

    @property
    def space(self) -> LabelSpace:
        """Names and colours of the classes."""
        return self.classes if isinstance(self.classes, LabelSpace) else named_space(tuple(self.classes or ()))

    def files(self) -> LabelFiles:
        """Return how label files are read."""
        if not self.classes:
            raise ValueError("--classes must name the classes of the labels; got none.")
        return label_files_of(self.space, self.label_map, self.other_ids)


def clips_of(args: argparse.Namespace, name: str, *, classes: Sequence[str] | LabelSpace | None = None) -> Any:
    """Return the clips of ``--NAME`` and what stands beside it, or ``None`` if it is not given."""
    paths: list[str] | None = getattr(args, name)
    if paths is None:
        return None
    flow = getattr(args, f"{name}_flow")
    if (flow is not None) != (args.flow == "folder"):
        raise ValueError(f"--{name}-flow and --flow folder need each other; got --flow {args.flow} and {flow}.")
    reading = Reading(
        classes or args.classes, args.label_map, args.other_ids, args.frames, args.interval,
        None if args.size is None else tuple(args.size),
    )  # fmt: skip
    return clips_from(
        paths, reading, argument=f"--{name}", images=getattr(args, f"{name}_images"),
        labels=getattr(args, f"{name}_labels"), flow=flow, labelled=name != "target",
    )  # fmt: skip


def clips_from(
    paths: Sequence[str],
    reading: Reading,
    *,
    argument: str,
    images: str | None = None,
    labels: Sequence[str] | None = None,
    flow: str | None = None,
    labelled: bool = False,
) -> Any:
    """Return the clips of folders, patterns and video files.

    Args:
        paths: What is named: a folder, a pattern with ``{sequence}`` and ``{number}``, a video file; a ``*`` stands for
            several of them.
        reading: How files become clips.
        argument: What the command line calls it, for messages.
        images: Pattern of the pictures in each folder; if not given, ``{sequence}/{number}.png`` where that finds
            some, else all of them.
        labels: Folders or patterns of the labels, one for all paths or one for each.
        flow: Pattern of the flow files, of pictures that are named by a pattern.
        labelled: Whether there must be labels.
    """
    found = [one for path in paths for one in _expanded(path)]
    if images is not None and not any(Path(path).is_dir() for path in found):
        raise ValueError(f"{argument}-images is for folders; got {', '.join(found)}.")
    beside: list[str | None] = [None] * len(found) if labels is None else list(labels)
    if len(beside) not in (1, len(found)):
        raise ValueError(
            f"{argument}-labels must name one folder or pattern for all, or one for each of the {len(found)} paths; "
            f"got {len(beside)}."
        )
    beside = beside * len(found) if len(beside) == 1 else beside
    source = _Source(reading, argument, images, flow, labelled)
    parts = [source.clips(path, label) for path, label in zip(found, beside, strict=True)]
    return parts[0] if len(parts) == 1 else JoinedClips(parts)


def check_clips(clips: Any, *, progress: bool = True) -> list[Any]:
    """Return the report on each data set that clips consist of."""
    return [part.check(progress=progress) for part in getattr(clips, "parts", (clips,))]


class _Source(NamedTuple):
    reading: Reading
    argument: str
    images: str | None
    flow: str | None
    labelled: bool

    def clips(self, path: str, labels: str | None) -> Any:
        if "{" in path:
            return self._by_pattern(path, labels)
        if Path(path).is_dir():
            return self._of_folder(path, labels)
        if not Path(path).exists():
            raise ValueError(
                f"{self.argument} must name folders, patterns of file names, or video files; {path} does not exist."
            )
        if Path(path).suffix.lower() in PICTURES:
            raise ValueError(
                f"{self.argument} must name the folder of a picture, or a pattern; got the picture {path}."
            )
        return self._of_video(path, labels)

    def _by_pattern(self, path: str, labels: str | None) -> FolderClips:
        self._need_labels(path, labels)
        if labels is not None and "{" not in labels:
            raise ValueError(f"{self.argument}-labels must be a pattern, as {path} is one; got {labels}.")
        root, images, *rest = _from_common_root([path, *([] if labels is None else [labels])])
        return self._folder_clips(root, images, rest[0] if rest else None)

    def _of_folder(self, path: str, labels: str | None) -> Any:
        if labels is not None and "{" not in labels:
            if self.images is not None:
                raise ValueError(
                    f"{self.argument}-labels must be a pattern beside {self.argument}-images; got {labels}."
                )
            self._refuse_flow(path)
            return PictureClips(path, labels=labels, label_files=self.reading.files(), **self._common())
        if self.images or labels or self.flow or self.labelled or find_files("", "", Path(path), _IMAGES):
            default = _LABELS if self.labelled else None
            return self._folder_clips(path, self.images or _IMAGES, labels or default)
        return PictureClips(path, **self._common())

    def _of_video(self, path: str, labels: str | None) -> VideoClips:
        self._refuse_flow(path)
        self._need_labels(path, labels)
        if labels is None:
            return VideoClips(path, **self._common())
        numbered = _numbered(labels, Path(path).stem)
        return VideoClips(path, labels=numbered, label_files=self.reading.files(), **self._common())

    def _folder_clips(self, root: str, images: str, labels: str | None) -> FolderClips:
        reading = self.reading
        if labels is not None and not reading.classes:
            raise ValueError(f"--classes must name the classes of {self.argument}-labels; got none.")
        return FolderClips(
            root, images=images, labels=labels, flow=self.flow, label_space=reading.space,
            label_map=reading.label_map if labels else None, other_ids=reading.other_ids,  # type: ignore[arg-type]
            frames=reading.frames, interval=reading.interval, size=reading.size, all_labelled=False,
        )  # fmt: skip

    def _common(self) -> dict[str, Any]:
        reading = self.reading
        return {
            "label_space": reading.space, "frames": reading.frames, "interval": reading.interval, "size": reading.size
        }  # fmt: skip

    def _need_labels(self, path: str, labels: str | None) -> None:
        if self.labelled and labels is None:
            raise ValueError(f"{self.argument}-labels must name the labels of {path}; got none.")

    def _refuse_flow(self, path: str) -> None:
        if self.flow is not None:
            raise ValueError(
                f"{self.argument}-flow is for pictures that a pattern names; {path} has none. See --flow dis."
            )


def _expanded(path: str) -> list[str]:
    """Return what a ``*`` stands for; in a pattern it is a part of that."""
    if "*" not in path or "{" in path or Path(path).exists():
        return [path]
    found = sorted(glob(path))
    if not found:
        raise ValueError(f"{path} must stand for folders or video files; got none.")
    return found


def _from_common_root(patterns: Sequence[str]) -> list[str]:
    """Return the folder that patterns share, and what each has below it."""
    whole = [Path(os.path.abspath(pattern)) for pattern in patterns]
    fixed = [Path(*takewhile(lambda part: "{" not in part and "*" not in part, path.parts[:-1])) for path in whole]
    root = Path(os.path.commonpath(fixed))
    short = os.path.relpath(root)
    return [short if not short.startswith("..") else str(root), *(path.relative_to(root).as_posix() for path in whole)]


def _numbered(labels: str, sequence: str) -> dict[int, Path]:
    """Return the label files of a video's frames, by the last number in their names or by a pattern."""
    if "{" in labels:
        root, pattern = _from_common_root([labels])
        files = find_files("VideoClips", "labels", Path(root), pattern)
        found = {key.number: path for key, path in files.items() if key.sequence in ("", sequence)}
    else:
        if not Path(labels).is_dir():
            raise ValueError(f"the labels of a video must be in a folder, or named by a pattern; {labels} is none.")
        numbers = {path: re.findall(r"\d+", path.stem) for path in pictures_of("VideoClips", Path(labels))}
        found = {int(number[-1]): path for path, number in numbers.items() if number}
    if not found:
        raise ValueError(f"{labels} must hold label files named by the numbers of frames, from 0; got none.")
    return found
