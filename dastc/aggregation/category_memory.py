"""Running class centroids."""

from typing import Any

import torch
from torch import Tensor, nn

from dastc._core.buffers import make_room
from dastc._core.checks import check_between, check_shape, check_whole
from dastc.functional import Centroids

__all__ = ["CategoryMemory"]


class CategoryMemory(nn.Module):
    """Remember the centroids of one domain: a running mean that classes without finite values leave as it was.

    Args:
        num_classes: Number of classes K.
        dim: Width D of the features; ``None`` takes that of the first centroids.
        momentum: Share of the past in each update, in [0, 1]; 0 remembers the last sight only, 1 the first.

    Shape:
        - centroids: values ``(K, D)``, mass ``(K,)``.
        - output: the memory after the update, the same shapes, without gradient; ``mass`` is 1 for the classes that
          were ever seen and 0 for the others.

    Raises:
        ValueError: If an argument is out of range or the shapes do not fit.

    Source:
        Ours, so that classes absent from a batch still repel; the released code remembers nothing
        (docs/method.md#aggregation-of-classes).

    Example:
        >>> memory = CategoryMemory(2, 1, momentum=0.5)
        >>> for value in (1.0, 2.0):
        ...     seen = memory(Centroids(torch.tensor([[value], [0.0]]), torch.tensor([4.0, 0.0])))
        >>> seen
        Centroids(values=tensor([[1.5000],
                [0.0000]]), mass=tensor([1., 0.]))
    """

    values: Tensor
    mass: Tensor

    def __init__(self, num_classes: int, dim: int | None = None, momentum: float = 0.9) -> None:
        super().__init__()
        check_whole("CategoryMemory", "num_classes", num_classes, 1)
        if dim is not None:
            check_whole("CategoryMemory", "dim", dim, 1)
        check_between("CategoryMemory", "momentum", momentum, 0, 1)
        self.num_classes, self.dim, self.momentum = num_classes, dim, momentum
        self.register_buffer("values", torch.zeros(num_classes, dim) if dim is not None else None)
        self.register_buffer("mass", torch.zeros(num_classes))

    @torch.no_grad()
    def forward(self, centroids: Centroids) -> Centroids:
        """Take in what was seen, in training mode; return what is remembered."""
        if not isinstance(centroids, Centroids):
            raise TypeError(f"CategoryMemory: `centroids` must be Centroids; got {type(centroids).__name__}.")
        sizes = check_shape("CategoryMemory", "centroids.values", centroids.values, "K D", self._sizes())
        check_shape("CategoryMemory", "centroids.mass", centroids.mass, "K", sizes)
        if self._buffers["values"] is None:
            self.values = torch.zeros_like(centroids.values, dtype=self.mass.dtype)
        new = centroids.values.to(self.values.dtype)
        # one broken batch must not stay in the memory for good
        seen = centroids.present & new.isfinite().all(dim=1)
        blended = torch.where(
            (self.mass > 0).unsqueeze(1), self.momentum * self.values + (1 - self.momentum) * new, new
        )
        if self.training:
            self.values.copy_(torch.where(seen.unsqueeze(1), blended, self.values))
            self.mass.copy_(torch.where(seen, 1.0, self.mass))
        return Centroids(self.values.clone(), self.mass.clone())

    def _sizes(self) -> dict[str, int]:
        values = self._buffers["values"]
        return {"K": self.num_classes} if values is None else {"K": self.num_classes, "D": values.shape[1]}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if self.dim is None:
            make_room(self, state_dict, prefix, ["values"])
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return f"num_classes={self.num_classes}, dim={self.dim}, momentum={self.momentum}"
