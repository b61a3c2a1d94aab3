"""Clips with rare classes, drawn more often."""

import warnings
from collections.abc import Iterable, Iterator, Sized
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from dastc._core.checks import check_at_least, check_dtype, check_shape
from dastc.clip import Clip
from dastc.data.progress import with_progress
from dastc.data.reader_errors import reading
from dastc.data.whole_files import write_whole

__all__ = ["RareClassSampler", "class_counts"]

_SAVE_EVERY = 200  # clips; what an interruption may cost


def class_counts(
    clips: Iterable[Clip], num_classes: int, *, cache: str | Path | None = None, progress: bool = False
) -> Tensor:
    """Count the pixels of each class in the current (last) frame of each clip.

    With ``cache``, the counts are kept in a file while they are made: an interrupted count goes on where it was, and a
    finished one is read. The file is checked against the clips by their number, and by counting three of them again.

    Args:
        clips: Labelled, unbatched clips, such as a data set; with ``len()`` and an index where there is a ``cache``.
        num_classes: Number of classes K; other labels are not counted.
        cache: A ``.npy`` file for the counts; its folder must exist. One that cannot be read is made anew, with a
            warning that names it.
        progress: Show a bar, which needs tqdm.

    Returns:
        ``(len(clips), K)``, int64.

    Raises:
        ValueError: If a clip is not labelled, ``num_classes`` is not positive, ``cache`` does not end in ``.npy``, or
            it holds the counts of other clips.
        TypeError: If there is a ``cache`` and ``clips`` have no length or index.
        RuntimeError: If ``cache`` cannot be written; without tqdm where ``progress`` is wanted.

    Example:
        >>> labels = torch.tensor([[[0, 2, 2, 255]]])
        >>> class_counts([Clip(torch.zeros(1, 3, 1, 4), labels)], 3)
        tensor([[1, 0, 2]])
    """
    check_at_least("class_counts", "num_classes", num_classes, 1)
    path = None if cache is None else Path(cache)
    rows = [] if path is None else _cached(path, clips, num_classes)
    total = len(clips) if isinstance(clips, Sized) else None
    # what is cached is not read again
    rest = ((i, clips[i]) for i in range(len(rows), total)) if rows else enumerate(clips)  # type: ignore[index, arg-type]
    left = None if total is None else total - len(rows)
    for number, clip in with_progress("class_counts", rest, "class counts", total=left, wanted=progress):
        rows.append(_count(clip, number, num_classes))
        if path is not None and len(rows) % _SAVE_EVERY == 0:
            _save(path, rows)
    if path is not None and left:
        _save(path, rows)
    return torch.stack(rows) if rows else torch.zeros((0, num_classes), dtype=torch.int64)


def _count(clip: Clip, number: int, num_classes: int) -> Tensor:
    if clip.labels is None:
        raise ValueError(f"class_counts: `clips` must be labelled; got labels=None in clip {number}.")
    labels = clip.labels[-1].flatten()
    return torch.bincount(labels[(labels >= 0) & (labels < num_classes)], minlength=num_classes)


def _cached(path: Path, clips: Iterable[Clip], num_classes: int) -> list[Tensor]:
    if path.suffix != ".npy":
        raise ValueError(f"class_counts: `cache` must end in .npy; got {path}.")
    if not isinstance(clips, Sized) or not hasattr(clips, "__getitem__"):
        raise TypeError(f"class_counts: `clips` must have len() and an index with `cache`; got {type(clips).__name__}.")
    if not path.exists():
        return []
    try:
        with reading("class_counts", path):
            counts = torch.from_numpy(np.load(path, allow_pickle=False))
    except RuntimeError as error:
        warnings.warn(f"class_counts: {path} is broken and made anew ({error})", RuntimeWarning, stacklevel=3)
        return []
    if counts.dtype != torch.int64 or counts.dim() != 2 or counts.shape[1] != num_classes or len(counts) > len(clips):
        raise ValueError(
            f"class_counts: `cache` must hold at most ({len(clips)}, K={num_classes}) int64 counts; got "
            f"{tuple(counts.shape)} {counts.dtype} in {path}. Delete it if the data has changed."
        )
    for number in sorted({0, len(counts) // 2, len(counts) - 1}) if len(counts) else ():
        if not torch.equal(_count(clips[number], number, num_classes), counts[number]):
            raise ValueError(
                f"class_counts: `cache` must hold the counts of these clips; got others for clip {number} in {path}. "
                "Delete it if the data has changed."
            )
    return list(counts)


def _save(path: Path, rows: list[Tensor]) -> None:
    content = BytesIO()
    np.save(content, torch.stack(rows).numpy(), allow_pickle=False)
    write_whole("class_counts", path, content.getvalue())


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
        Hoyer et al. 2022 (DAFormer); not a part of DA-STC.

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
