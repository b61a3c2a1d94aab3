"""``dastc demo``: adapt a small model between two procedural domains, and draw what comes out."""

import argparse
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from dastc.adapt import DASTC, Recipe, SourceOnly, evaluate
from dastc.commands.arguments import Parser
from dastc.commands.extras import need
from dastc.commands.panel import draw_panel
from dastc.commands.score_table import scores_of, table
from dastc.data import StreetClips
from dastc.data.spaces import STREET
from dastc.models import TinySegmenter
from dastc.training import StepBatches, fit, polynomial
from dastc.training.command_line import add_run_arguments, positive, reported
from dastc.training.progress import say
from dastc.training.ranks import device_of
from dastc.training.records import classes_of, device_name, versions, write_json
from dastc.training.remembered import Remembered
from dastc.training.run_folder import claim
from dastc.training.step_batches import in_order

__all__ = ["main"]

_METHODS = ("source_only", "dastc")
_CLASSES = len(STREET.names)


def main(argv: Sequence[str], program: str) -> None:
    """Run the command."""
    args = _parse(argv, program)
    with reported(program, RuntimeError):
        need("examples", program)
        device = device_of(args.device)
        files = ["result.json", "panel.png", *(f"{method}.pt" for method in _METHODS)]
        claim(args.out, files, resume=args.resume, overwrite=args.overwrite)
        clips = _clips(args)
    _run(args, clips, device)


def _parse(argv: Sequence[str], program: str) -> argparse.Namespace:
    parser = Parser(
        program, usage="[options]", argv=argv, example="--out runs/demo",
        about="Adapt a small model from procedural source streets to target streets without\n"
        "labels, beside one that learns from the source alone: a table, DIR/panel.png and\n"
        "checkpoints, in a few minutes on a laptop.",
    )  # fmt: skip
    rare = parser.rare
    parser.add_argument("--steps", type=positive, default=400, metavar="N", help="of each model; 400")
    parser.add_argument("--clips", type=positive, default=200, metavar="N", help=rare("of each domain to train on"))
    parser.add_argument("--eval-clips", type=positive, default=60, metavar="N", help=rare("to score on"))
    parser.add_argument("--size", type=positive, nargs=2, default=(96, 160), metavar=("H", "W"), help=rare("of frames"))
    parser.add_argument("--batch", type=positive, default=4, metavar="N", help=rare("clips of each domain in a step"))
    add_run_arguments(parser, out="runs/demo", save_every=100, rare=rare)
    return parser.parse(argv)


def _clips(args: argparse.Namespace) -> tuple[Any, Any, Any]:
    size = tuple(args.size)
    train = (StreetClips(domain, length=args.clips, size=size, seed=args.seed) for domain in ("source", "target"))
    scored = StreetClips("target", split="test", length=args.eval_clips, size=size, seed=args.seed)
    source, target = map(Remembered, train)
    return source, target, Remembered(scored)


def _run(args: argparse.Namespace, clips: tuple[Any, Any, Any], device: torch.device) -> None:
    models: dict[str, nn.Module] = {}
    rows, start = [], time.perf_counter()
    for method in _METHODS:
        model, seconds = _train(args, method, clips, device)
        scores = evaluate(model, in_order(clips[2], 4), _CLASSES, device=device)
        models[method.replace("_", " ")] = model
        made = {"steps": args.steps, "seed": args.seed, "device": device_name(device), "versions": versions()}
        rows.append({"method": method, **scores_of(scores, STREET), "seconds": round(seconds, 1), **made})
        write_json(args.out / "result.json", rows)
    panel = args.out / "panel.png"
    draw_panel(panel, models, clips[2], STREET, device)
    taken = time.perf_counter() - start
    say(f"\n{table(rows)}\n\nmIoU on target streets that nobody trained on, in %; {taken:.0f} s in all.")
    say(f"Look at {panel.resolve()}")


def _train(
    args: argparse.Namespace, method: str, clips: tuple[Any, Any, Any], device: torch.device
) -> tuple[nn.Module, float]:
    torch.manual_seed(args.seed)
    recipe = _recipe(args, method).to(device)
    optimizer = torch.optim.AdamW(recipe.model.parameters(), lr=1e-3, weight_decay=0.01)
    common = {"batch": args.batch, "seed": args.seed}
    source, target = StepBatches(clips[0], **common), StepBatches(clips[1], stream=1, labels=False, **common)

    def score(step: int) -> dict[str, float]:  # noqa: ARG001  # on some of the clips, to be watched
        so_far = evaluate(recipe.model, in_order(clips[2], 4, most=16), _CLASSES, device=device)
        return {"mIoU": float(so_far.iou.miou)}

    model = {"path": "dastc.models:TinySegmenter", "arguments": {}, "video": False}
    trained = fit(
        recipe, optimizer, source, target, steps=args.steps, schedule=polynomial(args.steps, warmup=50),
        path=args.out / f"{method}.pt", resume=args.resume, save_every=args.save_every, score=score,
        settings={name: getattr(args, name) for name in ("steps", "clips", "size", "batch", "seed")},
        about={"model": model, "classes": classes_of(STREET), "size": list(args.size)}, title=f"{method:>12}",
    )  # fmt: skip
    return recipe.model.eval(), trained.seconds


def _recipe(args: argparse.Namespace, method: str) -> Recipe:
    model = TinySegmenter(_CLASSES)
    if method == "source_only":
        return SourceOnly(model, _CLASSES, seed=args.seed)
    # of so short a training, a quarter on the source alone, and another one until adaptation has its full weight
    short = {"warmup": args.steps // 4, "ramp": args.steps // 4}
    return DASTC(model, _CLASSES, features="neck", class_names=STREET.names, seed=args.seed, **short)
