"""Training on the source alone."""

from collections.abc import Callable

from torch import Tensor, nn

from dastc.adapt.recipe import Recipe
from dastc.adapt.views import Clean

__all__ = ["SourceOnly"]


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
            model,
            num_classes,
            views=[Clean("source")],
            all_frames=True,
            augment=augment,
            seed=seed,
            ignore_index=ignore_index,
        )
