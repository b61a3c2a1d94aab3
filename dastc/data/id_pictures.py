"""Label maps from pictures: the ids are what the file holds, however few or many bits it gives them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dastc.data.picture_files import Opened, Size, open_picture, sixteen_bits
from dastc.data.reader_errors import reading

if TYPE_CHECKING:
    from PIL.Image import Image

__all__: list[str] = []  # for the data sets of this package

Ids = npt.NDArray[Any]
Colour = tuple[int, ...]

_NEAREST = 0  # Pillow's number; the package is imported only where a file is read
_ONE_INDEX_PER_PIXEL = ("1", "L", "P", "I", "F")
# by Pillow's decoder: it spreads ids of 2 and 4 bits over 8 bits; by what they have to be divided
_SPREAD = {"L;2": 85, "L;2R": 85, "L;4": 17, "L;4R": 17}
_INVERTED = ("1;I", "1;IR", "L;2I", "L;2IR", "L;4I", "L;4IR", "L;I", "L;IR")
_SAMPLE_FORMAT, _COMPRESSION, _SIGNED = 339, 259, 2  # tags of TIFF, and a value
_LOSSY_TIFF = {6: "JPEG in TIFF", 7: "JPEG in TIFF", 50001: "WebP in TIFF"}  # values of _COMPRESSION
_COLOURS_BACK = "Convert colours with LabelSpace.ids_from_colours."


class IdPicture(NamedTuple):
    """The ids of a label file, ``(H, W)``, an integer type, and what the file says beside them.

    Args:
        ids: The index of each pixel.
        palette: The colour of each index, if the file has a palette.
        lossy: How the file was compressed, if that changes ids.
        turned: Whether the file asks for a turn or a mirror, which has been done.
    """

    ids: Ids
    palette: tuple[Colour, ...]
    lossy: str
    turned: bool


def read_ids(caller: str, path: Path, *, first_channel: bool = False) -> IdPicture:
    """Read the index of each pixel; of several 16-bit channels the first, if asked to.

    Raises:
        ValueError: If the file holds colours, transparency, numbers that are not whole, or values that Pillow gives
            otherwise than they are stored.
        RuntimeError: If the file is missing or broken, or Pillow is not installed.
    """
    opened = open_picture(caller, path, low_bytes=first_channel)
    if first_channel and opened.low_bytes:
        return IdPicture(np.array(opened.image)[..., 0], (), "", opened.turned)
    _refuse_what_is_no_index(caller, path, opened)
    with reading(caller, path):
        values, palette = np.array(opened.image), _palette(opened.image)
    return IdPicture(_stored(caller, path, opened, values), palette, _lossy(caller, path, opened), opened.turned)


def nearest(ids: Ids, size: Size | None) -> Ids:
    """Resize by nearest pixel."""
    if size is None or size == ids.shape:
        return ids
    from PIL.Image import fromarray

    return np.array(fromarray(ids).resize((size[1], size[0]), _NEAREST))


def _refuse_what_is_no_index(caller: str, path: Path, opened: Opened) -> None:
    image = opened.image
    if image.mode not in _ONE_INDEX_PER_PIXEL and not sixteen_bits(image):
        raise ValueError(
            f"{caller}: {path} must hold one class index per pixel; got a picture of mode {image.mode}. "
            f"{_way_out(opened)}"
        )
    if opened.white_is_zero or any(kind in opened.decoder for kind in _INVERTED):
        raise ValueError(
            f"{caller}: {path} must count ids from 0; got a {opened.form} file in which 0 is white, which readers "
            "invert or not. Save it as PNG."
        )
    if image.mode == "L" and any(str(kind).startswith("L;16") for kind in opened.decoder):
        raise ValueError(
            f"{caller}: {path} must be of a format whose 16 bits Pillow reads; got {opened.form}, of which it reads 8. "
            "Save it as PNG."
        )
    if opened.form == "JPEG2000" and (bits := _jpeg2000(caller, path).bits) not in (8, 16):
        raise ValueError(f"{caller}: {path} must have 8 or 16 bits in JPEG 2000; got {bits}. Save it as PNG.")


def _way_out(opened: Opened) -> str:
    if opened.image.mode in ("LA", "La", "PA"):
        return "Save it without transparency."
    channels = np.asarray(opened.image)
    if channels.ndim == 3 and (channels[..., :3] == channels[..., :1]).all() and channels[..., 0].any():
        hint = " WebP and AVIF have no pictures of one channel." if opened.form in ("WEBP", "AVIF") else ""
        return f"Its channels are equal: save one of them, as PNG.{hint}"
    return _COLOURS_BACK


def _stored(caller: str, path: Path, opened: Opened, values: Ids) -> Ids:
    """Return what is stored where Pillow gives something else: bits spread over a byte, other orders of bytes."""
    image, decoder = opened.image, opened.decoder
    if image.mode == "1":
        return values.astype(np.uint8)
    if image.mode == "F":
        return _whole(caller, path, values)
    if decoder[:1] in (("ppm",), ("ppm_plain",)):
        most = 65535 if image.mode == "I" else 255
        return np.asarray(np.rint(values * (decoder[-1] / most)), dtype=np.int32)
    for kind, step in _SPREAD.items():
        if image.mode == "L" and kind in decoder:
            return np.asarray(values // step)
    if image.mode == "L" and _SIGNED in opened.tags.get(_SAMPLE_FORMAT, ()):
        return values.view(np.int8).astype(np.int32)
    return values.astype(values.dtype.newbyteorder("="))


def _whole(caller: str, path: Path, values: Ids) -> Ids:
    # programs for maps store classes as floats, and no data as NaN or a huge number
    with np.errstate(invalid="ignore"):
        ids = np.where(np.isfinite(values), np.clip(values, -1, 2**16), -1).astype(np.int32)
        wrong = np.isfinite(values) & (values >= 0) & (values < 2**16) & (ids != values)
    if wrong.any():
        raise ValueError(
            f"{caller}: {path} must hold whole numbers, the class index of each pixel; got {values[wrong][0]:g}. "
            "Save indices, not scores, as 8-bit or 16-bit PNG."
        )
    return ids


def _palette(image: "Image") -> tuple[Colour, ...]:
    if image.mode != "P":
        return ()
    flat = image.getpalette("RGB") or []
    return tuple((flat[i], flat[i + 1], flat[i + 2]) for i in range(0, len(flat) - 2, 3))


def _lossy(caller: str, path: Path, opened: Opened) -> str:
    if opened.form in ("JPEG", "MPO"):
        return "JPEG"
    if opened.form == "JPEG2000":
        return "" if _jpeg2000(caller, path).lossless else "JPEG 2000"
    return _LOSSY_TIFF.get(opened.tags.get(_COMPRESSION, 0), "")


class _Jpeg2000(NamedTuple):
    bits: int
    lossless: bool


def _jpeg2000(caller: str, path: Path) -> _Jpeg2000:
    # Pillow tells neither: from the codestream's markers of sizes and of coding
    with reading(caller, path):
        content = path.read_bytes()
        sizes = content.index(b"\xff\x4f\xff\x51")
        coding = content.index(b"\xff\x52", sizes)
        return _Jpeg2000((content[sizes + 42] & 0x7F) + 1, content[coding + 13] == 1)
