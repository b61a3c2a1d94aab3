"""The one place that turns what readers raise into an error that names the file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__: list[str] = []  # for this package

# by the names of their classes, so that no optional library is imported for them
_ADVICE = {
    "DecompressionBombError": "If you trust the file, raise `PIL.Image.MAX_IMAGE_PIXELS`, or cut it into tiles.",
    "DecompressionBombWarning": "If you trust the file, raise `PIL.Image.MAX_IMAGE_PIXELS`, or cut it into tiles.",
    "UnidentifiedImageError": "Fetch the file again; if it is sound, Pillow does not know its format: convert it to "
    "PNG.",
    "MemoryError": "It needs more memory than there is.",
    "PermissionError": "Give yourself the permission to read it.",
    "IsADirectoryError": "Name a file, not a folder.",
}


@contextmanager
def reading(caller: str, path: Path, kind: str = "") -> Iterator[None]:
    """Raise whatever a library raises in the block as this package's error.

    The block holds calls of libraries only: decoders raise nearly anything on damaged files, and what they raise
    depends on their version. An error in code of our own would be hidden.

    Args:
        caller: Who reads, for the message.
        path: The file.
        kind: What it is read as, such as ``" as a video"``.

    Raises:
        RuntimeError: For any ``Exception`` in the block; it names the file and says what to do.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise RuntimeError(f"{caller}: {path} is missing.") from error
    except Exception as error:
        name = type(error).__name__
        advice = _ADVICE.get(name, "Fetch the file again.")
        raise RuntimeError(f"{caller}: {path} cannot be read{kind} ({name}: {error}). {advice}") from error
