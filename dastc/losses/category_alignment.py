"""Category alignment in one line, for any training loop."""

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from dastc._core.checks import check_dtype, check_same_device, check_shape, check_tensor, check_whole
from dastc._core.distributed import sum_over_ranks
from dastc.functional import Centroids, centroids_from_sums, class_pool, resize_labels
from dastc.losses.centroid_alignment import Align, CentroidAlignmentLoss

__all__ = ["CategoryAlignmentLoss"]


class CategoryAlignmentLoss(nn.Module):
    """Average the features of each class in both domains, and align the averages.

    Args:
        num_classes: Number of classes K.
        align: An objective by name, with its defaults, or a module that takes two
            :class:`~dastc.functional.Centroids`.
        sync: Average over all ranks, when torch.distributed runs.
        ignore_index: Label of the pixels that take no part.

    Shape:
        - source_features, target_features: ``(N, D, h, w)`` or ``(B, T, D, h, w)``, any float dtype; the batch and
          the grid may differ between the domains.
        - source_labels, target_labels: ``(N, H, W)`` or ``(B, T, H, W)``, int64, at any size: each feature cell takes
          the label at its centre. Target labels are pseudo-labels.
        - source_weights, target_weights: like the labels, float in [0, 1], averaged over each cell.
        - output: ``()``; exactly 0, and connected to the graph, if no class is in both.

    Raises:
        ValueError: If an argument is out of range or the shapes do not fit.
        TypeError: If a tensor has the wrong kind of dtype.

    Source:
        The second move of the paper (arXiv 2311.13254 v1, abstract); see docs/method.md#aggregation-of-classes and
        docs/method.md#alignment-of-classes.

    Example:
        >>> import torch
        >>> align = CategoryAlignmentLoss(num_classes=3)
        >>> features = torch.randn(2, 16, 8, 8, requires_grad=True)
        >>> labels = torch.randint(0, 3, (2, 32, 32))
        >>> loss = align(features, labels, features, labels)
        >>> loss.shape
        torch.Size([])
    """

    def __init__(
        self, num_classes: int, *, align: Align | nn.Module = "infonce", sync: bool = True, ignore_index: int = 255
    ) -> None:
        super().__init__()
        check_whole("CategoryAlignmentLoss", "num_classes", num_classes, 1)
        check_whole("CategoryAlignmentLoss", "ignore_index", ignore_index)
        self.num_classes, self.sync, self.ignore_index = num_classes, sync, ignore_index
        self.objective = align if isinstance(align, nn.Module) else CentroidAlignmentLoss(align)

    def forward(
        self,
        source_features: Tensor,
        source_labels: Tensor,
        target_features: Tensor,
        target_labels: Tensor,
        *,
        source_weights: Tensor | None = None,
        target_weights: Tensor | None = None,
    ) -> Tensor:
        """Return the loss."""
        source = self._centroids("source", source_features, source_labels, source_weights)
        target = self._centroids("target", target_features, target_labels, target_weights)
        loss: Tensor = self.objective(source, target)
        return loss

    def _centroids(self, domain: str, features: Tensor, labels: Tensor, weights: Tensor | None) -> Centroids:
        caller = "CategoryAlignmentLoss"
        check_tensor(caller, f"{domain}_features", features)
        batch = "B T" if features.dim() == 5 else "N"
        sizes = check_shape(caller, f"{domain}_features", features, f"{batch} D h w")
        full = check_shape(caller, f"{domain}_labels", labels, f"{batch} H W", sizes)
        check_dtype(caller, f"{domain}_features", features, "float")
        check_dtype(caller, f"{domain}_labels", labels, "int64")
        if weights is not None:
            check_shape(caller, f"{domain}_weights", weights, f"{batch} H W", full)
            check_dtype(caller, f"{domain}_weights", weights, "float")
        given = {f"{domain}_features": features, f"{domain}_labels": labels, f"{domain}_weights": weights}
        check_same_device(caller, given)
        grid = (sizes["h"], sizes["w"])
        cells = resize_labels(labels, grid)
        if weights is not None:
            weights = F.adaptive_avg_pool2d(weights, grid)
        if batch == "B T":
            features, cells = (rearrange(x, "b t ... -> (b t) ...") for x in (features, cells))
            weights = None if weights is None else rearrange(weights, "b t h w -> (b t) h w")
        sums, mass = class_pool(features, cells, self.num_classes, weights=weights, ignore_index=self.ignore_index)
        sums, mass = sums.sum(dim=0), mass.sum(dim=0)
        if self.sync:
            sums, mass = sum_over_ranks(sums), sum_over_ranks(mass)
        return centroids_from_sums(sums, mass)

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return f"num_classes={self.num_classes}, sync={self.sync}, ignore_index={self.ignore_index}"
