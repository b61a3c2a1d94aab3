"""Frames from a video file or a folder of pictures, one after the other, and back into a video file."""

import os
from collections.abc import Iterator
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Self

from dastc.data.picture_files import need_pillow, read_picture

__all__ = ["VideoFrames", "VideoWriter"]

_PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


class VideoFrames:
    """Read the frames of a video file, or the pictures of a folder in the order of their names, one at a time.

    Args:
        path: A video file in any format that FFmpeg reads, or a folder.

    Shape:
        - item: ``(H, W, 3)``, uint8, RGB. Frames of a folder may differ in size.

    Attributes:
        rate: Frames per second; ``None`` for a folder, or where the file does not say.
        names: A name for each picture of a folder; ``None`` for a file.
        total: How many frames there are; ``None`` where the file does not say.

    Raises:
        ValueError: If there is no such file or folder, or no picture or video in it; after the last frame, if there
            was none.
        RuntimeError: If the file cannot be read, or the library for it is not installed.

    Source:
        Ours, on PyAV.

    Example:
        >>> VideoFrames("no/such/video.mp4")
        Traceback (most recent call last):
        ...
        ValueError: VideoFrames: `path` must be a video file or a folder of pictures; no/such/video.mp4 does not exist.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.rate: Fraction | None = None
        self.total: int | None = None
        self.names: tuple[str, ...] | None = None
        if self.path.is_dir():
            need_pillow("VideoFrames")
            self._pictures = sorted(
                p for p in self.path.iterdir() if p.suffix.lower() in _PICTURES and p.name[0] != "."
            )
            self.names, self.total = tuple(p.stem for p in self._pictures), len(self._pictures)
            if not self.names:
                raise ValueError(
                    f"VideoFrames: `path` must hold pictures ({', '.join(_PICTURES)}); got {path} without."
                )
        elif self.path.exists():
            with _open(self.path) as container:
                stream = _video_stream(container, self.path)
                self.rate, self.total = stream.average_rate, stream.frames or None
        else:
            raise ValueError(
                f"VideoFrames: `path` must be a video file or a folder of pictures; {path} does not exist."
            )

    def __iter__(self) -> Iterator[Tensor]:
        """Read from the start."""
        if self.names is not None:
            return (read_picture("VideoFrames", picture, None)[0] for picture in self._pictures)
        return self._decoded()

    def _decoded(self) -> Iterator[Tensor]:
        av, seen = _av("VideoFrames"), 0
        with _open(self.path) as container:
            stream = _video_stream(container, self.path)
            stream.thread_type = "AUTO"
            try:
                for frame in container.decode(stream):
                    seen += 1
                    yield torch.from_numpy(frame.to_ndarray(format="rgb24"))
            except av.FFmpegError as error:
                raise RuntimeError(f"VideoFrames: {self.path} cannot be read after frame {seen}: {error}.") from error
        if not seen:
            raise ValueError(f"VideoFrames: {self.path} must hold frames; got none.")


class VideoWriter:
    """Write frames to an MP4 file (H.264) that browsers and players show. Use it in a ``with`` block.

    The file appears complete at the end of the block, or not at all if the block fails.

    Args:
        path: The file to write; its folder is made if need be.
        rate: Frames per second, > 0.
        quality: Constant rate factor of H.264, 0 to 51: 0 is without loss, 23 is usual, more is smaller and worse.

    Shape:
        - rgb: ``(H, W, 3)``, uint8, of one size; an odd height or width loses its last row or column.

    Raises:
        ValueError: If an argument is out of range, a frame differs in size from the first, or none was written.
        OSError: If the file cannot be written.
        RuntimeError: Without PyAV, which is an optional extra.

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
        self._container: Any = None

    def __enter__(self) -> Self:
        """Open the file."""
        av = _av("VideoWriter")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._partial.open("wb").close()  # an OSError that names the file, before anything is computed
        self._container = av.open(str(self._partial), "w", format="mp4", options={"movflags": "+faststart"})
        return self

    def write(self, rgb: Tensor) -> None:
        """Add one frame, ``(H, W, 3)``, uint8. An odd height or width loses its last row or column, as H.264 wants."""
        if rgb.dtype != torch.uint8 or rgb.dim() != 3 or rgb.shape[-1] != 3:
            raise ValueError(
                f"VideoWriter.write: `rgb` must be (H, W, 3) of dtype uint8; got {tuple(rgb.shape)} of {rgb.dtype}."
            )
        size = (rgb.shape[0], rgb.shape[1])
        if self._size is None:
            self._size, self._stream = size, self._opened(size)
        if size != self._size:
            raise ValueError(f"VideoWriter.write: `rgb` must have the first frame's size {self._size}; got {size}.")
        even = np.ascontiguousarray(rgb[: size[0] // 2 * 2, : size[1] // 2 * 2].cpu().numpy())
        frame = _av("VideoWriter").VideoFrame.from_ndarray(even, format="rgb24")
        self._container.mux(self._stream.encode(frame))

    def _opened(self, size: tuple[int, int]) -> Any:
        if min(size) < 2:
            raise ValueError(f"VideoWriter.write: `rgb` must be at least 2 pixels high and wide; got {size}.")
        stream = self._container.add_stream("libx264", rate=self.rate, options={"crf": str(self.quality)})
        stream.height, stream.width, stream.pix_fmt = size[0] // 2 * 2, size[1] // 2 * 2, "yuv420p"
        return stream

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the file, or remove it after an error."""
        try:
            if self._size is not None:
                self._container.mux(self._stream.encode())
            self._container.close()
            if kind is None and self._size is None:
                raise ValueError(f"VideoWriter: {self.path} must be given at least one frame; got none.")
            if kind is None:
                self._partial.replace(self.path)
        finally:
            self._partial.unlink(missing_ok=True)


def _av(caller: str) -> Any:
    if find_spec("av") is None:
        raise RuntimeError(
            f"{caller} reads and writes videos and needs PyAV, which is not installed. "
            'Install it with `pip install "dastc[video]"`, or use a folder of pictures.'
        )
    import av

    return av


def _open(path: Path) -> Any:
    av = _av("VideoFrames")
    try:
        return av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise RuntimeError(f"VideoFrames: {path} cannot be read as a video: {error}.") from error


def _video_stream(container: Any, path: Path) -> Any:
    if not container.streams.video:
        raise ValueError(f"VideoFrames: {path} must hold a video; got none, perhaps sound alone.")
    return container.streams.video[0]
