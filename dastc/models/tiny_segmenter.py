"""A small encoder-decoder for demonstrations and tests; trains on a laptop."""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dastc._core.checks import check_choice, check_fits_weights, check_shape, check_whole

__all__ = ["TinySegmenter"]

Norm = Literal["group", "batch"]


class TinySegmenter(nn.Module):
    """Segment images with a few hundred thousand parameters, at a quarter of the input resolution.

    GroupNorm by default: under BatchNorm the statistics alone adapt to a new domain, which hides what a method does.

    Args:
        num_classes: Number of classes K.
        width: Channels after the stem; the encoder has ``width``, ``2 * width`` and ``3 * width``.
        norm: ``"group"`` for GroupNorm, ``"batch"`` for BatchNorm.

    Shape:
        - images: ``(N, 3, H, W)``, float, any H and W >= 4.
        - output: logits ``(N, K, ceil(H/4), ceil(W/4))``.

    Attributes:
        stem: The shallow features, ``(N, width, ceil(H/4), ceil(W/4))``: the default tap of feature fusion.
        neck: The deep features, ``(N, 2 * width, ceil(H/4), ceil(W/4))``: the default tap of alignment.

    Raises:
        ValueError: If ``num_classes`` < 1 or ``width`` is no positive multiple of 16, or ``norm``
            is unknown.
        TypeError: If ``images`` are not of the dtype of the weights.

    Source:
        Ours.

    Example:
        >>> TinySegmenter(9)(torch.zeros(1, 3, 30, 41)).shape
        torch.Size([1, 9, 8, 11])
    """

    def __init__(self, num_classes: int, *, width: int = 32, norm: Norm = "group") -> None:
        super().__init__()
        check_whole("TinySegmenter", "num_classes", num_classes, 1)
        check_whole("TinySegmenter", "width", width)
        if width < 16 or width % 16:
            raise ValueError(f"TinySegmenter: `width` must be a positive multiple of 16; got {width}.")
        check_choice("TinySegmenter", "norm", norm, get_args(Norm))
        self.num_classes, self.width, self.norm = num_classes, width, norm
        self.stem = nn.Sequential(_block(norm, 3, width // 2, stride=2), _block(norm, width // 2, width, stride=2))
        self.middle = nn.Sequential(_block(norm, width, 2 * width, stride=2), _Residual(norm, 2 * width))
        self.deep = nn.Sequential(
            _block(norm, 2 * width, 3 * width, stride=2),
            _Residual(norm, 3 * width),
            _Residual(norm, 3 * width, dilation=2),
        )
        self.neck = _block(norm, width + 2 * width + 3 * width, 2 * width, kernel=1)
        self.head = nn.Conv2d(2 * width, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits at a quarter of the input's resolution."""
        check_shape("TinySegmenter", "images", images, "N 3 H W", {"3": 3})
        check_fits_weights("TinySegmenter", "images", images, self.head.weight)
        shallow = self.stem(images)
        middle = self.middle(shallow)
        deep = self.deep(middle)
        up = [F.interpolate(x, size=shallow.shape[-2:], mode="bilinear", align_corners=False) for x in (middle, deep)]
        logits: Tensor = self.head(self.neck(torch.cat([shallow, *up], dim=1)))
        return logits

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return f"num_classes={self.num_classes}, width={self.width}, norm={self.norm!r}"


class _Residual(nn.Module):
    def __init__(self, norm: Norm, channels: int, *, dilation: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(_block(norm, channels, channels, dilation=dilation), _block(norm, channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


def _block(
    norm: Norm, inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, dilation: int = 1
) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, dilation=dilation, bias=False)
    normalise = nn.GroupNorm(8, outputs) if norm == "group" else nn.BatchNorm2d(outputs)
    return nn.Sequential(conv, normalise, nn.ReLU(inplace=True))
