"""A segmentation model around any backbone that returns feature maps."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from dastc._core.checks import check_shape, check_whole

__all__ = ["BackboneSegmenter"]


class BackboneSegmenter(nn.Module):
    """Put a light head on a backbone: every map is projected, brought to the first map's size and added up.

    For timm's ``create_model(..., features_only=True)``, transformers' ``AutoBackbone`` (DINOv2, Swin, ConvNeXt and
    others, whose tokens it returns as maps), torchvision's ``create_feature_extractor``, and backbones of your own.

    Args:
        backbone: Returns maps for images ``(N, 3, H, W)``: a sequence, a mapping, or an object with ``feature_maps``.
            The first map should be the finest.
        num_classes: Number of classes K.
        channels: Channels of each map; ``None`` asks the backbone, which timm's and transformers' know.
        width: Channels of the head, a multiple of 8.

    Shape:
        - images: ``(N, 3, H, W)``, float.
        - output: logits ``(N, K, h, w)``, at the resolution of the first map.

    Attributes:
        shallow: The first map as it comes, ``(N, C, h, w)``: the default tap of feature fusion.
        neck: The deep features, ``(N, width, h, w)``: the default tap of alignment.

    Raises:
        ValueError: If an argument is out of range, the channels are not known, or the maps are not as many or as wide
            as ``channels`` says.
        TypeError: In the forward pass, if the backbone returns something else.

    Source:
        Ours; the head is the usual one of feature pyramids, reduced to a projection and one convolution.

    Example:
        >>> import torch
        >>> class Maps(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.fine, self.coarse = nn.Conv2d(3, 8, 4, stride=4), nn.Conv2d(8, 16, 2, stride=2)
        ...     def forward(self, images):
        ...         return self.fine(images), self.coarse(self.fine(images))
        >>> BackboneSegmenter(Maps(), 5, channels=(8, 16))(torch.zeros(1, 3, 32, 48)).shape
        torch.Size([1, 5, 8, 12])
    """

    def __init__(
        self, backbone: nn.Module, num_classes: int, *, channels: Sequence[int] | None = None, width: int = 128
    ) -> None:
        super().__init__()
        check_whole("BackboneSegmenter", "num_classes", num_classes, 1)
        check_whole("BackboneSegmenter", "width", width)
        if width < 8 or width % 8:
            raise ValueError(f"BackboneSegmenter: `width` must be a positive multiple of 8; got {width}.")
        self.channels = _known_channels(backbone) if channels is None else tuple(channels)
        if not self.channels:
            raise ValueError("BackboneSegmenter: `channels` must have a number for each map; got none.")
        self.num_classes, self.width, self.backbone = num_classes, width, backbone
        self.shallow = nn.Identity()
        self.project = nn.ModuleList(nn.Conv2d(c, width, 1, bias=False) for c in self.channels)
        mix = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.neck = nn.Sequential(mix, nn.GroupNorm(8, width), nn.ReLU(inplace=True))
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits."""
        check_shape("BackboneSegmenter", "images", images, "N 3 H W", {"3": 3})
        first, *others = self._maps(self.backbone(images))
        first = self.shallow(first)
        total = self.project[0](first)
        for project, features in zip(self.project[1:], others, strict=True):
            total = total + F.interpolate(
                project(features), size=total.shape[-2:], mode="bilinear", align_corners=False
            )
        logits: Tensor = self.head(self.neck(total))
        return logits

    def _maps(self, output: Any) -> list[Tensor]:
        found = getattr(output, "feature_maps", output)
        maps = list(found.values()) if isinstance(found, Mapping) else found
        if not isinstance(maps, list | tuple) or not all(isinstance(x, Tensor) and x.dim() == 4 for x in maps):
            raise TypeError(
                "BackboneSegmenter: `backbone` must return maps (N, C, h, w), in a sequence, a mapping or as "
                f"`.feature_maps`; got {type(output).__name__}."
            )
        if len(maps) != len(self.channels):
            raise ValueError(
                f"BackboneSegmenter: `backbone` must return a map for each of the {len(self.channels)} `channels`; "
                f"got {len(maps)}."
            )
        return [_channels_first(x, wanted) for x, wanted in zip(maps, self.channels, strict=True)]

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return f"num_classes={self.num_classes}, channels={self.channels}, width={self.width}"


def _known_channels(backbone: Any) -> tuple[int, ...]:
    info = getattr(backbone, "feature_info", None)  # timm's
    found = getattr(backbone, "channels", None) if info is None else info.channels()  # transformers'
    if found is None:
        raise ValueError(
            f"BackboneSegmenter: `channels` must be given for a {type(backbone).__name__}, which does not tell them; "
            "got None."
        )
    return tuple(found)


def _channels_first(features: Tensor, channels: int) -> Tensor:
    if features.shape[1] == channels:
        return features
    if features.shape[-1] == channels:  # as timm's Swin returns them
        return rearrange(features, "n h w c -> n c h w")
    raise ValueError(
        f"BackboneSegmenter: a map of `backbone` must have {channels} channels, as `channels` says; "
        f"got {tuple(features.shape)}."
    )
