"""DA-STC: bidirectional multi-level fusion and category-aware alignment, as one training step."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from dastc._core.random_state import RandomState
from dastc.adapt.arrangement import Objective, Switches, arrange
from dastc.adapt.class_prior import ClassPrior
from dastc.adapt.clip_template import ClipTemplate
from dastc.adapt.steps import (
    augmented,
    check_pair,
    concatenated,
    described,
    labelled_by,
    reweighted,
    segment,
    segmentation_loss,
)
from dastc.adapt.teacher import Teacher
from dastc.aggregation import CategoryAggregator, CategoryMemory
from dastc.augment import PhotometricJitter
from dastc.clip import Clip
from dastc.functional import hide_blocks, match_histograms
from dastc.fusion import FusedClip, PatchBank, SequencePatchFusion, ShallowFeatureFusion
from dastc.losses import CentroidAlignmentLoss, ContextConsistencyLoss, PixelAlignmentLoss
from dastc.models import FeatureTap, VideoSegmenter
from dastc.models.feature_tap import Reading

__all__ = ["DASTC"]


class DASTC(nn.Module):
    """Adapt by fusing clips of both domains in both directions, and by aligning the centroids of their classes.

    Two arrangements of the same parts: the default, ``"exchange"``, and ``"released"``, which follows the authors'
    code with its defects corrected. Every part has a switch, so an ablation is an argument: ``warmup=0``,
    ``align="none"``, ``fusion="shared"``; :class:`~dastc.adapt.Arrangement` lists them.

    Args:
        model: An image model, or a :class:`~dastc.models.VideoSegmenter`.
        num_classes: Number of classes K.
        arrangement: ``"exchange"`` or ``"released"``. The latter takes all labels of the teacher at full weight, as
            the authors' code does, and that starts from a model which another method has adapted: do the same. From
            random weights the teacher's errors take over, and the model ends below one of the source alone.
        features: Dotted name of the submodule whose output ``align`` aligns; ``None`` aligns logits.
        shallow: Dotted name of the submodule whose output is fused; needed by ``feature_fusion`` only.
        rare_classes: Labels of rare classes, for ``rare_probability`` and ``bank``.
        augment: Changes the look of frames; ``None`` means :class:`~dastc.data.PhotometricJitter`.
        seed: Seed of everything that is drawn.
        ignore_index: Label of the pixels that take no part.
        switches: Any field of :class:`~dastc.adapt.Arrangement`, to differ from the arrangement in that part.

    Shape:
        - source: a labelled clip; target: a clip of the same size, flow in both or in neither. Labels of the target
          are not looked at. T = 1 needs no flow.
        - output of ``step``: losses by name, ``"total"`` among them; during the ``warmup`` there is ``"source"`` only.
          The first step of ``"shared"`` fusion has no patches yet and trains on the clean clips only.

    Raises:
        ValueError: If parts do not fit each other, a name is unknown, the source is not labelled or shapes do not fit.
        TypeError: If a switch is unknown; the message lists those that are near.

    Source:
        arXiv 2311.13254 v1, abstract; ``"released"``: METHOD 13 with the corrections of METHOD 11; ``"exchange"``: the
        same two moves, arranged by us.

    Example:
        >>> from dastc.models import TinySegmenter
        >>> recipe = DASTC(TinySegmenter(3), 3, features="neck", warmup=0)
        >>> clip = Clip(torch.randn(1, 2, 3, 16, 16), torch.randint(0, 3, (1, 2, 16, 16)))
        >>> sorted(recipe.step(clip, Clip(clip.frames)))
        ['align', 'in_source', 'in_target', 'source', 'total']
        >>> recipe = DASTC(TinySegmenter(3), 3, warmup=0, align="none", clean_source=False)
        >>> sorted(recipe.step(clip, Clip(clip.frames)))
        ['in_source', 'in_target', 'total']
    """

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        *,
        arrangement: Literal["exchange", "released"] = "exchange",
        features: str | None = None,
        shallow: str | None = None,
        rare_classes: Sequence[int] = (),
        augment: Callable[[Tensor], Tensor] | None = None,
        seed: int = 0,
        ignore_index: int = 255,
        **switches: Unpack[Switches],
    ) -> None:
        super().__init__()
        parts = arrange(arrangement, switches, rare_classes=rare_classes, shallow=shallow)
        self.parts, self.model, self.num_classes = parts, model, num_classes
        self.seed, self.ignore_index = seed, ignore_index
        self.augment = PhotometricJitter(seed=seed) if augment is None else augment
        self.teacher = Teacher(model, mode=parts.teacher, decay=parts.decay)
        # an unknown name is an error now, not at the first step
        self.features = None if features is None else FeatureTap(model, features)
        self.shallow = None if shallow is None else FeatureTap(model, shallow)
        self.fusion = SequencePatchFusion(
            num_classes,
            rare_classes=rare_classes,
            rare_probability=parts.rare_probability,
            complementary=parts.complementary,
            bank=PatchBank(num_classes, classes=rare_classes, ignore_index=ignore_index) if parts.bank else None,
            seed=seed,
            ignore_index=ignore_index,
        )
        self.hiding = RandomState(seed)
        self.class_prior = ClassPrior(
            num_classes,
            strength=parts.class_prior,
            grid=parts.class_prior_grid,
            zoom=parts.class_prior_views[0],
            shift=parts.class_prior_views[1],
            ignore_index=ignore_index,
        )
        self.feature_fusion = ShallowFeatureFusion(parts.feature_fusion)
        self.aggregator = CategoryAggregator(
            num_classes, temporal=parts.temporal, persistence=parts.temporal, ignore_index=ignore_index
        )
        self.alignment = _alignment(parts.align, num_classes, ignore_index)
        self.consistency = ContextConsistencyLoss()
        self.source_memory, self.target_memory = CategoryMemory(num_classes), CategoryMemory(num_classes)
        self.source_template, self.target_template = ClipTemplate(), ClipTemplate()
        self.steps = 0  # on the host: what runs depends on it

    def step(self, source: Clip, target: Clip) -> dict[str, Tensor]:
        """Return the losses of one step."""
        source, target = check_pair("DASTC.step", source, target)
        self.teacher.update()
        if self.parts.match_histograms:
            matched = match_histograms(source.frames, target.frames, grid=self.parts.histogram_grid)
            source = source._replace(frames=matched)
        self.steps += 1
        if self.parts.class_prior > 0:
            self.class_prior.see(source.labels)  # type: ignore[arg-type]  # check_pair saw the labels
        if self.steps <= self.parts.warmup:
            loss = self._run("source", source, _everywhere(source, True)).loss
            return {"source": loss, "total": loss}
        confident = self._labelled(target)
        target = reweighted(confident, self.parts.weighting, threshold=self.parts.threshold)
        contexts = self._contexts(source, target, confident)
        passes = self._clean(source, target) + ([] if contexts is None else self._fused(*contexts))
        losses = {one.name: one.loss for one in passes}
        if self.parts.context_consistency > 0 and contexts is not None:
            losses["consistency"] = self.parts.context_consistency * self._alike(*contexts, passes)
        if self.alignment is not None:
            losses["align"] = self._align_weight() * self._aligned(self.alignment, passes)
        return losses | {"total": torch.stack(list(losses.values())).sum()}

    def get_extra_state(self) -> Tensor:
        """Return the number of steps taken, so that a restored recipe knows whether it is still warming up."""
        return torch.tensor(self.steps)

    def set_extra_state(self, state: Tensor) -> None:
        """Go on after that many steps."""
        self.steps = int(state)

    def _labelled(self, target: Clip) -> Clip:
        adjust = self.class_prior if self.parts.class_prior > 0 else None
        return labelled_by(self.teacher, target, cross_frame=self.parts.cross_frame, adjust=adjust)

    def _clean(self, source: Clip, target: Clip) -> list["_Pass"]:
        passes = []
        if self.parts.clean_source:
            passes.append(self._run("source", source, _everywhere(source, True)))
        if self.parts.clean_target:
            weight = self.parts.target_weight
            passes.append(self._run("target", target, _everywhere(target, False), weight=weight))
        if self.parts.masked_target > 0:
            weight = self.parts.target_weight
            passes.append(self._run("masked", target, _everywhere(target, False), weight=weight, hide=True))
        return passes

    def _fused(self, in_source: FusedClip, in_target: FusedClip) -> list["_Pass"]:
        # what is not pasted is of the context's own domain; what stands still comes from the bank of source patches
        if self.parts.fusion == "exchange":
            from_source = ~in_source.mask | in_source.static, in_target.mask
        else:
            from_source = in_source.mask, in_target.mask
        if self.parts.feature_fusion_both:
            return self._fused_both_ways(in_source, in_target)
        passes, change = [], None
        if self.parts.source_context:
            with nullcontext() if self.shallow is None else self.shallow.read() as reading:
                passes.append(self._run("in_source", in_source.clip, from_source[0]))
            change = self._toward(reading, in_target.mask)
        with nullcontext() if self.shallow is None or change is None else self.shallow.replace(change):
            weight = self.parts.target_weight
            passes.append(self._run("in_target", in_target.clip, from_source[1], weight=weight))
        return passes

    def _fused_both_ways(self, in_source: FusedClip, in_target: FusedClip) -> list["_Pass"]:
        # one pass of both, since each needs the other's features
        shown = [self._shown(context.clip) for context in (in_source, in_target)]
        shared = self._seen(in_target.mask)

        def change(features: Tensor) -> Tensor:
            first, second = features.chunk(2)
            return torch.cat((self.feature_fusion(first, second, shared), self.feature_fusion(second, first, shared)))

        with self.shallow.replace(change):  # type: ignore[union-attr]  # arrange() saw that it is given
            logits, features = (x.chunk(2) for x in self._through(concatenated(shown)))
        weight = self.parts.target_weight
        return [
            self._pass("in_source", shown[0], logits[0], features[0], in_source.mask),
            self._pass("in_target", shown[1], logits[1], features[1], in_target.mask, weight=weight),
        ]

    def _toward(self, reading: Reading | None, mask: Tensor) -> Callable[[Tensor], Tensor] | None:
        if reading is None or self.parts.feature_fusion == 0:
            return None
        context, shared = reading.feature, self._seen(mask)
        return lambda features: self.feature_fusion(features, context, shared)

    def _seen(self, mask: Tensor) -> Tensor:
        return (mask if self.whole else mask[:, -1:]).flatten(0, 1)

    def _contexts(self, source: Clip, target: Clip, confident: Clip) -> tuple[FusedClip, FusedClip] | None:
        if self.parts.fusion == "none":
            return None
        if self.parts.fusion == "exchange":
            return self.fusion(source, target)  # type: ignore[no-any-return]
        source_patches = self.source_template.swap(source)
        target_patches = self.target_template.swap(confident)
        if source_patches is None:
            return None
        if not self.parts.target_patches:
            target_patches = None
        return self.fusion(source, target, source_patches, target_patches)  # type: ignore[no-any-return]

    def _run(self, name: str, clip: Clip, from_source: Tensor, *, weight: float = 1.0, hide: bool = False) -> "_Pass":
        clip = self._shown(clip, hide=hide)
        logits, features = self._through(clip)
        return self._pass(name, clip, logits, features, from_source, weight=weight)

    def _shown(self, clip: Clip, *, hide: bool = False) -> Clip:
        clip = augmented(self.augment, clip)
        if hide:
            # blocks as large as a sixth of the height: what is in one must be told from around it
            share, block = self.parts.masked_target, max(1, clip.frames.shape[-2] // 6)
            frames = hide_blocks(clip.frames, share, block=block, generator=self.hiding.generator)
            clip = clip._replace(frames=frames)
        return clip if self.whole else clip.last()

    def _through(self, clip: Clip) -> tuple[Tensor, Tensor]:
        unread = self.features is None or self.alignment is None
        with nullcontext() if unread else self.features.read() as reading:  # type: ignore[union-attr]
            logits = segment(self.model, clip)
        deep = None if reading is None else reading.feature
        return logits, logits if deep is None else deep.view(*clip.frames.shape[:2], *deep.shape[1:])

    def _pass(
        self, name: str, clip: Clip, logits: Tensor, features: Tensor, from_source: Tensor, *, weight: float = 1.0
    ) -> "_Pass":
        if not self.parts.both_frames:
            clip, features, logits, from_source = clip.last(), features[:, -1:], logits[:, -1:], from_source[:, -1:]
        loss = weight * segmentation_loss(logits, clip, ignore_index=self.ignore_index)
        return _Pass(name, loss, features, logits, clip, from_source)

    @property
    def whole(self) -> bool:
        """Whether the model sees every frame: a video model does even where only the current one is trained on."""
        return self.parts.both_frames or isinstance(self.model, VideoSegmenter)

    def _alike(self, in_source: FusedClip, in_target: FusedClip, passes: list["_Pass"]) -> Tensor:
        if self.parts.fusion == "shared":
            shared = in_source.mask & in_target.mask
        else:  # of one clip in both contexts: pasted in one and not in the other, or from the bank in both
            shared = (in_source.mask ^ in_target.mask) | (in_source.static & in_target.static)
        logits = {one.name: one.logits for one in passes}
        first, second = logits["in_source"], logits["in_target"]
        shared = shared[:, -first.shape[1] :]
        loss: Tensor = self.consistency(first.flatten(0, 1), second.flatten(0, 1), shared.flatten(0, 1))
        return loss

    def _align_weight(self) -> float:
        ramp = self.parts.align_ramp
        reached = 1.0 if ramp == 0 else min(1.0, (self.steps - self.parts.warmup) / ramp)
        return self.parts.align_weight * reached

    def _aligned(self, alignment: CentroidAlignmentLoss | PixelAlignmentLoss, passes: list["_Pass"]) -> Tensor:
        # one thing in two contexts: both domains are averaged over both, so that context is not taken for domain
        context = self.parts.align_context if self.parts.fusion == "exchange" else "clean"
        names = {"fused": ("in_source", "in_target"), "clean": ("source", "target")}.get(context, (context,))
        chosen = [one for one in passes if one.name in names]
        clip = concatenated([one.clip for one in chosen])
        from_source = torch.cat([one.from_source for one in chosen])
        features, logits = (torch.cat([getattr(one, name) for one in chosen]) for name in ("features", "logits"))
        source, target = (
            self.aggregator(
                features,
                clip.labels.where(mine, self.ignore_index),  # type: ignore[union-attr]  # each pass was labelled
                logits=logits,
                weights=clip.weights,
                flow=clip.flow,
            )
            for mine in (from_source, ~from_source)
        )
        of_source, of_target = source, target
        if self.parts.memory:
            of_source, of_target = self.source_memory(source), self.target_memory(target)
        if isinstance(alignment, PixelAlignmentLoss):
            toward_source, toward_target = (
                alignment(
                    features.flatten(0, 1),
                    clip.labels.where(mine, self.ignore_index).flatten(0, 1),  # type: ignore[union-attr]
                    centroids,
                    weights=None if clip.weights is None else clip.weights.flatten(0, 1),
                )
                for mine, centroids in ((~from_source, of_source), (from_source, of_target))
            )
        elif self.parts.memory:
            toward_source, toward_target = alignment(of_source, target), alignment(source, of_target)
        else:
            return alignment(source, target)  # type: ignore[no-any-return]
        half: Tensor = (toward_source + toward_target) / 2
        return half

    def extra_repr(self) -> str:
        """Show the parts."""
        own = described(self, "num_classes", "seed", "ignore_index")
        return ", ".join([own, *(f"{name}={value!r}" for name, value in self.parts._asdict().items())])


def _alignment(
    align: Objective, num_classes: int, ignore_index: int
) -> CentroidAlignmentLoss | PixelAlignmentLoss | None:
    if align == "none":
        return None
    if align == "pixel":
        return PixelAlignmentLoss(num_classes, ignore_index=ignore_index)
    return CentroidAlignmentLoss(align)


class _Pass(NamedTuple):
    """One clip that went through the student; ``from_source`` says which pixels came from the source domain."""

    name: str
    loss: Tensor
    features: Tensor
    logits: Tensor
    clip: Clip
    from_source: Tensor


def _everywhere(clip: Clip, value: bool) -> Tensor:
    batch, time, _, height, width = clip.frames.shape
    return torch.full((batch, time, height, width), value, device=clip.frames.device)
