"""Adapt a video segmentation model from labelled source clips to unlabelled target clips, and compare methods.

    python examples/adapt_video.py
    python examples/adapt_video.py --data camvid:path/to/camvid --method source_only dastc
    python examples/adapt_video.py --method dastc "dastc(warmup=0)" "dastc(without='align')" "dacs(decay=0.999)"

A method may be given arguments of its recipe, as in a call, and dastc parts to leave out, or to add, as in
"dastc(adding=('class_prior', 'histograms'))". Writes DIR/result.json, DIR/panel.png and a checkpoint for each method.
Interrupted, it goes on with --resume.
"""

import argparse
import ast
import inspect
import re

import torch

from dastc.adapt import DACS, DASTC, TPS, Oracle, SourceOnly, adapt_statistics, evaluate
from dastc.commands.panel import draw_panel
from dastc.commands.score_table import scores_of, table
from dastc.data import CamVid, DISFlow, FlowCache, RareClassSampler, StreetClips, class_counts
from dastc.models import MultiScale, TinySegmenter, VideoSegmenter
from dastc.training import StepBatches, fit, polynomial
from dastc.training.command_line import add_run_arguments, names, positive, reported
from dastc.training.parts_by_name import dastc_by_names
from dastc.training.progress import say
from dastc.training.ranks import device_of
from dastc.training.records import classes_of, commit, device_name, versions, write_json
from dastc.training.remembered import Remembered
from dastc.training.run_folder import claim
from dastc.training.step_batches import in_order

RECIPES = {
    "source_only": SourceOnly, "dacs": DACS, "tps": TPS, "dastc": DASTC, "dastc_paper": DASTC, "dastc_released": DASTC,
    "oracle": Oracle,
}  # fmt: skip
# what must be the same for a run to go on from a checkpoint
SETTINGS = (
    "data", "flow", "shift", "source_seqs", "target_seqs", "frames", "clips", "size", "norm", "video", "rare", "steps",
    "batch", "lr", "seed",
)  # fmt: skip
SCORED = {"val": 0, "test": 1}  # seeds of StreetClips; the test streets of seed 0 were seen while settings were chosen
CAMVID_SOURCE, CAMVID_TARGET = ("0006R0", "0016E5", "Seq05VD"), ("0001TP",)  # day, dusk


def main(argv=None):
    with reported("adapt_video.py"):
        run(parse(argv))


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", nargs="+", type=method, default=["source_only", "dastc"], metavar="METHOD",
                        help=f"any of {', '.join(RECIPES)}, or one with arguments: 'dastc(warmup=0)'")  # fmt: skip
    parser.add_argument("--data", default="street", metavar="street|camvid:DIR", help="what to train and test on")
    parser.add_argument(
        "--flow", choices=("own", "dis"), default="own", help="that of the data (CamVid has none) or DIS"
    )
    parser.add_argument("--flow-cache", metavar="DIR", help="for estimated flow; OUT/flow if not given")
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
    add_run_arguments(parser, out="runs/adapt_video", save_every=100)
    args = parser.parse_args(argv)
    args.size = args.size or ([144, 192] if args.data.startswith("camvid") else [96, 160])
    return args


def method(text):
    try:
        name, given = call(text)
    except (ValueError, SyntaxError) as error:
        raise argparse.ArgumentTypeError(
            f"must be one of {', '.join(RECIPES)}, or such as 'dacs(decay=0.999)'; got {text!r}"
        ) from error
    _, _, *known = inspect.signature(RECIPES[name]).parameters  # after the model and the number of classes
    known += ["without", "adding"] if RECIPES[name] is DASTC else []
    for argument in given:
        if argument not in known:
            raise argparse.ArgumentTypeError(f"{name} has no `{argument}`, but {', '.join(known)}; got {text!r}")
    return text


def call(text):
    """Split "dastc(warmup=0)" into the name of a method and the arguments of its recipe."""
    tree = ast.parse(text, mode="eval").body
    keywords = tree.keywords if isinstance(tree, ast.Call) and not tree.args else []
    name = tree.func if keywords else tree
    if not isinstance(name, ast.Name) or name.id not in RECIPES:
        raise ValueError(text)
    return name.id, {keyword.arg: ast.literal_eval(keyword.value) for keyword in keywords}


def file_name(method):
    return re.sub(r"[^\w.=-]+", "_", method).strip("_")


def run(args):
    # what would only come to light after the training
    if args.adapt_statistics and args.norm != "batch":
        raise ValueError("--adapt-statistics needs --norm batch; got --norm group, which has no statistics.")
    if not min(args.scales) > 0:
        raise ValueError(f"--scales must be above 0; got {args.scales}.")
    if args.video and args.scales != [1.0]:
        raise ValueError("--scales needs a model of single images; got --video.")
    device, methods = device_of(args.device), list(dict.fromkeys(args.method))
    files = ["result.json", "panel.png", *(f"{file_name(method)}.pt" for method in methods)]
    claim(args.out, files, resume=args.resume, overwrite=args.overwrite)
    source, target, scored = datasets(args)
    for method in methods:
        prepare(method, args, source.clips.label_space)  # a wrong argument of the last one, before the first is trained
    results, models = [], {}
    for method in methods:
        model, seconds = train(method, args, source, target, scored, device)
        model, space = prepared_to_score(model, args, target, device), scored.clips.label_space
        scores = evaluate(model, in_order(scored, 4), len(space.names), device=device)
        models[method.replace("_", " ")] = model
        results.append({
            "method": method, "data": args.data.partition(":")[0], "seed": args.seed, "steps": args.steps,
            **scores_of(scores, space), "seconds": round(seconds, 1),
            "device": device_name(device), "versions": versions(), "commit": commit(),
        })  # fmt: skip
        write_json(args.out / "result.json", results)
    draw_panel(args.out / "panel.png", models, scored, scored.clips.label_space, device)
    print(f"\n{table(results)}\n\nwritten to {args.out}: result.json, panel.png and a checkpoint for each method")


def prepared_to_score(model, args, target, device):
    if args.adapt_statistics:
        adapt_statistics(model, in_order(target, 4), device=device)
    return model if args.scales == [1.0] else MultiScale(model, args.scales).eval()


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


def train(method, args, source, target, scored, device):
    """Train one method, from its checkpoint if asked to; return the model and the seconds of training."""
    space = source.clips.label_space
    recipe, optimizer = prepare(method, args, space, device)
    if getattr(recipe, "warmup", 0) >= args.steps:
        say(f"{method}: all {args.steps} steps are warm-up on the source; 'dastc(warmup=0)' has none.")

    def score(step):  # noqa: ARG001  # on some of the clips, to be watched
        so_far = evaluate(recipe.model, in_order(scored, 4, most=24), len(space.names), device=device)
        return {"mIoU": float(so_far.iou.miou)}

    trained = fit(
        recipe, optimizer, *batches(method, args, source, target), steps=args.steps, schedule=schedule(args),
        path=args.out / f"{file_name(method)}.pt", resume=args.resume, save_every=args.save_every, score=score,
        settings={name: getattr(args, name) for name in SETTINGS}, about=about(args, space), title=f"{method:>14}",
    )  # fmt: skip
    return recipe.model.eval(), trained.seconds


def prepare(method, args, space, device="cpu"):
    torch.manual_seed(args.seed)
    recipe = make_recipe(method, make_model(args, len(space.names)), space, args)
    recipe.to(device=device, memory_format=torch.channels_last)
    return recipe, torch.optim.AdamW(recipe.model.parameters(), lr=args.lr, weight_decay=0.01)


def make_model(args, num_classes):
    model = TinySegmenter(num_classes, norm=args.norm)
    return VideoSegmenter(model, num_classes) if args.video else model


def make_recipe(method, model, space, args):
    name, given = call(method)
    defaults = {"seed": args.seed, "ignore_index": space.ignore_index}
    if RECIPES[name] is DASTC:
        prefix = "image_model." if isinstance(model, VideoSegmenter) else ""
        aligned = {} if name == "dastc_released" else {"features": f"{prefix}neck"}  # of that, logits
        preset = name.partition("_")[2] or "default"
        fused = {} if preset == "default" else {"shallow": f"{prefix}stem"}
        # of so short a training, a quarter on the source alone; "released" has its own warm-up
        own = {"rare_classes": space.rare} if preset == "released" else {"warmup": args.steps // 4}
        own |= {"ramp": args.steps // 4, "class_names": space.names} if preset == "default" else {}
        defaults |= {"preset": preset, **fused, **own, **aligned}
        return dastc_by_names(model, len(space.names), **(defaults | given))
    return RECIPES[name](model, len(space.names), **(defaults | given))


def batches(method, args, source, target):
    rare, labels = None, call(method)[0] == "oracle"  # no other method can look at the target's, even by mistake
    if args.rare is not None:
        counts = class_counts((source[i] for i in range(len(source))), len(source.clips.label_space.names))
        rare = RareClassSampler(counts, temperature=args.rare, min_pixels=20)  # less of a class teaches little
    common = {"batch": args.batch, "seed": args.seed}
    return StepBatches(source, rare=rare, **common), StepBatches(target, stream=1, labels=labels, **common)


def schedule(args):
    return polynomial(args.steps, warmup=50)


def about(args, space):
    """Return what segment_video.py wants to know of a checkpoint."""
    model = {"path": "dastc.models:TinySegmenter", "arguments": {"norm": args.norm}, "video": args.video}
    return {"model": model, "classes": classes_of(space), "size": list(args.size)}


if __name__ == "__main__":
    main()
