"""From 8-bit pictures to the frames of a clip, and back."""

from typing import Literal, NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from dastc._core.checks import check_choice, check_dtype
from dastc._core.precision import compute_dtype

__all__ = ["Convention", "from_rgb", "renormalise", "to_rgb"]

Convention = Literal["imagenet", "half", "clip", "caffe"]


class _Scale(NamedTuple):
    mean: tuple[float, float, float]  # of R, G, B in [0, 1]
    std: tuple[float, float, float]
    bgr: bool = False


_SCALES = {
    # torchvision, timm's and smp's usual backbones, SegFormer and Mask2Former of transformers, mmseg
    "imagenet": _Scale((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    # timm's Inception and many of its vision transformers
    "half": _Scale((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "clip": _Scale((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    # DeepLab-v2 and the released code: blue first, 0 to 255, no deviation
    "caffe": _Scale((122.67891434 / 255, 116.66876762 / 255, 104.00698793 / 255), (1 / 255, 1 / 255, 1 / 255), True),
}


def from_rgb(rgb: Tensor, convention: Convention = "imagenet") -> Tensor:
    """Normalise 8-bit RGB pictures to frames, the way the model wants them.

    Args:
        rgb: The pictures.
        convention: ``"imagenet"``: mean and deviation of ImageNet, what nearly every pretrained model wants;
            ``"half"``: [-1, 1]; ``"clip"``: mean and deviation of CLIP's data; ``"caffe"``: blue first, minus the mean
            of ImageNet, in grey levels.

    Shape:
        - rgb: ``(..., H, W, 3)``, uint8.
        - output: ``(..., 3, H, W)``, float32, contiguous.

    Raises:
        TypeError: If ``rgb`` is not uint8.
        ValueError: If the last axis does not hold three channels or the convention is unknown.

    Source:
        ``"caffe"``: the released code (docs/method.md#pictures-and-labels).

    Example:
        >>> from_rgb(torch.zeros(2, 4, 6, 3, dtype=torch.uint8)).shape
        torch.Size([2, 3, 4, 6])
    """
    if rgb.dtype != torch.uint8:
        raise TypeError(f"from_rgb: `rgb` must be of dtype uint8; got {rgb.dtype}.")
    if rgb.dim() < 3 or rgb.shape[-1] != 3:
        raise ValueError(f"from_rgb: `rgb` must have shape (..., H, W, 3); got {tuple(rgb.shape)}.")
    scale = _scale("from_rgb", "convention", convention)
    planes = rearrange(rgb, "... h w rgb -> ... rgb h w").contiguous()  # moved while it is small
    return _scaled(planes.float().div_(255), scale)


def to_rgb(frames: Tensor, convention: Convention = "imagenet") -> Tensor:
    """Undo :func:`from_rgb`: normalised frames to 8-bit RGB, clipped to [0, 255].

    Args:
        frames: The frames.
        convention: How they were normalised, see :func:`from_rgb`.

    Shape:
        - frames: ``(..., 3, H, W)``, float.
        - output: ``(..., H, W, 3)``, uint8.

    Raises:
        TypeError: If ``frames`` is not float.
        ValueError: If the third axis from the end does not hold three channels or the convention is unknown.

    Example:
        >>> rgb = torch.randint(0, 256, (4, 6, 3), dtype=torch.uint8)
        >>> torch.equal(to_rgb(from_rgb(rgb)), rgb)
        True
    """
    _check_frames("to_rgb", frames)
    rgb = _unscaled(frames.float(), _scale("to_rgb", "convention", convention))
    pixels = rgb.mul(255).round().clamp(0, 255).to(torch.uint8)
    return rearrange(pixels, "... rgb h w -> ... h w rgb").contiguous()


def renormalise(frames: Tensor, convention: Convention, *, given: Convention = "imagenet") -> Tensor:
    """Bring normalised frames to another convention, such as those of a data set to that of a model.

    Nothing is rounded or clipped, so frames may have been changed in colour before. Changes that are made for the
    statistics of ImageNet, such as :class:`dastc.augment.PhotometricJitter`, come first.

    Args:
        frames: The frames.
        convention: What the model wants, see :func:`from_rgb`.
        given: How the frames are normalised.

    Shape:
        - frames: ``(..., 3, H, W)``, float.
        - output: the same.

    Raises:
        TypeError: If ``frames`` is not float.
        ValueError: If the third axis from the end does not hold three channels or a convention is unknown.

    Example:
        >>> rgb = torch.randint(0, 256, (4, 6, 3), dtype=torch.uint8)
        >>> frames = renormalise(from_rgb(rgb), "half")
        >>> torch.allclose(frames, from_rgb(rgb, "half"), atol=1e-6)
        True
    """
    _check_frames("renormalise", frames)
    wanted, known = _scale("renormalise", "convention", convention), _scale("renormalise", "given", given)
    if wanted == known:
        return frames
    return _scaled(_unscaled(frames.to(compute_dtype(frames)), known), wanted).to(frames.dtype)


def _check_frames(caller: str, frames: Tensor) -> None:
    check_dtype(caller, "frames", frames, "float")
    if frames.dim() < 3 or frames.shape[-3] != 3:
        raise ValueError(f"{caller}: `frames` must have shape (..., 3, H, W); got {tuple(frames.shape)}.")


def _scale(caller: str, name: str, convention: str) -> _Scale:
    check_choice(caller, name, convention, tuple(_SCALES))
    return _SCALES[convention]


def _scaled(rgb: Tensor, scale: _Scale) -> Tensor:
    # in place: both callers hand over what they have just made
    frames = rgb.sub_(rgb.new_tensor(scale.mean).view(3, 1, 1)).div_(rgb.new_tensor(scale.std).view(3, 1, 1))
    return frames.flip(-3) if scale.bgr else frames


def _unscaled(frames: Tensor, scale: _Scale) -> Tensor:
    rgb = frames.flip(-3) if scale.bgr else frames
    return rgb * rgb.new_tensor(scale.std).view(3, 1, 1) + rgb.new_tensor(scale.mean).view(3, 1, 1)
