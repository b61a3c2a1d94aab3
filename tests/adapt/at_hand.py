"""What tests of recipes have in common: small clips, every recipe, a training loop, and a spy."""

from functools import partial

import torch
from torch import nn

from dastc import Clip
from dastc.adapt import (
    DACS,
    DASTC,
    TPS,
    Agreement,
    Alignment,
    ClassPrior,
    Clean,
    Exchange,
    Hidden,
    MatchHistograms,
    Oracle,
    Recipe,
    Segmentation,
    SourceOnly,
    Teacher,
    TeacherLabels,
)
from dastc.fusion import PatchBank, SequencePatchFusion
from dastc.models import TinySegmenter, VideoSegmenter

K, SIZE = 4, (16, 24)


def clips(seed=0, time=2, flow=True, batch=2, channels=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)

    def one():
        frames = torch.randn(batch, time, channels, *SIZE, generator=generator)
        labels = torch.randint(0, K, (batch, time, *SIZE), generator=generator)
        shift = torch.randn(batch, time - 1, 2, *SIZE, generator=generator) if flow else None
        return Clip(frames.to(dtype), labels, None if shift is None else shift.to(dtype))

    return one(), one()


def tiny(seed=0, width=16):
    """Make a model that is sure of some pixels, as an untrained one is of none."""
    torch.manual_seed(seed)
    model = TinySegmenter(K, width=width)
    with torch.no_grad():
        model.head.weight.mul_(8)
    return model


def own_parts(model, *, seed=0, prefix="", ignore_index=255, **more):
    """Return a recipe with what no preset has."""
    ignore = {"ignore_index": ignore_index}
    bank = PatchBank(K, classes=[2], min_pixels=1, **ignore)
    fusion = SequencePatchFusion(K, complementary=False, bank=bank, seed=seed, **ignore)
    prior = ClassPrior(K, grid=(4, 4), zoom=1.5, shift=0.05, **ignore)
    teacher = Teacher(model, decay=0.5)
    label = TeacherLabels(teacher, cross_frame="agreeing", adjust=prior, weighting="confidence", **ignore)
    align = Alignment(K, features=f"{prefix}neck", memory=0.8, **ignore)
    return Recipe(
        model,
        K,
        **{
            "prepare": MatchHistograms(grid=(2, 1)),
            "labels": label,
            "views": [Clean("target", weight=0.5), Exchange(fusion), Hidden(0.4, seed=seed)],
            "terms": [Segmentation(**ignore), align, Agreement(0.7)],
            "seed": seed,
            **ignore,
        }
        | more,
    )


def _preset(name, model, *, prefix="", **more):
    rare = {"rare_classes": (1, 3)} if name == "released" else {}
    shallow = {} if name == "default" else {"shallow": f"{prefix}stem"}
    return DASTC(model, K, **{"preset": name, "features": f"{prefix}neck", "warmup": 0, **shallow, **rare, **more})


def _plain(kind, model, *, prefix="", **more):  # noqa: ARG001  # which no tap needs
    return kind(model, K, **more)


PRESETS = ("default", "paper", "released")
RECIPES = {
    "source_only": partial(_plain, SourceOnly),
    "oracle": partial(_plain, Oracle),
    "dacs": partial(_plain, DACS),
    "tps": partial(_plain, TPS),
    **{name: partial(_preset, name) for name in PRESETS},
    "own": own_parts,
}
ADAPTING = ("dacs", "tps", *PRESETS, "own")


def make(name, seed=0, *, model=None, video=False, double=False, **more):
    """Return a recipe by name, with a model of its own."""
    model = tiny(seed) if model is None else model
    model = VideoSegmenter(model, K) if video else model
    model = model.double() if double else model
    return RECIPES[name](model, seed=seed, prefix="image_model." if video else "", **more)


def sgd(recipe):
    return torch.optim.SGD(recipe.model.parameters(), lr=0.01, momentum=0.9)


def train(recipe, steps, first=0, optimizer=None, **kind):
    """Take steps on clips of their own, and return the last losses and the optimiser."""
    optimizer = optimizer or sgd(recipe)
    for step in range(first, first + steps):
        losses = recipe(*clips(seed=step, **kind))
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
    return losses, optimizer


def spied(module):
    """Note what a module is called with and what it returns."""
    calls, forward = [], module.forward

    def noted(*args, **more):
        calls.append((args, more, forward(*args, **more)))
        return calls[-1][2]

    module.forward = noted
    return calls


def same(frames):
    """Change nothing: an ``augment`` that keeps tests exact."""
    return frames


def leaves(state, name=""):
    """Yield every value of a nested state with its name."""
    pairs = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, (list, tuple)) else None
    if pairs is None:
        yield name, state
        return
    for key, value in pairs:
        yield from leaves(value, f"{name}/{key}")


def assert_same_state(one, other, *, but=()):
    """Check two modules to be in one state, bit for bit, random state and counters included."""
    mine, theirs = (dict(leaves(x.state_dict())) for x in (one, other))
    assert mine.keys() == theirs.keys()
    for key, value in mine.items():
        if not any(part in key for part in but):
            equal = torch.equal(value, theirs[key]) if isinstance(value, torch.Tensor) else value == theirs[key]
            assert equal, key


def assert_same_losses(found, wanted, **close):
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, **close, msg=lambda text, name=name: f"{name}: {text}")


def gradients(recipe):
    return {name: p.grad.clone() for name, p in recipe.model.named_parameters() if p.grad is not None}


class Colour(nn.Module):
    """The smallest model there is: logits from the colour of each pixel."""

    def __init__(self, classes=K, channels=3):
        super().__init__()
        self.stem, self.neck, self.head = (nn.Conv2d(*sizes, 1) for sizes in ((channels, 5), (5, 6), (6, classes)))

    def forward(self, images):
        return self.head(self.neck(self.stem(images)))
