"""TPS: labels from the frame before."""

from collections.abc import Callable

from torch import Tensor, nn

from dastc.adapt.labelling import CrossFrame, TeacherLabels
from dastc.adapt.recipe import Recipe
from dastc.adapt.teacher import Mode, Teacher
from dastc.adapt.views import Clean
from dastc.functional.confidence import Weighting

__all__ = ["TPS"]


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
        super().__init__(
            model,
            num_classes,
            labels=TeacherLabels(
                Teacher(model, mode=teacher, decay=decay),
                cross_frame=cross_frame,
                weighting=weighting,
                threshold=threshold,
                ignore_index=ignore_index,
            ),
            views=[Clean("source"), Clean("target", weight=target_weight)],
            all_frames=True,
            augment=augment,
            seed=seed,
            ignore_index=ignore_index,
        )
