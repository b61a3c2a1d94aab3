"""From 8-bit pictures to the frames of a clip, and back."""

import torch
from torch import Tensor

from dastc._core.checks import check_dtype

__all__ = ["from_rgb", "to_rgb"]

# the statistics that nearly every pretrained backbone expects
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


def from_rgb(rgb: Tensor) -> Tensor:
    """Normalise 8-bit RGB pictures to frames with the usual ImageNet mean and deviation.

    Shape:
        - rgb: ``(..., H, W, 3)``, uint8.
        - output: ``(..., 3, H, W)``, float32, contiguous.

    Raises:
        TypeError: If ``rgb`` is not uint8.
        ValueError: If the last axis does not hold three channels.

    Example:
        >>> from_rgb(torch.zeros(2, 4, 6, 3, dtype=torch.uint8)).shape
        torch.Size([2, 3, 4, 6])
    """
    if rgb.dtype != torch.uint8:
        raise TypeError(f"from_rgb: `rgb` must be of dtype uint8; got {rgb.dtype}.")
    if rgb.dim() < 3 or rgb.shape[-1] != 3:
        raise ValueError(f"from_rgb: `rgb` must have shape (..., H, W, 3); got {tuple(rgb.shape)}.")
    mean, std = (torch.tensor(x, device=rgb.device).view(3, 1, 1) for x in (_MEAN, _STD))
    planes = rgb.movedim(-1, -3).contiguous()  # moved while it is small
    return planes.float().div_(255).sub_(mean).div_(std)


def to_rgb(frames: Tensor) -> Tensor:
    """Undo :func:`from_rgb`: normalised frames to 8-bit RGB, clipped to [0, 255].

    Shape:
        - frames: ``(..., 3, H, W)``, float.
        - output: ``(..., H, W, 3)``, uint8.

    Raises:
        TypeError: If ``frames`` is not float.
        ValueError: If the third axis from the end does not hold three channels.

    Example:
        >>> rgb = torch.randint(0, 256, (4, 6, 3), dtype=torch.uint8)
        >>> torch.equal(to_rgb(from_rgb(rgb)), rgb)
        True
    """
    check_dtype("to_rgb", "frames", frames, "float")
    if frames.dim() < 3 or frames.shape[-3] != 3:
        raise ValueError(f"to_rgb: `frames` must have shape (..., 3, H, W); got {tuple(frames.shape)}.")
    mean, std = (torch.tensor(x, device=frames.device).view(3, 1, 1) for x in (_MEAN, _STD))
    return (frames.float() * std + mean).mul(255).round().clamp(0, 255).to(torch.uint8).movedim(-3, -1).contiguous()
