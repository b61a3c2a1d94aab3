"""Which checkpoints of a run stay: the last one, one every so many steps, the best by a score without labels."""

import os
import shutil
from pathlib import Path
from typing import Any, Literal, get_args

from torch import nn

from dastc._core.checks import check_at_least, check_choice
from dastc.adapt import evaluate_without_labels
from dastc.training.progress import say
from dastc.training.records import append_row, read_rows
from dastc.training.step_batches import in_order

__all__ = ["Best", "KeptCheckpoints"]

Best = Literal["diversity", "entropy", "consistency", "density"]
_MOST = 64  # clips, evenly spread


class KeptCheckpoints:
    """Keep copies of a run's checkpoint: ``step_000500.pt`` every so many steps, ``best.pt`` by a score without labels.

    Copies share the disk space of the original where the file system has hard links. The scores are rows of
    ``label_free.jsonl`` beside it, so that a run that goes on knows them.

    Args:
        path: The checkpoint that the run writes, ``last.pt``.
        every: Steps between copies; ``None`` keeps none.
        best: The score of :func:`dastc.adapt.evaluate_without_labels` that chooses; ``None`` keeps no best one.
            None of them chooses for sure: docs/results.md#choosing-between-models-without-labels.

    Example:
        >>> KeptCheckpoints("last.pt", every=0)
        Traceback (most recent call last):
        ...
        ValueError: KeptCheckpoints: `every` must be at least 1; got 0.
    """

    def __init__(self, path: str | Path, *, every: int | None = None, best: Best | None = None) -> None:
        check_at_least("KeptCheckpoints", "every", 1 if every is None else every, 1)
        if best is not None:
            check_choice("KeptCheckpoints", "best", best, get_args(Best))
        self.path, self.every, self.best = Path(path), every, best
        self.rows = self.path.with_name("label_free.jsonl")

    def after(self, step: int, model: nn.Module, clips: Any, num_classes: int) -> dict[str, float]:
        """Look at the checkpoint of a step, which was just written; return the score, if there is one.

        Args:
            step: Of the checkpoint.
            model: What it holds.
            clips: Of the target, to score on; the labels they may have are not looked at.
            num_classes: Number of classes K.
        """
        if self.every is not None and step % self.every == 0:
            _copy(self.path, self.path.with_name(f"step_{step:06}.pt"))
        return {} if self.best is None else self._score(self.best, step, model, clips, num_classes)

    def _score(self, best: Best, step: int, model: nn.Module, clips: Any, num_classes: int) -> dict[str, float]:
        rows = read_rows(self.rows)
        if step in [row["step"] for row in rows]:
            return {}
        device = next(model.parameters()).device
        scores = evaluate_without_labels(model, in_order(clips, 1, most=_MOST), num_classes, device=device)
        values = {name: value if value == value else None for name, value in scores._asdict().items()}
        if values[best] is None:
            raise ValueError(f"--best {best} needs flow between frames; got clips without. Take --best diversity.")
        # copied before it is written down: what an interruption leaves out is done again
        if all(_order(best, values) > _order(best, row) for row in rows):
            _copy(self.path, self.path.with_name("best.pt"))
            say(f"step {step}: {best} {values[best]:.4g}, the best so far")
        append_row(self.rows, {"step": step, **values})
        return {best: getattr(scores, best)}


def _order(best: Best, values: dict[str, Any]) -> float:
    value: float = values[best]
    return -value if best == "entropy" else value


def _copy(path: Path, copy: Path) -> None:
    partial = copy.with_suffix(".part")
    partial.unlink(missing_ok=True)
    try:
        os.link(path, partial)  # the run replaces its checkpoint and never writes into it
    except OSError:
        shutil.copyfile(path, partial)
    partial.replace(copy)
