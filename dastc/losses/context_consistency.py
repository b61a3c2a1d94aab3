"""One thing in two contexts should be seen alike."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dastc._core.checks import check_dtype, check_same_device, check_shape
from dastc._core.distributed import shared_count
from dastc._core.precision import compute_dtype

__all__ = ["ContextConsistencyLoss"]


class ContextConsistencyLoss(nn.Module):
    r"""Measure how differently the same pixels are told in two contexts, by the Jensen-Shannon divergence.

    .. math:: L = \frac{1}{|M|} \sum_{i \in M} \Big( H\big(\tfrac{p_i + q_i}{2}\big) - \tfrac{H(p_i) + H(q_i)}{2} \Big)

    It is 0 where both say the same, at most ln 2, and asks for no label.

    Args:
        sync: Divide by the mean count over ranks, when torch.distributed runs, so that N ranks equal one process.

    Shape:
        - first, second: logits ``(N, K, h, w)`` in the two contexts, float.
        - mask: ``(N, H, W)``, bool, at any resolution: where both contexts show the same thing; brought to the grid of
          the logits by the nearest pixel.
        - output: ``()``; exactly 0, and connected to the graph, if the mask is empty.

    Raises:
        ValueError: If the shapes do not fit or the devices differ.
        TypeError: If a tensor has the wrong kind of dtype.

    Source:
        The aim is that of the paper's fusion, one patch in two contexts (arXiv 2311.13254 v1, abstract); the form is
        ours.

    Example:
        >>> logits = torch.randn(1, 3, 4, 4)
        >>> ContextConsistencyLoss()(logits, logits, torch.ones(1, 8, 8, dtype=torch.bool)).abs() < 1e-6
        tensor(True)
    """

    def __init__(self, *, sync: bool = True) -> None:
        super().__init__()
        self.sync = sync

    def forward(self, first: Tensor, second: Tensor, mask: Tensor) -> Tensor:
        """Return the loss."""
        caller = "ContextConsistencyLoss"
        sizes = check_shape(caller, "first", first, "N K h w")
        check_shape(caller, "second", second, "N K h w", sizes)
        check_shape(caller, "mask", mask, "N H W", sizes)
        for name, x in {"first": first, "second": second}.items():
            check_dtype(caller, name, x, "float")
        check_dtype(caller, "mask", mask, "bool")
        check_same_device(caller, {"first": first, "second": second, "mask": mask})
        size = (first.shape[-2], first.shape[-1])
        shared = F.interpolate(mask.unsqueeze(1).to(torch.uint8), size=size, mode="nearest-exact").bool()
        # where, before anything is computed: a NaN outside the mask must not spread, backward either
        one, other = (x.to(compute_dtype(x)).where(shared, 0).log_softmax(dim=1) for x in (first, second))
        mean = torch.logaddexp(one, other) - math.log(2)
        divergence = ((one.exp() * (one - mean) + other.exp() * (other - mean)) / 2).sum(dim=1, keepdim=True)
        return divergence.where(shared, 0).sum() / shared_count(shared.sum(), sync=self.sync)

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return f"sync={self.sync}"
