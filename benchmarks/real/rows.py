"""What is compared: each row is a recipe that goes on from the source model, and perhaps something done at the end."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from backbones import batch_norms
from network import pretrained
from others import Entropy, FeatureDistance
from shifts import CLASSES

from dastc.adapt import (
    DACS,
    TPS,
    Clean,
    Hidden,
    Oracle,
    Recipe,
    Segmentation,
    SourceOnly,
    TeacherLabels,
    adapt_statistics,
)
from dastc.labelling.segment import segment
from dastc.labelling.teacher import Teacher
from dastc.training.parts_by_name import ADDITIONS, dastc_by_names

LAST = "backbone.features.17"  # of both backbones the last layer of the last stride
# of the 600 steps: adaptation wants a source that has stopped teaching, which it has not after the source model's 600
WARMUP = 300
THINGS = tuple(CLASSES.index(name) for name in ("pole", "sign", "car", "pedestrian", "bicyclist"))


class Row(NamedTuple):
    """One way to adapt.

    Args:
        recipe: Makes the recipe: ``recipe(model, num_classes, seed=..., ignore_index=...)``.
        starts: ``"source"``: from the source model of the seed; ``"imagenet"``: from the pretrained backbone.
        target_labels: Whether the recipe is given the target's labels, which only an oracle has.
        rare: Whether source clips with rare classes are drawn more often.
        trained_as: The row whose training this one shares, if it differs in ``finish`` alone.
        finish: Changes the trained model: ``finish(model, source, target)``, both iterables of batches.
    """

    recipe: Callable
    starts: str = "source"
    target_labels: bool = False
    rare: bool = False
    trained_as: str = ""
    finish: Callable | None = None


def adabn(model, source, target):
    """Give each BatchNorm the target's statistics, once its own are the source's.

    AdaBN assumes that a layer normalises by the statistics of what it was trained on. Frozen ones are ImageNet's: the
    layers behind have learnt from features that were not quite standardised, and would be given others if the
    target's statistics simply took their place. So the statistics become the source's first, which scale and shift
    undo: the model says the same as before on every image. Then the target's replace them, and its features come to
    lie where the source's lay.
    """
    take_statistics(model, source)
    adapt_statistics(model, target)


def adabn_plain(model, source, target):  # noqa: ARG001  # a row's `finish`
    """Put the target's statistics where ImageNet's were: what a user does who calls ``adapt_statistics`` alone."""
    adapt_statistics(model, target)


@torch.no_grad()
def take_statistics(model, batches):
    """Make the statistics of every BatchNorm those of its inputs, without changing what the model computes."""
    model.eval()
    layers = batch_norms(model)
    sums = {layer: [0, 0.0, 0.0] for layer in layers}
    hooks = [layer.register_forward_pre_hook(lambda layer, inputs: count(sums[layer], inputs[0])) for layer in layers]
    try:
        for batch in batches:
            segment(model, batch)
    finally:
        for hook in hooks:
            hook.remove()
    for layer, (pixels, total, squares) in sums.items():
        mean = total / pixels
        restate(layer, mean, (squares / pixels - mean.square()).clamp(min=0))


def count(sums, x):
    x = x.double()
    sums[0] += x.numel() // x.shape[1]
    sums[1] = sums[1] + x.sum((0, 2, 3))
    sums[2] = sums[2] + x.square().sum((0, 2, 3))


def restate(layer, mean, variance):
    old = (layer.running_var.double() + layer.eps).sqrt()
    layer.bias += (layer.weight * (mean - layer.running_mean) / old).to(layer.bias.dtype)
    layer.weight *= ((variance + layer.eps).sqrt() / old).to(layer.weight.dtype)
    layer.running_mean.copy_(mean)
    layer.running_var.copy_(variance)


def entropy(model, num_classes, *, seed, ignore_index):
    """Minimise the entropy of the target's predictions, which need no labels: those that a view must have count 0."""
    labels = TeacherLabels(Teacher(model, mode="student"), ignore_index=ignore_index)
    views, terms = [Clean("source"), Clean("target", weight=0.0)], [Segmentation(ignore_index=ignore_index)]
    return Recipe(
        model, num_classes, labels=labels, views=views, terms=[*terms, Entropy(num_classes)], all_frames=True,
        seed=seed, ignore_index=ignore_index,
    )  # fmt: skip


def daformer(model, num_classes, *, seed, ignore_index, masked=False):
    """Return DACS with the feature distance of DAFormer, whose sources are drawn by their rare classes; perhaps MIC."""
    base = DACS(model, num_classes, seed=seed, ignore_index=ignore_index)
    distance = FeatureDistance(pretrained(model.backbone), LAST, THINGS, weight=0.005)
    return Recipe(
        model, num_classes, labels=base.labels, views=[*base.views, *([Hidden(0.7, seed=seed)] if masked else [])],
        terms=[*base.terms, distance], all_frames=True, augment=base.augment, seed=seed, ignore_index=ignore_index,
    )  # fmt: skip


def dastc(**options):
    """Return a row of DA-STC, which goes on with the source for half of its steps; what was released adapts at once."""
    own = {"warmup": 0 if options.get("preset") == "released" else WARMUP, "features": "neck"}
    own |= {"shallow": "shallow"} if "preset" in options else {"ramp": WARMUP, "class_names": CLASSES}
    return Row(partial(dastc_by_names, **own, **options))


ROWS = {
    "source": Row(SourceOnly, starts="imagenet"),
    "source_only": Row(SourceOnly),
    "adabn": Row(SourceOnly, trained_as="source_only", finish=adabn),
    "adabn_plain": Row(SourceOnly, trained_as="source_only", finish=adabn_plain),
    "entropy": Row(entropy),
    "tps": Row(TPS),
    "dacs": Row(DACS),
    "daformer": Row(daformer, rare=True),
    "mic": Row(partial(daformer, masked=True), rare=True),
    "dastc": dastc(),
    "dastc_unaligned": dastc(without="align"),
    "dastc_with_prior": dastc(adding="class_prior"),
    "dastc_with_histograms": dastc(adding="histograms"),
    "dastc_with_both": dastc(adding=ADDITIONS),
    "dastc_paper": dastc(preset="paper"),
    "dastc_released": dastc(preset="released"),
    "oracle": Row(Oracle, target_labels=True),
}
