"""Sequence-level fusion: the same patch sequences, seen in source context and in target context."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dastc._core.checks import check_between, check_classes, check_number, check_shape, check_whole
from dastc._core.distributed import batch_rand
from dastc._core.labels import without_ignored
from dastc._core.random_state import RandomState
from dastc.clip import Clip, check_clip
from dastc.functional import clip_paste
from dastc.functional.labels import class_presence, draw_classes
from dastc.fusion.patch_bank import PatchBank

__all__ = ["FusedClip", "SequencePatchFusion"]


class FusedClip(NamedTuple):
    """A clip of patches from elsewhere in a context.

    Args:
        clip: Frames, labels, flow and weights, each pixel wholly from one clip.
        mask: What was pasted.
        static: What was pasted without motion, the same in every frame; part of ``mask``.
        from_source: Which pixels are the source's, pasted or not; the others are the target's.

    Shape:
        - mask, static, from_source: ``(B, T, H, W)``, bool.

    Example:
        >>> clip = Clip(torch.zeros(1, 1, 3, 2, 2))
        >>> nothing = torch.zeros(1, 1, 2, 2, dtype=torch.bool)
        >>> FusedClip(clip, nothing, nothing, ~nothing).static.any()
        tensor(False)
    """

    clip: Clip
    mask: Tensor
    static: Tensor
    from_source: Tensor


class SequencePatchFusion(nn.Module):
    """Make two fused clips: one in source context, one in target context.

    Two forms, chosen by what is given:

    - *exchange*, without ``source_patches``: a class mask M is drawn on the source clip. In target context lies the
      source where M, else the target; in source context the target where M, else the source. Two complementary
      clips: every pixel of both domains is used once. With ``complementary=False`` each of the two has a mask of its
      own, drawn independently.
    - *shared*, with ``source_patches``: patches of the drawn classes of that template are pasted into both contexts,
      then those of the bank, then confident patches of ``target_patches``, of other classes.

    One set of classes is drawn for each sample and used in all of its frames, each frame cut by its own labels: that
    keeps a patch a sequence. Frames, labels, flow and weights of a pixel always come from the same clip.

    Args:
        num_classes: Number of classes K.
        rare_classes: Labels that are pasted in addition to those drawn, wherever they occur.
        rare_probability: Probability, for each sample, that its rare classes are added.
        classes: Below 1, the share of the source classes present to draw; from 1 on, how many.
        target_classes: The same for the classes of the target patches.
        complementary: In the exchange form, one mask for both contexts. Without effect on the shared form.
        threshold: Least weight (confidence) of a target pixel for it to be pasted, in [0, 1].
        bank: Static patches to paste in both contexts, in either form; it is filled from the source clips.
        bank_classes: How many classes to take from the bank.
        opacity: Share of a patch in the pasted frames, in (0, 1]; below 1 is a soft paste.
        seed: Seed of the draws; the generator is part of ``state_dict``.
        ignore_index: Label of the pixels that take no part; they are never pasted by class.

    Shape:
        - source, target: clips of the same size, both labelled (the target by pseudo-labels with weights); flow in
          both or in neither.
        - source_patches, target_patches: likewise, of the same size, usually of the iteration before.

    Raises:
        ValueError: If an argument is out of range; in ``forward`` if a clip is not labelled, sizes differ, or only
            some of the clips have flow.
        TypeError: If a clip is no :class:`Clip`.

    Source:
        Shared: the released code (docs/method.md#fusion-of-clips), with the target's classes chosen when they are
        pasted (docs/method.md#what-is-corrected). Exchange: ours.

    Example:
        >>> fusion = SequencePatchFusion(4, seed=1)
        >>> source = Clip(torch.ones(1, 2, 3, 8, 8), torch.randint(0, 4, (1, 2, 8, 8)))
        >>> target = Clip(torch.zeros(1, 2, 3, 8, 8), torch.randint(0, 4, (1, 2, 8, 8)))
        >>> in_source, in_target = fusion(source, target)
        >>> bool((in_source.clip.frames + in_target.clip.frames == 1).all())
        True
    """

    rare: Tensor

    def __init__(
        self,
        num_classes: int,
        *,
        rare_classes: Sequence[int] = (),
        rare_probability: float = 1.0,
        classes: float = 0.5,
        target_classes: float = 2,
        complementary: bool = True,
        threshold: float = 0.9,
        bank: PatchBank | None = None,
        bank_classes: int = 2,
        opacity: float = 1.0,
        seed: int = 0,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        if bank is not None and not isinstance(bank, PatchBank):
            raise TypeError(f"SequencePatchFusion: `bank` must be a PatchBank; got {type(bank).__name__}.")
        check_whole("SequencePatchFusion", "num_classes", num_classes, 1)
        check_whole("SequencePatchFusion", "seed", seed)
        check_between("SequencePatchFusion", "rare_probability", rare_probability, 0, 1)
        check_between("SequencePatchFusion", "threshold", threshold, 0, 1)
        check_whole("SequencePatchFusion", "bank_classes", bank_classes, 0)
        check_amount("classes", classes)
        check_amount("target_classes", target_classes)
        check_number("SequencePatchFusion", "opacity", opacity)
        if not 0 < opacity <= 1:
            raise ValueError(f"SequencePatchFusion: `opacity` must lie in (0, 1]; got {opacity}.")
        check_classes("SequencePatchFusion", "rare_classes", rare_classes, num_classes, ignore_index)
        self.num_classes, self.rare_classes, self.rare_probability = num_classes, tuple(rare_classes), rare_probability
        self.classes, self.target_classes, self.threshold = classes, target_classes, threshold
        self.bank, self.bank_classes, self.opacity = bank, bank_classes, opacity
        self.complementary = complementary
        self.seed, self.ignore_index = seed, ignore_index
        self.random = RandomState(seed)
        rare = torch.zeros(num_classes, dtype=torch.bool)
        rare[list(self.rare_classes)] = True
        self.register_buffer("rare", rare, persistent=False)

    def forward(
        self,
        source: Clip,
        target: Clip,
        source_patches: Clip | None = None,
        target_patches: Clip | None = None,
    ) -> tuple[FusedClip, FusedClip]:
        """Return the clip in source context and the clip in target context."""
        sizes = check_clip("SequencePatchFusion", "source", source, labelled=True)
        others = {"target": target, "source_patches": source_patches, "target_patches": target_patches}
        for name, clip in others.items():
            if clip is not None:
                self._check_fits(name, clip, source, sizes)
        if self.bank is not None and self.training:
            self.bank.update(source)
        pasted = source if source_patches is None else source_patches
        table = self._draw_source_classes(pasted)
        if source_patches is None:
            other = table if self.complementary else self._draw_source_classes(source)
            in_source, mask = self._paste(target, source, table, key=source.labels)
            in_target, its_mask = self._paste(source, target, other)
            from_source = ~mask
        else:
            in_source, mask = self._paste(pasted, source, table)
            in_target, its_mask = self._paste(pasted, target, table)
            from_source = torch.ones_like(mask)
        nothing = torch.zeros_like(mask)
        contexts = (
            FusedClip(in_source, mask, nothing, from_source),
            FusedClip(in_target, its_mask, nothing, its_mask),
        )
        if self.bank is not None:
            contexts = self._paste_bank(self.bank, *contexts)
        if target_patches is not None:
            contexts = self._paste_target(target_patches, table, *contexts)
        return contexts

    def _draw_source_classes(self, clip: Clip) -> Tensor:
        present = self._presence(_labels(clip))
        table = draw_classes(present, self.classes, generator=self.random.generator)
        lucky = batch_rand(len(table), 1, generator=self.random.generator) < self.rare_probability
        return table | (self.rare & lucky.to(table.device, non_blocking=True))

    def _presence(self, labels: Tensor) -> Tensor:
        return class_presence(without_ignored(labels[:, -1], self.num_classes, self.ignore_index), self.num_classes)

    def _paste_bank(self, bank: PatchBank, *contexts: FusedClip) -> tuple[FusedClip, FusedClip]:
        batch, time = contexts[0].mask.shape[:2]
        frames, labels = bank.sample(self.bank_classes, batch=batch, generator=self.random.generator)
        flow = contexts[0].clip.flow
        labels = labels.unsqueeze(1).expand(-1, time, -1, -1)
        patches = Clip(
            frames.unsqueeze(1).expand(-1, time, -1, -1, -1),
            labels,
            # what lies still at the same place in both frames moves by exactly nothing
            None if flow is None else torch.zeros_like(flow),
        )
        table = torch.ones((batch, self.num_classes), dtype=torch.bool, device=frames.device)
        out, key = [], without_ignored(labels, self.num_classes, self.ignore_index)
        for context in contexts:
            clip, mask = self._paste(patches, context.clip, table, key=key)
            out.append(FusedClip(clip, context.mask | mask, mask, context.from_source | mask))
        return out[0], out[1]

    def _paste_target(self, patches: Clip, taken: Tensor, *contexts: FusedClip) -> tuple[FusedClip, FusedClip]:
        labels = _labels(patches)
        sure = None if patches.weights is None else patches.weights >= self.threshold
        confident = labels if sure is None else labels.where(sure, self.ignore_index)
        free = self._presence(confident) & ~taken
        table = draw_classes(free, self.target_classes, generator=self.random.generator)
        out = []
        for context in contexts:
            clip, mask = self._paste(patches, context.clip, table, eligible=sure)
            out.append(FusedClip(clip, context.mask | mask, context.static & ~mask, context.from_source & ~mask))
        return out[0], out[1]

    def _paste(
        self, front: Clip, back: Clip, table: Tensor, *, key: Tensor | None = None, eligible: Tensor | None = None
    ) -> tuple[Clip, Tensor]:
        return clip_paste(front, back, table, key=key, eligible=eligible, opacity=self.opacity)

    def _check_fits(self, name: str, clip: Clip, source: Clip, sizes: dict[str, int]) -> None:
        check_clip("SequencePatchFusion", name, clip, labelled=True)
        known = sizes | {"C": source.frames.shape[2]}
        check_shape("SequencePatchFusion", f"{name}.frames", clip.frames, "B T C H W", known)
        if (clip.flow is None) != (source.flow is None):
            has, lacks = ("source", name) if clip.flow is None else (name, "source")
            raise ValueError(
                f"SequencePatchFusion: `{lacks}.flow` must be given, as `{has}` has flow; got None. "
                "Drop it or give both."
            )

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return (
            f"num_classes={self.num_classes}, rare_classes={self.rare_classes}, "
            f"rare_probability={self.rare_probability}, classes={self.classes}, target_classes={self.target_classes}, "
            f"complementary={self.complementary}, "
            f"threshold={self.threshold}, bank_classes={self.bank_classes}, opacity={self.opacity}, seed={self.seed}, "
            f"ignore_index={self.ignore_index}"
        )


def check_amount(name: str, amount: float) -> None:
    """Check a share in (0, 1) or a count."""
    check_number("SequencePatchFusion", name, amount)
    if not amount > 0 or (amount >= 1 and amount % 1 != 0):
        raise ValueError(
            f"SequencePatchFusion: `{name}` must be a share in (0, 1) or a whole number >= 1; got {amount}."
        )


def _labels(clip: Clip) -> Tensor:
    labels = clip.labels
    if labels is None:
        raise ValueError("SequencePatchFusion: clips must be labelled; got None.")
    return labels
