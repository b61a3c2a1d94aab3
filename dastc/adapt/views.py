"""What a step trains on: the clips as they are, fused, or partly hidden."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from dastc._core.checks import check_at_least
from dastc._core.compiling import left_eager, orchestrates
from dastc._core.random_state import RandomState
from dastc.clip import Clip, check_clip
from dastc.functional.appearance import hidden_blocks
from dastc.fusion import SequencePatchFusion, ShallowFeatureFusion
from dastc.fusion.clip_template import ClipTemplate
from dastc.fusion.sequence_patch_fusion import FusedClip

__all__ = ["Blend", "Clean", "Exchange", "Hidden", "Mixed", "Shared", "View"]


class Blend(NamedTuple):
    """How a view's features are mixed, inside the network, with those of another view.

    Args:
        tap: Dotted name of the submodule whose output is mixed.
        other: Name of the other view.
        mask: Where.
        mix: Called with the features, those of the other view and the mask, of the frames that the network sees.

    Shape:
        - mask: ``(B, T, H, W)``, bool.

    Example:
        >>> Blend._fields
        ('tap', 'other', 'mask', 'mix')
    """

    tap: str
    other: str
    mask: Tensor
    mix: nn.Module


class View(NamedTuple):
    """One labelled clip to train on.

    Args:
        name: Of the view, and of its loss.
        clip: Frames, labels, flow and weights.
        from_source: Which pixels come from the source domain.
        weight: Of its segmentation loss, dimensionless.
        hidden: Pixels to set to 0, the mean colour, after the change of look.
        alike: Pixels that another context shows, too.
        blend: Features to take from another view.

    Shape:
        - from_source, hidden, alike: ``(B, T, H, W)``, bool.

    Example:
        >>> View("source", Clip(torch.zeros(1, 1, 3, 2, 2)), torch.ones(1, 1, 2, 2, dtype=torch.bool)).weight
        1.0
    """

    name: str
    clip: Clip
    from_source: Tensor
    weight: float = 1.0
    hidden: Tensor | None = None
    alike: Tensor | None = None
    blend: Blend | None = None


class Clean(nn.Module):
    """Train on a domain's clip as it is.

    Args:
        domain: ``"source"`` or ``"target"``; the view is called the same.
        weight: Of its segmentation loss, dimensionless.

    Shape:
        - source, target: clips, the target labelled.
        - output: one view.

    Example:
        >>> Clean("target", weight=0.5)
        Clean('target', weight=0.5)
    """

    def __init__(self, domain: Literal["source", "target"] = "source", *, weight: float = 1.0) -> None:
        super().__init__()
        if domain not in ("source", "target"):
            raise ValueError(f"Clean: `domain` must be one of 'source', 'target'; got {domain!r}.")
        check_at_least("Clean", "weight", weight, 0)
        self.domain, self.weight = domain, weight

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the views that this part makes."""
        return (self.domain,)

    @orchestrates
    def forward(self, source: Clip, target: Clip, confidence: Tensor | None = None) -> list[View]:  # noqa: ARG002
        """Return the domain's clip."""
        clip = source if self.domain == "source" else target
        check_clip("Clean", self.domain, clip)
        return [View(self.domain, clip, _everywhere(clip, self.domain == "source"), self.weight)]

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return f"{self.domain!r}, weight={self.weight}"


class Hidden(nn.Module):
    """Train on the target with random blocks hidden: what is in one must be told from around it.

    Args:
        share: Probability of each block to be hidden, in (0, 1); blocks are as large as a sixth of the height.
        weight: Of its segmentation loss, dimensionless.
        seed: Seed of the draws; the generator is part of ``state_dict``.

    Shape:
        - source, target: clips, the target labelled.
        - output: one view, ``"masked"``.

    Raises:
        ValueError: If an argument is out of range.

    Source:
        Hoyer et al. 2023 (MIC). Not a part of DA-STC.

    Example:
        >>> Hidden(0.5).names
        ('masked',)
    """

    names = ("masked",)

    def __init__(self, share: float = 0.5, *, weight: float = 1.0, seed: int = 0) -> None:
        super().__init__()
        if not 0 < share < 1:
            raise ValueError(f"Hidden: `share` must lie in (0, 1); got {share}.")
        check_at_least("Hidden", "weight", weight, 0)
        self.share, self.weight, self.random = share, weight, RandomState(seed)

    @orchestrates
    def forward(self, source: Clip, target: Clip, confidence: Tensor | None = None) -> list[View]:  # noqa: ARG002
        """Return the target, partly hidden."""
        check_clip("Hidden", "target", target)
        block = max(1, target.frames.shape[-2] // 6)
        hidden = hidden_blocks(target.frames, self.share, block=block, generator=self.random.generator)
        return [View("masked", target, _everywhere(target, False), self.weight, hidden=hidden)]

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return f"share={self.share}, weight={self.weight}"


class Mixed(nn.Module):
    """Train on source patches in target context, as DACS does.

    Args:
        fusion: Draws the classes and pastes them.

    Shape:
        - source, target: labelled clips of one size.
        - output: one view, ``"mixed"``.

    Source:
        Tranheden et al. 2021 (DACS).

    Example:
        >>> Mixed(SequencePatchFusion(3)).names
        ('mixed',)
    """

    names = ("mixed",)

    def __init__(self, fusion: SequencePatchFusion) -> None:
        super().__init__()
        self.fusion = fusion

    @left_eager
    def forward(self, source: Clip, target: Clip, confidence: Tensor | None = None) -> list[View]:  # noqa: ARG002
        """Return the mixed clip."""
        _, in_target = self.fusion(source, target)
        return [View("mixed", in_target.clip, in_target.from_source)]


class Exchange(nn.Module):
    """Train on two complementary clips: source and target of the step exchange patch sequences.

    Args:
        fusion: Draws the classes and pastes them.
        contexts: Which of the two to train on.
        target_weight: Weight of the loss in target context, dimensionless.

    Shape:
        - source, target: labelled clips of one size.
        - output: views ``"in_source"`` and ``"in_target"``.

    Raises:
        ValueError: If an argument is out of range.

    Source:
        The aim is the paper's (arXiv 2311.13254 v1, abstract); the form is ours (docs/method.md#fusion-of-clips).

    Example:
        >>> Exchange(SequencePatchFusion(3)).names
        ('in_source', 'in_target')
    """

    def __init__(
        self,
        fusion: SequencePatchFusion,
        *,
        contexts: tuple[str, ...] = ("in_source", "in_target"),
        target_weight: float = 1.0,
    ) -> None:
        super().__init__()
        _check_contexts("Exchange", contexts)
        check_at_least("Exchange", "target_weight", target_weight, 0)
        self.fusion, self.contexts, self.target_weight = fusion, tuple(contexts), target_weight

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the views that this part makes."""
        return self.contexts

    @property
    def alike(self) -> bool:
        """Whether both contexts show some of the same pixels."""
        return not self.fusion.complementary

    @left_eager
    def forward(self, source: Clip, target: Clip, confidence: Tensor | None = None) -> list[View]:  # noqa: ARG002
        """Return the fused clips."""
        first, second = self.fusion(source, target)
        # of one clip in both contexts: pasted in one and not in the other, or from the bank in both
        alike = (first.mask ^ second.mask) | (first.static & second.static)
        return _contexts(first, second, alike, self.contexts, self.target_weight)

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return f"contexts={self.contexts}, target_weight={self.target_weight}"


class Shared(nn.Module):
    """Train on the same patch sequences in both contexts: those of the step before, as in the released code.

    The first step has no patches yet, and makes no view.

    Args:
        fusion: Draws the classes and pastes them; its bank, if it has one, adds static patches of rare classes.
        target_patches: Paste confident patches of the step before's target as well.
        feature_fusion: Mixes shallow features of the shared patches; needs ``shallow``.
        shallow: Dotted name of the submodule whose output is mixed.
        both_ways: Mix in source context as well as in target context. Both then pass through the network as one batch.
        target_weight: Weight of the loss in target context, dimensionless.

    Shape:
        - source, target: labelled clips of one size.
        - output: views ``"in_source"`` and ``"in_target"``; none in the first step.

    Raises:
        ValueError: If an argument is out of range, or only one of ``feature_fusion`` and ``shallow`` is given.

    Source:
        arXiv 2311.13254 v1, abstract; the released code (docs/method.md#fusion-of-clips and
        docs/method.md#fusion-of-shallow-features).

    Example:
        >>> Shared(SequencePatchFusion(3), feature_fusion=ShallowFeatureFusion(0.3))
        Traceback (most recent call last):
        ...
        ValueError: Shared: `feature_fusion` and `shallow`, ... need each other; got shallow=None.
    """

    names = ("in_source", "in_target")
    alike = True

    def __init__(
        self,
        fusion: SequencePatchFusion,
        *,
        target_patches: bool = False,
        feature_fusion: ShallowFeatureFusion | None = None,
        shallow: str | None = None,
        both_ways: bool = False,
        target_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if (feature_fusion is None) != (shallow is None):
            raise ValueError(
                "Shared: `feature_fusion` and `shallow`, the name of a submodule whose output it mixes, need each "
                f"other; got shallow={shallow!r}."
            )
        if both_ways and feature_fusion is None:
            raise ValueError("Shared: `both_ways` needs `feature_fusion`; got None.")
        check_at_least("Shared", "target_weight", target_weight, 0)
        self.fusion, self.target_patches, self.target_weight = fusion, target_patches, target_weight
        self.feature_fusion, self.shallow, self.both_ways = feature_fusion, shallow, both_ways
        self.source_template, self.target_template = ClipTemplate(), ClipTemplate()

    @left_eager
    def forward(self, source: Clip, target: Clip, confidence: Tensor | None = None) -> list[View]:
        """Return the fused clips."""
        check_clip("Shared", "source", source, labelled=True)
        check_clip("Shared", "target", target, labelled=True)
        source_patches = self.source_template.swap(source)
        # the patches keep the confidence of their labels, by which they are chosen
        confident = target if confidence is None else target._replace(weights=confidence)
        target_patches = self.target_template.swap(confident) if self.target_patches else None
        if source_patches is None:
            return []
        first, second = self.fusion(source, target, source_patches, target_patches)
        one, other = _contexts(first, second, first.mask & second.mask, self.names, self.target_weight)
        if self.feature_fusion is not None and self.shallow is not None:
            other = other._replace(blend=Blend(self.shallow, one.name, second.mask, self.feature_fusion))
            if self.both_ways:
                one = one._replace(blend=Blend(self.shallow, other.name, second.mask, self.feature_fusion))
        return [one, other]

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return (
            f"target_patches={self.target_patches}, shallow={self.shallow!r}, both_ways={self.both_ways}, "
            f"target_weight={self.target_weight}"
        )


@left_eager
def _contexts(
    first: FusedClip, second: FusedClip, alike: Tensor, names: tuple[str, ...], target_weight: float
) -> list[View]:
    views = [
        View("in_source", first.clip, first.from_source, alike=alike),
        View("in_target", second.clip, second.from_source, target_weight, alike=alike),
    ]
    return [view for view in views if view.name in names]


def _check_contexts(caller: str, contexts: tuple[str, ...]) -> None:
    if not contexts or any(name not in ("in_source", "in_target") for name in contexts):
        raise ValueError(
            f"{caller}: `contexts` must be some of 'in_source', 'in_target'; got {contexts!r}. Without any, leave "
            "the part out."
        )


@left_eager
def _everywhere(clip: Clip, value: bool) -> Tensor:
    return torch.full_like(clip.frames[:, :, 0], value, dtype=torch.bool)
