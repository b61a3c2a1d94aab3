"""The whole step of DA-STC with the network replaced by what it says, and its share of a step with a network."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from meters import Case, summary, time_rounds
from plain_step import PlainStep
from speed_cases import (
    CLASSES,
    COMPILED,
    FUSED,
    PLAIN,
    REFERENCE,
    Cases,
    Sizes,
    compiled,
    fused,
    normal,
    random_clip,
    seeded,
    x_of,
)
from torch import Tensor, nn

from dastc import Clip
from dastc.adapt import (
    Alignment,
    ClassPrior,
    Exchange,
    Recipe,
    Segmentation,
    Teacher,
    TeacherLabels,
    dastc_parts,
)
from dastc.data import StreetClips
from dastc.fusion import SequencePatchFusion
from dastc.losses import CentroidAlignmentLoss
from dastc.models import TinySegmenter
from dastc.ops import _backend

LOSSES = ("in_source", "in_target", "align", "total")
WHOLE, OWN = "whole step", "own work"


class Given(nn.Module):
    """Stands in for a network: answers each call of a step, in turn, with features and logits that were prepared."""

    def __init__(self, answers: list[tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.neck, self.answers, self.calls = nn.Identity(), answers, 0

    def forward(self, images: Tensor) -> Tensor:  # noqa: ARG002  # what is shown does not matter
        """Return the next logits."""
        features, logits = self.answers[self.calls % len(self.answers)]
        self.calls += 1
        self.neck(features)
        return logits


@contextmanager
def choosing(kernels: frozenset[str]) -> Iterator[None]:
    """Let backend="auto" take these kernels, measured or not."""
    before, _backend._CHOSEN = _backend._CHOSEN, kernels
    try:
        yield
    finally:
        _backend._CHOSEN = before


def steps(sizes: Sizes, batch: int, device: str) -> Cases:
    for height, width, channels in sizes.steps:
        name = f"{x_of(channels, height, width)} and {x_of(*sizes.frames)}, 2 frames, batch {batch}"
        yield step_case(name, batch, sizes.frames, (channels, height, width), CLASSES, device)


def step_case(
    name: str, batch: int, frames: tuple[int, int], features: tuple[int, int, int], classes: int, device: str
) -> Case:
    rng = seeded(device)
    source, target = (random_clip(batch, frames, rng, classes)._replace(weights=None) for _ in range(2))
    channels, *grid = features
    answers = []
    for call in range(3):  # the teacher on the target, the student on both fused clips
        # nobody looks at the teacher's features
        shapes = (2 * batch, channels if call else 1, *grid), (2 * batch, classes, *grid)
        pair = [normal(shape, rng) * scale for shape, scale in zip(shapes, (1, 4), strict=True)]
        answers.append(tuple(x.requires_grad_(call > 0) for x in pair))
    by_hand = PlainStep(classes)

    def ours(kernels: frozenset[str], change=lambda function: function):
        step = our_step(answers, classes, device, kernels, change)
        return lambda: step(source, target)

    return Case(
        name,
        {
            PLAIN: lambda: by_hand(source, target, answers[0][1], answers[1:]),
            REFERENCE: ours(frozenset()),
            # the compiler sees operators from outside: it can only join what lies between them
            COMPILED: ours(frozenset(), compiled) if device != "cpu" else "of its operators only, above",
            FUSED: fused("flow_warp", answers[0][1], ours(frozenset(_backend._LIMITS))),
        },
        tuple(x for pair in answers[1:] for x in pair),
    )


def timed(model: nn.Module, classes: int, tap: str) -> dict:
    """Return the parts that are timed: both frames of two fused clips, so that any version's figures compare."""
    objective = CentroidAlignmentLoss("infonce")
    return dastc_parts(model, classes) | {
        "views": [Exchange(SequencePatchFusion(classes))],
        "terms": [Segmentation(), Alignment(classes, objective, features=tap, memory=0.9)],
        "warmup": 0,
        "ramp": 0,
        "all_frames": True,
    }


def recipe_on(answers: list[tuple[Tensor, Tensor]], classes: int, device: str) -> Recipe:
    model = Given(answers)
    labels = TeacherLabels(
        Teacher(model, mode="student"), cross_frame="averaged", adjust=ClassPrior(classes), threshold=0.8
    )
    parts = timed(model, classes, "neck") | {"labels": labels, "prepare": None}
    return Recipe(model, classes, augment=nn.Identity(), **parts).to(device)


def our_step(answers, classes: int, device: str, kernels: frozenset[str], change=lambda function: function):
    losses_of = change(recipe_on(answers, classes, device).step)

    def step(source: Clip, target: Clip) -> tuple[Tensor, ...]:
        with choosing(kernels):
            losses = losses_of(source, target)
        return tuple(losses[name] for name in LOSSES)

    return step


def shares(sizes: Sizes, rounds: int, device: str) -> list[dict]:
    """Time whole training steps beside what DA-STC itself does in them."""
    batch, height, width = sizes.demo
    classes = len(StreetClips.label_space.names)
    grid = (-(-height // 4), -(-width // 4))
    tiny = TinySegmenter(classes)
    rows = [share(f"demo: TinySegmenter, {batch} clips of 2 frames {x_of(height, width)}", tiny, "neck", batch,
                  (height, width), (tiny.head.in_channels, *grid), classes, rounds, device)]  # fmt: skip
    if device == "cpu":
        return rows
    name = f"SegFormer-B1-like, 1 clip of 2 frames {x_of(*sizes.frames)}"
    if importlib.util.find_spec("transformers") is None:
        return [*rows, {"name": name, "absent": "transformers is not installed"}]
    grid = (sizes.frames[0] // 4, sizes.frames[1] // 4)
    model, tap, channels = segformer()
    return [*rows, share(name, model, tap, 1, sizes.frames, (channels, *grid), CLASSES, rounds, device)]


def segformer() -> tuple[nn.Module, str, int]:
    """Return a model of SegFormer-B1's size with random weights, the submodule before its classifier, and its width."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    config = SegformerConfig(
        depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 320, 512], decoder_hidden_size=256, num_labels=CLASSES
    )
    return SegformerForSemanticSegmentation(config), "decode_head.dropout", 256


def share(
    name: str, model: nn.Module, tap: str, batch: int, frames: tuple[int, int], features: tuple[int, int, int],
    classes: int, rounds: int, device: str,
) -> dict:  # fmt: skip
    recipe = Recipe(model, classes, **timed(model, classes, tap)).to(device)
    optimizer = torch.optim.AdamW(recipe.model.parameters(), lr=1e-3)
    own = step_case(OWN, batch, frames, features, classes, device)
    rng = seeded(device)
    source, target = (random_clip(batch, frames, rng, classes)._replace(weights=None) for _ in range(2))

    def whole() -> tuple[Tensor, ...]:
        optimizer.zero_grad()
        recipe.step(source, target)["total"].backward()
        optimizer.step()
        return ()

    ours = own.contenders[FUSED if callable(own.contenders[FUSED]) else REFERENCE]

    def alone() -> tuple[Tensor, ...]:
        total = ours()[-1]
        torch.autograd.grad(total, own.leaves)
        return ()

    both = Case(name, {WHOLE: whole, OWN: alone})
    for call in both.contenders.values():
        call()
    times = time_rounds(both, [], rounds, device)
    row = {"name": name} | {part: summary(times[part]["forward"]) for part in (WHOLE, OWN)}
    return row | {"share": round(row[OWN]["median_ms"] / row[WHOLE]["median_ms"], 4)}
