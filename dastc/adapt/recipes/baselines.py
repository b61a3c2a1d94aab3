"""What DA-STC is compared with: the source alone, true labels of the target, DACS and TPS."""

from collections.abc import Callable

from torch import Tensor, nn

from dastc.adapt.recipe import Recipe
from dastc.adapt.views import Clean, Mixed
from dastc.functional.confidence import Weighting
from dastc.fusion import SequencePatchFusion
from dastc.labelling.target_labels import CrossFrame, TeacherLabels, TrueLabels
from dastc.labelling.teacher import Mode, Teacher

__all__ = ["DACS", "TPS", "Oracle", "SourceOnly"]


class SourceOnly(Recipe):
    """Train on the labelled source alone: what adaptation has to beat.

    Args:
        model: An image model, or a :class:`~dastc.models.VideoSegmenter`.
        num_classes: Number of classes K, at least 2.
        augment: Changes the look of frames; ``None`` means :class:`~dastc.augment.PhotometricJitter`.
        seed: Seed of everything that is drawn.
        ignore_index: Label of the pixels that are ignored.

    Shape:
        - source: a labelled clip. ``target`` is not looked at.
        - output: losses by name, ``"total"`` among them.

    Raises:
        ValueError: If the source is not labelled or shapes do not fit.

    Source:
        The source term of docs/method.md#the-total.

    Example:
        >>> import torch
        >>> from dastc import Clip
        >>> from dastc.models import TinySegmenter
        >>> recipe = SourceOnly(TinySegmenter(3), 3)
        >>> source = Clip(torch.randn(1, 1, 3, 16, 16), torch.randint(0, 3, (1, 1, 16, 16)))
        >>> sorted(recipe(source))
        ['source', 'total']
    """

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        *,
        augment: Callable[[Tensor], Tensor] | None = None,
        seed: int = 0,
        ignore_index: int = 255,
    ) -> None:
        super().__init__(
            model, num_classes, views=[Clean("source")], all_frames=True, augment=augment, seed=seed,
            ignore_index=ignore_index,
        )  # fmt: skip


class Oracle(Recipe):
    """Train on the target's true labels as well as the source's: what adaptation may at best hope for.

    Args:
        model: An image model, or a :class:`~dastc.models.VideoSegmenter`.
        num_classes: Number of classes K, at least 2.
        augment: Changes the look of frames; ``None`` means :class:`~dastc.augment.PhotometricJitter`.
        seed: Seed of everything that is drawn.
        ignore_index: Label of the pixels that are ignored.

    Shape:
        - source, target: labelled clips.
        - output: losses by name, ``"total"`` among them.

    Raises:
        ValueError: If a clip is not labelled or shapes do not fit.

    Source:
        Ours.

    Example:
        >>> import torch
        >>> from dastc import Clip
        >>> from dastc.models import TinySegmenter
        >>> recipe = Oracle(TinySegmenter(3), 3)
        >>> clip = Clip(torch.randn(1, 1, 3, 16, 16), torch.randint(0, 3, (1, 1, 16, 16)))
        >>> sorted(recipe(clip, clip))
        ['source', 'target', 'total']
    """

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        *,
        augment: Callable[[Tensor], Tensor] | None = None,
        seed: int = 0,
        ignore_index: int = 255,
    ) -> None:
        super().__init__(
            model, num_classes, labels=TrueLabels(), views=[Clean("source"), Clean("target")], all_frames=True,
            augment=augment, seed=seed, ignore_index=ignore_index,
        )  # fmt: skip


class DACS(Recipe):
    """Train on the source, and on target clips into which half of the source's classes are pasted.

    Args:
        model: An image model, or a :class:`~dastc.models.VideoSegmenter`.
        num_classes: Number of classes K, at least 2.
        augment: Changes the look of frames; ``None`` means :class:`~dastc.augment.PhotometricJitter`.
        decay: Of the teacher, in [0, 1].
        weighting: How confidence becomes weight; see :func:`dastc.functional.confidence_weights`.
        threshold: From which confidence on a pixel is confident, in [0, 1].
        seed: Seed of everything that is drawn.
        ignore_index: Label of the pixels that are ignored.

    Shape:
        - source: a labelled clip; target: a clip of the same size, flow in both or in neither. Labels of the target
          are not looked at.
        - output: losses by name, ``"total"`` among them.

    Raises:
        ValueError: If the source is not labelled or shapes do not fit.

    Source:
        Tranheden et al. 2021; on clips, one class set is used in all frames.

    Example:
        >>> import torch
        >>> from dastc import Clip
        >>> from dastc.models import TinySegmenter
        >>> recipe = DACS(TinySegmenter(3), 3)
        >>> clip = Clip(torch.randn(1, 1, 3, 16, 16), torch.randint(0, 3, (1, 1, 16, 16)))
        >>> sorted(recipe(clip, Clip(clip.frames)))
        ['mixed', 'source', 'total']
    """

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        *,
        augment: Callable[[Tensor], Tensor] | None = None,
        decay: float = 0.99,
        weighting: Weighting = "share",
        threshold: float = 0.968,
        seed: int = 0,
        ignore_index: int = 255,
    ) -> None:
        fusion = SequencePatchFusion(num_classes, seed=seed, ignore_index=ignore_index)
        labels = TeacherLabels(
            Teacher(model, decay=decay), weighting=weighting, threshold=threshold, ignore_index=ignore_index
        )
        super().__init__(
            model, num_classes, labels=labels, views=[Clean("source"), Mixed(fusion)], all_frames=True,
            augment=augment, seed=seed, ignore_index=ignore_index,
        )  # fmt: skip


class TPS(Recipe):
    """Train on the source, and on target frames labelled from the frame before along the flow.

    Args:
        model: An image model, or a :class:`~dastc.models.VideoSegmenter`.
        num_classes: Number of classes K, at least 2.
        augment: Changes the look of frames; ``None`` means :class:`~dastc.augment.PhotometricJitter`.
        cross_frame: Where labels come from; see :func:`dastc.adapt.labelled_by`. Without flow or at T = 1 a frame is
            labelled from itself.
        target_weight: Weight of the target's term, dimensionless.
        teacher: Who labels; see :class:`~dastc.adapt.Teacher`. ``"student"`` is what was published, for a pretrained
            model; from a random start it collapsed to few classes in our runs.
        decay: Of the teacher, in [0, 1].
        weighting: How confidence becomes weight; see :func:`dastc.functional.confidence_weights`. ``"none"`` is what
            was published; the same holds.
        threshold: From which confidence on a pixel is confident, in [0, 1].
        seed: Seed of everything that is drawn.
        ignore_index: Label of the pixels that are ignored.

    Shape:
        - source: a labelled clip; target: a clip of the same size. Labels of the target are not looked at.
        - output: losses by name, ``"total"`` among them.

    Raises:
        ValueError: If the source is not labelled or shapes do not fit.

    Source:
        Xing et al. 2022 (docs/method.md#pseudo-labels-across-frames), without what
        docs/method.md#what-is-corrected lists. The mean teacher and the weights are those of DACS (ours).

    Example:
        >>> import torch
        >>> from dastc import Clip
        >>> from dastc.models import TinySegmenter
        >>> recipe = TPS(TinySegmenter(3), 3)
        >>> clip = Clip(torch.randn(1, 1, 3, 16, 16), torch.randint(0, 3, (1, 1, 16, 16)))
        >>> sorted(recipe(clip, Clip(clip.frames)))
        ['source', 'target', 'total']
    """

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        *,
        augment: Callable[[Tensor], Tensor] | None = None,
        cross_frame: CrossFrame = "warped",
        target_weight: float = 1.0,
        teacher: Mode = "ema",
        decay: float = 0.99,
        weighting: Weighting = "share",
        threshold: float = 0.968,
        seed: int = 0,
        ignore_index: int = 255,
    ) -> None:
        labels = TeacherLabels(
            Teacher(model, mode=teacher, decay=decay), cross_frame=cross_frame, weighting=weighting,
            threshold=threshold, ignore_index=ignore_index,
        )  # fmt: skip
        super().__init__(
            model, num_classes, labels=labels, views=[Clean("source"), Clean("target", weight=target_weight)],
            all_frames=True, augment=augment, seed=seed, ignore_index=ignore_index,
        )  # fmt: skip
