"""What happens inside an adaptation: how good its labels are, where its classes lie, what its losses pull at."""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from dastc._core.checks import check_at_least
from dastc._core.modes import evaluation_mode
from dastc.clip import Clip
from dastc.functional import class_pool, resize_labels
from dastc.fusion import SequencePatchFusion
from dastc.labelling.target_labels import CrossFrame, labelled_by
from dastc.labelling.teacher import Teacher
from dastc.models import FeatureTap, logits_of

__all__ = ["class_geometry", "disagreement", "label_quality", "loss_gradients", "pasted_shares"]

_MOVES = 1.0  # pixels from frame to frame


@torch.no_grad()
def label_quality(
    teacher: Teacher,
    clips: Sequence[Clip],
    num_classes: int,
    *,
    cross_frame: CrossFrame = "none",
    adjust: Callable[[Tensor], Tensor] | None = None,
    threshold: float = 0.968,
    bins: int = 15,
    ignore_index: int = 255,
) -> dict[str, float | list[float]]:
    """Compare a teacher's labels with the truth, on every frame that has one before it (or the only one).

    Args:
        teacher: Labels the clips.
        clips: Batches of labelled clips of the target. The labels are for looking at, never for training.
        num_classes: Number of classes K.
        cross_frame: Where labels come from; see :func:`dastc.adapt.labelled_by`.
        adjust: Changes the teacher's logits; see :func:`dastc.adapt.labelled_by`.
        threshold: From which confidence on a label is confident, in [0, 1].
        bins: Intervals of confidence that the calibration error compares.
        ignore_index: Label of the pixels that take no part.

    Returns:
        All in [0, 1], NaN where there was nothing to count: ``accuracy``, ``confidence`` (mean), ``calibration_error``
        (expected), ``confident`` (share), ``accuracy_of_confident``, ``accuracy_of_moving`` and ``accuracy_of_still``
        (pixels whose flow is longer than 1 pixel, and the others), and two lists over the classes: ``recall`` and
        ``precision``.

    Raises:
        ValueError: If there is no clip, one is not labelled, or ``bins`` < 1.

    Source:
        Guo et al. 2017 for the calibration error.

    Example:
        >>> from dastc.models import TinySegmenter
        >>> clip = Clip(torch.randn(1, 1, 3, 16, 16), torch.zeros(1, 1, 16, 16, dtype=torch.long))
        >>> quality = label_quality(Teacher(TinySegmenter(3)), [clip], 3)
        >>> quality["recall"][0] == quality["accuracy"]
        True
    """
    check_at_least("label_quality", "bins", bins, 1)
    _check_some("label_quality", clips=clips)
    said, truth, confidence, moving = [], [], [], []
    for clip in clips:
        labels = _truth("label_quality", clip)
        labelled = labelled_by(teacher, clip, cross_frame=cross_frame, adjust=adjust)
        counted = _later((labels >= 0) & (labels < num_classes) & (labels != ignore_index))
        said.append(_later(labelled.labels)[counted])
        truth.append(_later(labels)[counted])
        confidence.append(_later(labelled.weights)[counted])
        if clip.flow is not None:
            moving.append((clip.flow.norm(dim=2) > _MOVES)[counted])
    label, wanted, sure = (torch.cat(x).cpu() for x in (said, truth, confidence))
    right = (label == wanted).double()
    moves = torch.cat(moving).cpu() if moving else torch.zeros(0, dtype=torch.bool)
    interval = (sure * bins).long().clamp(0, bins - 1)
    gap = torch.zeros(bins, dtype=torch.float64).index_add_(0, interval, right - sure.double())
    hits = torch.bincount(wanted[right > 0], minlength=num_classes)
    return {
        "accuracy": _mean(right),
        "confidence": _mean(sure),
        "calibration_error": float(gap.abs().sum() / max(len(right), 1)),
        "confident": _mean(sure >= threshold),
        "accuracy_of_confident": _mean(right[sure >= threshold]),
        "accuracy_of_moving": _mean(right[moves]) if moving else float("nan"),
        "accuracy_of_still": _mean(right[~moves]) if moving else float("nan"),
        "recall": (hits / torch.bincount(wanted, minlength=num_classes)).tolist(),
        "precision": (hits / torch.bincount(label, minlength=num_classes)).tolist(),
    }


@torch.no_grad()
def disagreement(
    teacher: Teacher, clips: Sequence[Clip], num_classes: int, *, ignore_index: int = 255
) -> dict[str, float]:
    """Say where the label of a frame and that of the frame before, along the flow, differ, and which one is right.

    Args:
        teacher: Labels the clips.
        clips: Batches of labelled clips of the target with flow.
        num_classes: Number of classes K.
        ignore_index: Label of the pixels that take no part.

    Returns:
        In [0, 1], NaN where nothing differs: ``share`` of the pixels whose labels differ, and there the accuracies
        ``own`` and ``warped``. Pixels that come from outside of the frame before do not count.

    Raises:
        ValueError: If there is no clip, one is not labelled.

    Source:
        Ours.

    Example:
        >>> from dastc.models import TinySegmenter
        >>> labels, flow = torch.zeros(1, 2, 16, 16, dtype=torch.long), torch.zeros(1, 1, 2, 16, 16)
        >>> clip = Clip(torch.ones(1, 2, 3, 16, 16), labels, flow)
        >>> disagreement(Teacher(TinySegmenter(3)), [clip], 3)["share"]
        0.0
    """
    _check_some("disagreement", clips=clips)
    differs, own_right, warped_right = [], [], []
    for clip in clips:
        truth = _later(_truth("disagreement", clip))
        own, warped = (labelled_by(teacher, clip, cross_frame=rule) for rule in ("none", "warped"))
        comes = _later(warped.weights) > 0
        counted = comes & (truth >= 0) & (truth < num_classes) & (truth != ignore_index)
        mine, theirs = (_later(one.labels)[counted] for one in (own, warped))
        differs.append(mine != theirs)
        own_right.append((mine == truth[counted])[mine != theirs])
        warped_right.append((theirs == truth[counted])[mine != theirs])
    return {
        name: _mean(torch.cat(values))
        for name, values in (("share", differs), ("own", own_right), ("warped", warped_right))
    }


@torch.no_grad()
def class_geometry(
    model: nn.Module,
    features: str,
    source: Sequence[Clip],
    target: Sequence[Clip],
    num_classes: int,
    *,
    ignore_index: int = 255,
) -> dict[str, float]:
    """Measure how far the deep features of the classes lie apart, by true labels, as distances 1 - cosine.

    Args:
        model: An image model.
        features: Dotted name of the submodule whose output is measured.
        source: Batches of labelled clips of the source.
        target: Batches of labelled clips of the target.
        num_classes: Number of classes K.
        ignore_index: Label of the pixels that take no part.

    Returns:
        In [0, 2], means over the classes that both domains show: ``within_source`` and ``within_target`` (a pixel from
        the centroid of its class), ``between_source`` and ``between_target`` (the centroids of two classes),
        ``across`` (the centroids of one class in both domains) and ``confused`` (share of the target's centroids to
        which a source centroid of another class is nearer than that of their own).

    Raises:
        ValueError: If there is no clip, one is not labelled, or ``features`` is no submodule.

    Source:
        Ours.

    Example:
        >>> from dastc.models import TinySegmenter
        >>> clip = Clip(torch.randn(1, 1, 3, 16, 16), torch.randint(0, 3, (1, 1, 16, 16)))
        >>> class_geometry(TinySegmenter(3), "neck", [clip], [clip], 3)["confused"]
        0.0
    """
    _check_some("class_geometry", source=source, target=target)
    means, spreads, seen = [], [], []
    for clips in (source, target):
        total, mass = _unit_features(model, features, clips, num_classes, ignore_index)
        mean = total / mass.clamp(min=1).unsqueeze(1)
        # the mean of unit vectors is as long as they agree: 1 - length is the mean distance from their direction
        spreads.append(1 - mean.norm(dim=1))
        means.append(torch.nn.functional.normalize(mean, dim=1))
        seen.append(mass > 0)
    shared = seen[0] & seen[1]
    ours, theirs = (mean[shared] for mean in means)
    others = ~torch.eye(len(ours), dtype=torch.bool, device=ours.device)
    distance = 1 - theirs @ ours.T  # (target, source)
    return {
        "within_source": _mean(spreads[0][shared]),
        "within_target": _mean(spreads[1][shared]),
        "between_source": _mean((1 - ours @ ours.T)[others]),
        "between_target": _mean((1 - theirs @ theirs.T)[others]),
        "across": _mean(distance.diagonal()),
        "confused": _mean(distance.argmin(dim=1) != torch.arange(len(ours), device=ours.device))
        if len(ours)
        else float("nan"),
    }


def loss_gradients(recipe: nn.Module, source: Clip, target: Clip) -> dict[str, dict[str, float]]:
    """Take each loss term's gradient on the student: how strong it is, and whether it agrees with the others.

    Works on a copy: the recipe, its teacher and its random state stay as they were.

    Args:
        recipe: Any recipe with ``model`` and ``step``.
        source: A labelled clip.
        target: A clip of the same size.

    Returns:
        For each term of ``step`` but ``"total"``: ``norm``, and ``cosine`` in [-1, 1] with the sum of the other terms
        (NaN if either is zero).

    Source:
        Ours.

    Example:
        >>> from dastc.adapt import DACS
        >>> from dastc.models import TinySegmenter
        >>> clip = Clip(torch.randn(1, 1, 3, 16, 16), torch.randint(0, 3, (1, 1, 16, 16)))
        >>> sorted(loss_gradients(DACS(TinySegmenter(3), 3), clip, clip))
        ['mixed', 'source']
    """
    twin = copy.deepcopy(recipe)
    losses = twin.step(source, target)  # type: ignore[operator]  # a recipe's
    parameters = [p for p in twin.model.parameters() if p.requires_grad]  # type: ignore[union-attr]
    pulls = {}
    for name, loss in losses.items():
        if name != "total":
            gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            pulls[name] = torch.cat(
                [
                    torch.zeros_like(p).flatten() if g is None else g.flatten()
                    for p, g in zip(parameters, gradients, strict=True)
                ]
            )
    everything = torch.stack(list(pulls.values())).sum(dim=0)
    return {
        name: {"norm": float(pull.norm()), "cosine": _cosine(pull, everything - pull)} for name, pull in pulls.items()
    }


@torch.no_grad()
def pasted_shares(
    fusion: SequencePatchFusion, source: Clip, target: Clip, num_classes: int, **templates: Clip
) -> dict[str, list[float]]:
    """Say how much of each class is pasted, and into which context.

    Works on a copy: the fusion's bank and its random state stay as they were.

    Args:
        fusion: The fusion of a recipe.
        source: A labelled clip.
        target: A labelled clip of the same size.
        num_classes: Number of classes K.
        templates: ``source_patches`` and ``target_patches``, as of the fusion.

    Returns:
        ``in_source`` and ``in_target``: for each class, its share of all pixels of that context that were pasted, in
        [0, 1]. The sum over the classes is the share that was pasted at all, without ignored pixels.

    Raises:
        ValueError: As of the fusion.

    Source:
        Ours.

    Example:
        >>> clip = Clip(torch.randn(1, 1, 3, 8, 8), torch.zeros(1, 1, 8, 8, dtype=torch.long))
        >>> pasted_shares(SequencePatchFusion(2), clip, clip, 2)
        {'in_source': [1.0, 0.0], 'in_target': [1.0, 0.0]}
    """
    contexts = copy.deepcopy(fusion)(source, target, **templates)
    shares = {}
    for name, context in zip(("in_source", "in_target"), contexts, strict=True):
        labels = context.clip.labels
        pasted = labels[context.mask & (labels >= 0) & (labels < num_classes)]
        counts = torch.bincount(pasted, minlength=num_classes)
        shares[name] = (counts / max(labels.numel(), 1)).tolist()
    return shares


def _unit_features(
    model: nn.Module, features: str, clips: Sequence[Clip], num_classes: int, ignore_index: int
) -> tuple[Tensor, Tensor]:
    tap, sums, masses = FeatureTap(model, features), [], []
    with evaluation_mode(model):
        for clip in clips:
            labels = _truth("class_geometry", clip).flatten(0, 1)
            with tap.read() as reading:
                logits_of(model(clip.frames.flatten(0, 1)))
            unit = torch.nn.functional.normalize(reading.feature, dim=1)
            cells = resize_labels(labels, (unit.shape[-2], unit.shape[-1]))
            total, mass = class_pool(unit, cells, num_classes, ignore_index=ignore_index)
            sums.append(total.sum(dim=0))
            masses.append(mass.sum(dim=0))
    return torch.stack(sums).sum(dim=0), torch.stack(masses).sum(dim=0)


def _check_some(caller: str, **batches: Sequence[Clip]) -> None:
    for name, clips in batches.items():
        if not clips:
            raise ValueError(f"{caller}: `{name}` must hold at least one batch of clips; got none.")


def _truth(caller: str, clip: Clip) -> Tensor:
    if clip.labels is None:
        raise ValueError(f"{caller}: `clips` must be labelled; got a clip without labels.")
    return clip.labels


def _later(x: Tensor | None) -> Tensor:
    if x is None:
        raise ValueError("diagnosis: `labelled_by` must give labels and weights; got None.")
    return x[:, 1:] if x.shape[1] > 1 else x


def _mean(values: Tensor) -> float:
    return float(values.double().mean())


def _cosine(a: Tensor, b: Tensor) -> float:
    return float((a / a.norm()) @ (b / b.norm()))
