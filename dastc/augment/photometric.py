"""Random changes of colour and sharpness, one for each clip."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from dastc._core.checks import check_at_least, check_between, check_dtype, check_shape, check_whole
from dastc._core.distributed import batch_rand
from dastc._core.random_state import RandomState

__all__ = ["PhotometricJitter"]

_GREY = (0.299, 0.587, 0.114)
_MAX_SIGMA = 1.15


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
        # drawn on the CPU: the same changes on every device
        draws = batch_rand(sizes["B"], 9, generator=self.random.generator).to(frames.device, non_blocking=True)
        matrix, shift = self._colour(draws)
        coloured = torch.einsum("bij,btjhw->btihw", matrix.to(frames.dtype), frames)
        return self._blurred(coloured + shift.to(frames.dtype).view(-1, 1, 1, 1, 1), draws)

    def _colour(self, draws: Tensor) -> tuple[Tensor, Tensor]:
        shift, contrast, saturation, hue, *balance = (2 * draws[:, :7] - 1).unbind(dim=1)  # each in [-1, 1)
        grey = torch.tensor(_GREY, device=draws.device).expand(3, 3)
        identity = torch.eye(3, device=draws.device)
        amount = (1 + self.saturation * saturation).view(-1, 1, 1)
        colour = amount * _rotation(2 * math.pi * self.hue * hue) + (1 - amount) * grey
        gain = 1 + self.balance * torch.stack(balance, dim=1)  # (B, 3)
        scale = (1 + self.contrast * contrast).view(-1, 1) * gain
        return (scale.unsqueeze(-1) * identity) @ colour, self.brightness * shift

    def _blurred(self, frames: Tensor, draws: Tensor) -> Tensor:
        time, channels, height, width = frames.shape[1:]
        if min(height, width) < 4 or self.blur == 0 or len(frames) == 0:
            return frames  # nothing to blur, or less than the kernel's reach
        sigma = (draws[:, 7] * _MAX_SIGMA).where(draws[:, 8] < self.blur, 0).clamp(min=1e-3)
        reach = torch.arange(-3, 4, device=frames.device)
        kernel = torch.exp(-0.5 * (reach / sigma.unsqueeze(1)).square())
        kernel = (kernel / kernel.sum(dim=1, keepdim=True)).to(frames.dtype)
        kernel = repeat(kernel, "b k -> (b t c) k", t=time, c=channels)
        flat = F.pad(rearrange(frames, "b t c h w -> 1 (b t c) h w"), (3, 3, 3, 3), mode="replicate")
        flat = F.conv2d(flat, rearrange(kernel, "n k -> n 1 k 1"), groups=len(kernel))
        flat = F.conv2d(flat, rearrange(kernel, "n k -> n 1 1 k"), groups=len(kernel))
        return rearrange(flat, "1 (b t c) h w -> b t c h w", t=time, c=channels)

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return (
            f"brightness={self.brightness}, contrast={self.contrast}, saturation={self.saturation}, hue={self.hue}, "
            f"balance={self.balance}, blur={self.blur}, seed={self.seed}"
        )


def _rotation(angle: Tensor) -> Tensor:
    """Return rotations (B, 3, 3) about the grey axis, by Rodrigues' formula."""
    cos, sin = angle.cos().view(-1, 1, 1), angle.sin().view(-1, 1, 1)
    third = 1 / 3
    outer = torch.full((3, 3), third, device=angle.device)
    cross = third**0.5 * torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=angle.device)
    rotation: Tensor = cos * torch.eye(3, device=angle.device) + sin * cross + (1 - cos) * outer
    return rotation
