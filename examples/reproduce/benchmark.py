"""What the four scripts of this folder share: the command line, the loop and the scores; run one of them."""

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, RandomSampler
from tqdm import tqdm

from dastc.adapt import DASTC, SourceOnly, evaluate, load_checkpoint, save_checkpoint
from dastc.augment import PhotometricJitter
from dastc.clip import Clip, stack_clips
from dastc.data import LabelSpace, RareClassSampler, class_counts
from dastc.models import VideoSegmenter, model_from, parameter_groups, taps_of

SEGFORMER = f"{Path(__file__).with_name('segformer.py')}:mit_b5"


class Benchmark(NamedTuple):
    """The settings of a published benchmark (METHOD 8, 9).

    Args:
        name: Of the benchmark.
        space: Its label space.
        data: Makes the source, the target and what is scored, of the command line and a function for sizes.
        miniature: Writes small trees; returns the roots of source and target, and the folders of their flow.
        frames: Frames of a clip.
        input_size: Size at which the scored model sees frames.
        switches: Parts of DASTC that differ from the arrangement "released".
        lr: Learning rate of each optimiser.
        batch: Clips of each domain in a step.
        photometric: Whether the look of frames is changed.
        rare: Temperature of rare-class sampling; None draws all clips alike.
    """

    name: str
    space: LabelSpace
    data: Callable[[argparse.Namespace, Callable[[int, int], tuple[int, int]]], tuple[Dataset, Dataset, Dataset]]
    miniature: Callable[[Path], dict[str, Path]]
    frames: int
    input_size: tuple[int, int] | None
    switches: dict[str, Any]
    lr: dict[str, float]
    batch: int = 1
    photometric: bool = True
    rare: float | None = None


class Cropped(Dataset):
    """A random window of each clip, the same in all of its frames; flow is in pixels, and stays as it is."""

    def __init__(self, clips, size, rows=(0, None), columns=(0, None)):
        self.clips, self.size, self.rows, self.columns = clips, size, rows, columns

    def __len__(self):
        return len(self.clips)

    def __getitem__(self, index):
        clip = self.clips[index]
        top = self._draw(self.rows, clip.frames.shape[-2] - self.size[0])
        left = self._draw(self.columns, clip.frames.shape[-1] - self.size[1])
        window = (..., slice(top, top + self.size[0]), slice(left, left + self.size[1]))
        return Clip(*(None if x is None else x[window].contiguous() for x in clip))

    def _draw(self, bounds, most):
        if most < 0:
            raise ValueError(f"the window of {self.size} must fit into each picture; it is {-most} pixels too large.")
        last = most if bounds[1] is None else min(bounds[1], most)
        return int(torch.randint(min(bounds[0], last), last + 1, ()))


def main(benchmark, description, argv=None):
    args = parse(benchmark, description, argv)
    try:
        if not args.miniature:
            return run(benchmark, args)
        with tempfile.TemporaryDirectory() as folder:
            vars(args).update(benchmark.miniature(Path(folder)))
            return run(benchmark, args)
    except ValueError as error:  # what the user can put right
        sys.exit(f"{benchmark.name}: {error}")


def parse(benchmark, description, argv):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, metavar="DIR", help="root of the source's data set")
    parser.add_argument("--target", type=Path, metavar="DIR", help="root of Cityscapes")
    if benchmark.frames > 1:
        parser.add_argument("--source-flow", type=Path, metavar="DIR", help="released flow files; none: no flow")
        parser.add_argument("--target-flow", type=Path, metavar="DIR", help="released flow files of train")
        parser.add_argument("--val-flow", type=Path, metavar="DIR", help="released flow files of val")
    parser.add_argument("--miniature", action="store_true", help="try it out: tiny files, a tiny model, 20 steps")
    parser.add_argument("--method", choices=("dastc", "source_only"), default="dastc")
    parser.add_argument("--model", metavar="MODULE:CALLABLE", help="called with the number of classes")
    parser.add_argument("--head", default="*head*", help="names of parameters that learn ten times as fast")
    parser.add_argument("--optimizer", choices=("adamw", "sgd"), default="adamw")
    parser.add_argument("--steps", type=int, help="of training; 40000 if not told")
    parser.add_argument("--batch", type=int, default=benchmark.batch, help="clips of each domain in a step")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=Path("runs") / benchmark.name, metavar="DIR")
    parser.add_argument("--save-every", type=int, default=2000, metavar="N")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in DIR")
    args = parser.parse_args(argv)
    if not args.miniature and (args.source is None or args.target is None):
        parser.error("--source and --target are needed, or --miniature.")
    args.model = args.model or ("dastc.models:TinySegmenter" if args.miniature else SEGFORMER)
    args.steps = args.steps or (20 if args.miniature else 40_000)
    args.shrink = 16 if args.miniature else 1
    return args


def run(benchmark, args):
    space, classes = benchmark.space, len(benchmark.space.names)

    def at(height, width):
        return height // args.shrink, width // args.shrink

    source, target, scored = benchmark.data(args, at)
    args.out.mkdir(parents=True, exist_ok=True)
    recipe = make_recipe(benchmark, args).to(args.device)
    optimizer = make_optimizer(benchmark, recipe.model, args)
    path, first = args.out / "last.pt", 0
    if args.resume and path.exists():
        first = load_checkpoint(path, recipe, optimizer=optimizer)["step"]
    input_size, losses = benchmark.input_size and at(*benchmark.input_size), {}
    pairs = zip(
        batches(source, args, first, rare_classes(benchmark, source, args)), batches(target, args, first), strict=True
    )
    bar = tqdm(pairs, initial=first, total=args.steps, desc=benchmark.name, dynamic_ncols=True)
    for step, (ours, theirs) in enumerate(bar, first):
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * schedule(args.optimizer, step, args.steps)
        losses = recipe.step(ours.to(args.device), theirs._replace(labels=None).to(args.device))
        optimizer.zero_grad(set_to_none=True)
        losses["total"].backward()
        optimizer.step()
        if (step + 1) % args.save_every == 0 or step + 1 == args.steps:
            save_checkpoint(path, recipe, optimizer=optimizer, step=step + 1)
        if step % 50 == 0:
            bar.set_postfix({name: f"{value.item():.3f}" for name, value in losses.items()})
    loader = DataLoader(scored, 1, num_workers=args.workers, collate_fn=stack_clips)
    scores = evaluate(
        recipe.model, loader, classes, device=args.device, classes=space.scored, input_size=input_size,
        ignore_index=space.ignore_index,
    )  # fmt: skip
    result = {
        "benchmark": benchmark.name, "method": args.method, "steps": args.steps, "seed": args.seed,
        "model": args.model.rpartition("/")[2], "miniature": args.miniature, "checkpoint": "last",
        "miou": float(scores.iou.miou), "scored": [space.names[k] for k in space.scored or range(classes)],
        "per_class": {
            name: None if math.isnan(value) else value
            for name, value in zip(space.names, scores.iou.per_class.tolist(), strict=True)
        },
        "losses": {name: value.item() for name, value in losses.items()},
    }  # fmt: skip
    (args.out / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    print(f"{benchmark.name}: mIoU {result['miou']:.1f} over {len(result['scored'])} classes; see {args.out}")
    return result


def make_recipe(benchmark, args):
    torch.manual_seed(args.seed)
    classes = len(benchmark.space.names)
    model = model_from(args.model, classes)
    if benchmark.frames > 1:
        model = VideoSegmenter(model, classes)
    augment = PhotometricJitter(seed=args.seed) if benchmark.photometric else nn.Identity()
    common = {"augment": augment, "seed": args.seed, "ignore_index": benchmark.space.ignore_index}
    if args.method == "source_only":
        return SourceOnly(model, classes, **common)
    taps = taps_of(model)
    switches = benchmark.switches if taps.shallow else benchmark.switches | {"feature_fusion": 0.0}
    return DASTC(
        model, classes, arrangement="released", shallow=taps.shallow, rare_classes=benchmark.space.rare,
        **common, **switches,
    )  # fmt: skip


def make_optimizer(benchmark, model, args):
    adamw = args.optimizer == "adamw"
    decay = 0.01 if adamw else 5e-4
    groups = parameter_groups(model, benchmark.lr[args.optimizer], factors={args.head: 10.0}, weight_decay=decay)
    return torch.optim.AdamW(groups) if adamw else torch.optim.SGD(groups, momentum=0.9)


def schedule(optimizer, step, steps):
    """Return the share of the learning rate: a warm-up and a line to 0, or a power over a horizon never reached."""
    if optimizer == "sgd":
        return (1 - step / max(250_000, steps)) ** 0.9
    warm = min(1500, steps // 4)  # of 40,000; shorter runs warm up for a quarter at most
    share = 1e-6 + (1 - 1e-6) * step / warm if step < warm else 1.0
    return share * (1 - step / steps)


def rare_classes(benchmark, source, args):
    """Return a sampler that draws rare classes more often, from counts that are kept in a file."""
    if benchmark.rare is None:
        return None
    path = args.out / "class_counts.pt"
    if path.exists():
        counts = torch.load(path, weights_only=True)
    else:
        whole = source.clips  # before a window is taken
        bar = tqdm((whole[i] for i in range(len(whole))), total=len(whole), desc="counting classes")
        counts = class_counts(bar, len(benchmark.space.names))
        torch.save(counts, path)
    return RareClassSampler(counts, temperature=benchmark.rare, min_pixels=3000 // args.shrink**2 or 1,
                            length=args.steps * args.batch, seed=args.seed)  # fmt: skip


def batches(clips, args, first, sampler=None):
    """Yield a batch for each step that is left."""
    generator = torch.Generator().manual_seed(args.seed)
    if sampler is None:
        sampler = RandomSampler(clips, replacement=True, num_samples=args.steps * args.batch, generator=generator)
    order = list(sampler)[first * args.batch :]  # what a run that was not interrupted would have drawn
    return DataLoader(
        clips, args.batch, sampler=order, num_workers=args.workers, collate_fn=stack_clips, generator=generator
    )


if __name__ == "__main__":
    sys.exit(__doc__)
