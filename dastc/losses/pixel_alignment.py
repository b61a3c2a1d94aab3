"""Alignment of single pixels with the centroids of the other domain."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from dastc._core.checks import check_above, check_dtype, check_same_device, check_shape, check_whole
from dastc._core.precision import compute_dtype, without_autocast
from dastc.functional import Centroids, upsampled_cross_entropy

__all__ = ["PixelAlignmentLoss"]

_NEVER = -1e4  # as a logit: no probability in any precision, and still finite between two pixels


class PixelAlignmentLoss(nn.Module):
    r"""Pull each pixel's feature to the centroid of its class, and push it from those of the others, by cosine.

    .. math:: L = \mathrm{CE}\big(\cos(f_i, \mu_k) / \tau,\ y_i\big)

    An alignment of centroids is blind to how far the pixels of a class lie apart; this is not. Given the centroids of
    the other domain, it aligns domains; given those of the same domain, it tightens classes.

    Args:
        num_classes: Number of classes K.
        temperature: :math:`\tau`, > 0, dimensionless.
        sync: Divide by the mean count over ranks, when torch.distributed runs, so that N ranks equal one process.
        ignore_index: Label of the pixels that take no part.

    Shape:
        - features: ``(N, D, h, w)``, float.
        - labels: ``(N, H, W)``, int64, at any resolution; the similarities are upsampled, not the labels resized.
        - centroids: values ``(K, D)``, mass ``(K,)``. No gradient flows to them. A class without a centroid takes no
          part, neither its pixels nor as one to be pushed from.
        - weights: ``(N, H, W)``, float: how much each pixel counts; ``None`` counts each as 1.
        - output: ``()``; exactly 0, and connected to the graph, if no pixel counts.

    Raises:
        ValueError: If an argument is out of range, the shapes do not fit or the devices differ.
        TypeError: If a tensor has the wrong kind of dtype.

    Source:
        Ours, after the centroid-aware contrast of Xie et al. 2023 (SePiCo); not a part of DA-STC.

    Example:
        >>> import torch
        >>> loss = PixelAlignmentLoss(2)
        >>> feature = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
        >>> loss(feature, torch.tensor([[[0]]]), Centroids(torch.eye(2), torch.ones(2))) < 1e-3
        tensor(True)
    """

    def __init__(
        self, num_classes: int, *, temperature: float = 0.1, sync: bool = True, ignore_index: int = 255
    ) -> None:
        super().__init__()
        check_whole("PixelAlignmentLoss", "num_classes", num_classes, 1)
        check_whole("PixelAlignmentLoss", "ignore_index", ignore_index)
        check_above("PixelAlignmentLoss", "temperature", temperature, 0)
        self.num_classes, self.temperature, self.sync, self.ignore_index = num_classes, temperature, sync, ignore_index

    def forward(
        self, features: Tensor, labels: Tensor, centroids: Centroids, *, weights: Tensor | None = None
    ) -> Tensor:
        """Return the loss."""
        caller = "PixelAlignmentLoss"
        sizes = check_shape(caller, "features", features, "N D h w") | {"K": self.num_classes}
        if not isinstance(centroids, Centroids):
            raise TypeError(f"{caller}: `centroids` must be Centroids; got {type(centroids).__name__}.")
        check_shape(caller, "centroids.values", centroids.values, "K D", sizes)
        check_shape(caller, "centroids.mass", centroids.mass, "K", sizes)
        check_dtype(caller, "features", features, "float")
        check_dtype(caller, "centroids.values", centroids.values, "float")
        full = check_shape(caller, "labels", labels, "N H W", sizes)
        check_dtype(caller, "labels", labels, "int64")
        if weights is not None:
            check_shape(caller, "weights", weights, "N H W", full)
            check_dtype(caller, "weights", weights, "float")
        given = {"features": features, "centroids.values": centroids.values, "centroids.mass": centroids.mass}
        check_same_device(caller, given | {"labels": labels, "weights": weights})
        present, dtype = centroids.present, compute_dtype(features)
        counted = (labels >= 0) & (labels < self.num_classes) & (labels != self.ignore_index)
        known = counted & present[labels.where(counted, 0)]
        features = features.where(_reached(known, (sizes["h"], sizes["w"])).unsqueeze(1), 0)
        with without_autocast(features):
            rows = F.normalize(centroids.values.detach().to(dtype), dim=1) / self.temperature
            features = features.to(dtype)
            length = features.norm(dim=1, keepdim=True)
            # what is 0 has no direction, and gets no gradient: a normalised 0 has one of 1e12
            directed = features / length.clamp(min=1e-12).where(length > 0, math.inf)
            near = F.conv2d(directed, rows[:, :, None, None])
        near = near.where(present.view(1, -1, 1, 1), _NEVER)
        return upsampled_cross_entropy(near, labels.where(known, -1), weights=weights, ignore_index=-1, sync=self.sync)

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return f"{self.num_classes}, temperature={self.temperature}, sync={self.sync}, ignore_index={self.ignore_index}"


def _reached(known: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the cells, (N, h, w), from which a pixel that counts is interpolated, and some around.

    What is not finite elsewhere would come back as NaN in the gradient.
    """
    if known.shape[-2:] == grid:
        return known
    cells = F.adaptive_max_pool2d(known.float().unsqueeze(1), grid)
    return F.max_pool2d(cells, 3, stride=1, padding=1).squeeze(1) > 0
