"""Names that look alike: accents are signs of their own on some disks, and part of their letters on others."""

from pathlib import Path
from unicodedata import normalize

__all__: list[str] = []  # for this package


def composed(name: str) -> str:
    """Return the form in which names are compared, with accents in their letters."""
    return normalize("NFC", name)


def as_on_disk(path: Path) -> Path:
    """Return the path as the disk spells it, if it does so in the other form; else the path as it is."""
    if path.exists():
        return path
    there = Path(path.anchor)
    for part in path.relative_to(path.anchor).parts:
        twin = there / part
        if not twin.exists() and not part.isascii() and there.is_dir():
            alike = sorted(other for other in there.iterdir() if composed(other.name) == composed(part))
            twin = alike[0] if alike else twin
        there = twin
    return there if there.exists() else path
