"""Clips straight from a video file: no frame is written to the disk first."""

import gc
import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from operator import index as as_index
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from dastc._core.checks import check_at_least
from dastc.clip import Clip
from dastc.data.class_shares import class_findings
from dastc.data.clip_files import LabelFiles, look_at
from dastc.data.file_report import FileReport
from dastc.data.frames import from_rgb
from dastc.data.label_look import LabelLook
from dastc.data.label_space import LabelSpace
from dastc.data.picture_files import Size, need_pillow
from dastc.data.progress import with_progress
from dastc.data.reader_errors import reading
from dastc.data.video_files import VideoFrames
from dastc.data.video_streams import open_video, upright, video_stream

__all__ = ["VideoClips"]

_BILINEAR = 2  # Pillow's number
_of_parents: list[object] = []


class VideoClips(Dataset[Clip]):
    """Read clips from a video file, at any place in it.

    Opening the file looks at the times of its frames and decodes nothing. A clip that follows the one before costs a
    frame; one at a random place is decoded from the key frame before it, of which encoders set one every few seconds.

    Args:
        path: A video file in any format that FFmpeg reads.
        labels: The label file of each frame that has one, by the number of the frame, from 0; ``None`` for clips
            without labels. With labels, clips end at the frames that have them.
        label_space: Names and colours of the classes; needed with ``labels``.
        label_files: How labels are read; needed with ``labels``.
        frames: Frames per clip T, at least 1.
        interval: Frames from one of a clip to the next, at least 1.
        size: ``(height, width)`` to resize to; ``None`` keeps that of the file.

    Shape:
        - item: an unbatched :class:`dastc.Clip`, as of :class:`FolderClips`, without flow.

    Raises:
        ValueError: If there is no such file, or too few frames for a clip; when reading, if labels do not fit.
        RuntimeError: If the file cannot be read, or a library for it is missing.

    Source:
        Ours, on PyAV.

    Example:
        >>> VideoClips("no/such/video.mp4")
        Traceback (most recent call last):
        ...
        ValueError: VideoFrames: `path` must be a video file or a folder of pictures; no/such/video.mp4 does not exist.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        labels: Mapping[int, Path] | None = None,
        label_space: LabelSpace | None = None,
        label_files: LabelFiles | None = None,
        frames: int = 1,
        interval: int = 1,
        size: Size | None = None,
    ) -> None:
        check_at_least("VideoClips", "frames", frames, 1)
        check_at_least("VideoClips", "interval", interval, 1)
        need_pillow("VideoClips")
        self.path, self.label_space = VideoFrames(path).path, label_space or LabelSpace((), ())
        self.frames, self.interval, self.size = frames, interval, None if size is None else (size[0], size[1])
        self._label_paths, self._label_files = labels, label_files
        self._places = _places(self.path)
        first = (frames - 1) * interval
        found: range | list[int] = range(first, self._places.total)
        self._ends = found if labels is None else [end for end in sorted(labels) if end in found]
        if not self._ends:
            named = "" if labels is None else f", and of its labels the last of frame {max(labels, default=None)}"
            raise ValueError(
                f"VideoClips: {path} must hold clips of {frames} frames, {interval} apart; got a video of "
                f"{self._places.total} frames{named}."
            )
        self._reader: _Reader | None = None

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self._ends)

    def __getitem__(self, index: int) -> Clip:
        """Read one clip; a negative index counts from the end."""
        position = as_index(index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"VideoClips: `index` must lie in [-{len(self)}, {len(self)}); got {position}.")
        end = self._ends[position]
        numbers = range(end - (self.frames - 1) * self.interval, end + 1, self.interval)
        if self._reader is None or self._reader.process != os.getpid():
            # a worker that was forked shares the open file, and a decoder whose threads it does not have: neither used
            # nor freed
            _of_parents.append(self._reader)
            if self._reader is not None:
                gc.freeze()  # nor is what else the parent has left
            self._reader = _Reader(self.path, self._places, keep=numbers[-1] - numbers[0] + 1)
        pictures = [self._reader.frame(number) for number in numbers]
        rgb = torch.stack([_resized(picture, self.size) for picture in pictures])
        own = (pictures[0].shape[0], pictures[0].shape[1])
        return Clip(from_rgb(rgb), self._labels(numbers, own, (rgb.shape[1], rgb.shape[2])))

    def check(self, *, progress: bool = True) -> FileReport:
        """Decode the video once from the first frame to the last, open all labels, and tell what is wrong.

        Args:
            progress: Show a progress bar, which needs tqdm.
        """
        seen, own, problems = 0, None, list[str]()
        try:
            video = VideoFrames(self.path)
            for rgb in with_progress("VideoClips.check", video, self.path.name, total=video.total, wanted=progress):
                seen, own = seen + 1, (rgb.shape[0], rgb.shape[1])
        except (OSError, RuntimeError, ValueError) as error:
            problems.append(str(error))
        looks = {} if own is None else self._looks(own, problems)
        classes = class_findings(self.label_space, looks)
        usable = [i for i, end in enumerate(self._ends) if end < seen and self._label_of(end) in {None, *looks}]
        return FileReport(
            1 + len(self._label_paths or ()), (*problems, *classes.problems), tuple(classes.notes), tuple(usable),
            len(self), classes.shares,
        )  # fmt: skip

    def _looks(self, own: Size, problems: list[str]) -> dict[Path, LabelLook]:
        looks = {}
        for path in (self._label_paths or {}).values():
            try:
                looks[path] = self._look(path, own)
            except (OSError, RuntimeError, ValueError) as error:  # noqa: PERF203  each file is read in any case
                problems.append(str(error))
        return looks

    def _look(self, path: Path, own: Size) -> LabelLook:
        if self._label_files is None:
            raise ValueError("VideoClips: `label_files` must be given with `labels`; got None.")
        return look_at(self._label_files.read(path, own, self.size), self.label_space, self._label_files)

    def _label_of(self, number: int) -> Path | None:
        return None if self._label_paths is None else self._label_paths.get(number)

    def _labels(self, numbers: range, own: Size, size: Size) -> Tensor | None:
        if self._label_paths is None or self._label_files is None:
            return None
        labels = torch.full((len(numbers), *size), self.label_space.ignore_index)
        for place, path in enumerate(map(self._label_of, numbers)):
            if path is not None:
                labels[place] = self._label_files.read(path, own, self.size).labels
        return labels

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_reader": None}


class _Places(NamedTuple):
    """How many frames there are; the time of each, in ticks of the stream; and which can be decoded by themselves.

    Without times, frames are found by counting from the start.
    """

    total: int
    times: list[int] | None
    keys: list[int]


def _places(path: Path) -> _Places:
    with open_video("VideoClips", path) as container:
        stream = video_stream("VideoClips", container, path)
        with reading("VideoClips", path, " as a video"):
            found = [packet for packet in container.demux(stream) if packet.size and not packet.is_discard]
            packets = [(packet.pts, packet.is_keyframe) for packet in found]
    if packets and all(time is not None for time, _ in packets) and len(set(packets)) == len(packets):
        times = sorted(time for time, _ in packets)
        keys = {time for time, is_key in packets if is_key}
        return _Places(len(times), times, [number for number, time in enumerate(times) if time in keys])
    return _Places(sum(1 for _ in VideoFrames(path)), None, [])


class _Reader:
    """Decodes forwards where it can, and from a key frame where it must; keeps the last few frames."""

    def __init__(self, path: Path, places: _Places, *, keep: int) -> None:
        self.path, self.places, self.keep, self.process = path, places, keep, os.getpid()
        self._numbers = None if places.times is None else {time: number for number, time in enumerate(places.times)}
        self._kept: OrderedDict[int, Any] = OrderedDict()
        self._frames: Iterator[tuple[int, Any]] = iter(())
        self._next = 0

    def frame(self, number: int) -> Tensor:
        """Return a frame ``(H, W, 3)``, uint8, upright."""
        if number not in self._kept:
            self._go_to(number)
        frame = self._kept[number]
        with reading("VideoClips", self.path, f" at frame {number}"):
            pixels = frame.to_ndarray(format="rgb24")
        return torch.from_numpy(upright("VideoClips", frame, pixels, self.path))

    def _go_to(self, number: int) -> None:
        keys = self.places.keys
        key = keys[bisect_right(keys, number) - 1] if keys and keys[0] <= number else 0
        if number < self._next or key > self._next or not self._kept:
            self._start(key)
        if not self._forward(number):
            self._start(0)  # some files land behind the key frame that was asked for
            if not self._forward(number):
                raise RuntimeError(
                    f"VideoClips: {self.path} must hold frame {number} of {self.places.total}; got none. "
                    "Make it anew with `ffmpeg -i IN OUT.mp4`."
                )

    def _start(self, key: int) -> None:
        self._kept.clear()
        self._frames, self._next = self._decoded(key), key

    def _forward(self, number: int) -> bool:
        for at, frame in self._frames:
            if at > number and number not in self._kept:
                return False
            self._kept[at] = frame
            self._next = at + 1
            while len(self._kept) > self.keep:
                self._kept.popitem(last=False)
            if at == number:
                return True
        return False

    def _decoded(self, key: int) -> Iterator[tuple[int, Any]]:
        with open_video("VideoClips", self.path) as container:
            stream = video_stream("VideoClips", container, self.path)
            stream.codec_context.thread_count = 1  # workers share the cores already
            if key and self.places.times is not None:
                with reading("VideoClips", self.path, f" at frame {key}"):
                    container.seek(self.places.times[key], stream=stream)
            frames, counted = container.decode(stream), 0
            while True:
                with reading("VideoClips", self.path, f" after frame {max(counted - 1, 0)}"):
                    frame = next(frames, None)
                if frame is None:
                    return
                number = counted if self._numbers is None else self._numbers.get(frame.pts)
                counted += 1
                if number is not None:
                    yield number, frame


def _resized(rgb: Tensor, size: Size | None) -> Tensor:
    if size is None or size == (rgb.shape[0], rgb.shape[1]):
        return rgb
    import numpy as np
    from PIL.Image import fromarray

    # as pictures of files are resized
    return torch.from_numpy(np.array(fromarray(rgb.numpy()).resize((size[1], size[0]), _BILINEAR)))
