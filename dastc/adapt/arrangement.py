"""The parts of DA-STC and the two named ways to put them together."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Literal, NamedTuple, get_args

from typing_extensions import TypedDict

from dastc._core.checks import check_at_least, check_between, check_choice, check_grid, check_views
from dastc.adapt.steps import CrossFrame
from dastc.functional.confidence import Weighting

__all__ = ["ARRANGEMENTS", "Arrangement", "Switches", "arrange"]

Fusion = Literal["exchange", "shared", "none"]
AlignContext = Literal["fused", "in_source", "in_target", "clean"]
Objective = Literal["infonce", "cdd", "mmd", "margin", "pixel", "none"]
TeacherMode = Literal["ema", "frozen", "student"]


class Arrangement(NamedTuple):
    """One value for each part of :class:`~dastc.adapt.DASTC`.

    Args:
        warmup: Steps on the clean source alone before anything is adapted: a teacher that knows nothing yet labels
            badly, and is believed. The released code starts from an adapted model instead. Not a part of DA-STC.
        fusion: ``"exchange"``: two complementary clips of this step's source and target; ``"shared"``: patches of the
            step before, in both contexts; ``"none"``: no fused clips.
        complementary: Of ``"exchange"``: one mask for both contexts; else each has its own.
        source_context: Train on the clip in source context, too (else in target context only).
        clean_source: Train on the source as it is, too, at a fifth more time.
        clean_target: Train on the target as it is, too.
        masked_target: Share of the target that is hidden in a further clip to train on, in [0, 1); 0 is off. See
            :func:`dastc.functional.hide_blocks`. Not a part of DA-STC.
        target_weight: Weight of the losses in target context, dimensionless.
        rare_probability: Probability that rare classes are pasted in addition to those drawn.
        bank: Paste static patches of rare classes from a :class:`~dastc.fusion.PatchBank`.
        target_patches: Paste confident patches of the step before's target; of ``"shared"``.
        feature_fusion: Share of the source context in the shallow features of shared patches in target context, in
            [0, 1]; 0 is off. Of ``"shared"``, where both contexts hold the same patches.
        feature_fusion_both: Of ``feature_fusion``: likewise the other way, in source context. Both contexts then pass
            through the model as one batch.
        cross_frame: Where target labels come from; see :func:`dastc.adapt.labelled_by`.
        class_prior: Strength, in [0, 1], with which the teacher's labels are kept from naming classes more or less
            often than the source shows them; 0 is off. See :class:`~dastc.adapt.ClassPrior`. Not a part of DA-STC.
        class_prior_grid: Rows and columns of cells of the picture that have a prior of their own, each >= 1.
        class_prior_views: Largest zoom, >= 1, and largest shift, as a part of the picture's height, by which the
            target's cameras may see otherwise than the source's; ``(1.0, 0.0)`` is off.
        both_frames: Train on every frame of a clip, not on the current one alone, at a third more time.
        temporal: Weigh frames in the aggregation, and leave out what does not persist along the flow. Of
            ``both_frames``: with the current one alone there is nothing to weigh.
        align: The objective of :class:`~dastc.losses.CentroidAlignmentLoss`; ``"pixel"`` pulls each pixel to the
            centroid of its class in the other domain (:class:`~dastc.losses.PixelAlignmentLoss`, not a part of
            DA-STC); or ``"none"``.
        align_weight: Its weight, dimensionless.
        align_ramp: Steps after the warm-up over which that weight is reached, in equal parts; 0 starts with all of it.
        align_context: What classes are averaged over: ``"fused"`` for both fused clips, ``"in_source"`` or
            ``"in_target"`` for one of them, ``"clean"`` for the clips as they are. Of ``"exchange"``; with another
            ``fusion`` it is ``"clean"``, whatever the default says.
        memory: Of ``align``: use running centroids, one memory for each domain.
        context_consistency: Weight of the loss that what both contexts show is told alike; 0 is off. See
            :class:`~dastc.losses.ContextConsistencyLoss`. Needs the same pixels in both contexts: ``fusion="shared"``,
            or ``complementary=False``.
        match_histograms: Give source frames the target's histograms, in the warm-up, too.
        histogram_grid: Rows and columns of windows of the picture that are matched each by itself, each >= 1; see
            :func:`dastc.functional.match_histograms`. More than one is not a part of DA-STC.
        teacher: See :class:`~dastc.adapt.Teacher`.
        decay: Likewise.
        weighting: How confidence becomes weight; see :func:`dastc.functional.confidence_weights`.
        threshold: From which confidence on a pixel is confident, in [0, 1].

    Example:
        >>> ARRANGEMENTS["released"].fusion
        'shared'
    """

    warmup: int = 150
    fusion: Fusion = "exchange"
    complementary: bool = True
    source_context: bool = True
    clean_source: bool = True
    clean_target: bool = False
    masked_target: float = 0.0
    target_weight: float = 1.0
    rare_probability: float = 0.0
    bank: bool = False
    target_patches: bool = False
    feature_fusion: float = 0.0
    feature_fusion_both: bool = False
    cross_frame: CrossFrame = "averaged"
    class_prior: float = 1.0
    class_prior_grid: tuple[int, int] = (8, 8)
    class_prior_views: tuple[float, float] = (1.5, 0.05)
    both_frames: bool = False
    temporal: bool = True
    align: Objective = "cdd"
    align_weight: float = 0.1
    align_ramp: int = 0
    align_context: AlignContext = "fused"
    memory: bool = True
    context_consistency: float = 0.0
    match_histograms: bool = True
    histogram_grid: tuple[int, int] = (3, 1)
    teacher: TeacherMode = "ema"
    decay: float = 0.98
    weighting: Weighting = "share"
    threshold: float = 0.8


class Switches(TypedDict, total=False):
    """The fields of :class:`Arrangement`, each of them optional, for type checkers and editors."""

    warmup: int
    fusion: Fusion
    complementary: bool
    source_context: bool
    clean_source: bool
    clean_target: bool
    masked_target: float
    target_weight: float
    rare_probability: float
    bank: bool
    target_patches: bool
    feature_fusion: float
    feature_fusion_both: bool
    cross_frame: CrossFrame
    class_prior: float
    class_prior_grid: tuple[int, int]
    class_prior_views: tuple[float, float]
    both_frames: bool
    temporal: bool
    align: Objective
    align_weight: float
    align_ramp: int
    align_context: AlignContext
    memory: bool
    context_consistency: float
    match_histograms: bool
    histogram_grid: tuple[int, int]
    teacher: TeacherMode
    decay: float
    weighting: Weighting
    threshold: float


def arrange(arrangement: str, switches: Switches, *, rare_classes: Sequence[int], shallow: str | None) -> Arrangement:
    """Apply switches to a named arrangement, and refuse parts that do not fit each other."""
    check_choice("DASTC", "arrangement", arrangement, tuple(ARRANGEMENTS))
    for name in switches:
        if name not in Arrangement._fields:
            near = get_close_matches(name, Arrangement._fields, n=3, cutoff=0.4) or Arrangement._fields
            raise TypeError(f"DASTC: `{name}` is no part of the method. Near: {', '.join(near)}.")
    parts = ARRANGEMENTS[arrangement]._replace(**switches)
    _check_values(parts)
    clean = parts.clean_source and parts.clean_target
    rules = {
        "`feature_fusion` needs fusion='shared': only there both contexts hold the same patches": (
            parts.feature_fusion == 0 or parts.fusion == "shared"
        ),
        "`target_patches` needs fusion='shared': only there the step before is pasted": (
            not parts.target_patches or parts.fusion == "shared"
        ),
        "`feature_fusion` needs `source_context`, whose features it takes": (
            parts.feature_fusion == 0 or parts.source_context
        ),
        "`feature_fusion_both` needs `feature_fusion` above 0": (
            not parts.feature_fusion_both or parts.feature_fusion > 0
        ),
        "`feature_fusion` needs `shallow`, the name of a submodule": parts.feature_fusion == 0 or shallow is not None,
        "`bank` and `rare_probability` need `rare_classes`": (
            bool(rare_classes) or not (parts.bank or parts.rare_probability > 0)
        ),
        "`context_consistency` needs `source_context`, and fusion='shared' or complementary=False: only there both "
        "contexts show the same pixels": parts.context_consistency == 0
        or (parts.source_context and (parts.fusion == "shared" or _masks_differ(parts))),
        "fusion='none' needs `clean_source` and `clean_target`: nothing else is left": parts.fusion != "none" or clean,
        "`align` needs fusion='exchange', or `clean_source` and `clean_target`, to find both domains": (
            parts.align == "none" or parts.fusion == "exchange" or clean
        ),
        "`align_context='clean'` needs `clean_source` and `clean_target`, to find both domains": (
            parts.align == "none" or parts.align_context != "clean" or clean
        ),
        "`align_context` of one fused clip needs fusion='exchange': else classes are averaged over the clean clips": (
            parts.fusion == "exchange" or parts.align_context in ("fused", "clean")
        ),
        "`align_context='in_source'` needs `source_context`": (
            parts.align == "none" or parts.align_context != "in_source" or parts.source_context
        ),
    }
    for rule, holds in rules.items():
        if not holds:
            given = ", ".join(f"{name}={value!r}" for name, value in parts._asdict().items() if f"`{name}`" in rule)
            raise ValueError(f"DASTC: {rule}; got fusion={parts.fusion!r}, {given}. Switch one of them.")
    return parts


def _masks_differ(parts: Arrangement) -> bool:
    return parts.fusion == "exchange" and not parts.complementary


def _check_values(parts: Arrangement) -> None:
    check_choice("DASTC", "fusion", parts.fusion, get_args(Fusion))
    check_choice("DASTC", "align", parts.align, get_args(Objective))
    check_choice("DASTC", "align_context", parts.align_context, get_args(AlignContext))
    check_choice("DASTC", "cross_frame", parts.cross_frame, get_args(CrossFrame))
    check_choice("DASTC", "weighting", parts.weighting, get_args(Weighting))
    for name in ("rare_probability", "feature_fusion", "class_prior", "threshold", "decay"):
        check_between("DASTC", name, getattr(parts, name), 0, 1)
    if not 0 <= parts.masked_target < 1:
        raise ValueError(f"DASTC: `masked_target` must lie in [0, 1); got {parts.masked_target}.")
    for name in ("target_weight", "align_weight", "align_ramp", "context_consistency", "warmup"):
        check_at_least("DASTC", name, getattr(parts, name), 0)
    for name in ("class_prior_grid", "histogram_grid"):
        check_grid("DASTC", name, getattr(parts, name))
    check_views("DASTC", "`class_prior_views`", parts.class_prior_views)


ARRANGEMENTS = {
    "exchange": Arrangement(),
    "released": Arrangement(
        warmup=0,
        fusion="shared",
        clean_source=True,
        clean_target=True,
        rare_probability=1.0,
        bank=True,
        target_patches=True,
        feature_fusion=0.3,
        cross_frame="warped",
        class_prior=0.0,
        class_prior_grid=(1, 1),
        class_prior_views=(1.0, 0.0),
        both_frames=False,
        align="mmd",
        align_weight=0.01,
        align_context="clean",
        memory=False,
        histogram_grid=(1, 1),
        decay=0.99,
        weighting="none",
        threshold=0.9,
    ),
}
