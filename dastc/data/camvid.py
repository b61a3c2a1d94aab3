"""CamVid: real driving video, every frame of the set labelled."""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path

from dastc._core.checks import check_at_least, check_choice
from dastc.data.clip_files import ClipFiles, LabelFiles
from dastc.data.clip_lists import FrameFile
from dastc.data.label_space import LabelSpace
from dastc.data.picture_files import need_pillow
from dastc.data.spaces import CAMVID

__all__ = ["CamVid"]

_SPLITS = ("train", "val", "test")
_PICTURES = (".jpg", ".jpeg", ".png")
_STEM = re.compile(r"(?P<sequence>.+)_\D*(?P<number>\d+)")
_VOID = 11  # the unlabelled class of the files


class CamVid(ClipFiles):
    """Read CamVid as short clips, labelled in every frame, in the 11-class form of the SegNet tutorial.

    A clip is ``frames`` neighbours of one sequence in the order of their numbers; it ends at each frame that has
    enough predecessors, unless a gap in it is larger than ``max_gap``. Clips overlap.

    Two layouts of ``root`` are known: ``images/`` and ``labels/`` with files of equal stems, and the tutorial's
    ``train/``, ``trainannot/``, ``val/``, ``valannot/``, ``test/``, ``testannot/``. A stem is ``SEQUENCE_NUMBER``;
    letters before the number are skipped (``0016E5_07959``, ``Seq05VD_f00000``).

    Args:
        root: The folder of the data set. Nothing is downloaded.
        sequences: Names of the sequences to use; ``None`` means all.
        frames: Frames per clip T, at least 1.
        max_gap: Largest difference of neighbouring frame numbers in a clip. The camera took 30 frames a second, and
            most labelled frames lie 30 apart: that is one second, too far for flow. Part of ``0016E5`` is 2 apart.
        size: ``(height, width)`` to resize to, pictures bilinearly and labels by nearest pixel; ``None`` keeps the
            size of the files.
        split: One or several of ``"train"``, ``"val"``, ``"test"``, for the layout that has them; ``None`` means all.

    Shape:
        - item: an unbatched :class:`dastc.Clip` without flow: frames ``(T, 3, H, W)``, float32, normalised by
          :func:`from_rgb`; labels ``(T, H, W)``, int64, in [0, 11) or 255.

    Attributes:
        label_space: Names and colours of the classes, ``spaces.CAMVID``.
        sequence_names: The sequences in use, in order.

    Raises:
        ValueError: If ``root`` has no known layout, pictures are missing or wrongly named, a picture has no labels,
            a sequence or split is unknown, or no clip is possible. When reading: if labels and picture differ in size,
            the pictures of a clip do, or a label is none of the set's.
        RuntimeError: Without Pillow; when reading, if a file is broken.

    Source:
        Brostow et al. 2009; the 11 classes of the SegNet tutorial.

    Example:
        >>> from dastc.data import CamVid
        >>> CamVid("no/such/folder")
        Traceback (most recent call last):
        ...
        ValueError: CamVid: `root` must be an existing folder; got no/such/folder.
    """

    label_space: LabelSpace = CAMVID

    def __init__(
        self,
        root: str | Path,
        *,
        sequences: str | Sequence[str] | None = None,
        frames: int = 2,
        max_gap: int = 30,
        size: tuple[int, int] | None = None,
        split: str | Sequence[str] | None = None,
    ) -> None:
        need_pillow("CamVid")
        check_at_least("CamVid", "frames", frames, 1)
        check_at_least("CamVid", "max_gap", max_gap, 1)
        self.root, self.frames, self.max_gap, self.split = Path(root), frames, max_gap, split
        found = _sequences(_folders(self.root, split))
        self.sequence_names = _choose(found, sequences, self.root)
        clips = [
            clip for name in self.sequence_names for clip in _windows(found[name], frames) if _gap(clip) <= max_gap
        ]
        if not clips:
            raise _no_clip({name: found[name] for name in self.sequence_names}, frames, max_gap)
        classes = len(CAMVID.names)
        labels = LabelFiles(
            "CamVid",
            CAMVID.raw_ids["camvid"],
            ignored=(_VOID, CAMVID.ignore_index),
            ignore_index=CAMVID.ignore_index,
            strict=f"labels in [0, {classes}), or {_VOID} or {CAMVID.ignore_index} for none",
        )
        super().__init__(clips, label_space=CAMVID, label_files=labels, size=size)


def _folders(root: Path, split: str | Sequence[str] | None) -> list[tuple[Path, Path]]:
    if not root.is_dir():
        raise ValueError(f"CamVid: `root` must be an existing folder; got {root}.")
    wanted = None if split is None else (split,) if isinstance(split, str) else tuple(split)
    for name in wanted or ():
        check_choice("CamVid", "split", name, _SPLITS)
    if wanted is not None and not wanted:
        raise ValueError("CamVid: `split` must name at least one split; got none.")
    if (root / "images").is_dir():
        if wanted is not None:
            raise ValueError(f"CamVid: `split` must be None for a folder with images/ and labels/; got {split!r}.")
        pairs = [(root / "images", root / "labels")]
    else:
        here = wanted or tuple(name for name in _SPLITS if (root / name).is_dir())
        pairs = [(root / name, root / f"{name}annot") for name in here]
    if not pairs:
        raise ValueError(
            f"CamVid: `root` must hold images/ and labels/, or train/ and trainannot/, val/ and valannot/, "
            f"test/ and testannot/; got {root} with none of them."
        )
    for folder in (folder for pair in pairs for folder in pair):
        if not folder.is_dir():
            raise ValueError(f"CamVid: `root` must hold the folder {folder.name}/; got {root} without it.")
    return pairs


def _sequences(folders: Iterable[tuple[Path, Path]]) -> dict[str, list[FrameFile]]:
    found: dict[str, dict[int, FrameFile]] = {}
    for images, annotations in folders:
        labels = {path.stem: path for path in annotations.iterdir() if path.suffix.lower() == ".png"}
        pictures = sorted(path for path in images.iterdir() if path.suffix.lower() in _PICTURES and path.name[0] != ".")
        if not pictures:
            raise ValueError(f"CamVid: {images} must hold pictures ({', '.join(_PICTURES)}); got none.")
        for image in pictures:
            match = _STEM.fullmatch(image.stem)
            if match is None:
                raise ValueError(f"CamVid: {image} must be named SEQUENCE_NUMBER; got {image.name}.")
            if image.stem not in labels:
                raise ValueError(f"CamVid: {image} must have its labels in {annotations / image.stem}.png; got none.")
            frame = FrameFile(image, labels[image.stem], None, match["sequence"], int(match["number"]))
            other = found.setdefault(match["sequence"], {}).setdefault(frame.number, frame)
            if other is not frame:
                raise ValueError(f"CamVid: each frame must be there once; got {other.image} and {image}.")
    return {name: [frames[number] for number in sorted(frames)] for name, frames in sorted(found.items())}


def _choose(found: Iterable[str], wanted: str | Sequence[str] | None, root: Path) -> tuple[str, ...]:
    there = tuple(found)
    names = there if wanted is None else (wanted,) if isinstance(wanted, str) else tuple(dict.fromkeys(wanted))
    if not names:
        raise ValueError(f"CamVid: `sequences` must name at least one of {', '.join(there)}; got none.")
    for name in names:
        if name not in there:
            folded = {other.casefold(): other for other in there}
            near = [folded[match] for match in get_close_matches(str(name).casefold(), folded)]
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise ValueError(f"CamVid: `sequences` must be of those in {root}: {', '.join(there)}; got {name!r}.{hint}")
    return names


def _windows(frames: list[FrameFile], length: int) -> list[list[FrameFile]]:
    return [frames[end - length : end] for end in range(length, len(frames) + 1)]


def _gap(frames: Sequence[FrameFile]) -> int:
    return max((b.number - a.number for a, b in pairwise(frames)), default=0)


def _no_clip(found: dict[str, list[FrameFile]], length: int, max_gap: int) -> ValueError:
    gaps = {name: min(map(_gap, _windows(frames, length)), default=None) for name, frames in found.items()}
    known = [f"{gap} in {name}" for name, gap in gaps.items() if gap is not None]
    if not known:
        longest = max(map(len, found.values()))
        return ValueError(f"CamVid: `frames` must be at most {longest}, the longest sequence; got {length}.")
    needed = min(gap for gap in gaps.values() if gap is not None)
    return ValueError(
        f"CamVid: `max_gap` must be at least {needed} for a clip of {length} frames; got {max_gap}. "
        f"Smallest gaps: {', '.join(known)}."
    )
