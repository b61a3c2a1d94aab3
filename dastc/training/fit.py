"""The loop around a recipe."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dastc._core.checks import check_at_least
from dastc.training.finite import check_losses, check_weights, read_losses
from dastc.training.interrupts import uninterrupted
from dastc.training.progress import Progress, say
from dastc.training.ranks import rank, together, world
from dastc.training.run_state import RunState
from dastc.training.schedules import Schedule
from dastc.training.step_batches import StepBatches
from dastc.training.train_step import TrainStep
from dastc.training.training_mode import set_to_train

__all__ = ["Trained", "fit"]

Score = Callable[[int], Mapping[str, float] | None]
_READ_EVERY = 10


class Trained(NamedTuple):
    """What :func:`fit` returns.

    Args:
        step: Steps that are done, those before an interruption included.
        seconds: Of training, without saving and scoring, those before an interruption included.
        losses: Of the last step, means over ranks; empty if there was no step to do.

    Example:
        >>> Trained(600, 42.0, {"total": 0.5}).step
        600
    """

    step: int
    seconds: float
    losses: dict[str, float]


def fit(
    recipe: nn.Module,
    optimizer: torch.optim.Optimizer,
    source: StepBatches,
    target: StepBatches,
    *,
    steps: int,
    schedule: Schedule | None = None,
    accumulate: int = 1,
    amp: bool = False,
    target_labels: bool = False,
    path: str | Path | None = None,
    resume: bool = False,
    save_every: int = 500,
    settings: Mapping[str, Any] | None = None,
    about: Mapping[str, Any] | None = None,
    score: Score | None = None,
    tensorboard: str | Path | None = None,
    title: str = "",
) -> Trained:
    """Train a recipe, on one process or on those that torchrun started, with checkpoints that a crash cannot spoil.

    The recipe is put in training mode; what is frozen and in evaluation mode stays so. Losses are read every tenth step
    and before each checkpoint. If one is not finite, or the weights are not, training stops there, and the checkpoint
    before stays. Ctrl-C ends the step, saves a checkpoint if there is one process, and raises ``KeyboardInterrupt``.

    Args:
        recipe: A recipe, on its device. With several ranks it is put into ``DistributedDataParallel``.
        optimizer: Of the model's parameters; a group's ``lr`` is its full rate.
        source: Batches of the source.
        target: Batches of the target.
        steps: Of the optimiser, in all.
        schedule: Gives the rate of a step, such as :func:`polynomial`; ``None`` leaves rates as they are.
        accumulate: In how many parts each batch passes, one after the other, before the optimiser's step. It must
            divide the batch, and saves memory: the step sees the same clips.
        amp: Compute in bfloat16 where that is safe.
        target_labels: Hand the labels of the target's clips, of which there may be few, to the recipe, which takes them
            in place of its teacher's.
        path: The checkpoint, for the last step done; ``None`` saves none.
        resume: Go on from ``path``. If there is no such file, this is said and the run starts from the beginning, so
            that one command serves a job that is started again and again.
        save_every: Steps between checkpoints, and between scores; the last step is always saved and scored.
        settings: What must be the same when the run goes on, such as the seed. The number of ranks always must.
        about: Further plain values to keep in the checkpoint, see :func:`dastc.adapt.save_checkpoint`.
        score: Called by the first rank with the number of steps done, after each checkpoint, and once more for the
            checkpoint that a run goes on from, as it may have been stopped before its score. What it returns is shown.
        tensorboard: Folder for TensorBoard's files, where it is installed.
        title: Stands before the bar, which needs tqdm.

    Raises:
        ValueError: If a number is out of range, ``accumulate`` does not divide the batch, ``path`` exists and is not to
            be resumed, or was made under other settings.
        FloatingPointError: If the losses or the weights are not finite; the message has their names and values.
        KeyboardInterrupt: After Ctrl-C.
        OSError: If a file cannot be written.

    Source:
        Ours.

    Example:
        >>> from dastc.adapt import SourceOnly
        >>> from dastc.data import StreetClips
        >>> from dastc.data.spaces import STREET
        >>> from dastc.models import TinySegmenter
        >>> source, target = (
        ...     StepBatches(StreetClips(domain, length=4, size=(16, 24)), 2, stream=stream)
        ...     for stream, domain in enumerate(("source", "target"))
        ... )
        >>> recipe = SourceOnly(TinySegmenter(len(STREET.names)), len(STREET.names))
        >>> fit(recipe, torch.optim.AdamW(recipe.model.parameters()), source, target, steps=2).step
        2
    """
    for name, value in (("steps", steps), ("accumulate", accumulate), ("save_every", save_every)):
        check_at_least("fit", name, value, 1)
    state = RunState(
        None if path is None else Path(path), recipe, optimizer, settings=settings or {}, about=about or {}
    )
    first, seconds = state.restore(resume=resume)
    step = TrainStep(recipe, optimizer, schedule=schedule, accumulate=accumulate, amp=amp, target_labels=target_labels)
    set_to_train(recipe)
    where = None if tensorboard is None else Path(tensorboard)
    with Progress(first, steps, title=title, tensorboard=where) as progress:
        run = _Run(step, recipe, state, progress, score, first, seconds)
        if first and (first % save_every == 0 or first >= steps):
            run.score()
        try:
            run.through(source, target, steps, save_every)
        except FloatingPointError as error:
            raise FloatingPointError(f"{error} {state.kept()}") from error
        except KeyboardInterrupt:
            run.interrupted()
            raise
    return Trained(run.done, run.seconds, run.losses)


class _Run:
    """A training on its way."""

    def __init__(
        self,
        step: TrainStep,
        recipe: nn.Module,
        state: RunState,
        progress: Progress,
        score: Score | None,
        first: int,
        seconds: float,
    ) -> None:
        self.step, self.recipe, self.state, self.progress, self._score = step, recipe, state, progress, score
        self.done, self.seconds, self.losses = first, seconds, dict[str, float]()
        self.whole = True  # neither in the middle of a step, nor ruined

    def through(self, source: StepBatches, target: StepBatches, steps: int, save_every: int) -> None:
        pin = self.step.device.type == "cuda"
        loaders = (batches.loader(range(self.done, steps), pin_memory=pin) for batches in (source, target))
        start = time.perf_counter() - self.seconds
        for pair in zip(*loaders, strict=True):
            with uninterrupted():
                losses = self._train(*pair)
            saves = self.done % save_every == 0 or self.done == steps
            if saves or self.done % _READ_EVERY == 0:
                self._read(losses)
            self.seconds = time.perf_counter() - start
            self.progress.advance()
            if saves:
                self._save()
                self.score()
                start = time.perf_counter() - self.seconds  # saving and scoring are not training

    def score(self) -> None:
        if self._score is None:
            return
        with together():  # the others wait here, as scoring may take longer than a collective would
            if rank() == 0:
                self.progress.show("score", self._score(self.done) or {}, self.done)

    def interrupted(self) -> None:
        """Save what is there if it is worth it; several ranks may be at different steps."""
        if self.whole and world() == 1:
            try:
                self._save()
            except FloatingPointError as error:
                say(str(error))
        say(f"Stopped after step {self.done}. {self.state.kept()}")

    def _train(self, source: Any, target: Any) -> dict[str, Tensor]:
        self.whole = False
        losses = self.step(self.done, source, target)
        self.done += 1
        self.whole = True
        return losses

    def _read(self, losses: dict[str, Tensor]) -> None:
        self.losses = read_losses(losses)
        check_losses(self.losses, self.done)
        self.progress.show("loss", self.losses, self.done)

    def _save(self) -> None:
        check_weights(self.recipe, self.done)
        self.state.save(self.done, self.seconds)
