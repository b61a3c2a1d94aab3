"""Class centroids, adaptive over space and time."""

import math
from typing import Literal, NamedTuple, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dastc._core.checks import check_at_least, check_dtype, check_same_device, check_shape
from dastc._core.distributed import sum_over_ranks
from dastc.functional import Centroids, centroids_from_sums, class_pool, resize_flow, resize_labels, warp_labels

__all__ = ["AggregationWeights", "CategoryAggregator"]


class AggregationWeights(NamedTuple):
    """How much each place and each frame counted.

    Args:
        space: Weight of each cell of the feature grid.
        time: Weight of each frame for each class; 1 on average over the frames that show the class, 0 elsewhere.

    Shape:
        - space: ``(B, T, h, w)``, float in [0, 1].
        - time: ``(B, T, K)``, float.

    Example:
        >>> aggregator = CategoryAggregator(2)
        >>> features, labels = torch.randn(1, 3, 8, 4, 4), torch.zeros(1, 3, 4, 4, dtype=torch.long)
        >>> _, weights = aggregator(features, labels, return_weights=True)
        >>> weights.time[0, :, 0]
        tensor([1., 1., 1.])
    """

    space: Tensor
    time: Tensor


class CategoryAggregator(nn.Module):
    r"""Average features per class: over the places that can be trusted, and over frames, surer ones counting more.

    .. math:: \mu_k = \frac{\sum_{b,t} a_{btk} \sum_{x: y = k} s_{btx} f_{btx}}
                           {\sum_{b,t} a_{btk} \sum_{x: y = k} s_{btx}}, \qquad
              a_{btk} \propto e^{-\bar H_{btk}}

    The weight s of a place is its given weight, times the confidence of the prediction there, and 0 where the
    prediction disagrees with the label or the label does not persist from the frame before along the flow. The weight
    a of a frame falls with the mean entropy H of its predictions for that class (entropy over log K, in [0, 1]).

    Args:
        num_classes: Number of classes K.
        agreement: Leave out places where the prediction is another class than the label; needs logits.
        confidence: Weigh places by the probability of the prediction; needs logits.
        temporal: Weigh frames by their entropy, per class; needs logits. Otherwise all frames count the same.
        persistence: Leave out places whose label differs from that of the frame before, brought along the flow.
        min_mass: A class with less weight behind it than this counts as absent.
        sync: Add over all ranks, when torch.distributed runs.
        ignore_index: Label of the places that take no part.

    Shape:
        - features: ``(B, T, D, h, w)``, or ``(B, D, h, w)`` for images, any float dtype.
        - labels: ``(B, T, H, W)``, or ``(B, H, W)``, int64 at any size; each cell takes the label at its centre.
        - logits: ``(B, T, K, h', w')``, or ``(B, K, h', w')``, at any size: the predictions for these frames.
        - weights: like ``labels``, float; averaged over each cell.
        - flow: ``(B, T-1, 2, H', W')``, backward, in pixels of its own grid.
        - output: values ``(K, D)`` and mass ``(K,)``, float32 (float64 if the features are). Gradients reach the
          features only. Absent classes are rows of 0 with mass 0.

    Raises:
        ValueError: If the shapes do not fit, the devices differ, or an argument is out of range.
        TypeError: If a tensor has the wrong kind of dtype.

    Source:
        Agreement: the released code (docs/method.md#aggregation-of-classes); its weight by entropy with the sign
        corrected (docs/method.md#what-is-corrected). That this weight is per class and not per picture, weights by
        confidence, and persistence along the flow are ours.

    Example:
        >>> features, labels = torch.ones(2, 8, 4, 4), torch.zeros(2, 16, 16, dtype=torch.long)
        >>> CategoryAggregator(3)(features, labels).mass
        tensor([32.,  0.,  0.])
    """

    def __init__(
        self,
        num_classes: int,
        *,
        agreement: bool = True,
        confidence: bool = True,
        temporal: bool = True,
        persistence: bool = True,
        min_mass: float = 0.0,
        sync: bool = True,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        check_at_least("CategoryAggregator", "num_classes", num_classes, 1)
        check_at_least("CategoryAggregator", "min_mass", min_mass, 0)
        self.num_classes, self.agreement, self.confidence = num_classes, agreement, confidence
        self.temporal, self.persistence, self.min_mass = temporal, persistence, min_mass
        self.sync, self.ignore_index = sync, ignore_index

    @overload
    def forward(
        self,
        features: Tensor,
        labels: Tensor,
        *,
        logits: Tensor | None = ...,
        weights: Tensor | None = ...,
        flow: Tensor | None = ...,
        return_weights: Literal[False] = ...,
    ) -> Centroids: ...
    @overload
    def forward(
        self,
        features: Tensor,
        labels: Tensor,
        *,
        logits: Tensor | None = ...,
        weights: Tensor | None = ...,
        flow: Tensor | None = ...,
        return_weights: Literal[True],
    ) -> tuple[Centroids, AggregationWeights]: ...
    def forward(
        self,
        features: Tensor,
        labels: Tensor,
        *,
        logits: Tensor | None = None,
        weights: Tensor | None = None,
        flow: Tensor | None = None,
        return_weights: bool = False,
    ) -> Centroids | tuple[Centroids, AggregationWeights]:
        """Return the centroids, and on request the weights they were averaged with."""
        if features.dim() == 4:  # images are clips of one frame
            features, labels = features.unsqueeze(1), labels.unsqueeze(1)
            logits, weights = (None if x is None else x.unsqueeze(1) for x in (logits, weights))
        sizes = self._check(features, labels, logits, weights, flow)
        grid = (sizes["h"], sizes["w"])
        cells = resize_labels(labels, grid)
        space = _cell_weights(weights, cells, grid)
        entropy = None
        if logits is not None:
            probability = _on_grid(logits.detach(), grid).softmax(dim=2)  # (B, T, K, h, w)
            space = space * self._trust(probability, cells)
            entropy = -(probability * probability.clamp(min=1e-8).log()).sum(dim=2)
        if flow is not None and self.persistence and sizes["T"] > 1:
            space = space * self._persists(cells, flow)
        time = self._frame_weights(entropy, cells)  # (B, T, K)
        sums, mass = class_pool(
            features.flatten(0, 1),
            cells.flatten(0, 1),
            self.num_classes,
            weights=space.flatten(0, 1),
            ignore_index=self.ignore_index,
        )
        frame = time.flatten(0, 1).to(mass.dtype)  # (B T, K)
        sums, mass = (sums * frame.unsqueeze(-1)).sum(dim=0), (mass * frame).sum(dim=0)
        if self.sync:
            sums, mass = sum_over_ranks(sums), sum_over_ranks(mass)
        mass = mass.where(mass >= self.min_mass, 0)
        centroids = centroids_from_sums(sums, mass)
        return (centroids, AggregationWeights(space, time)) if return_weights else centroids

    def _trust(self, probability: Tensor, cells: Tensor) -> Tensor:
        top, prediction = probability.max(dim=2)
        trust = top if self.confidence else torch.ones_like(top)
        return trust * (prediction == cells) if self.agreement else trust

    def _persists(self, cells: Tensor, flow: Tensor) -> Tensor:
        small = resize_flow(flow.flatten(0, 1), (cells.shape[-2], cells.shape[-1]))
        before = warp_labels(cells[:, :-1].flatten(0, 1), small, ignore_index=self.ignore_index)
        before = before.view(cells[:, 1:].shape)
        # what comes from outside, or from a place without label, cannot contradict
        later = (before == cells[:, 1:]) | (before == self.ignore_index)
        return torch.cat((torch.ones_like(later[:, :1]), later), dim=1)

    def _frame_weights(self, entropy: Tensor | None, cells: Tensor) -> Tensor:
        flat = cells.flatten(0, 1)
        ones = torch.ones(flat.shape, dtype=torch.float32 if entropy is None else entropy.dtype, device=cells.device)
        given = ones if entropy is None else entropy.flatten(0, 1)
        total, count = class_pool(given.unsqueeze(1), flat, self.num_classes, ignore_index=self.ignore_index)
        shown = (count > 0).view(*cells.shape[:2], -1)  # (B, T, K)
        if entropy is None or not self.temporal:
            return shown.to(count.dtype)
        mean = (total.squeeze(-1) / count.clamp(min=1)).view(shown.shape)
        sure = torch.exp(-mean / math.log(max(self.num_classes, 2))) * shown
        return sure * shown.sum(dim=1, keepdim=True) / sure.sum(dim=1, keepdim=True).clamp(min=1e-8)

    def _check(
        self, features: Tensor, labels: Tensor, logits: Tensor | None, weights: Tensor | None, flow: Tensor | None
    ) -> dict[str, int]:
        caller = "CategoryAggregator"
        sizes = check_shape(caller, "features", features, "B T D h w")
        check_dtype(caller, "features", features, "float")
        full = check_shape(caller, "labels", labels, "B T H W", sizes)
        check_dtype(caller, "labels", labels, "int64")
        if logits is not None:
            check_shape(caller, "logits", logits, "B T K h' w'", sizes | {"K": self.num_classes})
            check_dtype(caller, "logits", logits, "float")
        if weights is not None:
            check_shape(caller, "weights", weights, "B T H W", full)
            check_dtype(caller, "weights", weights, "float")
        if flow is not None:
            check_shape(caller, "flow", flow, "B T-1 2 H' W'", sizes | {"T-1": sizes["T"] - 1, "2": 2})
            check_dtype(caller, "flow", flow, "float")
        given = {"features": features, "labels": labels, "logits": logits, "weights": weights, "flow": flow}
        check_same_device(caller, given)
        return sizes

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return (
            f"num_classes={self.num_classes}, agreement={self.agreement}, confidence={self.confidence}, "
            f"temporal={self.temporal}, persistence={self.persistence}, min_mass={self.min_mass}, sync={self.sync}, "
            f"ignore_index={self.ignore_index}"
        )


def _cell_weights(weights: Tensor | None, cells: Tensor, grid: tuple[int, int]) -> Tensor:
    if weights is None:
        return torch.ones(cells.shape, dtype=torch.float32, device=cells.device)
    return F.adaptive_avg_pool2d(weights.detach().to(torch.promote_types(weights.dtype, torch.float32)), grid)


def _on_grid(logits: Tensor, grid: tuple[int, int]) -> Tensor:
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if logits.shape[-2:] == grid:
        return logits
    flat = F.interpolate(logits.flatten(0, 1), size=grid, mode="bilinear", align_corners=False)
    return flat.view(*logits.shape[:3], *grid)
