"""The recipe that a command line asks for."""

import argparse

from torch import nn

from dastc.adapt import DACS, TPS, Recipe, SourceOnly
from dastc.data import LabelSpace
from dastc.losses import CentroidAlignmentLoss
from dastc.models import VideoSegmenter, freeze, taps_of
from dastc.models.import_path import model_from
from dastc.training.parts_by_name import dastc_by_names
from dastc.training.progress import say

__all__ = ["ALIGN", "BASELINES", "make_recipe", "prepared_model"]

BASELINES = {"dacs": DACS, "tps": TPS, "source_only": SourceOnly}
ALIGN = ("none", "infonce", "cdd", "mmd", "margin")


def prepared_model(args: argparse.Namespace, num_classes: int) -> nn.Module:
    """Make the model of ``--model``, for video and in part frozen where that is asked for."""
    model = model_from(args.model, num_classes, **args.model_args)
    model = VideoSegmenter(model, num_classes) if args.video else model
    freeze(model, args.freeze)
    return model


def make_recipe(args: argparse.Namespace, model: nn.Module, space: LabelSpace) -> Recipe:
    """Make the recipe of ``--method``, with the parts that are asked for, and say what it is."""
    classes = len(space.names)
    if args.method != "dastc":
        say(f"{args.method} on {type(model).__name__}")
        made: Recipe = BASELINES[args.method](model, classes, seed=args.seed, ignore_index=space.ignore_index)
        return made
    left_out = {*args.without, *(("align",) if args.align == "none" else ())}
    features = args.features or (None if "align" in left_out else _known_tap(model, "features"))
    shallow = args.shallow or (None if args.preset == "default" else _known_tap(model, "shallow"))
    objective = CentroidAlignmentLoss(args.align) if args.align not in (None, "none") else None
    aligning = "nothing" if "align" in left_out else features or "logits"
    say(f"dastc on {type(model).__name__}, aligning {aligning}")
    ramp = min(600, args.steps // 4) if args.preset == "default" else None  # a short training must reach full weight
    return dastc_by_names(
        model, classes, without=left_out, adding=args.adding, preset=args.preset, features=features, shallow=shallow,
        warmup=args.warmup, ramp=ramp, objective=objective, class_names=space.names, seed=args.seed,
        ignore_index=space.ignore_index,
    )  # fmt: skip


def _known_tap(model: nn.Module, kind: str) -> str | None:
    try:
        found: str | None = getattr(taps_of(model), kind)
    except ValueError as error:
        say(f"{error} Without a name, logits are aligned, and nothing is fused.")
        return None
    return found
