"""Training on true labels of the target."""

from collections.abc import Callable

from torch import Tensor, nn

from dastc.adapt.labelling import TrueLabels
from dastc.adapt.recipe import Recipe
from dastc.adapt.views import Clean

__all__ = ["Oracle"]


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
            model,
            num_classes,
            labels=TrueLabels(),
            views=[Clean("source"), Clean("target")],
            all_frames=True,
            augment=augment,
            seed=seed,
            ignore_index=ignore_index,
        )
