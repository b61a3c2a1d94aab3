"""Which clips each step sees: a function of the step alone, so that a resumed run sees what it would have seen."""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from dastc._core.checks import check_at_least
from dastc.data.rare_classes import RareClassSampler

__all__ = ["StepSampler"]


class StepSampler(Sampler[list[int]]):
    """Draw the indices of each step's batch, with replacement; a ``batch_sampler`` for a ``DataLoader``.

    A draw depends on the seed, the step and the stream, and on no step before it. A run that goes on from step 500
    therefore sees the batches that it would have seen. With several ranks, each of them draws the batches of all and
    takes its own slice: together, N ranks see what one process with N times the batch sees.

    Args:
        length: Number of clips, at least 1.
        batch: Clips of a batch of one rank, at least 1.
        steps: The steps to draw for, such as ``range(done, total)``.
        seed: Of all draws; the same on all ranks.
        stream: Tells data sets apart that are drawn from side by side, such as the domains; at least 0.
        rank: Which slice to take, in [0, world).
        world: Number of ranks, at least 1.
        rare: Draws the indices instead, rare classes more often; it has counts of ``length`` clips.

    Raises:
        ValueError: If a number is out of range, or ``rare`` counts another number of clips.

    Source:
        Ours.

    Example:
        >>> whole = list(StepSampler(100, 4, range(5), seed=1))
        >>> whole[3:] == list(StepSampler(100, 4, range(3, 5), seed=1))
        True
        >>> halves = [StepSampler(100, 2, range(5), seed=1, rank=rank, world=2) for rank in (0, 1)]
        >>> whole[3] == halves[0].draw(3) + halves[1].draw(3)
        True
    """

    def __init__(
        self,
        length: int,
        batch: int,
        steps: range,
        *,
        seed: int = 0,
        stream: int = 0,
        rank: int = 0,
        world: int = 1,
        rare: RareClassSampler | None = None,
    ) -> None:
        check_at_least("StepSampler", "length", length, 1)
        check_at_least("StepSampler", "batch", batch, 1)
        check_at_least("StepSampler", "stream", stream, 0)
        check_at_least("StepSampler", "world", world, 1)
        if not 0 <= rank < world:
            raise ValueError(f"StepSampler: `rank` must lie in [0, world={world}); got {rank}.")
        if rare is not None and len(rare.eligible) != length:
            raise ValueError(f"StepSampler: `rare` must count {length} clips; got {len(rare.eligible)}.")
        self.length, self.batch, self.steps, self.seed, self.stream = length, batch, steps, seed, stream
        self.rank, self.world, self.rare = rank, world, rare

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.steps)

    def __iter__(self) -> Iterator[list[int]]:
        """Draw each step's indices."""
        for step in self.steps:
            yield self.draw(step)

    def draw(self, step: int) -> list[int]:
        """Return this rank's indices of one step, which need not be among ``steps``."""
        generator, total = torch.Generator().manual_seed(self.seed_of(step)), self.batch * self.world
        if self.rare is not None:
            drawn = self.rare.draw(total, generator)
        else:
            drawn = torch.randint(self.length, (total,), generator=generator)
        indices: list[int] = drawn[self.rank * self.batch : (self.rank + 1) * self.batch].tolist()
        return indices

    def seed_of(self, step: int) -> int:
        """Return the seed of one step's draws, the same on all ranks."""
        # streams in pairs: published numbers rest on the first two, which take turns; others are far from them
        pair, member = divmod(self.stream, 2)
        return (self.seed * 1_000_003 + step) * 2 + member + pair * 1_000_000_007_000
