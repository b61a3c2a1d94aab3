"""The folder of a run, which belongs to one run alone."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from dastc.training.ranks import rank, together

__all__ = ["claim", "make_writable"]


def claim(folder: str | Path, files: Sequence[str], *, resume: bool = False, overwrite: bool = False) -> None:
    """Make a folder for a run, and see to it that it holds no other run.

    Args:
        folder: Of the run; made if need be.
        files: What a run leaves in it, by name: files, or folders.
        resume: The run that is there goes on.
        overwrite: The run that is there is removed: those files, and nothing else.

    Raises:
        ValueError: If the folder holds a run, and neither ``resume`` nor ``overwrite`` says what becomes of it; or if
            both do.
        OSError: If the folder cannot be written.

    Source:
        Ours.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     claim(folder, ["last.pt"])
        ...     _ = Path(folder, "last.pt").write_text("a run")
        ...     claim(folder, ["last.pt"])
        Traceback (most recent call last):
        ...
        ValueError: ... already holds a run ...
    """
    if resume and overwrite:
        raise ValueError("a run either goes on or is removed; got both --resume and --overwrite.")
    with together():
        if rank() == 0:
            _claim(Path(folder), files, resume, overwrite)


def make_writable(folder: Path) -> None:
    """Make a folder if need be, and refuse one that cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".writable").touch()
        (folder / ".writable").unlink(missing_ok=True)
    except OSError as error:
        raise OSError(f"{folder} cannot be written to ({error.strerror}); choose another folder by --out.") from error


def _claim(folder: Path, files: Sequence[str], resume: bool, overwrite: bool) -> None:
    make_writable(folder)  # better now than at the first checkpoint
    there = [name for name in files if (folder / name).exists()]
    if there and not (resume or overwrite):
        listed = ", ".join(there)
        raise ValueError(
            f"{folder} already holds a run ({listed}): --resume goes on, --overwrite removes it, "
            "or choose another folder."
        )
    if overwrite:
        for name in there:
            _remove(folder / name)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
