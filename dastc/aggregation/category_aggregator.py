"""Class centroids, adaptive over space and time."""

import math
from typing import Literal, NamedTuple, overload

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from dastc._core.checks import check_at_least, check_dtype, check_same_device, check_shape, check_tensor, check_whole
from dastc._core.distributed import sum_over_ranks
from dastc.functional import Centroids, centroids_from_sums, class_pool, resize_flow, resize_labels
from dastc.functional.labels import warp_labels

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
        check_whole("CategoryAggregator", "num_classes", num_classes, 1)
        check_whole("CategoryAggregator", "ignore_index", ignore_index)
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
        sizes = self._check(features, labels, logits, weights, flow)
        if features.dim() == 4:  # images are clips of one frame
            features, labels = features.unsqueeze(1), labels.unsqueeze(1)
            logits, weights = (None if x is None else x.unsqueeze(1) for x in (logits, weights))
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
            rearrange(features, "b t d h w -> (b t) d h w"),
            rearrange(cells, "b t h w -> (b t) h w"),
            self.num_classes,
            weights=rearrange(space, "b t h w -> (b t) h w"),
            ignore_index=self.ignore_index,
        )
        frame = rearrange(time, "b t k -> (b t) k").to(mass.dtype)
        sums, mass = (sums * rearrange(frame, "n k -> n k 1")).sum(dim=0), (mass * frame).sum(dim=0)
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
        small = resize_flow(rearrange(flow, "b t xy h w -> (b t) xy h w"), (cells.shape[-2], cells.shape[-1]))
        earlier = rearrange(cells[:, :-1], "b t h w -> (b t) h w")
        before = warp_labels(earlier, small, ignore_index=self.ignore_index)
        before = rearrange(before, "(b t) h w -> b t h w", t=cells.shape[1] - 1)
        # what comes from outside, or from a place without label, cannot contradict
        later = (before == cells[:, 1:]) | (before == self.ignore_index)
        return torch.cat((torch.ones_like(later[:, :1]), later), dim=1)

    def _frame_weights(self, entropy: Tensor | None, cells: Tensor) -> Tensor:
        flat = rearrange(cells, "b t h w -> (b t) h w")
        ones = torch.ones(flat.shape, dtype=torch.float32 if entropy is None else entropy.dtype, device=cells.device)
        given = ones if entropy is None else rearrange(entropy, "b t h w -> (b t) h w")
        total, count = class_pool(given.unsqueeze(1), flat, self.num_classes, ignore_index=self.ignore_index)
        shown = rearrange(count > 0, "(b t) k -> b t k", t=cells.shape[1])
        if entropy is None or not self.temporal:
            return shown.to(count.dtype)
        mean = rearrange(total.squeeze(-1) / count.clamp(min=1), "(b t) k -> b t k", t=cells.shape[1])
        sure = torch.exp(-mean / math.log(max(self.num_classes, 2))) * shown
        return sure * shown.sum(dim=1, keepdim=True) / sure.sum(dim=1, keepdim=True).clamp(min=1e-8)

    def _check(
        self, features: Tensor, labels: Tensor, logits: Tensor | None, weights: Tensor | None, flow: Tensor | None
    ) -> dict[str, int]:
        caller = "CategoryAggregator"
        check_tensor(caller, "features", features)
        lead = "B" if features.dim() == 4 else "B T"
        sizes = {"T": 1} | check_shape(caller, "features", features, f"{lead} D h w")
        check_dtype(caller, "features", features, "float")
        full = check_shape(caller, "labels", labels, f"{lead} H W", sizes)
        check_dtype(caller, "labels", labels, "int64")
        if logits is not None:
            check_shape(caller, "logits", logits, f"{lead} K h' w'", sizes | {"K": self.num_classes})
            check_dtype(caller, "logits", logits, "float")
        if weights is not None:
            check_shape(caller, "weights", weights, f"{lead} H W", full)
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
    flat = F.interpolate(rearrange(logits, "b t k h w -> (b t) k h w"), size=grid, mode="bilinear", align_corners=False)
    return rearrange(flat, "(b t) k h w -> b t k h w", t=logits.shape[1])
