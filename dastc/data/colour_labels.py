"""Labels from pictures that show classes as colours."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dastc.data.label_space import LabelSpace

__all__ = ["ids_from_colours"]


def ids_from_colours(
    rgb: Tensor, space: LabelSpace, *, ignored: Sequence[tuple[int, int, int]] = ((0, 0, 0),)
) -> Tensor:
    """Turn a picture of class colours into labels; the inverse of :func:`dastc.viz.colourise`.

    Store the result as a picture of one channel, without loss: a JPEG has colours that are no class'.

    Args:
        rgb: The picture.
        space: The colours of the classes.
        ignored: Colours that become ``space.ignore_index``.

    Shape:
        - rgb: ``(..., H, W, 3)``, uint8.
        - output: ``(..., H, W)``, int64.

    Raises:
        TypeError: If ``rgb`` is not uint8.
        ValueError: If the last axis does not hold three channels, two classes have one colour, or a pixel has a colour
            that is neither a class' nor ignored.

    Example:
        >>> from dastc.data import STREET
        >>> ids_from_colours(torch.tensor([[128, 64, 128], [0, 0, 0]], dtype=torch.uint8), STREET)
        tensor([  2, 255])
    """
    if rgb.dtype != torch.uint8:
        raise TypeError(f"ids_from_colours: `rgb` must be of dtype uint8; got {rgb.dtype}.")
    if rgb.dim() < 1 or rgb.shape[-1] != 3:
        raise ValueError(f"ids_from_colours: `rgb` must have shape (..., H, W, 3); got {tuple(rgb.shape)}.")
    if len(set(space.colours)) < len(space.colours):
        raise ValueError("ids_from_colours: `space` must have a colour of its own for each class; got one twice.")
    place = torch.tensor([2**16, 2**8, 1], device=rgb.device)
    labels = {colour: space.ignore_index for colour in ignored} | {c: label for label, c in enumerate(space.colours)}
    known, order = (torch.tensor(list(labels), device=rgb.device) * place).sum(dim=-1).sort()
    values = torch.tensor(list(labels.values()), device=rgb.device)[order]
    codes = (rgb.long() * place).sum(dim=-1)
    index = torch.searchsorted(known, codes).clamp(max=len(known) - 1)
    strange = known[index] != codes
    if bool(strange.any()):
        colours = [tuple(colour) for colour in torch.unique(rgb[strange], dim=0)[:5].tolist()]
        raise ValueError(
            f"ids_from_colours: `rgb` must hold the colours of `space` or of `ignored` only; got, in "
            f"{int(strange.sum())} of {strange.numel()} pixels, {', '.join(map(str, colours))}."
        )
    return values[index]
