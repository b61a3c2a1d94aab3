"""Class centroids: one row for each class, and how much stands behind it."""

from typing import NamedTuple

import torch
from torch import Tensor

from dastc._core.checks import check_dtype, check_same_device, check_shape

__all__ = ["Centroids", "centroids_from_sums", "check_centroids"]


class Centroids(NamedTuple):
    """One mean feature for each class.

    Args:
        values: The centroids; the row of an absent class is 0.
        mass: The summed weight behind each row; 0 marks an absent class.

    Shape:
        - values: ``(K, D)``, float.
        - mass: ``(K,)``, float, without gradient.

    Example:
        >>> Centroids(torch.zeros(2, 8), torch.tensor([3.0, 0.0])).present
        tensor([ True, False])
    """

    values: Tensor
    mass: Tensor

    @property
    def present(self) -> Tensor:
        """The classes that have a centroid, ``(K,)``, bool."""
        return self.mass > 0

    def detach(self) -> "Centroids":
        """Cut the centroids from the graph."""
        return Centroids(self.values.detach(), self.mass.detach())


def centroids_from_sums(sums: Tensor, mass: Tensor) -> Centroids:
    """Divide sums by masses; absent classes become rows of 0, still connected to the graph.

    Shape:
        - sums: ``(K, D)``, as from :func:`class_pool`, added over samples.
        - mass: ``(K,)``, >= 0.

    Example:
        >>> centroids_from_sums(torch.tensor([[6.0], [0.0]]), torch.tensor([3.0, 0.0])).values
        tensor([[2.],
                [0.]])
    """
    caller = "centroids_from_sums"
    sizes = check_shape(caller, "mass", mass, "K")
    check_shape(caller, "sums", sums, "K D'", sizes)
    check_dtype(caller, "sums", sums, "float")
    check_dtype(caller, "mass", mass, "float")
    check_same_device(caller, {"sums": sums, "mass": mass})
    present = mass > 0
    values = (sums / mass.where(present, 1).unsqueeze(-1)).where(present.unsqueeze(-1), 0)
    return Centroids(values, mass.detach())


def check_centroids(caller: str, source: Centroids | Tensor, target: Centroids | Tensor) -> tuple[Centroids, Centroids]:
    """Check that two centroid sets are of the same classes, width and device; a bare (K, D) has every class."""
    left, right = (_as_centroids(caller, name, x) for name, x in {"source": source, "target": target}.items())
    sizes = check_shape(caller, "source", left.values, "K D")
    check_shape(caller, "source.mass", left.mass, "K", sizes)
    check_shape(caller, "target", right.values, "K D", sizes)
    check_shape(caller, "target.mass", right.mass, "K", sizes)
    for name, x in {"source": left.values, "target": right.values}.items():
        check_dtype(caller, name, x, "float")
    check_same_device(caller, {"source": left.values, "target": right.values})
    check_same_device(caller, {"source": left.values, "source.mass": left.mass})
    check_same_device(caller, {"target": right.values, "target.mass": right.mass})
    common = torch.promote_types(left.values.dtype, right.values.dtype)  # torch's products want one dtype
    return left._replace(values=left.values.to(common)), right._replace(values=right.values.to(common))


def _as_centroids(caller: str, name: str, x: Centroids | Tensor) -> Centroids:
    if isinstance(x, Tensor):
        return Centroids(x, _everything(x))
    if not isinstance(x, Centroids):
        raise TypeError(f"{caller}: `{name}` must be Centroids or a tensor; got {type(x).__name__}.")
    return x


def _everything(values: Tensor) -> Tensor:
    return torch.ones(values.shape[:1], dtype=values.dtype, device=values.device)
