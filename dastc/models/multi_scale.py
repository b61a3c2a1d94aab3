"""What a model says at several resolutions, averaged."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dastc._core.checks import check_dtype, check_number, check_shape
from dastc.models.outputs import logits_of

__all__ = ["MultiScale"]


class MultiScale(nn.Module):
    """Run an image model at several resolutions and average the probabilities.

    Needs no training: wrap a trained model to score with it, or a teacher's to label with it. Large scales see thin
    things, small ones see context.

    Args:
        image_model: Any model that :func:`logits_of` understands, for images ``(N, 3, H, W)``.
        scales: Factors > 0 of height and width, dimensionless; the first decides the resolution of the output.

    Shape:
        - images: ``(N, 3, H, W)``, float.
        - output: logarithms of the mean probabilities, which are logits: ``(N, K, h, w)``, at the resolution that the
          model has for the first scale; float32 (float64).

    Raises:
        ValueError: If there is no scale or one is not above 0, or the shape does not fit.
        TypeError: If ``images`` is not float, or the model returns something without logits.

    Source:
        Common practice; two resolutions in domain adaptation: Hoyer et al. 2022 (HRDA), there with learnt weights.

    Example:
        >>> from dastc.models import TinySegmenter
        >>> MultiScale(TinySegmenter(3), (1.0, 0.5))(torch.zeros(1, 3, 32, 48)).shape
        torch.Size([1, 3, 8, 12])
    """

    def __init__(self, image_model: nn.Module, scales: Sequence[float] = (1.0, 0.5)) -> None:
        super().__init__()
        if not isinstance(scales, Sequence):
            raise TypeError(f"MultiScale: `scales` must be a sequence of numbers; got {scales!r}.")
        for scale in scales:
            check_number("MultiScale", "scales", scale)
        self.image_model, self.scales = image_model, tuple(scales)
        if not self.scales or not min(self.scales) > 0:
            raise ValueError(f"MultiScale: `scales` must be numbers above 0, at least one; got {self.scales}.")

    def forward(self, images: Tensor) -> Tensor:
        """Return logits."""
        check_shape("MultiScale", "images", images, "N C H W")
        check_dtype("MultiScale", "images", images, "float")
        said = [self._at(images, scale) for scale in self.scales]
        size = (said[0].shape[-2], said[0].shape[-1])
        # in logarithms: a probability that rounds to 0 stays a finite logit
        logs = torch.stack([_resized(x, size).log_softmax(dim=1) for x in said])
        return logs.logsumexp(dim=0) - math.log(len(said))

    def _at(self, images: Tensor, scale: float) -> Tensor:
        size = tuple(max(1, round(side * scale)) for side in images.shape[-2:])
        # of a smaller picture, what is finer than the new grid would alias
        logits = logits_of(self.image_model(_resized(images, (size[0], size[1]), antialias=scale < 1)))
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return f"scales={self.scales}"


def _resized(x: Tensor, size: tuple[int, int], *, antialias: bool = False) -> Tensor:
    if x.shape[-2:] == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=antialias)
