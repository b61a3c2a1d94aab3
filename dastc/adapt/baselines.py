"""The honest baselines: source only, oracle, DACS and TPS."""

from collections.abc import Callable

from torch import Tensor, nn

from dastc.adapt.steps import (
    CrossFrame,
    augmented,
    check_pair,
    described,
    labelled_by,
    reweighted,
    segment,
    segmentation_loss,
)
from dastc.adapt.teacher import Mode as TeacherMode
from dastc.adapt.teacher import Teacher
from dastc.augment import PhotometricJitter
from dastc.clip import Clip, check_clip
from dastc.functional.confidence import Weighting
from dastc.fusion import SequencePatchFusion

__all__ = ["DACS", "TPS", "Oracle", "SourceOnly"]


class SourceOnly(nn.Module):
    """Train on the labelled source alone: what adaptation has to beat.

    Args:
        model: An image model, or a :class:`~dastc.models.VideoSegmenter`.
        num_classes: Number of classes K.
        augment: Changes the look of frames; ``None`` means :class:`~dastc.data.PhotometricJitter`.
        seed: Seed of everything that is drawn.
        ignore_index: Label of the pixels that take no part.

    Shape:
        - source: a labelled clip. ``target`` is not looked at.
        - output of ``step``: losses by name, ``"total"`` among them.

    Raises:
        ValueError: If the source is not labelled or shapes do not fit.

    Source:
        METHOD 8.1, the source term.

    Example:
        >>> import torch
        >>> from dastc.models import TinySegmenter
        >>> recipe = SourceOnly(TinySegmenter(3), 3)
        >>> source = Clip(torch.randn(1, 1, 3, 16, 16), torch.randint(0, 3, (1, 1, 16, 16)))
        >>> sorted(recipe.step(source))
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
        super().__init__()
        self.model, self.num_classes, self.seed, self.ignore_index = model, num_classes, seed, ignore_index
        self.augment = PhotometricJitter(seed=seed) if augment is None else augment

    def step(self, source: Clip, target: Clip | None = None) -> dict[str, Tensor]:  # noqa: ARG002
        """Return the losses of one step."""
        check_clip("SourceOnly.step", "source", source, labelled=True)
        loss = _supervised(self.model, self.augment, source, self.ignore_index)
        return {"source": loss, "total": loss}

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return described(self, "num_classes", "seed", "ignore_index")


class Oracle(nn.Module):
    """Train on the target's true labels as well as the source's: what adaptation may at best hope for.

    Args:
        model: An image model, or a :class:`~dastc.models.VideoSegmenter`.
        num_classes: Number of classes K.
        augment: Changes the look of frames; ``None`` means :class:`~dastc.data.PhotometricJitter`.
        seed: Seed of everything that is drawn.
        ignore_index: Label of the pixels that take no part.

    Shape:
        - source, target: labelled clips.
        - output of ``step``: losses by name, ``"total"`` among them.

    Raises:
        ValueError: If a clip is not labelled or shapes do not fit.

    Source:
        Ours.

    Example:
        >>> import torch
        >>> from dastc.models import TinySegmenter
        >>> recipe = Oracle(TinySegmenter(3), 3)
        >>> clip = Clip(torch.randn(1, 1, 3, 16, 16), torch.randint(0, 3, (1, 1, 16, 16)))
        >>> sorted(recipe.step(clip, clip))
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
        super().__init__()
        self.model, self.num_classes, self.seed, self.ignore_index = model, num_classes, seed, ignore_index
        self.augment = PhotometricJitter(seed=seed) if augment is None else augment

    def step(self, source: Clip, target: Clip) -> dict[str, Tensor]:
        """Return the losses of one step."""
        check_clip("Oracle.step", "source", source, labelled=True)
        check_clip("Oracle.step", "target", target, labelled=True)
        on_source = _supervised(self.model, self.augment, source, self.ignore_index)
        on_target = _supervised(self.model, self.augment, target, self.ignore_index)
        return {"source": on_source, "target": on_target, "total": on_source + on_target}

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return described(self, "num_classes", "seed", "ignore_index")


class DACS(nn.Module):
    """Paste half of the source's classes into the target, labelled by a mean teacher; train on that and the source.

    Args:
        model: An image model, or a :class:`~dastc.models.VideoSegmenter`.
        num_classes: Number of classes K.
        augment: Changes the look of frames; ``None`` means :class:`~dastc.data.PhotometricJitter`.
        decay: Of the teacher, in [0, 1].
        weighting: How confidence becomes weight; see :func:`dastc.functional.confidence_weights`.
        threshold: From which confidence on a pixel is confident, in [0, 1].
        seed: Seed of everything that is drawn.
        ignore_index: Label of the pixels that take no part.

    Shape:
        - source: a labelled clip; target: a clip of the same size, flow in both or in neither. Labels of the target
          are not looked at.
        - output of ``step``: losses by name, ``"total"`` among them.

    Raises:
        ValueError: If the source is not labelled or shapes do not fit.

    Source:
        Tranheden et al. 2021, as METHOD 5 and 9 describe it; on clips, one class set is used in all frames.

    Example:
        >>> import torch
        >>> from dastc.models import TinySegmenter
        >>> recipe = DACS(TinySegmenter(3), 3)
        >>> clip = Clip(torch.randn(1, 1, 3, 16, 16), torch.randint(0, 3, (1, 1, 16, 16)))
        >>> sorted(recipe.step(clip, Clip(clip.frames)))
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
        super().__init__()
        self.model, self.num_classes, self.seed, self.ignore_index = model, num_classes, seed, ignore_index
        self.augment = PhotometricJitter(seed=seed) if augment is None else augment
        self.weighting, self.threshold = weighting, threshold
        self.teacher = Teacher(model, decay=decay)
        self.fusion = SequencePatchFusion(num_classes, seed=seed, ignore_index=ignore_index)

    def step(self, source: Clip, target: Clip) -> dict[str, Tensor]:
        """Return the losses of one step."""
        source, target = check_pair("DACS.step", source, target)
        self.teacher.update()
        target = labelled_by(self.teacher, target)
        target = reweighted(target, self.weighting, threshold=self.threshold)
        _, in_target = self.fusion(source, target)
        losses = {
            "source": _supervised(self.model, self.augment, source, self.ignore_index),
            "mixed": _supervised(self.model, self.augment, in_target.clip, self.ignore_index),
        }
        return losses | {"total": losses["source"] + losses["mixed"]}

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return described(self, "num_classes", "weighting", "threshold", "seed", "ignore_index")


class TPS(nn.Module):
    """Train on the source, and on target frames labelled from the frame before along the flow.

    Args:
        model: An image model, or a :class:`~dastc.models.VideoSegmenter`.
        num_classes: Number of classes K.
        augment: Changes the look of frames; ``None`` means :class:`~dastc.data.PhotometricJitter`.
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
        ignore_index: Label of the pixels that take no part.

    Shape:
        - source: a labelled clip; target: a clip of the same size. Labels of the target are not looked at.
        - output of ``step``: losses by name, ``"total"`` among them.

    Raises:
        ValueError: If the source is not labelled or shapes do not fit.

    Source:
        Xing et al. 2022, as METHOD 5 describes it, without the defects A3 and A4 of METHOD 11. The mean teacher and
        the weights are those of DACS (ours).

    Example:
        >>> import torch
        >>> from dastc.models import TinySegmenter
        >>> recipe = TPS(TinySegmenter(3), 3)
        >>> clip = Clip(torch.randn(1, 1, 3, 16, 16), torch.randint(0, 3, (1, 1, 16, 16)))
        >>> sorted(recipe.step(clip, Clip(clip.frames)))
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
        teacher: TeacherMode = "ema",
        decay: float = 0.99,
        weighting: Weighting = "share",
        threshold: float = 0.968,
        seed: int = 0,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        self.model, self.num_classes, self.seed, self.ignore_index = model, num_classes, seed, ignore_index
        self.augment = PhotometricJitter(seed=seed) if augment is None else augment
        self.cross_frame, self.target_weight = cross_frame, target_weight
        self.weighting, self.threshold = weighting, threshold
        self.teacher = Teacher(model, mode=teacher, decay=decay)

    def step(self, source: Clip, target: Clip) -> dict[str, Tensor]:
        """Return the losses of one step."""
        source, target = check_pair("TPS.step", source, target)
        self.teacher.update()
        target = labelled_by(self.teacher, target, cross_frame=self.cross_frame)
        target = reweighted(target, self.weighting, threshold=self.threshold)
        losses = {
            "source": _supervised(self.model, self.augment, source, self.ignore_index),
            "target": _supervised(self.model, self.augment, target, self.ignore_index),
        }
        return losses | {"total": losses["source"] + self.target_weight * losses["target"]}

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return described(
            self, "num_classes", "cross_frame", "target_weight", "weighting", "threshold", "seed", "ignore_index"
        )


def _supervised(model: nn.Module, augment: Callable[[Tensor], Tensor], clip: Clip, ignore_index: int) -> Tensor:
    clip = augmented(augment, clip)
    return segmentation_loss(segment(model, clip), clip, ignore_index=ignore_index)
