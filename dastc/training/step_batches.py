"""The batches that a training reads."""

from collections.abc import Iterator, Sized
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, Dataset, Subset

from dastc.clip import Clip, stack_clips
from dastc.data import RareClassSampler
from dastc.data.step_sampler import StepSampler
from dastc.training.ranks import rank, world

__all__ = ["StepBatches", "in_order"]


class _Clips(Sized, Protocol):
    def __getitem__(self, index: int, /) -> Clip: ...


class StepBatches(Dataset[Clip]):
    """Give each step its batch: a function of the step, so that a resumed run reads what it would have read.

    Indices are drawn by :class:`~dastc.data.StepSampler`. What a data set draws from torch's own generator while it
    reads a clip, such as a window, is drawn from the seed, the step and the clip's place in the batch, too: neither
    workers, nor ranks, nor an interruption change it.

    Args:
        clips: A data set of clips without the batch axis, with a length.
        batch: Clips of a step in one process, at least 1.
        seed: Of all draws; the same in all processes.
        stream: Tells data sets apart that are drawn from side by side: 0 for the source, 1 for the target.
        rare: Draws clips with rare classes more often.
        labels: Whether clips keep their labels; a method that must not look at the target's gets ``False``.
        workers: Processes that read.

    Shape:
        - item: the batch of a step, of this process.

    Raises:
        ValueError: If a number is out of range, or there are no clips.

    Source:
        Ours.

    Example:
        >>> from dastc.data import StreetClips
        >>> batches = StepBatches(StreetClips("source", length=8, size=(16, 24)), 2, seed=1)
        >>> batches[5].frames.shape
        torch.Size([2, 2, 3, 16, 24])
        >>> next(iter(batches.loader(range(5, 9)))).frames.equal(batches[5].frames)
        True
    """

    def __init__(
        self,
        clips: _Clips,
        batch: int,
        *,
        seed: int = 0,
        stream: int = 0,
        rare: RareClassSampler | None = None,
        labels: bool = True,
        workers: int = 0,
    ) -> None:
        self.clips, self.labels, self.workers = clips, labels, workers
        self.sampler = StepSampler(
            len(clips), batch, range(0), seed=seed, stream=stream, rank=rank(), world=world(), rare=rare
        )

    def __getitem__(self, step: int) -> Clip:
        """Return the batch of a step."""
        sampler = self.sampler
        first, seed = sampler.rank * sampler.batch, sampler.seed_of(step)
        read = []
        for place, index in enumerate(sampler.draw(step), first):
            with _drawing_from(seed * 1_000_003 + place + 1):
                read.append(self.clips[index])
        return stack_clips(read if self.labels else [clip._replace(labels=None) for clip in read])

    def loader(self, steps: range, *, pin_memory: bool = False) -> DataLoader[Clip]:
        """Return a loader of the batches of some steps, one after the other."""
        return DataLoader(
            self, batch_size=None, sampler=steps, num_workers=self.workers, pin_memory=pin_memory,
            collate_fn=_as_it_is, generator=_apart(self.sampler.seed_of(steps.start)),
        )  # fmt: skip


def in_order(clips: _Clips, batch: int, *, most: int | None = None, workers: int = 0) -> DataLoader[Clip]:
    """Give all clips once, in order, to score a model.

    Args:
        clips: A data set of clips without the batch axis, with a length.
        batch: Clips of a batch; the last one may have fewer.
        most: Take about this many, evenly spread; ``None`` takes all.
        workers: Processes that read.

    Source:
        Ours.

    Example:
        >>> from dastc.data import StreetClips
        >>> [len(batch.frames) for batch in in_order(StreetClips("target", length=5, size=(16, 24)), 2)]
        [2, 2, 1]
    """
    spread = 1 if most is None else max(1, len(clips) // most)
    chosen: Dataset[Clip] = Subset(clips, range(0, len(clips), spread))  # type: ignore[arg-type]
    return DataLoader(chosen, batch, num_workers=workers, collate_fn=stack_clips, generator=_apart(0))


@contextmanager
def _drawing_from(seed: int) -> Iterator[None]:
    # the generator of the CPU alone: manual_seed of the package would change those of GPUs, too
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed % 2**63)
    try:
        yield
    finally:
        torch.set_rng_state(before)


def _apart(seed: int) -> torch.Generator:
    # a loader draws the seed of its workers: not from the generator that dropout uses
    return torch.Generator().manual_seed(seed)


def _as_it_is(batch: Any) -> Any:
    return batch
