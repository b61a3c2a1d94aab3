"""DACS: source patches in target context."""

from collections.abc import Callable

from torch import Tensor, nn

from dastc.adapt.labelling import TeacherLabels
from dastc.adapt.recipe import Recipe
from dastc.adapt.teacher import Teacher
from dastc.adapt.views import Clean, Mixed
from dastc.functional.confidence import Weighting
from dastc.fusion import SequencePatchFusion

__all__ = ["DACS"]


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
        teacher, fusion = (
            Teacher(model, decay=decay),
            SequencePatchFusion(num_classes, seed=seed, ignore_index=ignore_index),
        )
        super().__init__(
            model,
            num_classes,
            labels=TeacherLabels(teacher, weighting=weighting, threshold=threshold, ignore_index=ignore_index),
            views=[Clean("source"), Mixed(fusion)],
            all_frames=True,
            augment=augment,
            seed=seed,
            ignore_index=ignore_index,
        )
