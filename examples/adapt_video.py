"""Adapt a video segmentation model from labelled source clips to unlabelled target clips, and compare methods.

    python examples/adapt_video.py
    python examples/adapt_video.py --data camvid:path/to/camvid --method source_only dastc
    python examples/adapt_video.py --method dastc "dastc(memory=False)" "dacs(decay=0.999)"

A method may be given arguments of its recipe, as in a call. Writes DIR/result.json, DIR/panel.png and a checkpoint for
each method. Interrupted, it goes on with --resume.
"""

import argparse
import ast
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm import tqdm

import dastc
from dastc import Clip
from dastc.adapt import (
    DACS,
    DASTC,
    TPS,
    Oracle,
    SourceOnly,
    adapt_statistics,
    evaluate,
    load_checkpoint,
    save_checkpoint,
)
from dastc.adapt.steps import segment
from dastc.clip import stack_clips
from dastc.data import CamVid, DISFlow, FlowCache, RareClassSampler, StreetClips, class_counts, to_rgb
from dastc.functional import pseudo_labels
from dastc.models import MultiScale, TinySegmenter, VideoSegmenter
from dastc.viz import colourise, side_by_side

RECIPES = {
    "source_only": SourceOnly, "dacs": DACS, "tps": TPS, "dastc": DASTC, "dastc_released": DASTC, "oracle": Oracle,
}  # fmt: skip
# what must be the same for a run to go on from a checkpoint
SETTINGS = (
    "data", "flow", "shift", "source_seqs", "target_seqs", "frames", "clips", "size", "norm", "video", "rare", "steps",
    "batch", "lr", "seed",
)  # fmt: skip
SCORED = {"val": 0, "test": 1}  # seeds of StreetClips; the test streets of seed 0 were seen while settings were chosen
CAMVID_SOURCE, CAMVID_TARGET = ("0006R0", "0016E5", "Seq05VD"), ("0001TP",)  # day, dusk


class Remembered(Dataset):
    """Keep every clip that was asked for: the second epoch costs nothing."""

    def __init__(self, clips: Dataset):
        self.clips, self.seen = clips, {}

    def __len__(self):
        return len(self.clips)

    def __getitem__(self, index):
        if index not in self.seen:
            self.seen[index] = self.clips[index]
        return self.seen[index]


def main(argv=None):
    args = parse(argv)
    try:
        run(args)
    except (ValueError, FileNotFoundError) as error:  # what the user can put right; anything else is a bug
        sys.exit(f"adapt_video.py: {error}")


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", nargs="+", type=method, default=["source_only", "dastc"], metavar="METHOD",
                        help=f"any of {', '.join(RECIPES)}, or one with arguments: 'dastc(memory=False)'")  # fmt: skip
    parser.add_argument("--data", default="street", metavar="street|camvid:DIR", help="what to train and test on")
    parser.add_argument(
        "--flow", choices=("own", "dis"), default="own", help="that of the data (CamVid has none) or DIS"
    )
    parser.add_argument("--flow-cache", type=Path, metavar="DIR", help="for estimated flow; OUT/flow if not given")
    parser.add_argument("--source-seqs", type=names, metavar="A,B", help="CamVid sequences with labels")
    parser.add_argument("--target-seqs", type=names, metavar="C", help="CamVid sequences whose labels are not used")
    parser.add_argument("--eval-seqs", type=names, metavar="D", help="CamVid sequences that are only scored")
    parser.add_argument("--frames", type=positive, default=2, help="frames of a clip; 1 adapts on single images")
    parser.add_argument("--clips", type=positive, default=300, help="StreetClips of each domain to train on")
    parser.add_argument("--eval-clips", type=positive, default=100, help="StreetClips to score on")
    parser.add_argument("--shift", type=float, default=1.1, help="how far the target of StreetClips is, in [0, 3]")
    parser.add_argument("--split", choices=("val", "test"), default="test", help="StreetClips to score on")
    parser.add_argument("--size", type=positive, nargs=2, metavar=("H", "W"), help="size of the frames")
    parser.add_argument("--norm", choices=("group", "batch"), default="group", help="normalisation in the model")
    parser.add_argument("--video", action="store_true", help="fuse the scores of neighbouring frames along the flow")
    parser.add_argument("--rare", type=float, metavar="TEMPERATURE", help="draw rare source classes more often")
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0], help="score with the mean over resolutions")
    parser.add_argument("--adapt-statistics", action="store_true", help="before scoring, of --norm batch")
    parser.add_argument("--steps", type=positive, default=600)
    parser.add_argument("--batch", type=positive, default=4, help="clips of each domain in a step")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--out", type=Path, default=Path("runs/adapt_video"), metavar="DIR")
    parser.add_argument("--save-every", type=positive, default=100, metavar="N", help="steps between checkpoints")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoints in DIR")
    args = parser.parse_args(argv)
    args.size = args.size or ([144, 192] if args.data.startswith("camvid") else [96, 160])
    return args


def positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1; got {value}")
    return value


def method(text):
    try:
        call(text)
    except (ValueError, SyntaxError) as error:
        raise argparse.ArgumentTypeError(
            f"must be one of {', '.join(RECIPES)}, or such as 'dacs(decay=0.999)'; got {text!r}"
        ) from error
    return text


def call(text):
    """Split "dastc(memory=False)" into the name of a method and the arguments of its recipe."""
    tree = ast.parse(text, mode="eval").body
    keywords = tree.keywords if isinstance(tree, ast.Call) and not tree.args else []
    name = tree.func if keywords else tree
    if not isinstance(name, ast.Name) or name.id not in RECIPES:
        raise ValueError(text)
    return name.id, {keyword.arg: ast.literal_eval(keyword.value) for keyword in keywords}


def file_name(method):
    return re.sub(r"[^\w.=-]+", "_", method).strip("_")


def names(text):
    return tuple(name for name in text.split(",") if name)


def run(args):
    # what would only come to light after the training
    if args.adapt_statistics and args.norm != "batch":
        raise ValueError("--adapt-statistics needs --norm batch; got --norm group, which has no statistics.")
    if not min(args.scales) > 0:
        raise ValueError(f"--scales must be above 0; got {args.scales}.")
    if args.video and args.scales != [1.0]:
        raise ValueError("--scales needs a model of single images; got --video.")
    device = choose_device(args.device)
    source, target, scored = datasets(args)
    args.out.mkdir(parents=True, exist_ok=True)
    results, models = [], {}
    for method in dict.fromkeys(args.method):
        model, seconds = train(method, args, source, target, scored, device)
        model, space = prepared_to_score(model, args, target, device), scored.clips.label_space
        scores = evaluate(model, batches(scored), len(space.names), device=device)
        per_class = dict(zip(space.names, scores.iou.per_class.tolist(), strict=True))
        models[method] = model
        results.append({
            "method": method, "data": args.data.partition(":")[0], "seed": args.seed, "steps": args.steps,
            "miou": round(float(scores.iou.miou), 2),
            "per_class": {name: None if np.isnan(value) else round(value, 2) for name, value in per_class.items()},
            "consistency": None if np.isnan(scores.consistency) else round(scores.consistency, 2),
            "seconds": round(seconds, 1), "device": device_name(device), "versions": versions(), "commit": commit(),
        })  # fmt: skip
        write_json(args.out / "result.json", results)
    print_table(results)
    panel(args.out / "panel.png", models, scored, device)
    print(f"\nwritten to {args.out}: result.json, panel.png and a checkpoint for each method")


def prepared_to_score(model, args, target, device):
    if args.adapt_statistics:
        adapt_statistics(model, batches(target), device=device)
    return model if args.scales == [1.0] else MultiScale(model, args.scales).eval()


def choose_device(wanted):
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda needs a GPU that torch can use; torch.cuda.is_available() is False.")
    return torch.device("cuda" if wanted == "cuda" or (wanted == "auto" and torch.cuda.is_available()) else "cpu")


def datasets(args):
    """Return what is trained on in the source, in the target, and what is scored."""
    kind, _, folder = args.data.partition(":")
    if kind == "street" and not folder:
        if args.source_seqs or args.target_seqs or args.eval_seqs:
            raise ValueError("--source-seqs, --target-seqs and --eval-seqs need --data camvid:DIR.")
        common = {"size": tuple(args.size), "frames": args.frames, "shift": args.shift}
        train = [StreetClips(domain, length=args.clips, seed=args.seed, **common) for domain in ("source", "target")]
        scored = StreetClips("target", split=args.split, length=args.eval_clips, seed=SCORED[args.split], **common)
        return [Remembered(with_flow(clips, args)) for clips in (*train, scored)]
    if kind == "camvid" and folder:
        size = tuple(args.size)
        target = args.target_seqs or CAMVID_TARGET
        sequences = args.source_seqs or CAMVID_SOURCE, target, args.eval_seqs or target
        overlap = set(sequences[0]) & (set(sequences[1]) | set(sequences[2]))
        if overlap:
            raise ValueError(f"--source-seqs must not be targets or scored, too; got {sorted(overlap)} in both.")
        sets = [CamVid(folder, sequences=seqs, frames=args.frames, size=size) for seqs in sequences]
        return [Remembered(with_flow(clips, args)) for clips in sets]
    raise ValueError(f"--data must be 'street' or 'camvid:DIR'; got {args.data!r}.")


def with_flow(clips, args):
    if args.flow == "own":
        return clips
    clips = FlowCache(clips, DISFlow(), args.flow_cache or args.out / "flow")
    clips.fill()  # before the clock of the training starts
    return clips


def make_recipe(method, model, space, seed):
    name, given = call(method)
    defaults = {"seed": seed, "ignore_index": space.ignore_index}
    prefix = "image_model." if isinstance(model, VideoSegmenter) else ""
    if name in ("dastc", "dastc_released"):
        defaults |= {"shallow": f"{prefix}stem", "rare_classes": space.rare}
        defaults |= {"features": f"{prefix}neck"} if name == "dastc" else {"arrangement": "released"}
    try:
        return RECIPES[name](model, len(space.names), **(defaults | given))
    except TypeError as error:  # an argument that the recipe does not have
        raise ValueError(f"--method {method}: {error}") from error


def train(method, args, source, target, scored, device):
    """Train one method, from its checkpoint if asked to; return the model and the seconds of training."""
    space, path = source.clips.label_space, args.out / f"{file_name(method)}.pt"
    recipe, optimizer = prepare(method, args, space, device)
    if isinstance(recipe, DASTC) and recipe.parts.warmup >= args.steps:
        tqdm.write(f"{method}: all {args.steps} steps are warm-up on the source; 'dastc(warmup=0)' has none.")
    rare = rare_classes(args, source)
    settings = {key: str(vars(args)[key]) for key in SETTINGS}
    first, seconds = 0, 0.0
    if args.resume and path.exists():
        state = load_checkpoint(path, recipe, optimizer=optimizer, about=settings)
        first, seconds = state["step"], state["about"]["seconds"]
    bar = tqdm(range(first, args.steps), initial=first, total=args.steps, desc=f"{method:>14}", dynamic_ncols=True)
    start, seen = time.perf_counter() - seconds, ""
    for step in bar:
        clips = [clip.to(device) for clip in next_clips(args, step, source, target, method, rare)]
        losses = train_step(recipe, optimizer, clips, args, step)
        done = step + 1
        if done % args.save_every == 0 or done == args.steps:
            seconds = time.perf_counter() - start
            save_checkpoint(path, recipe, optimizer=optimizer, step=done, about={**settings, "seconds": seconds})
            so_far = evaluate(recipe.model, batches(scored, most=24), len(space.names), device=device)
            seen = f"mIoU~{float(so_far.iou.miou):.1f} "
            start = time.perf_counter() - seconds  # scoring is not training
        if done % 10 == 0 or done == args.steps:
            terms = " ".join(f"{name}={value.item():.3f}" for name, value in losses.items() if name != "total")
            bar.set_postfix_str(seen + terms)
    return recipe.model.eval(), seconds


def make_model(args, num_classes):
    model = TinySegmenter(num_classes, norm=args.norm)
    return VideoSegmenter(model, num_classes) if args.video else model


def prepare(method, args, space, device="cpu"):
    torch.manual_seed(args.seed)
    recipe = make_recipe(method, make_model(args, len(space.names)), space, args.seed)
    recipe.to(device=device, memory_format=torch.channels_last)
    return recipe, torch.optim.AdamW(recipe.model.parameters(), lr=args.lr, weight_decay=0.01)


def rare_classes(args, source):
    if args.rare is None:
        return None
    counts = class_counts((source[i] for i in range(len(source))), len(source.clips.label_space.names))
    return RareClassSampler(counts, temperature=args.rare, min_pixels=20)  # less of a class teaches little


def next_clips(args, step, source, target, method, rare=None):
    ours, theirs = draw(source, args, step, 0, rare), draw(target, args, step, 1)
    if call(method)[0] != "oracle":
        theirs = theirs._replace(labels=None)  # no method can look, even by mistake
    return ours, theirs


def train_step(recipe, optimizer, clips, args, step):
    for group in optimizer.param_groups:
        group["lr"] = args.lr * min(1, (step + 1) / 50) * (1 - step / args.steps) ** 0.9
    losses = recipe.step(*clips)
    optimizer.zero_grad(set_to_none=True)
    losses["total"].backward()
    optimizer.step()
    return losses


def draw(clips, args, step, domain, rare=None):
    # a function of the seed and the step alone: an interrupted run sees the same clips as one that was not
    generator = torch.Generator().manual_seed((args.seed * 1_000_003 + step) * 2 + domain)
    if rare is not None:
        return stack_clips([clips[int(i)] for i in rare.draw(args.batch, generator)])
    return stack_clips([clips[int(i)] for i in torch.randint(len(clips), (args.batch,), generator=generator)])


def batches(clips, size=4, most=None):
    indices = range(len(clips)) if most is None else range(0, len(clips), max(1, len(clips) // most))
    for start in range(0, len(indices), size):
        yield stack_clips([clips[i] for i in indices[start : start + size]])


@torch.no_grad()
def panel(path, models, scored, device, rows=4):
    """Draw frames, truth and what each model says, side by side."""
    space, pictures = scored.clips.label_space, []
    for index in np.linspace(0, len(scored) - 1, min(rows, len(scored))).round().astype(int):
        clip: Clip = scored[int(index)]
        truth, batch = clip.labels[-1], stack_clips([clip]).to(device)
        last = [segment(model, batch)[:, -1] for model in models.values()]
        said = [pseudo_labels(logits, tuple(truth.shape)).labels[0].cpu() for logits in last]
        hidden = [labels.where(truth != space.ignore_index, space.ignore_index) for labels in said]
        pictures.append([to_rgb(clip.frames[-1]), *(colourise(labels, space) for labels in (truth, *hidden))])
    titles = ["frame", "truth", *(name.replace("_", " ") for name in models)]
    side_by_side(pictures, titles=titles, path=path, space=space)


def print_table(results):
    names = list(results[0]["per_class"])
    width = max(15, *(len(row["method"]) + 1 for row in results))
    print("\n" + f"{'method':<{width}}{'mIoU':>6} " + "".join(f"{name[:6]:>7}" for name in names) + f"{'seconds':>9}")
    for row in results:
        values = "".join(f"{'-' if value is None else format(value, '.1f'):>7}" for value in row["per_class"].values())
        print(f"{row['method']:<{width}}{row['miou']:>6.1f} {values}{row['seconds']:>9.0f}")


def write_json(path, value):
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(value, indent=1) + "\n")
    partial.replace(path)


def device_name(device):
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"


def versions():
    python = ".".join(map(str, sys.version_info[:3]))
    return {"dastc": dastc.__version__, "torch": torch.__version__, "numpy": np.__version__, "python": python}


def commit():
    """Return the commit of the checkout this file is in, or None where there is none."""
    try:
        ask = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
        return subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


if __name__ == "__main__":
    main()
