"""Pictures from files, as a viewer shows them. Every error names the file."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dastc.data.reader_errors import reading

if TYPE_CHECKING:
    from PIL.Image import Image

__all__: list[str] = []  # for the data sets of this package

Size = tuple[int, int]

_BILINEAR = 2  # Pillow's number; the package is imported only where a file is read
_ORIENTATION, _PHOTOMETRIC, _WHITE_IS_ZERO = 274, 262, 0  # tags of TIFF, the first of EXIF too, and a value
# EXIF's orientations, and Pillow's numbers for the turns and mirrors that undo them
_UPRIGHT = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
# modes that Pillow converts to RGB not at all, with a warning or without undoing their premultiplied alpha
_BY_WAY_OF = {"P": "RGBA", "PA": "RGBA", "La": "LA", "RGBa": "RGBA"}
_EIGHT_BITS = ("1", "L", "LA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", *_BY_WAY_OF)
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")


class Opened(NamedTuple):
    """A decoded picture, upright, and what its file says about it.

    Args:
        image: The pixels.
        form: Pillow's name of the file's format.
        decoder: The arguments of Pillow's decoder, which tell how values are stored; ``()`` where there are none.
        tags: The tags of a TIFF file.
        turned: Whether the file asks for a turn or a mirror, which has been done.
        low_bytes: Whether ``image`` holds the low bytes of 16-bit channels, not the high ones.
    """

    image: "Image"
    form: str
    decoder: tuple[Any, ...]
    tags: dict[int, Any]
    turned: bool
    low_bytes: bool

    @property
    def white_is_zero(self) -> bool:
        """Tell whether a TIFF file counts from white to black."""
        return bool(self.tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO)


class Picture(NamedTuple):
    """An RGB picture ``(H, W, 3)``, uint8, the size of its file, and whether it was turned as the file asks."""

    rgb: Tensor
    own: Size
    turned: bool


def need_pillow(caller: str) -> None:
    """Refuse to go on without Pillow, which is an optional extra."""
    if find_spec("PIL") is None:
        raise RuntimeError(
            f"{caller} reads pictures and needs Pillow, which is not installed. "
            'Install it with `pip install "dastc[data]"`.'
        )


def read_picture(caller: str, path: Path, size: Size | None, *, cut: int = 0) -> Picture:
    """Read 8-bit RGB, upright, without its last ``cut`` rows, bilinearly resized.

    Of 16 bits the upper 8 are kept, transparency is dropped, and of several pictures in a file the first is read.

    Raises:
        ValueError: If the values have no known range, as those of floats, or there are too few rows to cut.
        RuntimeError: If the file is missing or broken, or Pillow is not installed.
    """
    opened = open_picture(caller, path)
    picture = _as_rgb(caller, path, opened)
    own = (picture.height, picture.width)
    if cut:
        if cut >= own[0]:
            raise ValueError(f"{caller}: {path} must have more rows than the {cut} to cut off; got (H, W) = {own}.")
        picture = picture.crop((0, 0, picture.width, picture.height - cut))
    if size is not None and size != (picture.height, picture.width):
        picture = picture.resize((size[1], size[0]), _BILINEAR)
    return Picture(torch.from_numpy(np.array(picture)), own, opened.turned)


def open_picture(caller: str, path: Path, *, low_bytes: bool = False) -> Opened:
    """Decode a picture and turn it as its EXIF orientation asks; of 16-bit channels keep the low bytes, if asked to."""
    need_pillow(caller)
    from PIL.Image import Transpose
    from PIL.Image import open as open_file

    with reading(caller, path), open_file(path) as picture:
        decoder, tags = _decoder(picture), dict(getattr(picture, "tag_v2", {}))
        low = low_bytes and _take_low_bytes(picture)
        picture.load()
        # Pillow turns TIFF by itself
        orientation = tags.get(_ORIENTATION, 1) if tags else _orientation(picture)
        turn = None if tags else _UPRIGHT.get(orientation)
        upright = picture if turn is None else picture.transpose(Transpose(turn))
        return Opened(upright, picture.format or "", decoder, tags, orientation in _UPRIGHT, low)


def sixteen_bits(image: "Image") -> bool:
    """Tell whether the values are 16-bit ones, in either order of bytes."""
    return image.mode in _SIXTEEN_BITS


def _as_rgb(caller: str, path: Path, opened: Opened) -> "Image":
    image = opened.image
    # Pillow's `I` has 32 bits without a meaning, except in a PGM file, where the largest value becomes 65535
    if sixteen_bits(image) or (image.mode == "I" and opened.form == "PPM"):
        return _upper_bits(opened)
    if image.mode not in _EIGHT_BITS:
        raise ValueError(
            f"{caller}: {path} must hold grey or colours of 8 or 16 bits, whose range is known; got a picture of mode "
            f"{image.mode}. Convert it to 8-bit PNG."
        )
    with reading(caller, path):
        return image.convert(_BY_WAY_OF.get(image.mode, image.mode)).convert("RGB")


def _upper_bits(opened: Opened) -> "Image":
    # Pillow's own conversion clips at 255
    from PIL.Image import fromarray

    values: npt.NDArray[Any] = np.asarray(opened.image)
    grey = (values >> (4 if "I;12" in opened.decoder else 8)).astype(np.uint8)
    return fromarray(255 - grey if opened.white_is_zero else grey).convert("RGB")


def _decoder(picture: "Image") -> tuple[Any, ...]:
    tiles = getattr(picture, "tile", [])
    if not tiles:
        return ()
    args = tiles[0].args
    return (tiles[0].codec_name, *(args if isinstance(args, tuple) else (args,)))


def _orientation(picture: "Image") -> int:
    try:
        found = picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # garbled EXIF beside sound pixels is common, and says nothing
        return 1
    return found if isinstance(found, int) else 1


def _take_low_bytes(picture: "Image") -> bool:
    # Pillow keeps the high byte of 16-bit RGB, in which small ids are 0: told that the bytes come in the other order,
    # it keeps the low one. What it does not know as 16-bit RGB stays as it is, and is refused later for its mode.
    tiles = getattr(picture, "tile", [])
    if not tiles or not all(tile.args in ("RGB;16B", "RGBA;16B") for tile in tiles):
        return False
    picture.tile = [tile._replace(args=tile.args.replace("16B", "16L")) for tile in tiles]  # type: ignore[attr-defined]
    return True
