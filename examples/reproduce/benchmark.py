"""What the four scripts of this folder share: the command line, the loop and the scores; run one of them."""

import argparse
import math
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.data import Dataset
from tqdm import tqdm

from dastc import Clip
from dastc.adapt import (
    Alignment,
    Clean,
    Hidden,
    MatchHistograms,
    Recipe,
    Segmentation,
    Shared,
    SourceOnly,
    Teacher,
    TeacherLabels,
    evaluate,
)
from dastc.augment import PhotometricJitter
from dastc.data import LabelSpace, RareClassSampler, class_counts
from dastc.fusion import PatchBank, SequencePatchFusion, ShallowFeatureFusion
from dastc.losses import CentroidAlignmentLoss
from dastc.models import VideoSegmenter, parameter_groups, taps_of
from dastc.models.import_path import model_from
from dastc.training import StepBatches, fit
from dastc.training.command_line import add_run_arguments, any_number, positive, reported
from dastc.training.ranks import device_of
from dastc.training.records import classes_of, write_json
from dastc.training.run_folder import claim
from dastc.training.step_batches import in_order

# what must be the same for a run to go on
SETTINGS = ("method", "model", "head", "optimizer", "steps", "batch", "seed", "miniature")
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
        lr: Learning rate of each optimiser.
        target_weight: Of the losses in target context.
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
    lr: dict[str, float]
    target_weight: float = 1.0
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
    with reported(benchmark.name):
        args = parse(benchmark, description, argv)
        if not args.miniature:
            return run(benchmark, args)
        with tempfile.TemporaryDirectory() as folder:
            vars(args).update(benchmark.miniature(Path(folder)))
            return run(benchmark, args)


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
    parser.add_argument("--steps", type=positive, help="of training; 40000 if not told")
    parser.add_argument("--batch", type=positive, default=benchmark.batch, help="clips of each domain in a step")
    parser.add_argument("--workers", type=any_number, default=4)
    add_run_arguments(parser, out=f"runs/{benchmark.name}", save_every=2000)
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

    device = device_of(args.device)
    claim(args.out, ["last.pt", "result.json", "class_counts.pt"], resume=args.resume, overwrite=args.overwrite)
    source, target, scored = benchmark.data(args, at)
    recipe = make_recipe(benchmark, args).to(device)
    common = {"seed": args.seed, "workers": args.workers}
    trained = fit(
        recipe, make_optimizer(benchmark, recipe.model, args),
        StepBatches(source, args.batch, rare=rare_classes(benchmark, source, args), **common),
        StepBatches(target, args.batch, stream=1, labels=False, **common), steps=args.steps, title=benchmark.name,
        schedule=lambda full, step: full * schedule(args.optimizer, step, args.steps),
        path=args.out / "last.pt", resume=args.resume, save_every=args.save_every,
        settings={name: getattr(args, name) for name in SETTINGS}, about={"classes": classes_of(space)},
    )  # fmt: skip
    input_size, loader = benchmark.input_size and at(*benchmark.input_size), in_order(scored, 1, workers=args.workers)
    scores = evaluate(
        recipe.model, loader, classes, device=device, classes=space.scored, input_size=input_size,
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
        "losses": trained.losses,
    }  # fmt: skip
    write_json(args.out / "result.json", result)
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
    return Recipe(model, classes, **parts(benchmark, model, args.seed), **common)


def parts(benchmark, model, seed):
    """Return the parts of the released code: for pictures, a hidden target instead of what needs neighbours."""
    classes, ignored, rare = len(benchmark.space.names), benchmark.space.ignore_index, benchmark.space.rare
    pictures, weight = benchmark.frames == 1, benchmark.target_weight
    shallow = None if pictures else taps_of(model).shallow
    bank = PatchBank(classes, classes=rare, ignore_index=ignored)
    shared = Shared(
        SequencePatchFusion(classes, rare_classes=rare, bank=bank, seed=seed, ignore_index=ignored),
        target_patches=True, target_weight=weight, shallow=shallow,
        feature_fusion=None if shallow is None else ShallowFeatureFusion(0.3),
    )  # fmt: skip
    alignment = Alignment(
        classes, CentroidAlignmentLoss("mmd"), weight=0.01, over=("source", "target"), ignore_index=ignored
    )
    teacher = Teacher(model, decay=0.999 if pictures else 0.99)
    hidden = [Hidden(0.7, weight=weight, seed=seed)] if pictures else []
    return {
        "prepare": None if pictures else MatchHistograms(),
        "labels": TeacherLabels(
            teacher, cross_frame="warped", weighting="none", threshold=0.9, ignore_index=ignored
        ),
        "views": [Clean("source"), Clean("target", weight=weight), *hidden, shared],
        "terms": [Segmentation(ignore_index=ignored), *([] if pictures else [alignment])],
    }  # fmt: skip


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
    return RareClassSampler(counts, temperature=benchmark.rare, min_pixels=3000 // args.shrink**2 or 1)


if __name__ == "__main__":
    sys.exit(__doc__)
