"""Clips from folders of pictures whose names follow no pattern."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dastc.data.clip_files import ClipFiles, LabelFiles
from dastc.data.clip_lists import list_clips
from dastc.data.file_patterns import Key
from dastc.data.label_space import LabelSpace
from dastc.data.picture_files import Size
from dastc.data.picture_folders import PICTURES, pictures_of
from dastc.data.unicode_names import as_on_disk, composed

__all__ = ["PictureClips"]


class PictureClips(ClipFiles):
    """Take every picture below a folder: each folder of pictures is a video, in the order in which people count.

    Args:
        root: The folder; pictures may lie in it, or in folders at any depth.
        labels: A folder with the same folders in it, and a label file of the same name for each picture that is
            labelled, whatever the suffix. Clips end at labelled pictures. If it lies in ``root``, it is left out there.
        label_space: Names and colours of the classes; needed with ``labels``.
        label_files: How labels are read; needed with ``labels``.
        frames: Frames per clip T, at least 1.
        interval: Pictures from one of a clip to the next, at least 1.
        size: ``(height, width)`` to resize to; ``None`` keeps the size of the files.

    Shape:
        - item: an unbatched :class:`dastc.Clip`, as of :class:`FolderClips`, without flow.

    Raises:
        ValueError: If there is no such folder, no picture or no label in it, or no clip is possible.
        RuntimeError: Without Pillow; when reading, if a file is broken.

    Source:
        Ours.

    Example:
        >>> PictureClips("no/such/folder")
        Traceback (most recent call last):
        ...
        ValueError: PictureClips: `root` must be an existing folder; got no/such/folder.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        labels: str | Path | None = None,
        label_space: LabelSpace | None = None,
        label_files: LabelFiles | None = None,
        frames: int = 1,
        interval: int = 1,
        size: Size | None = None,
    ) -> None:
        self.root = _existing("root", root)
        beside = None if labels is None else _existing("labels", labels)
        images = dict(_numbered(self.root, without=beside))
        if not images:
            raise ValueError(f"PictureClips: `root` must hold pictures ({', '.join(PICTURES)}); got {root} without.")
        found = None if beside is None else _labels_of(images, self.root, beside)
        clips, missing = list_clips(
            "PictureClips", images, found, None, frames=frames, interval=interval, all_labelled=False
        )
        super().__init__(
            clips, label_space=label_space or LabelSpace((), ()), label_files=label_files, size=size, missing=missing
        )


def _existing(name: str, folder: str | Path) -> Path:
    path = as_on_disk(Path(folder))
    if not path.is_dir():
        raise ValueError(f"PictureClips: `{name}` must be an existing folder; got {folder}.")
    return path


def _numbered(root: Path, *, without: Path | None) -> Iterator[tuple[Key, Path]]:
    left_out = None if without is None or without.resolve() == root.resolve() else without.resolve()
    for folder in [root, *sorted(path for path in root.rglob("*") if path.is_dir())]:
        name = composed(folder.relative_to(root).as_posix())
        hidden = any(part.startswith(".") and part != "." for part in name.split("/"))
        if hidden or (left_out is not None and folder.resolve().is_relative_to(left_out)) or not _has_pictures(folder):
            continue
        for number, picture in enumerate(pictures_of("PictureClips", folder)):
            yield Key("" if name == "." else name, number), picture


def _has_pictures(folder: Path) -> bool:
    return any(path.suffix.lower() in PICTURES and path.name[0] != "." for path in folder.iterdir())


def _labels_of(images: Mapping[Key, Path], root: Path, labels: Path) -> dict[Key, Path]:
    there = {_stem(path, labels): path for _, path in _numbered(labels, without=None)}
    found = {key: there[_stem(path, root)] for key, path in images.items() if _stem(path, root) in there}
    if not found:
        examples = _few([_stem(path, root) for path in images.values()])
        raise ValueError(
            f"PictureClips: `labels` must hold pictures of the same names as those in {root}, such as {examples}; "
            f"got {labels} with {_few(list(there)) or 'no picture'}. Name both by patterns if they differ."
        )
    return found


def _stem(path: Path, root: Path) -> str:
    return composed(path.relative_to(root).with_suffix("").as_posix())


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:2])
