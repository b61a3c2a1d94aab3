"""Pictures and label maps from files. Every error names the file."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image

__all__: list[str] = []  # for the data sets of this package

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


def read_picture(caller: str, path: Path, size: tuple[int, int] | None) -> tuple[Tensor, tuple[int, int]]:
    """Read 8-bit RGB, ``(H, W, 3)``, bilinearly resized if a size is given; and the size that the file has."""
    picture = _open(caller, path).convert("RGB")
    own = (picture.height, picture.width)
    if size is not None and size != own:
        picture = picture.resize((size[1], size[0]), _BILINEAR)
    return torch.from_numpy(np.array(picture)), own


def read_labels(caller: str, path: Path, size: tuple[int, int] | None) -> tuple[Tensor, tuple[int, int]]:
    """Read raw label indices, ``(H, W)`` int64, resized by nearest pixel; and the size that the file has."""
    picture = _open(caller, path)
    if picture.mode not in _ONE_INDEX_PER_PIXEL:
        raise ValueError(f"{caller}: {path} must hold one class index per pixel; got a picture of mode {picture.mode}.")
    own = (picture.height, picture.width)
    if size is not None and size != own:
        picture = picture.resize((size[1], size[0]), _NEAREST)
    return torch.from_numpy(np.array(picture).astype(np.int64)), own


def _open(caller: str, path: Path) -> "Image":
    need_pillow(caller)
    from PIL.Image import open as open_picture

    try:
        with open_picture(path) as picture:
            picture.load()
            return picture
    except _BROKEN as error:
        raise RuntimeError(
            f"{caller}: {path} cannot be read ({type(error).__name__}: {error}). Fetch the file again."
        ) from error
