"""What the measures share: clips that can be counted, and the mean of what was counted."""

from collections.abc import Sequence

from torch import Tensor

from dastc.clip import Clip

__all__ = ["check_some", "mean", "truth"]


def check_some(caller: str, **batches: Sequence[Clip]) -> None:
    """Refuse empty sequences of clips, by the name of the argument."""
    for name, clips in batches.items():
        if not clips:
            raise ValueError(f"{caller}: `{name}` must hold at least one batch of clips; got none.")


def truth(caller: str, clip: Clip) -> Tensor:
    """Return the labels that a clip must have."""
    if clip.labels is None:
        raise ValueError(f"{caller}: `clips` must be labelled; got a clip without labels.")
    return clip.labels


def mean(values: Tensor) -> float:
    """Return the mean of numbers or of claims, NaN if there are none."""
    return float(values.double().mean())
