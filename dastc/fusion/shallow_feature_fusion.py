"""Blending of shallow features on the patches that two contexts share."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dastc._core.checks import check_between, check_dtype, check_same_device, check_shape

__all__ = ["ShallowFeatureFusion"]


class ShallowFeatureFusion(nn.Module):
    r"""Move the features of shared patches toward their features in the other context.

    .. math:: \tilde h = m \, (\alpha g + (1 - \alpha) h) + (1 - m) \, h

    Args:
        alpha: Share of the other context, in [0, 1]; 0 changes nothing.

    Shape:
        - features: ``(N, D, h, w)``, float: h, in this context.
        - context: the same shape: g, of the same patches in the other context.
        - mask: ``(N, H, W)``, bool or float in [0, 1]: m, where both contexts hold the same pixels; averaged over
          the area of each feature cell.
        - output: ``(N, D, h, w)``, dtype of ``features``, differentiable in both.

    Raises:
        ValueError: If the shapes do not fit, the devices differ or ``alpha`` is out of range.
        TypeError: If a tensor has the wrong kind of dtype.

    Source:
        The released code (docs/method.md#fusion-of-shallow-features); the average of the mask over each cell replaces
        the resizing of features there and back.

    Example:
        >>> import torch
        >>> here, there = torch.zeros(1, 1, 1, 2), torch.ones(1, 1, 1, 2)
        >>> ShallowFeatureFusion(alpha=0.25)(here, there, torch.tensor([[[True, False]]]))
        tensor([[[[0.2500, 0.0000]]]])
    """

    def __init__(self, alpha: float = 0.3) -> None:
        super().__init__()
        check_between("ShallowFeatureFusion", "alpha", alpha, 0, 1)
        self.alpha = alpha

    def forward(self, features: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """Return the fused features."""
        sizes = check_shape("ShallowFeatureFusion", "features", features, "N D h w")
        check_dtype("ShallowFeatureFusion", "features", features, "float")
        check_shape("ShallowFeatureFusion", "context", context, "N D h w", sizes)
        check_dtype("ShallowFeatureFusion", "context", context, "float")
        check_shape("ShallowFeatureFusion", "mask", mask, "N H W", sizes)
        if mask.dtype != torch.bool:
            check_dtype("ShallowFeatureFusion", "mask", mask, "float")
        check_same_device("ShallowFeatureFusion", {"features": features, "context": context, "mask": mask})
        share = F.adaptive_avg_pool2d(mask.to(features.dtype).unsqueeze(1), (sizes["h"], sizes["w"]))
        return features + self.alpha * share * (context - features)

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return f"alpha={self.alpha}"
