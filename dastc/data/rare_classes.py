"""Clips with rare classes, drawn more often."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.utils.data import Sampler

from dastc._core.checks import check_at_least, check_dtype, check_shape
from dastc.clip import Clip

__all__ = ["RareClassSampler", "class_counts"]


def class_counts(clips: Iterable[Clip], num_classes: int) -> Tensor:
    """Count the pixels of each class in the current (last) frame of each clip.

    Args:
        clips: Labelled, unbatched clips, such as a data set.
        num_classes: Number of classes K; other labels are not counted.

    Returns:
        ``(len(clips), K)``, int64.

    Raises:
        ValueError: If a clip is not labelled.

    Example:
        >>> labels = torch.tensor([[[0, 2, 2, 255]]])
        >>> class_counts([Clip(torch.zeros(1, 3, 1, 4), labels)], 3)
        tensor([[1, 0, 2]])
    """
    rows = []
    for number, clip in enumerate(clips):
        if clip.labels is None:
            raise ValueError(f"class_counts: `clips` must be labelled; got labels=None in clip {number}.")
        labels = clip.labels[-1].flatten()
        rows.append(torch.bincount(labels[(labels >= 0) & (labels < num_classes)], minlength=num_classes))
    return torch.stack(rows) if rows else torch.zeros((0, num_classes), dtype=torch.int64)


class RareClassSampler(Sampler[int]):
    r"""Draw a class, the rarer the likelier, and then a clip that shows enough of it.

    Class c is drawn with probability proportional to :math:`\exp((1 - f_c) / \tau)`, where f is its share of all
    pixels; then any of the clips with at least ``min_pixels`` of it (with any of it, if none has as many).

    Args:
        counts: Pixels of each class in each clip, as from :func:`class_counts`.
        temperature: :math:`\tau`, > 0; large values draw all classes alike, small ones the rarest only.
        min_pixels: How much of a class a clip must show to be drawn for it.
        length: Draws in an epoch; ``None`` means as many as there are clips.
        seed: Of all draws. Every epoch continues the sequence.

    Shape:
        - counts: ``(N, K)``, int64.

    Raises:
        ValueError: If no clip shows any class, or an argument is out of range.

    Source:
        Hoyer et al. 2022 (DAFormer), as METHOD 9 describes it; not a part of DA-STC.

    Example:
        >>> sampler = RareClassSampler(torch.tensor([[90, 0], [90, 10]]), length=4)
        >>> list(sampler)
        [1, 1, 1, 1]
    """

    def __init__(
        self,
        counts: Tensor,
        *,
        temperature: float = 0.01,
        min_pixels: int = 1,
        length: int | None = None,
        seed: int = 0,
    ) -> None:
        check_shape("RareClassSampler", "counts", counts, "N K")
        check_dtype("RareClassSampler", "counts", counts, "int64")
        check_at_least("RareClassSampler", "min_pixels", min_pixels, 1)
        check_at_least("RareClassSampler", "length", len(counts) if length is None else length, 0)
        if not temperature > 0:
            raise ValueError(f"RareClassSampler: `temperature` must be greater than 0; got {temperature}.")
        totals = counts.sum(dim=0)
        if not bool(totals.any()):
            raise ValueError("RareClassSampler: `counts` must show some class in some clip; got none.")
        self.temperature, self.min_pixels, self.seed = temperature, min_pixels, seed
        self.length = len(counts) if length is None else length
        enough = counts >= min_pixels
        # (N, K): which clips may be drawn for a class
        self.eligible = torch.where(enough.any(dim=0), enough, counts > 0).double()
        rarity = (1 - totals / totals.sum()).double() / temperature
        # a class that nobody shows cannot be drawn
        self.probability = rarity.masked_fill(totals == 0, -torch.inf).softmax(dim=0)
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self, number: int, generator: torch.Generator) -> Tensor:
        """Return the indices of ``number`` clips, ``(number,)``, int64; the same for the same generator state."""
        if number == 0:
            return torch.zeros(0, dtype=torch.int64)
        classes = torch.multinomial(self.probability, number, replacement=True, generator=generator)
        return torch.multinomial(self.eligible.T[classes], 1, generator=generator).squeeze(1)

    def __iter__(self) -> Iterator[int]:
        yield from self.draw(self.length, self.generator).tolist()

    def __len__(self) -> int:
        return self.length
