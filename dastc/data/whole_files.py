"""Files that appear at once and complete, or not at all."""

import os
from pathlib import Path
from uuid import uuid4

__all__: list[str] = []  # for this package


def write_whole(caller: str, path: Path, content: bytes) -> None:
    """Write a file under another name and rename it: no one ever reads half of it, whoever else writes it too."""
    partial = path.with_name(f".{path.name}.{uuid4().hex}.part")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        raise RuntimeError(f"{caller}: {path} cannot be written ({type(error).__name__}: {error}).") from error
    finally:
        if partial.exists():
            partial.unlink()
