"""``dastc adapt``: adapt a model from labelled pictures or videos to unlabelled ones."""

import argparse
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from dastc.adapt import evaluate, load_model, read_about
from dastc.commands.adapt_arguments import parse
from dastc.commands.clip_sources import check_clips, clips_of
from dastc.commands.flows import with_flow
from dastc.commands.recipes import make_recipe, prepared_model
from dastc.data import LabelSpace, RareClassSampler, SkipBroken, class_counts
from dastc.models import parameter_groups
from dastc.training import StepBatches, fit, polynomial, ranks
from dastc.training.changed_clips import ChangedClips, random_change
from dastc.training.command_line import reported
from dastc.training.fit import Trained
from dastc.training.kept_checkpoints import KeptCheckpoints
from dastc.training.progress import say
from dastc.training.ranks import rank, together
from dastc.training.records import append_row, classes_of, read_rows
from dastc.training.run_folder import claim
from dastc.training.step_batches import in_order

__all__ = ["Data", "data_of", "export", "main", "on_device", "optimizer_of", "train"]

_FILES = (
    "last.pt", "best.pt", "teacher.pt", "student.pt", "scores.jsonl", "label_free.jsonl", "class_counts.npy",
    "tensorboard",
)  # fmt: skip
# what may differ when a run goes on
_FREE = (
    "out", "resume", "overwrite", "device", "workers", "save_every", "no_check", "skip_broken", "source", "target",
    "scored", "accumulate", "program", "keep_every", "best", "export",
)  # fmt: skip


class Data(NamedTuple):
    """What is trained on, what is scored if anything is, and the classes."""

    source: Any
    target: Any
    scored: Any
    space: LabelSpace


def main(argv: Sequence[str], program: str) -> None:
    """Run the command."""
    args = parse(argv, program)
    with ranks(args.device) as device:
        with reported(program, RuntimeError):  # of files and libraries; later ones are bugs, and keep their traceback
            data = data_of(args, device)
            torch.manual_seed(args.seed)
            model = on_device(prepared_model(args, len(data.space.names)), device)
        recipe = make_recipe(args, model, data.space).to(device)
        train(args, recipe, optimizer_of(args, model), data)


def data_of(args: argparse.Namespace, device: torch.device) -> Data:
    """Claim the folder of the run, and return its clips: checked, with flow."""
    _check_together(args)
    _check_classes(args)
    files = [*_FILES, *sorted(path.name for path in args.out.glob("step_*.pt"))]
    claim(args.out, files, resume=args.resume, overwrite=args.overwrite)
    source, target, scored = (clips_of(args, name) for name in ("source", "target", "scored"))
    with together():
        if not args.no_check and rank() == 0:
            for clips in (source, target, scored):
                _check(args, clips)
    space = source.label_space
    source, target, scored = (_ready(args, clips, device) for clips in (source, target, scored))
    return Data(source, target, scored, space)


def _ready(args: argparse.Namespace, clips: Any, device: torch.device) -> Any:
    if clips is None:
        return None
    clips = with_flow(clips, args.flow if args.frames > 1 else "none", args.out / "flow", device)
    return SkipBroken(clips) if args.skip_broken else clips


def _check_together(args: argparse.Namespace) -> None:
    random_change(scale=args.scale, crop=args.crop)
    if args.batch % args.accumulate:
        raise ValueError(f"--accumulate must divide --batch, {args.batch}; got {args.accumulate}.")
    if args.target_labels and args.method == "source_only":
        raise ValueError("--target-labels needs a method that learns from the target; got --method source_only.")
    if args.without and args.method != "dastc":
        raise ValueError(f"--without leaves out parts of --method dastc; got --method {args.method}.")
    if args.export == "teacher" and args.method == "source_only":
        raise ValueError("--export teacher needs a method that has one; got --method source_only.")


def _check_classes(args: argparse.Namespace) -> None:
    """Refuse to go on from a checkpoint of other classes, before anything is read."""
    path = args.out / "last.pt"
    if not args.resume or not path.exists():
        return
    there = tuple(read_about(path).get("classes", {}).get("names", args.classes))
    if there != tuple(args.classes):
        raise ValueError(
            f"--classes must be those of {path}, {','.join(there)}; got {','.join(args.classes)}. "
            "Give another --out for other classes."
        )


def _check(args: argparse.Namespace, clips: Any) -> None:
    reports = [] if clips is None else check_clips(clips)
    for report in reports:
        say(str(report))
    if not all(reports) and not args.skip_broken:
        raise ValueError("there are problems in the data, listed above; put them right, or give --skip-broken.")


def on_device(model: nn.Module, device: torch.device) -> nn.Module:
    """Move a model, in the order of memory that convolutions are fast with."""
    moved: nn.Module = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved


def optimizer_of(args: argparse.Namespace, model: nn.Module) -> torch.optim.Optimizer:
    """Return AdamW with the rates that are asked for."""
    return torch.optim.AdamW(parameter_groups(model, args.lr, factors=args.factors, weight_decay=args.weight_decay))


def train(args: argparse.Namespace, recipe: nn.Module, optimizer: torch.optim.Optimizer, data: Data) -> Trained:
    """Train a recipe, with checkpoints and scores, and export the weights that are asked for."""
    path = args.out / "last.pt"
    kept = KeptCheckpoints(path, every=args.keep_every, best=args.best)

    def after(step: int) -> dict[str, float]:
        network: Any = recipe.model
        shown = kept.after(step, network, data.target, len(data.space.names))
        return shown if data.scored is None else shown | _score(args, network, data, step)

    source, target = _batches(args, data)
    model = {"path": args.model, "arguments": args.model_args, "video": args.video}
    trained = fit(
        recipe, optimizer, source, target, steps=args.steps, accumulate=args.accumulate, amp=args.amp,
        schedule=polynomial(args.steps, warmup=min(500, args.steps // 10)), score=after,
        target_labels=args.target_labels is not None, path=path, resume=args.resume, save_every=args.save_every,
        tensorboard=args.out / "tensorboard",
        about={"model": model, "classes": classes_of(data.space), "size": args.size},
        settings={name: value for name, value in vars(args).items() if name not in _FREE},
    )  # fmt: skip
    if args.export is not None and rank() == 0:
        export(args, len(data.space.names))
    return trained


def _batches(args: argparse.Namespace, data: Data) -> tuple[StepBatches, StepBatches]:
    rare = None
    if args.rare is not None:
        counts = args.out / "class_counts.npy"
        with together():
            if rank() == 0:
                class_counts(data.source, len(data.space.names), cache=counts, progress=True)
        rare = RareClassSampler(
            class_counts(data.source, len(data.space.names), cache=counts), temperature=args.rare, min_pixels=20
        )
    change = random_change(scale=args.scale, crop=args.crop, flip=args.flip)
    source, target = (x if change is None else ChangedClips(x, change) for x in (data.source, data.target))
    common = {"seed": args.seed, "workers": args.workers}
    return StepBatches(source, args.batch, rare=rare, **common), StepBatches(target, args.batch, stream=1, **common)


def _score(args: argparse.Namespace, model: nn.Module, data: Data, step: int) -> dict[str, float]:
    """Score the model on labelled frames, and write a row, unless an interrupted run has done so."""
    path, space = args.out / "scores.jsonl", data.space
    if step in [row["step"] for row in read_rows(path)]:
        return {}
    device, clips = next(model.parameters()).device, in_order(data.scored, args.batch)
    scores = evaluate(model, clips, len(space.names), ignore_index=space.ignore_index, device=device)
    values = (None if x != x else round(x, 2) for x in scores.iou.per_class.tolist())  # JSON knows no NaN
    per_class = dict(zip(space.names, values, strict=True))
    miou = round(float(scores.iou.miou), 2)
    append_row(path, {"step": step, "miou": miou, "per_class": per_class})
    say(f"step {step}: mIoU {miou:.2f}")
    return {"mIoU": miou}


def export(args: argparse.Namespace, num_classes: int) -> None:
    """Write the weights of the student or the teacher alone, for ``model.load_state_dict``."""
    model, path = prepared_model(args, num_classes), args.out / f"{args.export}.pt"
    load_model(args.out / "last.pt", model, teacher=args.export == "teacher")
    partial = path.with_suffix(".part")
    torch.save(model.state_dict(), partial)
    partial.replace(path)
    say(f"weights of the {args.export}: {path}")
