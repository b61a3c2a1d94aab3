"""What a video file says of itself, beside its pixels: which way is up, how long it is, how its frames are timed."""

import math
from contextlib import suppress
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from warnings import warn

import numpy as np
import numpy.typing as npt

from dastc.data.reader_errors import reading

__all__: list[str] = []  # for this package

Pixels = npt.NDArray[np.uint8]

_OLDEST = 17  # of PyAV, that reads BT.709 with the matrix of BT.709
_MATRIX = "DISPLAYMATRIX"
_WHOLE_TURN = 0.01  # how far a matrix may be from one of quarter turns
_ODD_PIXELS = 0.02  # how far from square pixels may be without a word: encoders round
_HDR = {16: "PQ", 18: "HLG"}  # transfer functions, by their number in H.273
# containers that say in the stream, or for all streams, how long it lasts; in others it is guessed from the content
_STREAM_SAYS, _FILE_SAYS = ("avi",), ("flv", "matroska,webm")


def need_av(caller: str) -> Any:
    """Return PyAV, which is an optional extra, or refuse to go on."""
    if find_spec("av") is None:
        raise RuntimeError(
            f"{caller} reads and writes videos and needs PyAV, which is not installed. "
            'Install it with `pip install "dastc[video]"`, or use a folder of pictures.'
        )
    import av

    if int(av.__version__.split(".")[0]) < _OLDEST:
        raise RuntimeError(
            f"{caller} needs PyAV {_OLDEST} or later, as older ones read wrong colours; got {av.__version__}. "
            'Install it with `pip install "dastc[video]"`.'
        )
    return av


def url_of(path: Path) -> str:
    """Return the name by which FFmpeg takes a path for a file, even if it looks like ``protocol:address``."""
    return f"file:{path}"


def open_video(caller: str, path: Path) -> Any:
    """Open a video file; its metadata may be in any encoding."""
    av = need_av(caller)
    with reading(caller, path, " as a video"):
        return av.open(url_of(path), metadata_errors="replace")


def video_stream(caller: str, container: Any, path: Path) -> Any:
    """Return the first stream that is a video, and not the cover of a song."""
    from av.stream import Disposition

    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    raise ValueError(f"{caller}: {path} must hold a video; got none, perhaps sound alone.")


def frame_count(stream: Any) -> int | None:
    """Return how many frames will be shown, which are fewer than are stored in a video that was trimmed."""
    if not stream.frames:
        return None
    if stream.duration is None or not stream.average_rate:
        return int(stream.frames)
    shown = round(float(stream.duration * stream.time_base * stream.average_rate))
    return min(int(stream.frames), shown) if shown > 0 else int(stream.frames)


def what_is_missing(caller: str, container: Any, stream: Any, path: Path) -> str | None:
    """Say so if a file ends before the place where its own index says that frames are."""
    places = [(entry.pos, entry.size) for entry in stream.index_entries]
    there = sum(start + size <= container.size for start, size in places)
    if there == len(places):
        return None
    return (
        f"{caller}: {path} must hold what its index names, {len(places)} frames or groups of them; got {there}, as it "
        f"ends too early. {_CUT_OFF}"
    )


def check_end(caller: str, container: Any, stream: Any, path: Path, *, seen: int, end: float | None) -> None:
    """Refuse a file whose last frame ended, at ``end`` seconds, well before the time that it says it lasts."""
    lasts = _said_length(container, stream)
    if lasts is None or end is None or not stream.average_rate:
        return
    missing = (lasts - end) * float(stream.average_rate)
    if missing > 1.5:  # frames; the last one may be said to last no time
        raise RuntimeError(
            f"{caller}: {path} must last {lasts:.6g} s, as it says; got {end:.6g} s, {seen} frames. {_CUT_OFF}"
        )


def warn_of_oddities(caller: str, stream: Any, path: Path) -> None:
    """Warn of what a video says that is not followed: pixels that are not square, brightness beyond the usual."""
    ratio = stream.sample_aspect_ratio
    if ratio and abs(math.log(ratio)) > _ODD_PIXELS:
        warn(
            f"{caller}: {path} has pixels of {ratio.numerator}:{ratio.denominator}, and its frames are not stretched "
            "to square ones. FFmpeg does it: `ffmpeg -i IN -vf scale=iw*sar:ih,setsar=1 OUT`.",
            stacklevel=4,
        )
    transfer = _HDR.get(int(stream.codec_context.color_trc))
    if transfer is not None:
        warn(
            f"{caller}: {path} is HDR ({transfer}), and its frames look pale as it is not mapped to the usual range. "
            "Record or export it as SDR.",
            stacklevel=4,
        )


def upright(caller: str, frame: Any, pixels: Pixels, path: Path) -> Pixels:
    """Turn and mirror a frame ``(H, W, 3)`` as its display matrix asks, and as players show it."""
    a, b, c, d = _matrix(frame)
    straight, crossed = max(abs(a), abs(d)), max(abs(b), abs(c))
    if min(straight, crossed) > _WHOLE_TURN * max(straight, crossed):
        angle = math.degrees(math.atan2(b, a))
        raise ValueError(
            f"{caller}: {path} must be turned by quarters of a circle; got {angle:.3g} degrees. Turn it with FFmpeg: "
            "`ffmpeg -i IN OUT`."
        )
    if crossed > straight:
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _matrix(frame: Any) -> tuple[float, float, float, float]:
    """Return (a, b, c, d): the pixel (x, y) is shown at (a x + c y, b x + d y)."""
    try:
        stored = frame.side_data.get(_MATRIX)
    except ValueError:  # PyAV fails at any data beside the frame that it has no name for, and knows the angle still
        angle = math.radians(frame.rotation)
        return math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)
    if stored is None:
        return 1, 0, 0, 1
    a, b, _, c, d = (np.frombuffer(stored, np.int32)[:5] / 2**16).tolist()  # 16.16 fixed point
    return a, b, c, d


def start_of(stream: Any) -> Fraction:
    """Return the time of the first frame, in seconds."""
    return (stream.start_time or 0) * (stream.time_base or Fraction(0))


def _said_length(container: Any, stream: Any) -> float | None:
    names = container.format.name
    if names in _STREAM_SAYS and stream.frames and stream.average_rate:
        return float(stream.frames / stream.average_rate)
    if names not in _FILE_SAYS:
        return None
    with suppress(KeyError, ValueError):
        hours, minutes, seconds = stream.metadata["DURATION"].split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    # what the file says is that of its longest stream, perhaps of the sound
    return container.duration / 1e6 if container.duration and len(container.streams) == 1 else None


_CUT_OFF = "It was cut off: fetch it again, or keep what is there with `ffmpeg -i IN -c copy OUT`."
