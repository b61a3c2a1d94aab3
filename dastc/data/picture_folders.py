"""The pictures of a folder, in the order in which people count."""

import re
from collections.abc import Sequence
from pathlib import Path
from warnings import warn

from dastc.data.unicode_names import composed

__all__: list[str] = []  # for this package

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
_NUMBER = re.compile(r"(\d+)")


def pictures_of(caller: str, folder: Path) -> list[Path]:
    """Return the pictures in a folder, hidden ones left out: ``2.png`` before ``10.png``, whatever zeros they have."""
    found = sorted((p for p in folder.iterdir() if p.suffix.lower() in PICTURES and p.name[0] != "."), key=_order)
    if not found:
        raise ValueError(f"{caller}: `path` must hold pictures ({', '.join(PICTURES)}); got {folder} without.")
    return found


def distinct_names(caller: str, pictures: Sequence[Path]) -> tuple[str, ...]:
    """Return the stem of each picture, with its suffix where another has the same, of which a warning tells."""
    twins: dict[str, list[Path]] = {}
    for path in pictures:
        twins.setdefault(composed(path.stem), []).append(path)
    several = [paths for paths in twins.values() if len(paths) > 1]
    if several:
        warn(
            f"{caller}: {several[0][0]} and {several[0][1].name} have one name, as have {len(several) - 1} more pairs, "
            "and both are read. If one is the labels of the other, move it to another folder.",
            stacklevel=3,
        )
    together = {path for paths in several for path in paths}
    return tuple(path.name if path in together else path.stem for path in pictures)


def _order(path: Path) -> tuple[tuple[int | str, ...], str]:
    # texts and numbers take turns, so that like is compared with like
    parts = _NUMBER.split(composed(path.stem))
    return tuple(int(part) if i % 2 else part for i, part in enumerate(parts)), path.name
