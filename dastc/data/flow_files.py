"""Flow fields from and to files: the released ``.npy``, Middlebury's ``.flo``, KITTI's ``.png``."""

import os
import struct
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange
from torch import Tensor

from dastc._core.checks import check_choice, check_dtype, check_shape
from dastc.data.reader_errors import reading
from dastc.data.whole_files import write_whole

__all__ = ["read_flow", "write_flow"]

Array = npt.NDArray[Any]
Stored = Literal["int16", "float16", "float32"]

_STORED = ("int16", "float16", "float32")
_TENTHS = 10  # the int16 of the released data counts tenths of a pixel
# headers are parsed as Python, which two threads at once may fail at (SystemError, python/cpython#106905)
_HEADERS = Lock()
if hasattr(os, "register_at_fork"):  # no worker process begins with a lock that nobody will release
    os.register_at_fork(before=_HEADERS.acquire, after_in_parent=_HEADERS.release, after_in_child=_HEADERS.release)
_FLO_MAGIC = struct.pack("<f", 202021.25)
_FLO_HEADER = 12
_FLO_UNKNOWN = 1e9  # Middlebury: a component beyond it is unknown; 1e10 is written
_PNG_STEPS, _PNG_ZERO = 64, 2**15  # KITTI: value = 64 * pixels + 2^15
_PNG_HEADER = 26  # up to the kind of colours
# a field of 8K video has fewer; a PNG may take a thousand times the memory that its length tells
_PNG_MOST = 2**25
_PNG_RATIO = 1032  # the most that its compression reaches


def read_flow(path: str | Path) -> Tensor:
    """Read a flow field in pixels; the suffix of the file says how it is stored.

    ``.npy`` holds ``(H, W, 2)``, dx first: int16 in tenths of a pixel, the form of the released data, or a float in
    pixels. ``.flo`` is Middlebury's format. ``.png`` is KITTI's: 16-bit RGB with dx, dy and validity, which needs
    OpenCV because Pillow reads 8 of the 16 bits only.

    What the file marks as unknown, and any number that is not finite, becomes NaN in both channels: for
    :func:`dastc.functional.flow_warp` such a pixel is not valid. Resizing spreads NaN to its neighbours.

    The file says nothing about direction and grid. dastc wants backward flow on the later frame's grid, as the
    released data has it; KITTI's ground truth is forward flow.

    Args:
        path: The file.

    Returns:
        ``(2, H, W)``, float32, contiguous; channel 0 is dx.

    Raises:
        ValueError: If the suffix is not known, or the file holds something of another shape or kind.
        RuntimeError: If the file is missing or broken, or would have to be unpickled; for ``.png`` without OpenCV, or
            of more than 2^25 pixels, which 8K video does not have.

    Source:
        ``.npy``: docs/method.md#flow-files; ``.flo``: Baker et al. 2011 (Middlebury); ``.png``: Menze and Geiger 2015
        (KITTI).

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     write_flow(Path(folder) / "one.flo", torch.full((2, 3, 4), -1.5))
        ...     read_flow(Path(folder) / "one.flo")[:, 0, 0]
        tensor([-1.5000, -1.5000])
    """
    path = Path(path)
    read = _by_suffix("read_flow", path, _READERS)
    pixels: Array = read(path).astype(np.float32)  # (H, W, 2)
    pixels[~np.isfinite(pixels).all(axis=-1)] = np.nan
    return torch.from_numpy(np.ascontiguousarray(rearrange(pixels, "h w xy -> xy h w")))


def write_flow(path: str | Path, flow: Tensor, *, dtype: Stored | None = None) -> None:
    """Write a flow field in pixels; the suffix of the file says how it is stored, see :func:`read_flow`.

    The file appears at once and complete, or not at all; an older one is replaced.

    Args:
        path: The file; its folder must exist.
        flow: The flow. A pixel with NaN in either channel is unknown.
        dtype: For ``.npy`` only: ``"int16"`` (the default; tenths of a pixel, rounded to the nearest, up to 3276.7
            pixels, nothing unknown), ``"float16"`` or ``"float32"``. ``.flo`` is float32 always; ``.png`` has steps of
            1/64 pixel in [-512, 512).

    Shape:
        - flow: ``(2, H, W)``, float.

    Raises:
        ValueError: If the suffix, ``dtype`` or the shape do not fit, or the format cannot hold the values.
        TypeError: If ``flow`` is not float.
        RuntimeError: If the file cannot be written; for ``.png`` without OpenCV.

    Source:
        As :func:`read_flow`, but rounded where the released data is truncated (docs/method.md#flow-files).

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     write_flow(Path(folder) / "one.npy", torch.full((2, 3, 4), 0.26))
        ...     read_flow(Path(folder) / "one.npy")[0, 0]
        tensor([0.3000, 0.3000, 0.3000, 0.3000])
    """
    path = Path(path)
    encode = _by_suffix("write_flow", path, _ENCODERS)
    check_shape("write_flow", "flow", flow, "2 H W", {"2": 2})
    check_dtype("write_flow", "flow", flow, "float")
    if dtype is not None:
        check_choice("write_flow", "dtype", dtype, _STORED)
        if path.suffix.lower() != ".npy":
            raise ValueError(f"write_flow: `dtype` must be None for {path.suffix}, which has its own; got {dtype!r}.")
    pixels = rearrange(flow.detach().to("cpu", torch.float32), "xy h w -> h w xy").numpy().copy()
    pixels[np.isnan(pixels).any(axis=-1)] = np.nan
    write_whole("write_flow", path, encode(path, pixels, dtype or "int16"))


def need_opencv(caller: str) -> None:
    """Refuse to go on without OpenCV, which is an optional extra."""
    if find_spec("cv2") is None:
        raise RuntimeError(
            f'{caller} needs OpenCV, which is not installed. Install it with `pip install "dastc[flow]"`.'
        )


def _by_suffix(caller: str, path: Path, known: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    if path.suffix.lower() not in known:
        raise ValueError(f"{caller}: `path` must end in one of {', '.join(known)}; got {path}.")
    return known[path.suffix.lower()]


def _read_npy(path: Path) -> Array:
    # mapped, so that kind, shape and length are known before anything is read, and nothing is ever unpickled
    with reading("read_flow", path), _HEADERS:
        stored = np.lib.format.open_memmap(path, mode="r")
    if not (stored.dtype.kind == "f" or (stored.dtype.kind == "i" and stored.dtype.itemsize == 2)):
        raise ValueError(
            f"read_flow: {path} must hold int16 (tenths of a pixel) or float (pixels); got {stored.dtype}."
        )
    if stored.ndim != 3 or stored.shape[2] != 2:
        raise ValueError(f"read_flow: {path} must hold flow of shape (H, W, 2); got {stored.shape}.")
    return np.array(stored) if stored.dtype.kind == "f" else stored.astype(np.float32) / _TENTHS


def _read_flo(path: Path) -> Array:
    head, length = _head(path, _FLO_HEADER)  # the rest is not read before its length is known to be right
    if head[:4] != _FLO_MAGIC:
        raise RuntimeError(f"read_flow: {path} must begin with {_FLO_MAGIC!r}, as .flo files do; got {head[:4]!r}.")
    if len(head) < _FLO_HEADER:
        raise RuntimeError(f"read_flow: {path} must have a header of {_FLO_HEADER} bytes; got {len(head)}.")
    width, height = struct.unpack_from("<ii", head, 4)
    wanted = _FLO_HEADER + 8 * width * height
    if min(width, height) < 1 or length != wanted:
        raise RuntimeError(
            f"read_flow: {path} must hold {wanted} bytes for its size, (H={height}, W={width}); got {length}."
        )
    with reading("read_flow", path):
        pixels = np.fromfile(path, "<f4", offset=_FLO_HEADER).reshape(height, width, 2)
    return np.where(np.abs(pixels) > _FLO_UNKNOWN, np.nan, pixels)


def _read_png(path: Path) -> Array:
    need_opencv("read_flow, for .png,")
    import cv2

    _check_png(path)
    with reading("read_flow", path):
        picture = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if picture is None:  # what is broken, for OpenCV
        raise RuntimeError(f"read_flow: {path} cannot be read as PNG. Fetch the file again.")
    if picture.dtype != np.uint16 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(
            f"read_flow: {path} must be a 16-bit RGB picture of dx, dy and validity; "
            f"got {picture.dtype} of shape {picture.shape}."
        )
    valid, dy, dx = np.moveaxis(picture, 2, 0)  # OpenCV turns RGB to BGR
    pixels = (np.stack((dx, dy), axis=-1).astype(np.float32) - _PNG_ZERO) / _PNG_STEPS
    return np.where(valid[..., None] > 0, pixels, np.nan)


def _check_png(path: Path) -> None:
    head, length = _head(path, _PNG_HEADER)
    if head[:8] != b"\x89PNG\r\n\x1a\n" or len(head) < _PNG_HEADER:
        raise RuntimeError(f"read_flow: {path} cannot be read as PNG. Fetch the file again.")
    width, height = struct.unpack_from(">II", head, 16)
    if height * (6 * width + 1) > _PNG_RATIO * length:
        raise RuntimeError(
            f"read_flow: {path} must be long enough for its size, (H={height}, W={width}); got {length} bytes. Fetch "
            "the file again."
        )
    if width * height > _PNG_MOST:
        raise RuntimeError(
            f"read_flow: {path} must have at most {_PNG_MOST} pixels, as PNG says little of the memory it takes; got "
            f"(H={height}, W={width}). Fetch the file again, or store so large a field as .npy."
        )


def _encode_npy(path: Path, pixels: Array, dtype: Stored) -> bytes:
    file = BytesIO()
    if dtype == "int16":
        if np.isnan(pixels).any():
            raise ValueError(f"write_flow: `flow` must be known everywhere for int16 ({path}); got NaN. Store floats.")
        _check_range(path, pixels, -3276.7, 3276.7)
        pixels = np.rint(pixels * _TENTHS)
    elif dtype == "float16":
        _check_range(path, pixels, -65504, 65504)
    np.save(file, pixels.astype(dtype), allow_pickle=False)
    return file.getvalue()


def _encode_flo(path: Path, pixels: Array, _: Stored) -> bytes:
    _check_range(path, pixels, -_FLO_UNKNOWN, _FLO_UNKNOWN)
    height, width = pixels.shape[:2]
    known = np.where(np.isnan(pixels), 10 * _FLO_UNKNOWN, pixels)
    return _FLO_MAGIC + struct.pack("<ii", width, height) + known.astype("<f4").tobytes()


def _encode_png(path: Path, pixels: Array, _: Stored) -> bytes:
    need_opencv("write_flow, for .png,")
    import cv2

    _check_range(path, pixels, -512, 512 - 1 / _PNG_STEPS)
    valid = ~np.isnan(pixels[..., 0])
    steps = np.rint(np.where(valid[..., None], pixels, 0) * _PNG_STEPS + _PNG_ZERO) * valid[..., None]
    picture = np.stack((valid, steps[..., 1], steps[..., 0]), axis=-1).astype(np.uint16)
    encoded: bytes = cv2.imencode(".png", picture)[1].tobytes()
    return encoded


def _check_range(path: Path, pixels: Array, low: float, high: float) -> None:
    known = pixels[~np.isnan(pixels)]
    if known.size and not (low <= known.min() and known.max() <= high):
        raise ValueError(
            f"write_flow: `flow` must lie in [{low:g}, {high:g}] for {path}; got [{known.min():g}, {known.max():g}]."
        )


def _head(path: Path, length: int) -> tuple[bytes, int]:
    """Return the first bytes of a file, and its length."""
    with reading("read_flow", path), path.open("rb") as file:
        return file.read(length), os.fstat(file.fileno()).st_size


_READERS = {".npy": _read_npy, ".flo": _read_flo, ".png": _read_png}
_ENCODERS = {".npy": _encode_npy, ".flo": _encode_flo, ".png": _encode_png}
