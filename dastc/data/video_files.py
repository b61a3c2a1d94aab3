"""Frames from a video file or a folder of pictures, one after the other, and back into a video file."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Self

from dastc.data.picture_files import need_pillow, read_picture
from dastc.data.picture_folders import distinct_names, pictures_of
from dastc.data.reader_errors import reading
from dastc.data.unicode_names import as_on_disk
from dastc.data.video_streams import (
    check_end,
    frame_count,
    need_av,
    open_video,
    start_of,
    upright,
    url_of,
    video_stream,
    warn_of_oddities,
    what_is_missing,
)

__all__ = ["VideoFrames", "VideoWriter"]

_TICKS = 90_000  # of a second: the finest steps that players keep
# what players take for granted in HD, said nevertheless: whoever guesses guesses by the size
_BT709 = {"colorspace": "bt709", "color_primaries": "bt709", "color_trc": "bt709", "color_range": "tv"}


class TimedFrame(NamedTuple):
    """A frame ``(H, W, 3)``, uint8, RGB, and when it is shown, in seconds from the first."""

    rgb: Tensor
    seconds: float


class VideoFrames:
    """Read the frames of a video file, or the pictures of a folder, one at a time, upright.

    Pictures come in the order of their names, numbers in them by value: 2 before 10. What a file says of itself is
    followed: turns and mirrors, the matrix and range of colours, a part that was trimmed off. Files that say no matrix
    are read with that of BT.601, as FFmpeg does.

    Args:
        path: A video file in any format that FFmpeg reads, or a folder.

    Shape:
        - item: ``(H, W, 3)``, uint8, RGB. Frames of a folder may differ in size.

    Attributes:
        rate: Frames per second, their mean if they come at uneven times, see :meth:`timed`; ``None`` for a folder, or
            where the file does not say.
        names: A name for each picture of a folder, without its suffix where no other has the same; ``None`` for a file.
        total: How many frames there are; ``None`` where the file does not say.

    Raises:
        ValueError: If there is no such file or folder, or no picture or video in it; when reading, if a video is to be
            turned by other than quarter turns; after the last frame, if there was none.
        RuntimeError: If the file cannot be read; after its last frame, if it was cut off, of which it warns at once if
            its index shows it; if the library for it is not installed, or too old.

    Source:
        Ours, on PyAV.

    Example:
        >>> VideoFrames("no/such/video.mp4")
        Traceback (most recent call last):
        ...
        ValueError: VideoFrames: `path` must be a video file or a folder of pictures; no/such/video.mp4 does not exist.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = as_on_disk(Path(path))
        self.rate: Fraction | None = None
        self.total: int | None = None
        self.names: tuple[str, ...] | None = None
        self._missing: str | None = None
        if self.path.is_dir():
            need_pillow("VideoFrames")
            self._pictures = pictures_of("VideoFrames", self.path)
            self.names, self.total = distinct_names("VideoFrames", self._pictures), len(self._pictures)
        elif self.path.exists():
            with open_video("VideoFrames", self.path) as container:
                stream = video_stream("VideoFrames", container, self.path)
                self._missing = what_is_missing("VideoFrames", container, stream, self.path)
                if self._missing is not None:
                    warnings.warn(self._missing, RuntimeWarning, stacklevel=2)
                warn_of_oddities("VideoFrames", stream, self.path)
                self.rate, self.total = stream.average_rate, frame_count(stream)
        else:
            raise ValueError(
                f"VideoFrames: `path` must be a video file or a folder of pictures; {path} does not exist."
            )

    def __iter__(self) -> Iterator[Tensor]:
        """Read from the start."""
        if self.names is not None:
            return (read_picture("VideoFrames", picture, None).rgb for picture in self._pictures)
        return (frame.rgb for frame in self._decoded())

    def timed(self) -> Iterator[tuple[Tensor, float | None]]:
        """Read from the start, each frame with its time in seconds from the first; ``None`` for pictures of a folder.

        What is written at these times stays beside the sound, also where frames come at uneven times, as from phones.
        """
        if self.names is not None:
            return ((rgb, None) for rgb in self)
        return iter(self._decoded())

    def _decoded(self) -> Iterator[TimedFrame]:
        seen, end = 0, None
        with open_video("VideoFrames", self.path) as container:
            stream = video_stream("VideoFrames", container, self.path)
            stream.thread_type = "AUTO"
            start, frames = start_of(stream), container.decode(stream)
            while True:
                with reading("VideoFrames", self.path, f" after frame {seen}"):
                    frame = next(frames, None)
                    pixels = None if frame is None else frame.to_ndarray(format="rgb24")
                if frame is None or pixels is None:
                    break
                begin = seen / (self.rate or 1) if frame.time is None else frame.time - float(start)
                end = begin + float((frame.duration or 0) * (frame.time_base or 0))
                seen += 1
                yield TimedFrame(torch.from_numpy(upright("VideoFrames", frame, pixels, self.path)), float(begin))
            if not seen:
                raise ValueError(f"VideoFrames: {self.path} must hold frames; got none.")
            if self._missing is not None:  # now that what is there was given, and perhaps kept
                raise RuntimeError(self._missing)
            check_end("VideoFrames", container, stream, self.path, seen=seen, end=end)


class VideoWriter:
    """Write frames to an MP4 file (H.264) that browsers and players show. Use it in a ``with`` block.

    The file appears complete at the end of the block, or not at all if the block fails.

    Colours are those of BT.709, and the file says so.

    Args:
        path: The file to write; its folder is made if need be.
        rate: Frames per second, > 0.
        quality: Constant rate factor of H.264, 0 to 51: 0 is without loss, 23 is usual, more is smaller and worse.

    Shape:
        - rgb: ``(H, W, 3)``, uint8, of one size; an odd height or width loses its last row or column.

    Raises:
        ValueError: If an argument is out of range, a frame differs in size from the first or is not later than the
            one before, some have a time and others none, or none was written.
        OSError: If the file cannot be made.
        RuntimeError: If the file cannot be written to its end; without PyAV, which is an optional extra.

    Source:
        Ours, on PyAV.

    Example:
        >>> with VideoWriter("/no/such/place.mp4", rate=0) as video:
        ...     pass
        Traceback (most recent call last):
        ...
        ValueError: VideoWriter: `rate` must be above 0; got 0.
    """

    def __init__(self, path: str | os.PathLike[str], *, rate: Fraction | float, quality: int = 23) -> None:
        if not rate > 0:
            raise ValueError(f"VideoWriter: `rate` must be above 0; got {rate}.")
        if not 0 <= quality <= 51:
            raise ValueError(f"VideoWriter: `quality` must lie in [0, 51]; got {quality}.")
        self.path, self.rate, self.quality = Path(path), Fraction(rate).limit_denominator(65535), quality
        self._partial = self.path.with_name(f".{self.path.name}.part")
        self._size: tuple[int, int] | None = None
        self._last: int | None = None  # when the last frame is shown, in ticks
        self._container: Any = None

    def __enter__(self) -> Self:
        """Open the file."""
        av = need_av("VideoWriter")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._partial.open("wb").close()  # an OSError that names the file, before anything is computed
        self._container = av.open(url_of(self._partial), "w", format="mp4", options={"movflags": "+faststart"})
        return self

    def write(self, rgb: Tensor, *, seconds: float | None = None) -> None:
        """Add one frame, ``(H, W, 3)``, uint8. An odd height or width loses its last row or column, as H.264 wants.

        Args:
            rgb: The frame.
            seconds: When it is shown, from the start; ``None`` for frames that follow each other at ``rate``.
        """
        if rgb.dtype != torch.uint8 or rgb.dim() != 3 or rgb.shape[-1] != 3:
            raise ValueError(
                f"VideoWriter.write: `rgb` must be (H, W, 3) of dtype uint8; got {tuple(rgb.shape)} of {rgb.dtype}."
            )
        size = (rgb.shape[0], rgb.shape[1])
        if self._size is None:
            self._timed = seconds is not None
            self._stream = self._opened(size)
            self._size = size
        if size != self._size:
            raise ValueError(f"VideoWriter.write: `rgb` must have the first frame's size {self._size}; got {size}.")
        even = np.ascontiguousarray(rgb[: size[0] // 2 * 2, : size[1] // 2 * 2].cpu().numpy())
        whole = need_av("VideoWriter").VideoFrame.from_ndarray(even, format="rgb24")
        frame = whole.reformat(format="yuv420p", dst_colorspace="ITU709")
        if (seconds is not None) != self._timed:
            raise ValueError(f"VideoWriter.write: `seconds` must be given for all frames or none; got {seconds}.")
        if seconds is not None:
            frame.pts, frame.time_base = self._tick(seconds), Fraction(1, _TICKS)
        with self._writing():
            self._container.mux(self._stream.encode(frame))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Raise what FFmpeg raises as an error that names the file, and not the one beside it that is written first."""
        av = need_av("VideoWriter")
        try:
            yield
        except av.FFmpegError as error:
            raise RuntimeError(
                f"VideoWriter: {self.path} cannot be written ({type(error).__name__}: {error}). Frames may have up to "
                "16384 pixels in height and width, and the disk needs room."
            ) from error

    def _tick(self, seconds: float) -> int:
        if not 0 <= seconds < float("inf") or (self._last is not None and round(seconds * _TICKS) <= self._last):
            before = 0 if self._last is None else self._last / _TICKS
            raise ValueError(f"VideoWriter.write: `seconds` must grow from 0 on; got {seconds} after {before:g}.")
        self._last = round(seconds * _TICKS)
        return self._last

    def _opened(self, size: tuple[int, int]) -> Any:
        if min(size) < 2:
            raise ValueError(f"VideoWriter.write: `rgb` must be at least 2 pixels high and wide; got {size}.")
        stream = self._container.add_stream("libx264", rate=self.rate, options={"crf": str(self.quality)} | _BT709)
        if self._timed:
            stream.codec_context.time_base = Fraction(1, _TICKS)
        stream.height, stream.width, stream.pix_fmt = size[0] // 2 * 2, size[1] // 2 * 2, "yuv420p"
        return stream

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the file, or remove it after an error."""
        try:
            with self._writing():
                if self._size is not None and kind is None:
                    self._container.mux(self._stream.encode())
                self._container.close()
            if kind is None and self._size is None:
                raise ValueError(f"VideoWriter: {self.path} must be given at least one frame; got none.")
            if kind is None:
                self._partial.replace(self.path)
        finally:
            self._partial.unlink(missing_ok=True)
