"""DA-STC: bidirectional multi-level fusion and category-aware alignment, put together from parts in three ways."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

from torch import Tensor, nn

from dastc._core.checks import check_choice
from dastc.adapt.class_prior import ClassPrior
from dastc.adapt.labelling import TeacherLabels
from dastc.adapt.passes import Passes
from dastc.adapt.preparing import MatchHistograms
from dastc.adapt.recipe import Recipe
from dastc.adapt.teacher import Teacher
from dastc.adapt.terms import Alignment, Segmentation
from dastc.adapt.views import Clean, Exchange, Shared
from dastc.fusion import PatchBank, SequencePatchFusion, ShallowFeatureFusion
from dastc.losses import CentroidAlignmentLoss

__all__ = ["DASTC", "dastc_parts"]

Preset = Literal["default", "paper", "released"]


class DASTC(Recipe):
    """Adapt by fusing clips of both domains in both directions, and by aligning the centroids of their classes.

    Three presets of the same parts. **default** is what our measurements favour: the clips of a step exchange patch
    sequences, and centroids are aligned over both fused clips. **paper** is what the abstract of the paper claims and
    nothing else: two fused domains that share patch sequences and shallow features, centroids over space and time from
    all frames of a clip along the flow, intra-class alignment and inter-class separation. **released** follows the
    authors' code with its defects corrected; it takes all labels of the teacher at full weight, so start it from a
    model that another method has adapted, as the authors' code does.

    To change a part, take :func:`dastc_parts`, change it, and hand the parts to :class:`Recipe`.

    Args:
        model: An image model, or a :class:`~dastc.models.VideoSegmenter`.
        num_classes: Number of classes K, at least 2.
        preset: ``"default"``, ``"paper"`` or ``"released"``.
        features: Dotted name of the submodule whose output is aligned; ``None`` aligns logits.
        shallow: Dotted name of the submodule whose output is fused: needed by ``"paper"`` and ``"released"``; the
            default fuses no features, and takes the name so that what ``taps_of`` returns fits every preset.
        rare_classes: Labels of rare classes, which ``"released"`` pastes more often.
        warmup: Changes of the weights during which the source alone is trained on; ``None`` means the preset's: 150,
            and none of ``"released"``. Not a part of DA-STC.
        objective: What brings centroids together: any Module that takes those of the source and of the target;
            ``None`` means the preset's :class:`~dastc.losses.CentroidAlignmentLoss`.
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
        objective: nn.Module | None = None,
        augment: Callable[[Tensor], Tensor] | None = None,
        passes: Passes = "each",
        seed: int = 0,
        ignore_index: int = 255,
    ) -> None:
        parts = dastc_parts(
            model,
            num_classes,
            preset=preset,
            features=features,
            shallow=shallow,
            rare_classes=rare_classes,
            objective=objective,
            seed=seed,
            ignore_index=ignore_index,
        )
        if warmup is not None:
            parts["warmup"] = warmup
        super().__init__(
            model, num_classes, augment=augment, passes=passes, seed=seed, ignore_index=ignore_index, **parts
        )
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
    seed: int = 0,
    ignore_index: int = 255,
) -> dict[str, Any]:
    """Return the parts of a preset of DA-STC, as arguments of :class:`Recipe`: to change one, or to leave one out.

    Args:
        model: The student.
        num_classes: Number of classes K.
        preset: As of :class:`DASTC`, likewise all that follow.
        features: Name of the submodule that is aligned.
        shallow: Name of the submodule that is fused.
        rare_classes: Labels of rare classes.
        objective: What brings centroids together.
        seed: Seed of what the parts draw.
        ignore_index: Label of the pixels that are ignored.

    Returns:
        ``labels``, ``views``, ``terms``, ``warmup``, ``all_frames`` and ``prepare``.

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
    if preset == "default":
        return _default(model, num_classes, features, objective, seed, ignore_index)
    if preset == "paper":
        return _paper(model, num_classes, features, shallow, objective, seed, ignore_index)
    return _released(model, num_classes, features, shallow, rare_classes, objective, seed, ignore_index)


def _default(
    model: nn.Module, k: int, features: str | None, objective: nn.Module | None, seed: int, ignored: int
) -> dict[str, Any]:
    prior = ClassPrior(k, grid=(8, 8), zoom=1.5, shift=0.05, ignore_index=ignored)
    return {
        "prepare": MatchHistograms(grid=(3, 1)),
        "labels": TeacherLabels(
            Teacher(model, decay=0.98), cross_frame="averaged", adjust=prior, threshold=0.8, ignore_index=ignored
        ),
        "views": [Clean("source"), Exchange(SequencePatchFusion(k, seed=seed, ignore_index=ignored))],
        "terms": [
            Segmentation(ignore_index=ignored),
            Alignment(k, objective, features=features, ignore_index=ignored),
        ],
        "warmup": 150,
        "all_frames": False,
    }


def _paper(
    model: nn.Module,
    k: int,
    features: str | None,
    shallow: str | None,
    objective: nn.Module | None,
    seed: int,
    ignored: int,
) -> dict[str, Any]:
    shared = Shared(
        SequencePatchFusion(k, seed=seed, ignore_index=ignored),
        target_patches=True,
        feature_fusion=ShallowFeatureFusion(0.3),
        shallow=shallow,
        both_ways=True,
    )
    return {
        "labels": TeacherLabels(Teacher(model, decay=0.98), threshold=0.8, ignore_index=ignored),
        "views": [Clean("source"), shared],
        "terms": [
            Segmentation(ignore_index=ignored),
            Alignment(k, objective, features=features, ignore_index=ignored),
        ],
        "warmup": 150,
        "all_frames": True,  # centroids over space and time, along the flow
    }


def _released(
    model: nn.Module,
    k: int,
    features: str | None,
    shallow: str | None,
    rare: Sequence[int],
    objective: nn.Module | None,
    seed: int,
    ignored: int,
) -> dict[str, Any]:
    bank = PatchBank(k, classes=rare, ignore_index=ignored) if rare else None
    shared = Shared(
        SequencePatchFusion(k, rare_classes=rare, bank=bank, seed=seed, ignore_index=ignored),
        target_patches=True,
        feature_fusion=ShallowFeatureFusion(0.3),
        shallow=shallow,
    )
    mmd = CentroidAlignmentLoss("mmd") if objective is None else objective
    align = Alignment(k, mmd, features=features, weight=0.01, over=("source", "target"), ignore_index=ignored)
    labels = TeacherLabels(Teacher(model), cross_frame="warped", weighting="none", threshold=0.9, ignore_index=ignored)
    return {
        "prepare": MatchHistograms(),
        "labels": labels,
        "views": [Clean("source"), Clean("target"), shared],
        "terms": [Segmentation(ignore_index=ignored), align],
        "warmup": 0,
        "all_frames": False,
    }
