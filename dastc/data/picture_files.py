"""Pictures and label maps from files. Every error names the file."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image

__all__: list[str] = []  # for the data sets of this package

Ids = npt.NDArray[Any]
Size = tuple[int, int]

# what Pillow raises on broken files, which depends on their format and on its version
_BROKEN = (OSError, SyntaxError, ValueError, EOFError)
_NEAREST, _BILINEAR = 0, 2  # Pillow's numbers; the package is imported only where a file is read
_ONE_INDEX_PER_PIXEL = ("L", "P", "I", "I;16")


def need_pillow(caller: str) -> None:
    """Refuse to go on without Pillow, which is an optional extra."""
    if find_spec("PIL") is None:
        raise RuntimeError(
            f"{caller} reads pictures and needs Pillow, which is not installed. "
            'Install it with `pip install "dastc[data]"`.'
        )


def read_picture(caller: str, path: Path, size: Size | None, *, cut: int = 0) -> tuple[Tensor, Size]:
    """Read 8-bit RGB, ``(H, W, 3)``, without its last ``cut`` rows, bilinearly resized; and the size of the file."""
    picture = _open(caller, path).convert("RGB")
    own = (picture.height, picture.width)
    if cut:
        if cut >= own[0]:
            raise ValueError(f"{caller}: {path} must have more rows than the {cut} to cut off; got (H, W) = {own}.")
        picture = picture.crop((0, 0, picture.width, picture.height - cut))
    if size is not None and size != (picture.height, picture.width):
        picture = picture.resize((size[1], size[0]), _BILINEAR)
    return torch.from_numpy(np.array(picture)), own


def read_ids(caller: str, path: Path, *, first_channel: bool = False) -> Ids:
    """Read the index of each pixel, ``(H, W)``, an integer type; of several 16-bit channels the first, if asked to."""
    picture = _open(caller, path, low_bytes=first_channel)
    if first_channel and picture.info.get("dastc_16_bit"):
        return np.array(picture)[..., 0]
    if picture.mode not in _ONE_INDEX_PER_PIXEL:
        raise ValueError(
            f"{caller}: {path} must hold one class index per pixel; got a picture of mode {picture.mode}. "
            "Convert colours with LabelSpace.ids_from_colours."
        )
    return np.array(picture)


def nearest(ids: Ids, size: Size | None) -> Ids:
    """Resize by nearest pixel."""
    if size is None or size == ids.shape:
        return ids
    from PIL.Image import fromarray

    return np.array(fromarray(ids).resize((size[1], size[0]), _NEAREST))


def _open(caller: str, path: Path, *, low_bytes: bool = False) -> "Image":
    need_pillow(caller)
    from PIL.Image import open as open_picture

    try:
        with open_picture(path) as picture:
            if low_bytes:
                _take_low_bytes(picture)
            picture.load()
            return picture
    except FileNotFoundError as error:
        raise RuntimeError(f"{caller}: {path} is missing.") from error
    except _BROKEN as error:
        raise RuntimeError(
            f"{caller}: {path} cannot be read ({type(error).__name__}: {error}). Fetch the file again."
        ) from error


def _take_low_bytes(picture: "Image") -> None:
    # Pillow keeps the high byte of 16-bit RGB, in which small ids are 0: told that the bytes come in the other order,
    # it keeps the low one. What it does not know as 16-bit RGB stays as it is, and is refused later for its mode.
    tiles = getattr(picture, "tile", [])
    if tiles and all(tile.args in ("RGB;16B", "RGBA;16B") for tile in tiles):
        picture.tile = [tile._replace(args=tile.args.replace("16B", "16L")) for tile in tiles]  # type: ignore[attr-defined]
        picture.info["dastc_16_bit"] = True
