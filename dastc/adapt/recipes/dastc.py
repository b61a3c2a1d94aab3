"""DA-STC: bidirectional multi-level fusion and category-aware alignment, put together from parts in three ways."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

from torch import Tensor, nn

from dastc._core.checks import check_choice
from dastc.adapt.passes import Passes
from dastc.adapt.preparing import MatchHistograms
from dastc.adapt.recipe import Recipe
from dastc.adapt.terms import Alignment, Segmentation
from dastc.adapt.views import Clean, Exchange, Shared
from dastc.fusion import PatchBank, SequencePatchFusion, ShallowFeatureFusion
from dastc.labelling.alike import AlikeDomains, OnlyIfAlike
from dastc.labelling.class_prior import ClassPrior
from dastc.labelling.target_labels import TeacherLabels
from dastc.labelling.teacher import Teacher
from dastc.losses import CentroidAlignmentLoss

__all__ = ["DASTC", "dastc_parts"]

Preset = Literal["default", "paper", "released"]
# earlier, a teacher from pretrained weights has just begun to name the rare classes, and they are lost for good
WARMUP = 600
RAMP = 600  # as long again: at full weight from the start, what the source still teaches is held back


class DASTC(Recipe):
    """Adapt by fusing clips of both domains in both directions, and by aligning the centroids of their classes.

    Three presets of the same parts. **default** takes nothing for granted of what the target shows: the clips of a step
    exchange patch sequences, and centroids are aligned over both fused clips. Its labels are drawn from what a slow
    teacher says, so that rare classes keep their share, and all that adapts grows to its weight over 600 changes of the
    weights. A class prior and matched histograms wait until :class:`AlikeDomains` has looked at the target. **paper**
    is what the abstract of the paper claims and nothing else: two fused domains that share patch sequences and shallow
    features, centroids over space and time from all frames of a clip along the flow, intra-class alignment and
    inter-class separation. **released** follows the authors' code with its defects corrected; it takes all labels of
    the teacher at full weight, so start it from a model that another method has adapted, as the authors' code does.

    To change a part, take :func:`dastc_parts`, change it, and hand the parts to :class:`Recipe`.

    Args:
        model: An image model, or a :class:`~dastc.models.VideoSegmenter`.
        num_classes: Number of classes K, at least 2.
        preset: ``"default"``, ``"paper"`` or ``"released"``.
        features: Dotted name of the submodule whose output is aligned; ``None`` aligns logits.
        shallow: Dotted name of the submodule whose output is fused: needed by ``"paper"`` and ``"released"``; the
            default fuses no features, and takes the name so that what ``taps_of`` returns fits every preset.
        rare_classes: Labels of rare classes, which ``"released"`` pastes more often.
        warmup: Changes of the weights during which the source alone is trained on; ``None`` means the preset's: 600,
            and none of ``"released"``. Give 0 with a model that knows the source already. Not a part of DA-STC.
        ramp: Changes of the weights, after the warm-up, over which all losses but the clean source's grow to their
            weight; ``None`` means the preset's: 600, and none of the others. Not a part of DA-STC.
        objective: What brings centroids together: any Module that takes those of the source and of the target;
            ``None`` means the preset's :class:`~dastc.losses.CentroidAlignmentLoss`.
        class_names: Of the classes, for what the default says about the domains.
        augment: Changes the look of frames; ``None`` means :class:`~dastc.augment.PhotometricJitter`.
        passes: How views pass through the network; see :class:`Recipe`.
        seed: Seed of everything that is drawn.
        ignore_index: Label of the pixels that are ignored.

    Shape:
        - source: a labelled clip; target: a clip of the same size, flow in both or in neither. Labels of the target
          are not looked at. T = 1 needs no flow.
        - output: losses by name, ``"total"`` among them; during the warm-up there is ``"source"`` only. The first step
          with shared patches has none yet.

    Raises:
        ValueError: If parts do not fit each other, a name is unknown, the preset does nothing with an argument that is
            given, the source is not labelled or shapes do not fit.

    Source:
        arXiv 2311.13254 v1, abstract; docs/method.md#the-presets tells which part is whose.

    Example:
        >>> import torch
        >>> from dastc import Clip
        >>> from dastc.models import TinySegmenter
        >>> recipe = DASTC(TinySegmenter(3), 3, features="neck", warmup=0)
        >>> clip = Clip(torch.randn(1, 2, 3, 16, 16), torch.randint(0, 3, (1, 2, 16, 16)))
        >>> sorted(recipe(clip, Clip(clip.frames)))
        ['align', 'in_source', 'in_target', 'source', 'total']
    """

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        *,
        preset: Preset = "default",
        features: str | None = None,
        shallow: str | None = None,
        rare_classes: Sequence[int] = (),
        warmup: int | None = None,
        ramp: int | None = None,
        objective: nn.Module | None = None,
        class_names: Sequence[str] = (),
        augment: Callable[[Tensor], Tensor] | None = None,
        passes: Passes = "each",
        seed: int = 0,
        ignore_index: int = 255,
    ) -> None:
        common: dict[str, Any] = {"seed": seed, "ignore_index": ignore_index}
        parts = dastc_parts(
            model, num_classes, preset=preset, features=features, shallow=shallow, rare_classes=rare_classes,
            objective=objective, class_names=class_names, **common,
        )  # fmt: skip
        parts |= {name: own for name, own in (("warmup", warmup), ("ramp", ramp)) if own is not None}
        super().__init__(model, num_classes, augment=augment, passes=passes, **common, **parts)
        self.preset = preset

    def extra_repr(self) -> str:
        """Show the preset."""
        return f"preset={self.preset!r}, {super().extra_repr()}"


def dastc_parts(
    model: nn.Module,
    num_classes: int,
    *,
    preset: Preset = "default",
    features: str | None = None,
    shallow: str | None = None,
    rare_classes: Sequence[int] = (),
    objective: nn.Module | None = None,
    class_names: Sequence[str] = (),
    seed: int = 0,
    ignore_index: int = 255,
) -> dict[str, Any]:
    """Return the parts of a preset of DA-STC, as arguments of :class:`Recipe`: to change one, or to leave one out.

    Args:
        model: The student.
        num_classes: Number of classes K.
        preset: As of :class:`DASTC`, likewise all that follow.
        features: What is aligned.
        shallow: What is fused.
        rare_classes: What is pasted more often.
        objective: What brings centroids together.
        class_names: Of the classes.
        seed: Of what the parts draw.
        ignore_index: Label of the pixels that are ignored.

    Returns:
        ``labels``, ``views``, ``terms``, ``warmup``, ``ramp``, ``all_frames`` and ``prepare``; what a preset lacks is
        not there.

    Raises:
        ValueError: If the preset is unknown, lacks ``shallow``, or does nothing with an argument that is given.

    Source:
        docs/method.md#the-presets.

    Example:
        >>> from dastc.models import TinySegmenter
        >>> model = TinySegmenter(3)
        >>> parts = dastc_parts(model, 3)
        >>> parts["terms"].pop()  # without alignment
        Alignment(...)
        >>> recipe = Recipe(model, 3, **parts)
    """
    check_choice("DASTC", "preset", preset, get_args(Preset))
    if preset != "default" and shallow is None:
        raise ValueError(
            f"DASTC: `shallow`, the name of a submodule whose output is fused, must be given with preset={preset!r}; "
            "got None."
        )
    if preset != "released" and len(rare_classes):
        raise ValueError(
            f"DASTC: `rare_classes` is of preset='released'; got {list(rare_classes)} with preset={preset!r}, which "
            "pastes all classes alike."
        )
    ignored: dict[str, Any] = {"ignore_index": ignore_index}
    make = _Makers(
        partial(TeacherLabels, seed=seed, **ignored),
        partial(SequencePatchFusion, num_classes, seed=seed, **ignored),
        partial(Shared, target_patches=True, feature_fusion=ShallowFeatureFusion(0.3), shallow=shallow),
        partial(Alignment, num_classes, features=features, **ignored),
    )
    if preset == "default":
        parts = _default(make, model, objective)
        alike = AlikeDomains(num_classes, names=class_names, **ignored)
        parts["prepare"] = OnlyIfAlike(MatchHistograms(grid=(3, 1)), alike)
        prior = ClassPrior(num_classes, grid=(8, 8), zoom=1.5, shift=0.05, **ignored)
        parts["labels"].adjust = OnlyIfAlike(prior, alike)
    elif preset == "paper":
        parts = _paper(make, model, objective)
    else:
        bank = PatchBank(num_classes, classes=rare_classes, **ignored) if rare_classes else None
        parts = _released(make, model, objective, rare_classes, bank)
    parts["terms"].insert(0, Segmentation(**ignored))
    return parts


class _Makers(NamedTuple):
    """What makes the parts that all presets have, with the options on which they agree."""

    labels: Callable[..., TeacherLabels]
    fusion: Callable[..., SequencePatchFusion]
    shared: Callable[..., Shared]
    align: Callable[..., Alignment]


def _default(make: _Makers, model: nn.Module, objective: nn.Module | None) -> dict[str, Any]:
    return {
        "labels": make.labels(Teacher(model, decay=0.999), cross_frame="averaged", choice="drawn", threshold=0.8),
        "views": [Clean("source"), Exchange(make.fusion())],
        "terms": [make.align(objective)],
        "warmup": WARMUP,
        "ramp": RAMP,
        "all_frames": False,
    }


def _paper(make: _Makers, model: nn.Module, objective: nn.Module | None) -> dict[str, Any]:
    return {
        "labels": make.labels(Teacher(model, decay=0.98), threshold=0.8),
        "views": [Clean("source"), make.shared(make.fusion(), both_ways=True)],
        "terms": [make.align(objective)],
        "warmup": WARMUP,
        "all_frames": True,  # centroids over space and time, along the flow
    }


def _released(
    make: _Makers, model: nn.Module, objective: nn.Module | None, rare: Sequence[int], bank: PatchBank | None
) -> dict[str, Any]:
    mmd = CentroidAlignmentLoss("mmd") if objective is None else objective
    return {
        "prepare": MatchHistograms(),
        "labels": make.labels(Teacher(model), cross_frame="warped", weighting="none", threshold=0.9),
        "views": [Clean("source"), Clean("target"), make.shared(make.fusion(rare_classes=rare, bank=bank))],
        "terms": [make.align(mmd, weight=0.01, over=("source", "target"))],
        "warmup": 0,
        "all_frames": False,
    }
