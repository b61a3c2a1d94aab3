"""What a training shows while it runs: a bar, what parts decide, and TensorBoard's files."""

import logging
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from dastc.training.ranks import rank

__all__ = ["Progress", "say"]

_log = logging.getLogger("dastc")


def say(text: str) -> None:
    """Print a line once, whatever the number of ranks, and above the bar if there is one."""
    if rank() > 0:
        return
    if find_spec("tqdm") is None:
        sys.stdout.write(f"{text}\n")
        return
    from tqdm import tqdm

    tqdm.write(text)


class Progress:
    """Show how far a training is, and what parts of it log; of several ranks, the first one does.

    Args:
        first: Steps that are done.
        steps: Of the training.
        title: Stands before the bar, which needs tqdm.
        tensorboard: Folder for TensorBoard's files, where it is installed.
    """

    def __init__(self, first: int, steps: int, *, title: str = "", tensorboard: Path | None = None) -> None:
        self._shown: dict[str, str] = {}
        self._bar = _bar(first, steps, title)
        self._writer = None if tensorboard is None else _writer(tensorboard, first)
        self._aloud, self._level = _Aloud(logging.INFO), _log.level

    def __enter__(self) -> "Progress":
        self._level = _log.level
        if not _log.isEnabledFor(logging.INFO):
            _log.setLevel(logging.INFO)
        _log.addHandler(self._aloud)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        for part in (self._bar, self._writer):
            if part is not None:
                part.close()
        _log.removeHandler(self._aloud)
        _log.setLevel(self._level)

    def advance(self) -> None:
        """Count one step."""
        if self._bar is not None:
            self._bar.update(1)

    def show(self, group: str, values: Mapping[str, float], step: int) -> None:
        """Show numbers beside the bar until others of their group come, and write them for TensorBoard."""
        self._shown[group] = " ".join(f"{name}={value:.3g}" for name, value in values.items() if name != "total")
        if self._bar is not None:
            self._bar.set_postfix_str(" ".join(self._shown.values()))
        for name, value in values.items():
            if self._writer is not None:
                self._writer.add_scalar(f"{group}/{name}", value, step)


class _Aloud(logging.Handler):
    """Say what is logged, unless the program around has handlers of its own that do."""

    def emit(self, record: logging.LogRecord) -> None:
        if not logging.getLogger().handlers:
            say(self.format(record))


def _bar(first: int, steps: int, title: str) -> Any:
    if rank() > 0 or find_spec("tqdm") is None:
        return None
    from tqdm import tqdm

    return tqdm(initial=first, total=steps, desc=title or None, dynamic_ncols=True)


def _writer(folder: Path, first: int) -> Any:
    if rank() > 0 or find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    # what an interrupted run wrote after its checkpoint does not stay beside what the resumed one writes
    return SummaryWriter(folder, purge_step=first + 1)
