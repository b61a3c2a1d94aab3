"""DA-STC without some of its parts, by name: for command lines."""

from collections.abc import Iterable
from typing import Any

from torch import nn

from dastc._core.checks import check_choice
from dastc.adapt import DASTC, Alignment, Recipe, dastc_parts

__all__ = ["PARTS", "dastc_without"]

PARTS = ("align", "class_prior", "histograms")


def dastc_without(
    names: str | Iterable[str], model: nn.Module, num_classes: int, *, warmup: int | None = None, **options: Any
) -> Recipe:
    """Make a :class:`~dastc.adapt.DASTC`, or the same without some parts.

    Args:
        names: Of the parts to leave out: ``"align"``, the alignment of classes; ``"class_prior"``, which keeps the
            teacher from naming classes more or less often than the source shows them; ``"histograms"``, which gives the
            source the colours of the target. A part that the preset does not have is not missed.
        model: The student.
        num_classes: Number of classes K.
        warmup: As of the recipe.
        options: Further arguments of :func:`~dastc.adapt.dastc_parts`.

    Raises:
        ValueError: If there is no such part.
    """
    names = (names,) if isinstance(names, str) else tuple(names)
    for name in names:
        check_choice("dastc_without", "names", name, PARTS)
    if not names:
        return DASTC(model, num_classes, warmup=warmup, **options)
    parts = dastc_parts(model, num_classes, **options)
    if warmup is not None:
        parts["warmup"] = warmup
    if "histograms" in names:
        parts["prepare"] = None
    if "class_prior" in names:
        parts["labels"].adjust = None
    if "align" in names:
        parts["terms"] = [term for term in parts["terms"] if not isinstance(term, Alignment)]
    drawn = {name: options[name] for name in ("seed", "ignore_index") if name in options}
    return Recipe(model, num_classes, **parts, **drawn)
