"""Train and score one cell of the real suite: one row, one seed, one shift.

    python benchmarks/real/cell.py --shift a --row source --seed 0 --carla DIR --camvid DIR
    python benchmarks/real/cell.py --shift a --row dacs --seed 0 --carla DIR --camvid DIR

The row `source` trains the source model of a seed; every other row of that seed starts from it and takes as many
steps again, with the same batches, flips and learning rates. Interrupted, a cell goes on from its checkpoint; finished,
it writes RESULTS/SHIFT/NETWORK/ROW-SEED.json. Everything runs on one thread: the same command gives the same numbers.
"""

import argparse
import json
import math
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from network import network, segmenter
from rows import ROWS
from shifts import CLASSES, SHIFTS, SIZE, Unlabelled, packed

import dastc
from dastc import stack_clips
from dastc.adapt import evaluate, load_checkpoint, load_model, read_about, save_checkpoint
from dastc.augment import RandomFlip
from dastc.data import RareClassSampler
from dastc.data.spaces import CAMVID
from dastc.data.step_sampler import StepSampler

ROOT = Path(__file__).parents[2]
BATCH = 2  # clips of each domain in a step
SAVE_EVERY = 100  # steps


def main(argv=None):
    args = parse(argv)
    torch.set_num_threads(1)
    data = {name: packed(part, {"carla": args.carla, "camvid": args.camvid}, args.runs / "clips")
            for name, part in SHIFTS[args.shift].parts.items()}  # fmt: skip
    recipe, seconds = train(args, data)
    model = recipe.model.eval()
    finish = ROWS[args.row].finish
    if finish:
        finish(model, batches(data["source"], 16), batches(Unlabelled(data["target"]), 16, shuffled=True))
    write_json(result_path(args), result(args, model, data, seconds) | {"decisions": recipe.decisions})


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shift", choices=SHIFTS, required=True)
    parser.add_argument("--row", choices=ROWS, required=True)
    parser.add_argument("--seed", type=int, required=True)
    add_common(parser)
    return parser.parse_args(argv)


def add_common(parser):
    """Add what one cell and a grid of them both need to know."""
    parser.add_argument("--network", type=network, default="mobilenet_v2", help="or MODULE:FUNCTION; see network.py")
    parser.add_argument("--carla", type=Path, metavar="DIR", help="for the shifts that need it")
    parser.add_argument("--camvid", type=Path, metavar="DIR")
    parser.add_argument("--steps", type=int, default=600, help="of the source model, and again of each row")
    # of 1e-4, 3e-4 and 1e-3, the best source model on the CARLA frames that were kept back: mIoU 38.7, 47.0 and 47.8
    parser.add_argument("--lr", type=float, default=1e-3, help="of the head")
    # of 1, 0.1 and 0.03, the best source model on the CARLA frames that were kept back: mIoU 47.2, 49.0 and 48.6
    parser.add_argument(
        "--pace", type=float, default=0.1, help="learning rate of the backbone, as a share of the head's"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/real"), help="where clips and checkpoints go")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results/real")


def result_path(args):
    return args.results / args.shift / args.network / f"{args.row}-{args.seed}.json"


def checkpoint_path(args, row):
    return args.runs / args.shift / args.network / f"{ROWS[row].trained_as or row}-{args.seed}.pt"


def train(args, data):
    """Train a row, from its checkpoint if there is one; return the recipe and the seconds of training."""
    recipe, optimizer = prepare(args)
    path = checkpoint_path(args, args.row)
    settings = {"steps": args.steps, "lr": args.lr, "pace": args.pace, "batch": BATCH}
    first, seconds = 0, 0.0
    if path.exists():
        state = load_checkpoint(path, recipe, optimizer=optimizer, about=settings)
        first, seconds = state["step"], state["about"]["seconds"]
    start = time.perf_counter() - seconds
    for step, clips in enumerate(steps(args, data, first), first):
        losses = train_step(recipe, optimizer, clips, args, step)
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == args.steps:
            seconds = time.perf_counter() - start
            save_checkpoint(path, recipe, optimizer=optimizer, step=step + 1,
                            about=settings | {"done": step + 1, "seconds": seconds})  # fmt: skip
            terms = " ".join(f"{name}={value.item():.3f}" for name, value in losses.items())
            print(f"{args.row} {args.seed}: step {step + 1}, {seconds:.0f} s, {terms}", flush=True)
    return recipe, seconds


def prepare(args):
    """Return recipe and optimiser; the recipe is made last, since its teacher copies the model as it is then."""
    row = ROWS[args.row]
    torch.manual_seed(args.seed)
    model = segmenter(args.network, len(CLASSES))
    if row.starts == "source":
        start_from_source(checkpoint_path(args, "source"), model, args.steps)
    model.to(memory_format=torch.channels_last).train()
    recipe = row.recipe(model, len(CLASSES), seed=args.seed, ignore_index=CAMVID.ignore_index)
    return recipe.train(), torch.optim.AdamW(groups(model, args.pace), lr=args.lr, weight_decay=0.01, fused=True)


def groups(model, pace):
    """Return the optimiser's groups: what is pretrained moves slowly, what is new at full pace."""
    pretrained = list(model.backbone.parameters()) if hasattr(model, "backbone") else []
    known = set(map(id, pretrained))
    new = [parameter for parameter in model.parameters() if id(parameter) not in known]
    found = [{"params": pretrained, "pace": pace}, {"params": new, "pace": 1.0}]
    return [group for group in found if group["params"]]


def start_from_source(path, model, wanted):
    done = read_about(path)["done"]
    if done != wanted:
        raise ValueError(f"start_from_source: {path} must have {wanted} steps; got {done}. Finish the row `source`.")
    load_model(path, model)


def steps(args, data, first):
    """Yield the clips of each step, a function of seed and step alone: all rows see the same, resumed or not."""
    target = data["target"] if ROWS[args.row].target_labels else Unlabelled(data["target"])
    phase = 0 if args.row == "source" else 2  # what follows the source model sees other batches than it did
    rare = RareClassSampler(counts(data["source"]), min_pixels=50) if ROWS[args.row].rare else None
    ours = domain_steps(args, data["source"], first, phase, rare)
    yield from zip(ours, domain_steps(args, target, first, phase + 1), strict=True)


def counts(clips):
    """Return the pixels of each class in the last frame of each clip."""
    labels = torch.from_numpy(clips.arrays["labels"][:, -1].reshape(len(clips), -1))
    return torch.stack([(labels == label).sum(dim=1) for label in range(len(CLASSES))], dim=1)


def domain_steps(args, clips, first, stream, rare=None):
    sampler = StepSampler(len(clips), BATCH, range(first, args.steps), seed=args.seed, stream=stream, rare=rare)
    for step, indices in enumerate(sampler, first):
        flip = RandomFlip(seed=(args.seed * 1_000_003 + step) * 4 + stream)
        yield flip(stack_clips([clips[index] for index in indices]))


def train_step(recipe, optimizer, clips, args, step):
    for group in optimizer.param_groups:
        group["lr"] = args.lr * group["pace"] * min(1, (step + 1) / 50) * (1 - step / args.steps) ** 0.9
    losses = recipe.step(*clips)
    optimizer.zero_grad(set_to_none=True)
    losses["total"].backward()
    optimizer.step()
    return losses


def batches(clips, size=8, *, shuffled=False):
    """Yield all clips; shuffled where the statistics of a batch must be those of the domain and not of one place."""
    order = torch.randperm(len(clips), generator=torch.Generator().manual_seed(0)) if shuffled else range(len(clips))
    for start in range(0, len(clips), size):
        yield stack_clips([clips[int(index)] for index in order[start : start + size]])


def result(args, model, data, seconds):
    """Return what goes into the file of a cell: nothing of the machine but its processor."""
    scores = {name: score(model, clips, SHIFTS[args.shift].classes)
              for name, clips in data.items() if name not in ("source", "target")}  # fmt: skip
    return {
        "shift": args.shift, "network": args.network, "row": args.row, "seed": args.seed, **scores.pop("scored"),
        **{name.replace(" ", "_"): found for name, found in scores.items()}, "seconds": round(seconds, 1),
        "steps": args.steps, "batch": BATCH, "lr": args.lr, "pace": args.pace, "size": SIZE,
        "commit": commit(), "versions": versions(),
        "hardware": hardware(), "command": command(args),
    }  # fmt: skip


def score(model, clips, classes):
    iou = evaluate(model, batches(clips), len(CLASSES), ignore_index=CAMVID.ignore_index, classes=classes).iou
    per_class = {CLASSES[label]: float(iou.per_class[label]) for label in classes}
    per_class = {name: None if math.isnan(value) else round(value, 2) for name, value in per_class.items()}
    return {"miou": round(float(iou.miou), 2), "per_class": per_class}


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(value, indent=1) + "\n")
    partial.replace(path)


def command(args):
    return (
        f"python benchmarks/real/cell.py --shift {args.shift} --row {args.row} --seed {args.seed} "
        f"--network {args.network} --steps {args.steps} --lr {args.lr:g} --pace {args.pace:g} --carla DIR --camvid DIR"
    )


def commit():
    """Return the commit of this checkout, marked if its code was changed since; None where there is none."""
    here = ["git", "-C", str(ROOT)]
    try:
        found = subprocess.run([*here, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        code = [*here, "status", "--porcelain", "--untracked-files=no", "--", "dastc", "benchmarks/real"]
        changed = subprocess.run(code, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return found + ("-changed" if changed else "")


def versions():
    python = ".".join(map(str, sys.version_info[:3]))
    return {"dastc": dastc.__version__, "torch": torch.__version__, "numpy": np.__version__, "python": python}


def hardware():
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {torch.get_num_threads()} thread"


if __name__ == "__main__":
    main()
