"""Labels that take no part."""

from torch import Tensor

__all__ = ["without_ignored"]


def without_ignored(labels: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """Move an ignored label that is also the number of a class out of [0, K), as where 0 means "nothing here"."""
    if not 0 <= ignore_index < num_classes:
        return labels
    return labels.where(labels != ignore_index, -1)
