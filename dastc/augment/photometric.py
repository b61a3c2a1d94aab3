"""Random changes of colour and sharpness, one for each clip."""

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dastc._core.checks import check_at_least, check_between, check_dtype, check_shape, check_whole
from dastc._core.compiling import left_eager
from dastc._core.distributed import batch_rand
from dastc._core.random_state import RandomState

__all__ = ["PhotometricJitter"]

_GREY = (0.299, 0.587, 0.114)
_MAX_SIGMA = 1.15
_REACH = 3  # pixels to each side of the blur's kernel
Array = npt.NDArray[np.float64]


class PhotometricJitter(nn.Module):
    """Change brightness, contrast, saturation, hue, white balance and sharpness; all frames of a clip alike.

    The colour change is one affine map, so it works on normalised frames as well as on [0, 1]. Labels and flow stay
    true. Outside training nothing is changed.

    Args:
        brightness: Largest shift, in units of the frames (after normalisation: standard deviations).
        contrast: Largest relative change of contrast, in [0, 1).
        saturation: Largest relative change of saturation, in [0, 1].
        hue: Largest rotation of the hue, as a share of the circle, in [0, 0.5].
        balance: Largest relative change of each channel's gain, in [0, 1).
        blur: Probability of a Gaussian blur with sigma up to 1.15 pixels.
        seed: Seed of the draws; the generator is part of ``state_dict``.

    Shape:
        - frames: ``(B, T, 3, H, W)``, float.
        - output: the same.

    Raises:
        ValueError: If an argument is out of range or the shape does not fit.
        TypeError: If ``frames`` is not float.

    Source:
        The kinds of change: the released code (docs/method.md#pseudo-labels-across-frames). Strengths are ours, and
        nothing is cast to uint8 (docs/method.md#what-is-corrected).

    Example:
        >>> jitter = PhotometricJitter(seed=1)
        >>> jitter(torch.zeros(2, 2, 3, 8, 8)).shape
        torch.Size([2, 2, 3, 8, 8])
    """

    def __init__(
        self,
        *,
        brightness: float = 0.5,
        contrast: float = 0.4,
        saturation: float = 0.4,
        hue: float = 0.05,
        balance: float = 0.15,
        blur: float = 0.5,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_at_least("PhotometricJitter", "brightness", brightness, 0)
        for name, value in {"contrast": contrast, "saturation": saturation, "balance": balance, "blur": blur}.items():
            check_between("PhotometricJitter", name, value, 0, 1)
        check_between("PhotometricJitter", "hue", hue, 0, 0.5)
        check_whole("PhotometricJitter", "seed", seed)
        self.brightness, self.contrast, self.saturation = brightness, contrast, saturation
        self.hue, self.balance, self.blur, self.seed = hue, balance, blur, seed
        self.random = RandomState(seed)

    def forward(self, frames: Tensor) -> Tensor:
        """Return changed frames."""
        sizes = check_shape(
            "PhotometricJitter",
            "frames",
            frames,
            "B T 3 H W",
            {"3": 3},
            hint="Colours have three channels; give the recipe another `augment`, such as torch.nn.Identity().",
        )
        check_dtype("PhotometricJitter", "frames", frames, "float")
        if not self.training:
            return frames
        numbers = self._drawn(sizes["B"]).to(frames, non_blocking=True)
        # (B, 17) to (B * T, 17): a frame is changed as its clip is
        numbers = numbers.unsqueeze(1).expand(-1, sizes["T"], -1).flatten(0, 1)
        flat = frames.flatten(0, 1).flatten(2)
        coloured = torch.baddbmm(numbers[:, 9].view(-1, 1, 1), numbers[:, :9].view(-1, 3, 3), flat)
        return self._blurred(coloured.view(frames.shape), numbers[:, 10:])

    @left_eager
    def _drawn(self, batch: int) -> Tensor:
        """Return numbers (B, 17) of the CPU: a matrix of colours in 9, a shift, a kernel of 7 taps.

        They are drawn and worked out there: the same on every device, and without a launch for each little product.
        """
        draws = batch_rand(batch, 9, generator=self.random.generator).double().numpy()
        shift, contrast, saturation, hue, *balance = 2 * draws[:, :7].T - 1  # each in [-1, 1)
        amount = (1 + self.saturation * saturation)[:, None, None]
        colour = amount * _rotation(2 * math.pi * self.hue * hue) + (1 - amount) * np.array(_GREY)
        gain = 1 + self.balance * np.stack(balance, axis=1)  # (B, 3)
        colour = ((1 + self.contrast * contrast)[:, None] * gain)[:, :, None] * colour
        sigma = np.where(draws[:, 8] < self.blur, draws[:, 7] * _MAX_SIGMA, 0).clip(min=1e-3)
        kernel = np.exp(-0.5 * (np.arange(-_REACH, _REACH + 1) / sigma[:, None]) ** 2)
        kernel /= kernel.sum(axis=1, keepdims=True)
        return torch.from_numpy(np.concatenate((colour.reshape(batch, 9), self.brightness * shift[:, None], kernel), 1))

    def _blurred(self, frames: Tensor, kernel: Tensor) -> Tensor:
        channels, height, width = frames.shape[2:]
        if min(height, width) <= _REACH or self.blur == 0 or len(frames) == 0:
            return frames  # nothing to blur, or less than the kernel's reach
        kernel = kernel.unsqueeze(1).expand(-1, channels, -1).flatten(0, 1)
        flat = F.pad(frames.reshape(1, -1, height, width), (_REACH, _REACH, _REACH, _REACH), mode="replicate")
        flat = F.conv2d(flat, kernel.view(-1, 1, 2 * _REACH + 1, 1), groups=len(kernel))
        flat = F.conv2d(flat, kernel.view(-1, 1, 1, 2 * _REACH + 1), groups=len(kernel))
        return flat.view(frames.shape)

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return (
            f"brightness={self.brightness}, contrast={self.contrast}, saturation={self.saturation}, hue={self.hue}, "
            f"balance={self.balance}, blur={self.blur}, seed={self.seed}"
        )


def _rotation(angle: Array) -> Array:
    """Return rotations (B, 3, 3) about the grey axis, by Rodrigues' formula."""
    cos, sin = (x(angle)[:, None, None] for x in (np.cos, np.sin))
    cross = 3**-0.5 * np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    rotation: Array = cos * np.eye(3) + sin * cross + (1 - cos) / 3
    return rotation
