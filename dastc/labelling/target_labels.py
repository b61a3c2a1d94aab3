"""Labels for the target: a teacher's, or true ones where they are known."""

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from dastc._core.checks import check_between, check_choice, check_dtype, check_shape
from dastc._core.distributed import batch_rand
from dastc._core.random_state import RandomState
from dastc.clip import Clip, check_clip
from dastc.functional import confidence_weights, pseudo_labels
from dastc.functional.confidence import Weighting
from dastc.labelling.segment import segment
from dastc.labelling.teacher import Teacher

__all__ = ["CrossFrame", "Labelled", "TeacherLabels", "TrueLabels", "labelled_by"]

CrossFrame = Literal["none", "warped", "averaged", "agreeing"]
Choice = Literal["likeliest", "drawn"]
_ROWS = 12  # of the cells in which labels are drawn at once: patches, as what is pasted has to be of one piece


class Labelled(NamedTuple):
    """A target clip with labels.

    Args:
        clip: Labels, and weights that say how much each of them counts in training.
        confidence: Probability of each label, before it became a weight.

    Shape:
        - confidence: ``(B, T, H, W)``, float in [0, 1].

    Example:
        >>> Labelled._fields
        ('clip', 'confidence')
    """

    clip: Clip
    confidence: Tensor


class TeacherLabels(nn.Module):
    """Label the target with a teacher, and decide how much each label counts.

    Args:
        teacher: Labels the clean frames.
        cross_frame: Where a frame's labels come from; see :func:`labelled_by`.
        adjust: Changes the teacher's logits, such as a :class:`ClassPrior`, which counts the source's classes, too.
            Any Module that takes logits ``(B, T, K, h, w)`` and returns as many.
        choice: ``"likeliest"`` takes the class of the highest probability. ``"drawn"`` draws one with the teacher's
            probabilities, alike in all frames of a clip: then every class keeps the share that the teacher gives it,
            also one that is nowhere the likeliest, which a student of the likeliest forgets. In training only.
        weighting: How confidence becomes weight; see :func:`dastc.functional.confidence_weights`.
        threshold: From which confidence on a pixel is confident, in [0, 1].
        seed: Of what is drawn; the generator is part of ``state_dict``.
        ignore_index: Label of the pixels that are ignored.

    Shape:
        - target: a clip; whatever labels it has are not looked at.
        - known: ``(B, T, H, W)``, int64: true labels where there are some, ``ignore_index`` elsewhere. They take the
          place of the teacher's, with confidence and weight 1.
        - output: the labelled clip, and the confidence: of the likeliest label, also where another was drawn.

    Raises:
        ValueError: If an argument is out of range or a shape does not fit.

    Source:
        docs/method.md#pseudo-labels-across-frames; drawing is ours.

    Example:
        >>> from dastc.models import TinySegmenter
        >>> label = TeacherLabels(Teacher(TinySegmenter(3)), cross_frame="averaged")
        >>> label(Clip(torch.randn(1, 2, 3, 16, 16))).clip.labels.shape
        torch.Size([1, 2, 16, 16])
    """

    def __init__(
        self,
        teacher: Teacher,
        *,
        cross_frame: CrossFrame = "none",
        adjust: nn.Module | None = None,
        choice: Choice = "likeliest",
        weighting: Weighting = "share",
        threshold: float = 0.968,
        seed: int = 0,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        check_choice("TeacherLabels", "cross_frame", cross_frame, get_args(CrossFrame))
        check_choice("TeacherLabels", "choice", choice, get_args(Choice))
        check_choice("TeacherLabels", "weighting", weighting, get_args(Weighting))
        check_between("TeacherLabels", "threshold", threshold, 0, 1)
        self.teacher, self.cross_frame, self.adjust = teacher, cross_frame, adjust
        self.weighting, self.threshold, self.ignore_index = weighting, threshold, ignore_index
        self.random = RandomState(seed) if choice == "drawn" else None

    def update(self) -> None:
        """Let the teacher follow the student: once for each change of the student's weights."""
        self.teacher.update()

    def see(self, source: Clip) -> None:
        """Let what adjusts the logits count what the source shows: every step of training, in the warm-up too."""
        see: Callable[[Tensor], None] | None = getattr(self.adjust, "see", None)
        if self.training and source.labels is not None and see is not None:
            see(source.labels)

    def forward(self, target: Clip, known: Tensor | None = None, *, current: bool = False) -> Labelled:
        """Return the labelled target, or of it the current frame alone, to which earlier ones still contribute."""
        sizes = check_clip("TeacherLabels", "target", target)
        if known is not None:
            check_shape("TeacherLabels", "target_labels", known, "B T H W", sizes)
            check_dtype("TeacherLabels", "target_labels", known, "int64")
            known = known[:, -1:] if current else known
        # looking in evaluation mode must not change what is drawn next
        draw = self.random.generator if self.random is not None and self.training else None
        clip = labelled_by(
            self.teacher, target, cross_frame=self.cross_frame, adjust=self.adjust, draw=draw, current=current
        )
        confidence = torch.zeros_like(clip.frames[:, :, 0]) if clip.weights is None else clip.weights
        weights = confidence_weights(confidence, self.weighting, threshold=self.threshold)
        if known is None:
            return Labelled(clip._replace(weights=weights), confidence)
        given = known != self.ignore_index
        labels, one = known if clip.labels is None else known.where(given, clip.labels), torch.ones_like(weights)
        return Labelled(clip._replace(labels=labels, weights=one.where(given, weights)), one.where(given, confidence))

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        choice = "likeliest" if self.random is None else "drawn"
        return (
            f"cross_frame={self.cross_frame!r}, choice={choice!r}, weighting={self.weighting!r}, "
            f"threshold={self.threshold}, ignore_index={self.ignore_index}"
        )


class TrueLabels(nn.Module):
    """Take the target's own labels for true: for an oracle, and for a target that is labelled throughout.

    Shape:
        - target: a labelled clip.
        - output: the same, with confidence 1.

    Raises:
        ValueError: If the target is not labelled.

    Example:
        >>> clip = Clip(torch.zeros(1, 1, 3, 2, 2), torch.zeros(1, 1, 2, 2, dtype=torch.long))
        >>> TrueLabels()(clip).confidence.unique()
        tensor([1.])
    """

    def forward(self, target: Clip, known: Tensor | None = None) -> Labelled:
        """Return the target as it is."""
        if known is not None:
            target = target._replace(labels=known)
        check_clip("TrueLabels", "target", target, labelled=True)
        return Labelled(target, torch.ones_like(target.frames[:, :, 0]))


def labelled_by(
    teacher: Teacher,
    clip: Clip,
    *,
    cross_frame: CrossFrame = "none",
    adjust: Callable[[Tensor], Tensor] | None = None,
    draw: torch.Generator | None = None,
    current: bool = False,
) -> Clip:
    """Give a clip the teacher's labels, weighted by their confidence; whatever labels it had are not looked at.

    Args:
        teacher: Labels the clean frames.
        clip: The target clip.
        cross_frame: Whether a frame is labelled from itself (``"none"``), from the frame before along the flow
            (``"warped"``), or from the mean of both (``"averaged"``; ``"agreeing"`` leaves out, with confidence 0,
            where the two would be labelled differently). The first frame, and clips without flow, are labelled from
            themselves: between unaligned frames a label would land on something else.
        adjust: Changes the teacher's logits ``(B, T, K, h, w)``, such as :class:`~dastc.adapt.ClassPrior`.
        draw: Generator of the CPU with which labels are drawn, each class with its probability; ``None`` takes the
            likeliest. The weights are the confidence in the likeliest.
        current: Label the current frame alone, and return that.

    Shape:
        - clip: any batched clip; flow is used unless ``cross_frame`` is ``"none"``.
        - output: the clip with labels and weights ``(B, T, H, W)``; of ``current`` T = 1 and no flow.

    Raises:
        ValueError: If ``cross_frame`` is unknown.

    Source:
        Xing et al. 2022 (TPS) for ``"warped"``; ``"averaged"`` and ``"agreeing"`` are ours.

    Example:
        >>> from dastc.models import TinySegmenter
        >>> clip = labelled_by(Teacher(TinySegmenter(3)), Clip(torch.randn(1, 2, 3, 16, 16)))
        >>> clip.labels.shape
        torch.Size([1, 2, 16, 16])
    """
    check_choice("labelled_by", "cross_frame", cross_frame, get_args(CrossFrame))
    size = (clip.frames.shape[-2], clip.frames.shape[-1])
    logits = segment(teacher, clip, getattr(adjust, "num_classes", None))
    if adjust is not None:
        logits = adjust(logits)
    noise = None if draw is None else _gumbel(logits, draw)
    labels, confidence = _read_off(logits, clip.flow, size, cross_frame, noise, current=current)
    if current:
        clip = clip.last()
    return clip._replace(labels=labels, weights=confidence.to(clip.frames.dtype))


def _read_off(
    logits: Tensor,
    flow: Tensor | None,
    size: tuple[int, int],
    cross_frame: CrossFrame,
    noise: Tensor | None,
    *,
    current: bool,
) -> tuple[Tensor, Tensor]:
    """Return labels and confidence of logits (B, T, K, h, w), (B, T, H, W) both, or of the last frame."""
    if cross_frame == "none" or flow is None or logits.shape[1] == 1:
        return _of_own(logits[:, -1:] if current else logits, size, noise)
    if current:
        logits, flow = logits[:, -2:], flow[:, -1:]
    later = _of_later(logits, flow, size, cross_frame, noise)
    if current:
        return later
    first = _of_own(logits[:, :1], size, noise)
    return torch.cat((first[0], later[0]), dim=1), torch.cat((first[1], later[1]), dim=1)


def _of_own(logits: Tensor, size: tuple[int, int], noise: Tensor | None) -> tuple[Tensor, Tensor]:
    found = pseudo_labels(logits.flatten(0, 1), size, noise=_for_frames(noise, logits.shape[1]))
    labels, confidence = (x.view(*logits.shape[:2], *size) for x in found)
    return labels, confidence


def _of_later(
    logits: Tensor, flow: Tensor, size: tuple[int, int], cross_frame: CrossFrame, noise: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Label all frames but the first, along the flow."""
    before, own, flat = logits[:, :-1].flatten(0, 1), logits[:, 1:].flatten(0, 1), flow.flatten(0, 1)
    noise = _for_frames(noise, flow.shape[1])
    if cross_frame == "warped":
        found = pseudo_labels(before, size, flow=flat, noise=noise)
    else:
        found = pseudo_labels(own, size, flow=flat, previous=before, noise=noise)
    if cross_frame == "agreeing":
        found = found._replace(confidence=found.confidence.where(_agree(own, before, flat, size), 0))
    labels, confidence = (x.view(*flow.shape[:2], *size) for x in found)
    return labels, confidence


def _gumbel(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Return noise in cells, (B, K, rows, columns), after which the likeliest class is one drawn with its probability.

    The cells are about as high as wide, and alike over time.
    """
    batch, _, classes, height, width = logits.shape
    rows = min(_ROWS, height)
    columns = max(1, min(width, round(rows * width / height)))
    drawn = batch_rand(batch, classes, rows, columns, generator=generator)
    return -(-drawn.clamp(1e-7, 1 - 1e-7).log()).log().to(logits.device, non_blocking=True)


def _for_frames(noise: Tensor | None, time: int) -> Tensor | None:
    return None if noise is None else noise.unsqueeze(1).expand(-1, time, -1, -1, -1).flatten(0, 1)


def _agree(own: Tensor, before: Tensor, flow: Tensor, size: tuple[int, int]) -> Tensor:
    warped = pseudo_labels(before, size, flow=flow)
    # where nothing comes from the frame before, nothing contradicts
    return (pseudo_labels(own, size).labels == warped.labels) | (warped.confidence == 0)
