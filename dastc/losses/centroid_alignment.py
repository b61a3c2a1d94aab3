"""Alignment of two centroid sets, as a module over :mod:`dastc.functional`."""

from typing import Literal, get_args

from torch import Tensor, nn

from dastc._core.checks import check_above, check_at_least, check_between, check_choice, check_whole
from dastc.functional import Centroids, cdd, infonce, margin, mmd

__all__ = ["Align", "CentroidAlignmentLoss"]

Align = Literal["infonce", "cdd", "mmd", "margin"]


class CentroidAlignmentLoss(nn.Module):
    """Align the class centroids of two domains.

    Args:
        align: The objective. ``"infonce"``, ``"cdd"`` and ``"margin"`` pull same classes together and push different
            ones apart, as v1's abstract says; ``"mmd"`` is what the released code does and does not know classes.
        temperature: Of ``"infonce"``, > 0.
        distance: Of ``"margin"``: how far apart unit-length centres of different classes should be, in [0, 2].
        inter_weight: Of ``"margin"``: weight of the push, >= 0; 0 pulls same classes together and pushes nothing.
        factor: Of ``"mmd"`` and ``"cdd"``: ratio of neighbouring bandwidths, > 1.
        count: Of ``"mmd"`` and ``"cdd"``: number of bandwidths.

    Shape:
        - source, target: centroids, values ``(K, D)`` and mass ``(K,)``.
        - output: ``()``; exactly 0, and connected to the graph, if no class is in both.

    Raises:
        ValueError: If an argument is out of range or the shapes do not fit.

    Source:
        docs/method.md#alignment-of-classes, and that of each objective: :func:`dastc.functional.infonce` and its
        siblings.

    Example:
        >>> import torch
        >>> source, target = (Centroids(torch.randn(4, 8), torch.ones(4)) for _ in range(2))
        >>> CentroidAlignmentLoss("cdd")(source, target).shape
        torch.Size([])
    """

    def __init__(
        self,
        align: Align = "infonce",
        *,
        temperature: float = 0.1,
        distance: float = 1.0,
        inter_weight: float = 1.0,
        factor: float = 2.0,
        count: int = 5,
    ) -> None:
        super().__init__()
        check_choice("CentroidAlignmentLoss", "align", align, get_args(Align))
        check_above("CentroidAlignmentLoss", "temperature", temperature, 0)
        check_above("CentroidAlignmentLoss", "factor", factor, 1)
        check_between("CentroidAlignmentLoss", "distance", distance, 0, 2)
        check_at_least("CentroidAlignmentLoss", "inter_weight", inter_weight, 0)
        check_whole("CentroidAlignmentLoss", "count", count, 1)
        self.align, self.temperature, self.distance = align, temperature, distance
        self.inter_weight, self.factor, self.count = inter_weight, factor, count

    def forward(self, source: Centroids, target: Centroids) -> Tensor:
        """Return the loss."""
        if self.align == "infonce":
            return infonce(source, target, temperature=self.temperature)
        if self.align == "margin":
            return margin(source, target, distance=self.distance, inter_weight=self.inter_weight)
        objective = mmd if self.align == "mmd" else cdd
        return objective(source, target, factor=self.factor, count=self.count)

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return (
            f"{self.align!r}, temperature={self.temperature}, distance={self.distance}, "
            f"inter_weight={self.inter_weight}, factor={self.factor}, count={self.count}"
        )
