"""DA-STC without some of its parts, or with more, by name: for command lines."""

from collections.abc import Iterable
from typing import Any

from torch import nn

from dastc._core.checks import check_choice
from dastc.adapt import DASTC, Alignment, ClassPrior, MatchHistograms, OnlyIfAlike, Recipe, dastc_parts

__all__ = ["ADDITIONS", "PARTS", "dastc_by_names"]

ADDITIONS = ("class_prior", "histograms")
PARTS = ("align", *ADDITIONS)


def dastc_by_names(
    model: nn.Module,
    num_classes: int,
    *,
    without: str | Iterable[str] = (),
    adding: str | Iterable[str] = (),
    warmup: int | None = None,
    ramp: int | None = None,
    **options: Any,
) -> Recipe:
    """Make a :class:`~dastc.adapt.DASTC`, or one with other parts.

    Args:
        model: The student.
        num_classes: Number of classes K.
        without: Parts to leave out, of :data:`PARTS`: ``"align"``, the alignment of classes, and the additions below.
            A part that the preset does not have is not missed.
        adding: Parts to add, of :data:`ADDITIONS`, for domains that show the same things from the same height:
            ``"class_prior"`` keeps the teacher from naming classes more or less often than the source shows them in
            each part of the picture, ``"histograms"`` gives the source the colours of the target, in three bands. What
            is named here is on from the start and what is not is off, where the default would look at the target first.
        warmup: As of the recipe.
        ramp: As of the recipe.
        options: Further arguments of :func:`~dastc.adapt.dastc_parts`.

    Raises:
        ValueError: If there is no such part, or one is both added and left out.
    """
    without, adding = _checked("without", without, PARTS), _checked("adding", adding, ADDITIONS)
    if both := set(without) & set(adding):
        raise ValueError(f"dastc_by_names: `adding` must not name what `without` leaves out; got {sorted(both)}.")
    if not (without or adding):
        return DASTC(model, num_classes, warmup=warmup, ramp=ramp, **options)
    parts = dastc_parts(model, num_classes, **options)
    drawn = {name: options[name] for name in ("seed", "ignore_index") if name in options}
    parts |= {name: own for name, own in (("warmup", warmup), ("ramp", ramp)) if own is not None}
    asking = isinstance(parts.get("prepare"), OnlyIfAlike)
    if "histograms" in without or (adding and asking):
        parts["prepare"] = None
    if adding and asking:
        parts["labels"].adjust = None
    elif "class_prior" in without and asking:
        parts["labels"].adjust.part = nn.Identity()  # the histograms wait for what it finds
    if "histograms" in adding:
        parts["prepare"] = MatchHistograms(grid=(3, 1))
    if "class_prior" in adding:
        ignored = {name: drawn[name] for name in drawn if name == "ignore_index"}
        parts["labels"].adjust = ClassPrior(num_classes, grid=(8, 8), zoom=1.5, shift=0.05, **ignored)
    if "align" in without:
        parts["terms"] = [term for term in parts["terms"] if not isinstance(term, Alignment)]
    return Recipe(model, num_classes, **parts, **drawn)


def _checked(name: str, names: str | Iterable[str], known: tuple[str, ...]) -> tuple[str, ...]:
    names = (names,) if isinstance(names, str) else tuple(names)
    for one in names:
        check_choice("dastc_by_names", name, one, known)
    return names
