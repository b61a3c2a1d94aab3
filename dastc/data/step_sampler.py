"""Which clips each step sees, told by the step alone: an interrupted run sees what it would have seen."""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from dastc._core.checks import check_at_least

__all__ = ["StepSampler"]


class StepSampler(Sampler[list[int]]):
    """Draw a batch of indices for each step, with replacement; a ``batch_sampler`` for a ``DataLoader``.

    The draw of a step depends on the seed, the step and the stream, and on no step before it. So a run that goes on
    from step 500 sees the batches that it would have seen, and ranks with streams of their own see different ones.

    Args:
        length: Number of clips, at least 1.
        batch: Clips of a batch, at least 1.
        steps: The steps to draw for, such as ``range(done, total)``.
        seed: Of all draws.
        stream: Tells domains and ranks apart, at least 0.

    Raises:
        ValueError: If a number is out of range.

    Source:
        Ours.

    Example:
        >>> whole = list(StepSampler(100, 2, range(5), seed=1))
        >>> whole[3:] == list(StepSampler(100, 2, range(3, 5), seed=1))
        True
    """

    def __init__(self, length: int, batch: int, steps: range, *, seed: int = 0, stream: int = 0) -> None:
        check_at_least("StepSampler", "length", length, 1)
        check_at_least("StepSampler", "batch", batch, 1)
        check_at_least("StepSampler", "stream", stream, 0)
        self.length, self.batch, self.steps, self.seed, self.stream = length, batch, steps, seed, stream

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.steps)

    def __iter__(self) -> Iterator[list[int]]:
        """Draw each step's indices."""
        for step in self.steps:
            # numbers far apart, so that no seed, stream and step share a generator with another in practice
            mixed = (self.seed * 1_000_003 + self.stream) * 1_000_000_007 + step
            generator = torch.Generator().manual_seed(mixed % 2**63)
            yield torch.randint(self.length, (self.batch,), generator=generator).tolist()
