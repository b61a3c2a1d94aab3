r"""Adapt your model from your labelled folders to your unlabelled ones.

    python examples/adapt_your_data.py --classes road,car,person \
        --source sim --source-images "{sequence}/rgb/{number}.png" --source-labels "{sequence}/ids/{number}.png" \
        --target drive --target-images "{sequence}/{number}.jpg" --size 512 1024 --model my_models.py:make_model
    torchrun --nproc-per-node 4 examples/adapt_your_data.py ...

The model is called with the number of classes and takes images (N, 3, H, W). All files are opened once before training.
Writes OUT/last.pt, with which --resume goes on and segment_video.py works, and OUT/scores.jsonl if frames to score are
given. Scores are shown, and decide nothing.
"""

import argparse
from pathlib import Path

import torch
from torch.utils.data import Subset

from dastc.adapt import DACS, TPS, SourceOnly, evaluate
from dastc.data import DISFlow, FlowCache, FolderClips, SkipBroken
from dastc.losses import CentroidAlignmentLoss
from dastc.models import VideoSegmenter, freeze, parameter_groups, taps_of
from dastc.models.import_path import model_from
from dastc.training import StepBatches, fit, polynomial, ranks
from dastc.training.command_line import add_run_arguments, any_number, mapping, names, positive, reported
from dastc.training.parts_by_name import ADDITIONS, PARTS, dastc_by_names
from dastc.training.progress import say
from dastc.training.ranks import rank, together, world
from dastc.training.records import append_row, classes_of, read_rows
from dastc.training.run_folder import claim
from dastc.training.step_batches import in_order

BASELINES = {"dacs": DACS, "tps": TPS, "source_only": SourceOnly}
ALIGN = ("none", "infonce", "cdd", "mmd", "margin")
# what may differ when a run goes on
FREE = (
    "out", "resume", "overwrite", "device", "workers", "save_every", "no_check", "skip_broken", "source", "target",
    "scored", "accumulate",
)  # fmt: skip


def main(argv=None):
    with reported("adapt_your_data.py"):
        args = parse(argv)
        with ranks(args.device) as device:
            run(args, device)


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("data: folders, and patterns of file names in them (see dastc.data.FolderClips)")
    for name, meant in (("source", "to learn from"), ("target", "to adapt to"), ("scored", "of the target, to score")):
        data.add_argument(f"--{name}", type=Path, required=name != "scored", metavar="DIR", help=f"pictures {meant}")
        data.add_argument(f"--{name}-images", default="{sequence}/{number}.png", metavar="PATTERN")
        given = {"help": "if some are labelled"} if name == "target" else {"default": "{sequence}/labels/{number}.png"}
        data.add_argument(f"--{name}-labels", metavar="PATTERN", **given)
        data.add_argument(f"--{name}-flow", metavar="PATTERN", help="needs --flow folder")
    data.add_argument("--classes", type=names, required=True, metavar="A,B,...", help="or a file of a name a line")
    data.add_argument("--label-map", type=mapping(int, int, "'{7: 0, 26: 1}'"), metavar="DICT",
                      help="ids in files to classes: '{7: 0}'")  # fmt: skip
    data.add_argument("--other-ids", choices=("error", "ignore"), default="error", help="what the map does not name")
    data.add_argument("--size", type=positive, nargs=2, metavar=("H", "W"), help="to resize to")
    data.add_argument("--frames", type=positive, default=2, help="of a clip; 1 adapts on single images")
    data.add_argument("--interval", type=positive, default=1, help="between the numbers of a clip's frames")
    data.add_argument("--flow", choices=("none", "folder", "dis"), default="none", help="dis: computed once, into OUT")
    data.add_argument("--no-check", action="store_true", help="do not open all files before training")
    data.add_argument("--skip-broken", action="store_true", help="go on without the files that are broken")
    model = parser.add_argument_group("model")
    model.add_argument("--model", default="dastc.models:TinySegmenter", metavar="MODULE:CALLABLE")
    model.add_argument("--model-args", type=mapping(str, object, "'{\"width\": 64}'"), default={}, metavar="DICT",
                       help="'{\"width\": 64}'")  # fmt: skip
    model.add_argument("--video", action="store_true", help="fuse the scores of neighbouring frames along the flow")
    model.add_argument("--preset", choices=("default", "paper", "released"), default="default", help="of dastc")
    model.add_argument("--align", choices=ALIGN, help="what brings classes together; as in the preset if not given")
    model.add_argument("--without", nargs="+", choices=PARTS, default=[], help="parts of dastc to leave out")
    model.add_argument("--adding", nargs="+", choices=ADDITIONS, default=[],
                       help="parts for domains that show the same things from the same height")  # fmt: skip
    model.add_argument("--features", metavar="NAME", help="submodule to align; known for the models of docs/models.md")
    model.add_argument("--shallow", metavar="NAME", help="submodule to fuse, of the other presets; known likewise")
    model.add_argument("--freeze", nargs="+", default=[], metavar="NAME", help="submodules that stay as they are")
    model.add_argument("--factors", type=mapping(str, (int, float), "'{\"head\": 10}'"), default={}, metavar="DICT",
                       help="of --lr: '{\"head\": 10}'")  # fmt: skip
    train = parser.add_argument_group("training")
    train.add_argument("--method", choices=("dastc", *BASELINES), default="dastc")
    train.add_argument("--steps", type=positive, default=20_000)
    train.add_argument("--batch", type=positive, default=2, help="clips of each domain, in each process")
    train.add_argument("--accumulate", type=positive, default=1, metavar="N", help="parts of a batch, to save memory")
    train.add_argument("--lr", type=float, default=6e-5)
    train.add_argument("--weight-decay", type=float, default=0.01)
    train.add_argument("--warmup", type=any_number,
                       help="steps on the source alone before dastc adapts, 0 for a model that knows the source; if "
                       "not given, a tenth of --steps, but at least 600 and at most half of them")  # fmt: skip
    train.add_argument("--amp", action="store_true", help="compute in bfloat16 where that is safe")
    train.add_argument("--workers", type=any_number, default=2, help="processes that read, for each domain")
    add_run_arguments(train, out="runs/adapt_your_data", save_every=500)
    args = parser.parse_args(argv)
    if args.warmup is None:
        args.warmup = min(max(600, args.steps // 10), args.steps // 2)
    return args


def run(args, device):
    if args.batch % args.accumulate:
        raise ValueError(f"--accumulate must divide --batch, {args.batch}; got {args.accumulate}.")
    if args.target_labels and args.method == "source_only":
        raise ValueError("--target-labels needs a method that learns from the target; got --method source_only.")
    if args.without and args.method != "dastc":
        raise ValueError(f"--without leaves out parts of --method dastc; got --method {args.method}.")
    claim(args.out, ["last.pt", "scores.jsonl", "tensorboard"], resume=args.resume, overwrite=args.overwrite)
    source, target, scored = (clips_of(args, name) for name in ("source", "target", "scored"))
    with together():
        if not args.no_check and rank() == 0:
            for clips in (source, target, scored):
                check(args, clips)
    space = source.label_space
    source, target, scored = (with_flow(args, clips) for clips in (source, target, scored))
    torch.manual_seed(args.seed)
    model = prepared_model(args, len(space.names)).to(device, memory_format=torch.channels_last)
    recipe = make_recipe(args, model, space).to(device)
    groups = parameter_groups(model, args.lr, factors=args.factors, weight_decay=args.weight_decay)
    train(args, recipe, torch.optim.AdamW(groups), (source, target, scored), space)


def clips_of(args, name):
    folder = getattr(args, name)
    if folder is None:
        return None
    flow = getattr(args, f"{name}_flow")
    if (flow is not None) != (args.flow == "folder"):
        raise ValueError(f"--{name}-flow and --flow folder need each other; got --flow {args.flow} and {flow}.")
    return FolderClips(
        folder, images=getattr(args, f"{name}_images"), labels=(labels := getattr(args, f"{name}_labels")), flow=flow,
        label_space=args.classes, label_map=args.label_map if labels else None, other_ids=args.other_ids,
        frames=args.frames, interval=args.interval, size=args.size, all_labelled=False,
    )  # fmt: skip


def check(args, clips):
    if clips is None:
        return
    report = clips.check()
    print(report)
    if not report.ok and not args.skip_broken:
        raise ValueError("there are problems in the data, listed above; put them right, or give --skip-broken.")


def with_flow(args, clips):
    if clips is not None and args.flow == "dis" and args.frames > 1:
        folder, share = args.out / "flow", Subset(clips, range(rank(), len(clips), world()))
        with together():
            say(f"flow: {FlowCache(share, DISFlow(), folder).fill(progress=rank() == 0)}")
        clips = FlowCache(clips, DISFlow(), folder)
    return SkipBroken(clips) if clips is not None and args.skip_broken else clips


def prepared_model(args, num_classes):
    model = model_from(args.model, num_classes, **args.model_args)
    model = VideoSegmenter(model, num_classes) if args.video else model
    freeze(model, args.freeze)
    return model


def make_recipe(args, model, space):
    classes, common = len(space.names), {"seed": args.seed, "ignore_index": space.ignore_index}
    if args.method != "dastc":
        say(f"{args.method} on {type(model).__name__}")
        return BASELINES[args.method](model, classes, **common)
    left_out = {*args.without, *(("align",) if args.align == "none" else ())}
    features = args.features or (None if "align" in left_out else known_tap(model, "features"))
    shallow = args.shallow or (None if args.preset == "default" else known_tap(model, "shallow"))
    objective = CentroidAlignmentLoss(args.align) if args.align not in (None, "none") else None
    aligning = "nothing" if "align" in left_out else features or "logits"
    say(f"dastc on {type(model).__name__}, aligning {aligning}")
    ramp = min(600, args.steps // 4) if args.preset == "default" else None  # a short training must reach full weight
    return dastc_by_names(
        model, classes, without=left_out, adding=args.adding, preset=args.preset, features=features, shallow=shallow,
        warmup=args.warmup, ramp=ramp, objective=objective, class_names=space.names, **common,
    )  # fmt: skip


def known_tap(model, kind):
    try:
        return getattr(taps_of(model), kind)
    except ValueError as error:
        say(f"{error} Without a name, logits are aligned, and nothing is fused.")
        return None


def train(args, recipe, optimizer, data, space):
    def scores(step):
        return score(args, recipe.model, data[2], step, space)

    common = {"seed": args.seed, "workers": args.workers}
    source, target = (StepBatches(data[i], args.batch, stream=i, **common) for i in (0, 1))
    model = {"path": args.model, "arguments": args.model_args, "video": args.video}
    schedule = polynomial(args.steps, warmup=min(500, args.steps // 10))
    return fit(
        recipe, optimizer, source, target, steps=args.steps, schedule=schedule,
        accumulate=args.accumulate, amp=args.amp, target_labels=args.target_labels is not None,
        path=args.out / "last.pt", resume=args.resume, save_every=args.save_every,
        score=None if data[2] is None else scores, tensorboard=args.out / "tensorboard",
        settings={name: value for name, value in vars(args).items() if name not in FREE},
        about={"model": model, "classes": classes_of(space), "size": args.size},
    )  # fmt: skip


def score(args, model, clips, step, space):
    """Score the model, and write a row, unless an interrupted run has done so."""
    path = args.out / "scores.jsonl"
    if step in [row["step"] for row in read_rows(path)]:
        return None
    device, ignored = next(model.parameters()).device, space.ignore_index
    scores = evaluate(model, in_order(clips, args.batch), len(space.names), ignore_index=ignored, device=device)
    values = (None if x != x else round(x, 2) for x in scores.iou.per_class.tolist())  # JSON knows no NaN
    per_class = dict(zip(space.names, values, strict=True))
    row = {"step": step, "miou": round(float(scores.iou.miou), 2), "per_class": per_class}
    append_row(path, row)
    say(f"step {step}: mIoU {row['miou']:.2f}")
    return {"mIoU": row["miou"]}


if __name__ == "__main__":
    main()
