"""Views through the network: one after the other, as one batch, or computed again in the backward pass."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dastc._core.compiling import any_batch, left_eager, orchestrates
from dastc.adapt.steps import concatenated
from dastc.adapt.views import View
from dastc.clip import Clip
from dastc.labelling.segment import is_video, segment
from dastc.models import FeatureTap

__all__ = ["Pass", "Passes", "run_passes"]

Passes = Literal["each", "together", "recomputed"]


class Pass(NamedTuple):
    """What the network says of a view.

    Args:
        name: Of the view.
        clip: What was shown.
        from_source: Which pixels come from the source domain.
        logits: The answer.
        features: Intermediate features by the name of their submodule.
        weight: Of its segmentation loss, dimensionless.
        alike: Pixels that another context shows, too.

    Shape:
        - logits: ``(B, T, K, h, w)``, at any resolution.
        - features: ``(B, T, D, h, w)`` each.
        - from_source, alike: ``(B, T, H, W)``, bool.

    Example:
        >>> Pass._fields[:3]
        ('name', 'clip', 'from_source')
    """

    name: str
    clip: Clip
    from_source: Tensor
    logits: Tensor
    features: Mapping[str, Tensor]
    weight: float = 1.0
    alike: Tensor | None = None


@orchestrates
def run_passes(
    model: nn.Module,
    views: Sequence[View],
    taps: Mapping[str, FeatureTap],
    *,
    read: Sequence[str] = (),
    num_classes: int | None = None,
    all_frames: bool = True,
    passes: Passes = "each",
) -> dict[str, Pass]:
    """Send views through the network, and keep the features of the taps named in ``read``."""
    wanted = {(view.blend.tap, view.blend.other) for view in views if view.blend is not None}
    kept: dict[tuple[str, str], Tensor] = {}
    out: list[Pass] = []
    for group in _groups(views, passes):

        @orchestrates
        def run(*_: Tensor, group: Sequence[View] = group) -> list[Pass]:
            concerned = {tap for tap, other in wanted for view in group if _concerns(view, tap, other)}
            mixing = {tap: _mixing(tap, group, wanted, kept) for tap in sorted(concerned)}
            return _run(model, group, taps, read, mixing, num_classes)

        # checkpoint() is given the frames, of whose device it keeps the random state
        frames = [view.clip.frames for view in group]
        out += checkpoint(run, *frames, use_reentrant=False) if passes == "recomputed" else run()
    if not all_frames and is_video(model):
        out = [_current(one) for one in out]
    return {one.name: one for one in out}


@left_eager
def _groups(views: Sequence[View], passes: Passes) -> list[list[View]]:
    """Return the batches in which views pass; one that needs the features of a later one shares its batch."""
    groups: list[list[View]] = []
    for view in views:
        waiting = {v.blend.other for group in groups[-1:] for v in group if v.blend is not None}
        done = {v.name for group in groups for v in group}
        if groups and (not waiting <= done or (passes == "together" and _fit(groups[-1][-1].clip, view.clip))):
            groups[-1].append(view)
        else:
            groups.append([view])
    return groups


def _fit(one: Clip, other: Clip) -> bool:
    return one.frames.shape[1:] == other.frames.shape[1:] and (one.flow is None) == (other.flow is None)


@orchestrates
def _run(
    model: nn.Module,
    group: Sequence[View],
    taps: Mapping[str, FeatureTap],
    read: Sequence[str],
    mixing: Mapping[str, Callable[[Tensor], Tensor]],
    num_classes: int | None,
) -> list[Pass]:
    clip = concatenated([view.clip for view in group]) if len(group) > 1 else group[0].clip
    with ExitStack() as stack:
        for name, mix in mixing.items():
            stack.enter_context(taps[name].replace(mix))
        readings = {name: stack.enter_context(taps[name].read()) for name in read}
        logits = segment(model, clip, num_classes)
    time, sizes = clip.frames.shape[1], [len(view.clip.frames) for view in group]
    features = {
        name: _split(reading.feature.view(-1, time, *reading.feature.shape[1:]), sizes)
        for name, reading in readings.items()
    }
    return [
        Pass(
            view.name, view.clip, view.from_source, own, {name: x[i] for name, x in features.items()},
            view.weight, view.alike,
        )
        for i, (view, own) in enumerate(zip(group, _split(logits, sizes), strict=True))
    ]  # fmt: skip


def _concerns(view: View, tap: str, other: str) -> bool:
    return view.name == other or (view.blend is not None and view.blend.tap == tap)


def _mixing(
    tap: str, group: Sequence[View], wanted: set[tuple[str, str]], kept: dict[tuple[str, str], Tensor]
) -> Callable[[Tensor], Tensor]:
    @left_eager
    def mix(features: Tensor) -> Tensor:
        mixed = _mixed(tap, group, wanted, kept, features)
        any_batch(mixed)  # views that pass by themselves follow
        return mixed

    return mix


def _mixed(
    tap: str, group: Sequence[View], wanted: set[tuple[str, str]], kept: dict[tuple[str, str], Tensor], features: Tensor
) -> Tensor:
    """Keep the features that another view asks for, and mix those of the views that ask."""
    sizes = [view.clip.frames.shape[0] * view.clip.frames.shape[1] for view in group]
    parts = _split(features, sizes)
    kept.update({(tap, view.name): x for view, x in zip(group, parts, strict=True) if (tap, view.name) in wanted})
    blends = [view.blend if view.blend is not None and view.blend.tap == tap else None for view in group]
    if blends == [None] * len(group):
        return features
    parts = [
        x if blend is None else blend.mix(x, kept[tap, blend.other], blend.mask.flatten(0, 1))
        for x, blend in zip(parts, blends, strict=True)
    ]
    return torch.cat(parts) if len(group) > 1 else parts[0]


@left_eager
def _split(x: Tensor, sizes: list[int]) -> list[Tensor]:
    return list(torch.split(x, sizes)) if len(sizes) > 1 else [x]


@left_eager
def _current(one: Pass) -> Pass:
    """Train on the current frame alone: the video model has seen the others."""
    return one._replace(
        clip=one.clip.last(),
        from_source=one.from_source[:, -1:],
        logits=one.logits[:, -1:],
        features={name: x[:, -1:] for name, x in one.features.items()},
        alike=None if one.alike is None else one.alike[:, -1:],
    )
