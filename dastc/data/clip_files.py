"""What all data sets that read clips from files share."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import index as as_index
from pathlib import Path
from typing import NamedTuple
from warnings import warn

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dastc.clip import Clip
from dastc.data.clip_lists import FileClips, FrameFile
from dastc.data.file_report import FileReport, Look, report_on
from dastc.data.flow_files import read_flow
from dastc.data.frames import from_rgb
from dastc.data.id_pictures import IdPicture, Ids, nearest, read_ids
from dastc.data.label_look import LabelLook, colours_in_use, counted, looks_smooth
from dastc.data.label_space import LabelSpace
from dastc.data.picture_files import Picture, Size, need_pillow, read_picture
from dastc.functional import resize_flow

__all__: list[str] = []  # for the data sets of this package

_UNKNOWN = -1  # in a table: an id that the data set does not define
_ID_COUNT = 2**16
_MANY_IDS = 8  # undefined ones, which no one has forgotten to define one by one
_BLENDED = " So many come from labels that were resized bilinearly or stored with loss, as in JPEG."
_TURNED = (
    "The picture is turned as its EXIF orientation asks, and as viewers show it. If the labels were drawn on the "
    "pixels as they are stored, remove the orientation from the picture."
)


class ReadLabels(NamedTuple):
    """Labels ``(H, W)``, int64; how often each id that nobody defines occurs; and what the file holds."""

    labels: Tensor
    strange: dict[int, int]
    file: IdPicture


class LabelFiles:
    """How label files are read: which label each id becomes.

    Args:
        caller: The data set, for the messages.
        labels: The label of each id.
        ignored: Further ids that are known, and become the ignored label.
        ignore_index: The label that takes no part.
        strict: Says what the ids may be, if others are an error; else those become the ignored label.
        first_channel: Whether the ids may be in the first of several 16-bit channels.
        prepare: Changes the ids of a file, ``(H, W)``, before anything else.
    """

    def __init__(
        self,
        caller: str,
        labels: Mapping[int, int],
        *,
        ignored: Iterable[int],
        ignore_index: int,
        strict: str | None = None,
        first_channel: bool = False,
        prepare: Callable[[Ids], Ids] | None = None,
    ) -> None:
        self.caller, self.ignore_index, self.strict = caller, ignore_index, strict
        self.first_channel, self.prepare = first_channel, prepare
        self.table = np.full(_ID_COUNT, _UNKNOWN, dtype=np.int64)
        self.table[list(ignored)] = ignore_index
        for raw, label in labels.items():
            self.table[raw] = label

    def read(self, path: Path, own: Size, size: Size | None, *, cut: int = 0) -> ReadLabels:
        """Read the labels of a picture of size ``own``."""
        file = read_ids(self.caller, path, first_channel=self.first_channel)
        if file.ids.shape != own:
            raise ValueError(
                f"{self.caller}: {path} must have the size of its picture, (H={own[0]}, W={own[1]}); got "
                f"{file.ids.shape}."
            )
        ids = file.ids if self.prepare is None else self.prepare(file.ids)
        ids = nearest(ids[: own[0] - cut], size)
        labels = self._labels(ids)
        unknown = labels == _UNKNOWN
        strange = dict(zip(*map(np.ndarray.tolist, np.unique(ids[unknown], return_counts=True)), strict=True))
        if strange and self.strict:
            few = ", ".join(map(str, list(strange)[:10])) + (", ..." if len(strange) > 10 else "")
            hint = _BLENDED if len(strange) >= _MANY_IDS or file.lossy else ""
            raise ValueError(f"{self.caller}: {path} must hold {self.strict}; got {few}.{hint}")
        labels[unknown] = self.ignore_index
        return ReadLabels(torch.from_numpy(labels), strange, file)

    def _labels(self, ids: Ids) -> "np.ndarray[tuple[int, ...], np.dtype[np.int64]]":
        if ids.dtype in (np.uint8, np.uint16):
            return self.table[ids]
        # other files may hold anything; the table ends at 16 bits, and a negative index would count from there
        inside = (ids >= 0) & (ids < _ID_COUNT)
        return np.where(inside, self.table[np.where(inside, ids, 0)], _UNKNOWN)


class ClipFiles(Dataset[Clip]):
    """Clips read from lists of files.

    Args:
        clips: The files of each clip, oldest frame first.
        label_space: Names, colours and ids of the classes.
        label_files: How labels are read; ``None`` for clips without.
        size: ``(height, width)`` to resize to; ``None`` keeps the size of the files.
        cut: Rows to cut off below, before resizing.
        missing: A sentence for each clip left out for want of a file.
    """

    def __init__(
        self,
        clips: FileClips,
        *,
        label_space: LabelSpace,
        label_files: LabelFiles | None,
        size: Size | None,
        cut: int = 0,
        missing: Iterable[str] = (),
    ) -> None:
        self._caller = type(self).__name__
        need_pillow(self._caller)
        if size is not None and (len(size) != 2 or min(size) < 1):
            raise ValueError(f"{self._caller}: `size` must be (height, width), both at least 1; got {size}.")
        self.label_space, self.size = label_space, None if size is None else (size[0], size[1])
        self._clips, self._label_files, self._cut, self._missing = clips, label_files, cut, tuple(missing)
        if self._missing:
            warn(
                f"{self._caller}: {len(self._missing)} clips are left out. {self._missing[0]} "
                "All of them are named by check().",
                stacklevel=3,
            )

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self._clips)

    def __getitem__(self, index: int) -> Clip:
        """Read one clip; a negative index counts from the end."""
        position = as_index(index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"{self._caller}: `index` must lie in [-{len(self)}, {len(self)}); got {position}.")
        files = self._clips[position]
        frames = [self._read(frame.image, frame.labels) for frame in files]
        sizes = sorted({(picture.rgb.shape[0], picture.rgb.shape[1]) for picture, _ in frames})
        if len(sizes) > 1:
            raise ValueError(
                f"{self._caller}: the pictures of a clip must have one size; got {', '.join(map(str, sizes))} "
                f"in the clip that ends with {files[-1].image}. Give `size`."
            )
        return Clip(
            from_rgb(torch.stack([picture.rgb for picture, _ in frames])),
            self._labels([None if read is None else read.labels for _, read in frames], sizes[0]),
            self._flow(files, frames[-1][0].own, sizes[0]),
        )

    def check(self, *, progress: bool = True) -> FileReport:
        """Open every file, in a few threads, and tell which are missing, broken or do not fit; nothing is raised.

        The classes are counted in all labels, as they are read: the report has a table of their shares. It names
        classes that occur nowhere, ids that no class has, labels that were stored with loss or look blended, palettes
        that disagree, and pictures that are turned as their EXIF orientation asks.

        Clips that are fine are ``report.usable``: ``torch.utils.data.Subset(data, report.usable)`` goes on without
        the others.

        Args:
            progress: Show a progress bar, which needs tqdm.
        """
        return report_on(
            self._caller,
            self._clips,
            self._look,
            space=self.label_space,
            missing=self._missing,
            one_size=self.size is None,
            progress=progress,
        )

    def _read(self, image: Path, labels: Path | None) -> tuple[Picture, ReadLabels | None]:
        picture = read_picture(self._caller, image, self.size, cut=self._cut)
        if labels is None or self._label_files is None:
            return picture, None
        try:
            return picture, self._label_files.read(labels, picture.own, self.size, cut=self._cut)
        except ValueError as error:
            if picture.turned and "must have the size of its picture" in str(error):
                raise ValueError(f"{error} {_TURNED}") from error
            raise

    def _labels(self, labels: list[Tensor | None], size: Size) -> Tensor | None:
        if self._label_files is None:
            return None
        none = torch.full(size, self.label_space.ignore_index)
        return torch.stack([none if x is None else x for x in labels])

    def _flow(self, files: Sequence[FrameFile], own: Size, size: Size) -> Tensor | None:
        fields = [read_flow(frame.flow)[None] for frame in files[1:] if frame.flow is not None]
        if not fields:
            return None
        if self._cut:  # the field is that of the whole picture
            fields = [resize_flow(field, own)[:, :, : own[0] - self._cut] for field in fields]
        return torch.cat([field if field.shape[2:] == size else resize_flow(field, size) for field in fields])

    def _look(self, image: Path, labels: Path | None, flow: Path | None) -> Look:
        """Open files as an epoch does, and return what the report needs of them."""
        if flow is not None:
            read_flow(flow)
            return Look()
        picture, read = self._read(image, labels)
        seen = None if read is None or self._label_files is None else look_at(read, self.label_space, self._label_files)
        return Look(picture.own, picture.turned, seen)


def look_at(read: ReadLabels, space: LabelSpace, files: LabelFiles) -> LabelLook:
    """Return what the report on a data set keeps of a label file."""
    labels = read.labels.numpy()
    ignored = int((labels == space.ignore_index).sum()) - sum(read.strange.values())
    return LabelLook(
        counted(labels, len(space.names)),
        ignored,
        read.strange,
        read.file.lossy,
        looks_smooth(read.file.ids) if not files.prepare else False,
        colours_in_use(read.file.ids, read.file.palette),
    )
