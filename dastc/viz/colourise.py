"""Labels as colours, alone or over the picture."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from dastc._core.checks import check_between, check_dtype, check_same_device

__all__ = ["Palette", "colourise", "overlay"]


class Palette(Protocol):
    """Anything that says how classes are named and coloured, such as ``dastc.data.LabelSpace``.

    Attributes:
        names: One name for each class.
        colours: One RGB colour, 0 to 255, for each class.
        ignore_index: The label that takes no part.

    Example:
        >>> from dastc.data import spaces
        >>> def describe(space: Palette) -> str:
        ...     return f"{space.names[0]} is {space.colours[0]}"
        >>> describe(spaces.STREET)
        'sky is (70, 130, 180)'
    """

    @property
    def names(self) -> Sequence[str]:
        """One name for each class."""
        ...

    @property
    def colours(self) -> Sequence[tuple[int, int, int]]:
        """One RGB colour for each class."""
        ...

    @property
    def ignore_index(self) -> int:
        """The label that takes no part."""
        ...


def colourise(labels: Tensor, space: Palette) -> Tensor:
    """Paint each label in the colour of its class.

    Args:
        labels: Class indices. The ignored label, and whatever is no class, becomes black.
        space: Names and colours of the classes.

    Shape:
        - labels: ``(..., H, W)``, int64.
        - output: ``(..., H, W, 3)``, uint8, on the device of the labels.

    Raises:
        TypeError: If the labels are not int64.
        ValueError: If they have fewer than two axes.

    Source:
        Ours.

    Example:
        >>> from dastc.data import spaces
        >>> colourise(torch.tensor([[2, 255]]), spaces.STREET)
        tensor([[[128,  64, 128],
                 [  0,   0,   0]]], dtype=torch.uint8)
    """
    _check_labels("colourise", labels)
    table = torch.tensor([*space.colours, (0, 0, 0)], dtype=torch.uint8, device=labels.device)  # (K+1, 3)
    return table[labels.where(_is_class(labels, space), len(space.colours))]


def overlay(rgb: Tensor, labels: Tensor, space: Palette, *, opacity: float = 0.5) -> Tensor:
    """Lay the colours of the classes over a picture, which stays as it is where there is no class.

    Args:
        rgb: The picture.
        labels: Class indices of the same height and width.
        space: Names and colours of the classes.
        opacity: How much of the colour shows, in [0, 1]: 0 leaves the picture, 1 covers it.

    Shape:
        - rgb: ``(..., H, W, 3)``, uint8.
        - labels: ``(..., H, W)``, int64.
        - output: ``(..., H, W, 3)``, uint8.

    Raises:
        TypeError: If the picture is not uint8 or the labels are not int64.
        ValueError: If shapes or devices do not agree or ``opacity`` leaves [0, 1].

    Source:
        Ours.

    Example:
        >>> from dastc.data import spaces
        >>> overlay(torch.full((1, 2, 3), 100, dtype=torch.uint8), torch.tensor([[2, 255]]), spaces.STREET)
        tensor([[[114,  82, 114],
                 [100, 100, 100]]], dtype=torch.uint8)
    """
    _check_labels("overlay", labels)
    check_rgb("overlay", "rgb", rgb)
    if rgb.shape[:-1] != labels.shape:
        raise ValueError(
            f"overlay: `labels` must have the picture's shape {tuple(rgb.shape[:-1])}; got {tuple(labels.shape)}. "
            "Resize labels by nearest pixel."
        )
    check_same_device("overlay", {"rgb": rgb, "labels": labels})
    check_between("overlay", "opacity", opacity, 0, 1)
    mixed = torch.lerp(rgb.float(), colourise(labels, space).float(), opacity).round().to(torch.uint8)
    return mixed.where(_is_class(labels, space).unsqueeze(-1), rgb)


def check_rgb(caller: str, name: str, rgb: Tensor) -> None:
    """Check that a tensor holds 8-bit pictures, channels last."""
    if not isinstance(rgb, Tensor) or rgb.dtype != torch.uint8:
        raise TypeError(f"{caller}: `{name}` must be of dtype uint8; got {getattr(rgb, 'dtype', type(rgb).__name__)}.")
    if rgb.dim() < 3 or rgb.shape[-1] != 3:
        raise ValueError(f"{caller}: `{name}` must have shape (..., H, W, 3); got {tuple(rgb.shape)}.")


def _check_labels(caller: str, labels: Tensor) -> None:
    check_dtype(caller, "labels", labels, "int64")
    if labels.dim() < 2:
        raise ValueError(f"{caller}: `labels` must have shape (..., H, W); got {tuple(labels.shape)}.")


def _is_class(labels: Tensor, space: Palette) -> Tensor:
    return (labels != space.ignore_index) & (labels >= 0) & (labels < len(space.colours))
