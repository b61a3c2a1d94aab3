"""What the label indices of a data set mean: names, colours and the ids in the files, as data."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["LabelSpace"]


class LabelSpace(NamedTuple):
    """Names and display colours of the classes, in label order, and where they are found in the files.

    Args:
        names: One name for each class.
        colours: One RGB colour, 0 to 255, for each class.
        rare: Labels of the thin and rare classes, for recipes that treat them separately.
        ignore_index: The label that takes no part.
        scored: Labels that the published mean is over; ``None`` means all. The others are trained, and predicting
            them costs. It fits ``classes`` of :class:`~dastc.metrics.MeanIoU` and :func:`dastc.adapt.evaluate`.
        raw_ids: For each data set the space can be read from: the id in its files, and the label it becomes. An id
            that is not there becomes ``ignore_index``.

    Example:
        >>> space = LabelSpace(("road", "car"), colours=((128, 64, 128), (0, 0, 142)), rare=(1,))
        >>> len(space.names), space.ignore_index
        (2, 255)
    """

    names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    rare: tuple[int, ...] = ()
    ignore_index: int = 255
    scored: tuple[int, ...] | None = None
    raw_ids: Mapping[str, Mapping[int, int]] = {}  # a read-only view could not be pickled

    def ids_from_colours(self, rgb: Tensor, *, ignored: Sequence[tuple[int, int, int]] = ((0, 0, 0),)) -> Tensor:
        """Turn a picture of class colours into labels; the inverse of :func:`dastc.viz.colourise`.

        Store the result as a picture of one channel, without loss: a JPEG has colours that are no class'.

        Args:
            rgb: The picture, ``(..., H, W, 3)``, uint8.
            ignored: Colours that become ``ignore_index``.

        Returns:
            Labels, ``(..., H, W)``, int64.

        Raises:
            TypeError: If ``rgb`` is not uint8.
            ValueError: If the last axis does not hold three channels, two classes have one colour, or a pixel has a
                colour that is neither a class' nor ignored.

        Example:
            >>> from dastc.data import spaces
            >>> spaces.STREET.ids_from_colours(torch.tensor([[128, 64, 128], [0, 0, 0]], dtype=torch.uint8))
            tensor([  2, 255])
        """
        caller = "LabelSpace.ids_from_colours"
        if rgb.dtype != torch.uint8:
            raise TypeError(f"{caller}: `rgb` must be of dtype uint8; got {rgb.dtype}.")
        if rgb.dim() < 1 or rgb.shape[-1] != 3:
            raise ValueError(f"{caller}: `rgb` must have shape (..., H, W, 3); got {tuple(rgb.shape)}.")
        if len(set(self.colours)) < len(self.colours):
            raise ValueError(f"{caller}: `colours` must have one of its own for each class; got one twice.")
        place = torch.tensor([2**16, 2**8, 1], device=rgb.device)
        labels = {colour: self.ignore_index for colour in ignored} | {c: label for label, c in enumerate(self.colours)}
        known, order = (torch.tensor(list(labels), device=rgb.device) * place).sum(dim=-1).sort()
        values = torch.tensor(list(labels.values()), device=rgb.device)[order]
        codes = (rgb.long() * place).sum(dim=-1)
        index = torch.searchsorted(known, codes).clamp(max=len(known) - 1)
        strange = known[index] != codes
        if bool(strange.any()):
            colours = [tuple(colour) for colour in torch.unique(rgb[strange], dim=0)[:5].tolist()]
            raise ValueError(
                f"{caller}: `rgb` must hold the colours of the classes or of `ignored` only; got, in "
                f"{int(strange.sum())} of {strange.numel()} pixels, {', '.join(map(str, colours))}."
            )
        return values[index]
