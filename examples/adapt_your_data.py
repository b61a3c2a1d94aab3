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
import ast
import json
import os
import sys
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.distributed as dist
from torch.utils.data import DataLoader
from tqdm import tqdm

from dastc.adapt import DACS, DASTC, TPS, SourceOnly, evaluate, load_checkpoint, save_checkpoint
from dastc.clip import stack_clips
from dastc.data import DISFlow, FlowCache, FolderClips, SkipBroken, StepSampler
from dastc.models import VideoSegmenter, freeze, model_from, parameter_groups, taps_of

RECIPES = {"dastc": DASTC, "dacs": DACS, "tps": TPS, "source_only": SourceOnly}
ALIGN = ("none", "infonce", "cdd", "mmd", "margin", "pixel")
# what may differ when a run goes on
FREE = ("out", "resume", "device", "workers", "save_every", "no_check", "skip_broken", "source", "target", "scored")


def main(argv=None):
    args = parse(argv)
    try:
        with ranks():
            run(args)
    except (ValueError, OSError) as error:  # what the user can put right; anything else is a bug
        sys.exit(f"adapt_your_data.py: {error}")


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("data: folders, and patterns of file names in them (see dastc.data.FolderClips)")
    for name, meant in (("source", "to learn from"), ("target", "to adapt to"), ("scored", "of the target, to score")):
        data.add_argument(f"--{name}", type=Path, required=name != "scored", metavar="DIR", help=f"pictures {meant}")
        data.add_argument(f"--{name}-images", default="{sequence}/{number}.png", metavar="PATTERN")
        if name != "target":  # its labels are not read, even by mistake
            data.add_argument(f"--{name}-labels", default="{sequence}/labels/{number}.png", metavar="PATTERN")
        data.add_argument(f"--{name}-flow", metavar="PATTERN", help="needs --flow folder")
    data.add_argument("--classes", type=names, required=True, metavar="A,B,...", help="or a file of a name a line")
    data.add_argument("--label-map", type=ast.literal_eval, metavar="DICT", help="ids in files to classes: '{7: 0}'")
    data.add_argument("--other-ids", choices=("error", "ignore"), default="error", help="what the map does not name")
    data.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="to resize to; as the files by default")
    data.add_argument("--frames", type=int, default=2, help="of a clip; 1 adapts on single images")
    data.add_argument("--interval", type=int, default=1, help="between the numbers of a clip's frames")
    data.add_argument("--flow", choices=("none", "folder", "dis"), default="none", help="dis: computed once, into OUT")
    data.add_argument("--no-check", action="store_true", help="do not open all files before training")
    data.add_argument("--skip-broken", action="store_true", help="go on without the files that are broken")
    model = parser.add_argument_group("model")
    model.add_argument("--model", default="dastc.models:TinySegmenter", metavar="MODULE:CALLABLE")
    model.add_argument("--model-args", type=ast.literal_eval, default={}, metavar="DICT", help="'{\"width\": 64}'")
    model.add_argument("--video", action="store_true", help="fuse the scores of neighbouring frames along the flow")
    model.add_argument("--align", choices=ALIGN, default="cdd", help="what brings classes of both domains together")
    model.add_argument("--switches", type=ast.literal_eval, default={}, metavar="DICT",
                       help="other parts of dastc: '{\"class_prior\": 0.0, \"match_histograms\": False}'")  # fmt: skip
    model.add_argument("--features", metavar="NAME", help="submodule to align; known for the models of docs/models.md")
    model.add_argument("--freeze", nargs="+", default=[], metavar="NAME", help="submodules that stay as they are")
    model.add_argument("--factors", type=ast.literal_eval, default={}, metavar="DICT", help="of --lr: '{\"head\": 10}'")
    train = parser.add_argument_group("training")
    train.add_argument("--method", choices=RECIPES, default="dastc")
    train.add_argument("--steps", type=int, default=20_000)
    train.add_argument("--batch", type=int, default=2, help="clips of each domain, in each process")
    train.add_argument("--lr", type=float, default=6e-5)
    train.add_argument("--weight-decay", type=float, default=0.01)
    train.add_argument("--warmup", type=int, default=500, help="steps until --lr is reached; dastc adapts from then on")
    train.add_argument("--amp", action="store_true", help="compute in bfloat16 where that is safe")
    train.add_argument("--workers", type=int, default=2, help="processes that read, for each domain")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    train.add_argument("--out", type=Path, default=Path("runs/adapt_your_data"), metavar="DIR")
    train.add_argument("--save-every", type=int, default=500, metavar="N", help="steps between checkpoints and scores")
    train.add_argument("--resume", action="store_true", help="go on from OUT/last.pt")
    return parser.parse_args(argv)


def names(text):
    listed = Path(text).read_text().splitlines() if text.endswith(".txt") and Path(text).is_file() else text.split(",")
    return [name.strip() for name in listed if name.strip()]


class ranks:
    """Join the other processes that torchrun started, if it did."""

    def __enter__(self):
        if "WORLD_SIZE" in os.environ and not dist.is_initialized():
            dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")

    def __exit__(self, *_):
        if dist.is_initialized():
            dist.destroy_process_group()


def rank():
    return dist.get_rank() if dist.is_initialized() else 0


def world():
    return dist.get_world_size() if dist.is_initialized() else 1


def run(args):
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / ".writable").touch()
    (args.out / ".writable").unlink(missing_ok=True)  # better now than at the first checkpoint
    local = int(os.environ.get("LOCAL_RANK", 0))
    device = torch.device(args.device, local) if args.device == "cuda" else torch.device(args.device)
    source, target, scored = (clips_of(args, name) for name in ("source", "target", "scored"))
    if not args.no_check and rank() == 0:
        for clips in (source, target, scored):
            check(args, clips)
    space = source.label_space
    source, target, scored = (with_flow(args, clips) for clips in (source, target, scored))

    torch.manual_seed(args.seed)
    model = prepared_model(args, len(space.names)).to(device, memory_format=torch.channels_last)
    recipe = make_recipe(args, model, space).to(device)
    groups = parameter_groups(model, args.lr, factors=args.factors, weight_decay=args.weight_decay)
    optimizer = torch.optim.AdamW(groups)
    about = {
        "model": {"path": args.model, "arguments": args.model_args, "video": args.video},
        "classes": {**space._asdict(), "names": list(space.names), "colours": [list(c) for c in space.colours]},
        "settings": {key: str(value) for key, value in vars(args).items() if key not in FREE} | {"ranks": world()},
        "size": args.size,
    }
    first = resumed(args.out / "last.pt", recipe, optimizer, about) if args.resume else 0
    train(args, recipe, optimizer, (source, target, scored), about, first, device)


def clips_of(args, name):
    folder = getattr(args, name)
    if folder is None:
        return None
    flow = getattr(args, f"{name}_flow")
    if (flow is not None) != (args.flow == "folder"):
        raise ValueError(f"--{name}-flow and --flow folder need each other; got --flow {args.flow} and {flow}.")
    return FolderClips(
        folder, images=getattr(args, f"{name}_images"), labels=getattr(args, f"{name}_labels", None), flow=flow,
        label_space=args.classes, label_map=args.label_map if name != "target" else None, other_ids=args.other_ids,
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
        clips = FlowCache(clips, DISFlow(), args.out / "flow")
        if rank() == 0:
            print(f"flow: {clips.fill()}")
        if dist.is_initialized():
            dist.barrier()
    return SkipBroken(clips) if clips is not None and args.skip_broken else clips


def prepared_model(args, num_classes):
    model = model_from(args.model, num_classes, **args.model_args)
    model = VideoSegmenter(model, num_classes) if args.video else model
    freeze(model, args.freeze)
    if dist.is_initialized():
        for tensor in (*model.parameters(), *model.buffers()):  # a pretrained or an unseeded start is one start
            dist.broadcast(tensor.data, 0)
    return model


def make_recipe(args, model, space):
    more = {}
    if not isinstance(args.switches, dict):
        raise ValueError(f"--switches must be a dict; got {args.switches}.")
    if args.switches and args.method != "dastc":
        raise ValueError(f"--switches is of --method dastc; got {args.switches} with --method {args.method}.")
    if args.method == "dastc":
        features = args.features or (None if args.align == "none" else known_features(model))
        more = {"warmup": args.warmup, "align": args.align, "features": features} | args.switches
    try:
        recipe = RECIPES[args.method](
            model, len(space.names), seed=args.seed * world() + rank(), ignore_index=space.ignore_index, **more
        )
    except TypeError as error:  # a part that the recipe does not have
        if not args.switches:
            raise
        raise ValueError(f"--switches {args.switches}: {error}") from error
    aligning = f", aligning {more['features'] or 'logits'}" if more.get("align", "none") != "none" else ""
    print_once(f"{args.method} on {type(model).__name__}{aligning}")
    return recipe


def known_features(model):
    try:
        return taps_of(model).features
    except ValueError as error:
        print_once(f"{error} Logits are aligned instead.")
        return None


def train(args, recipe, optimizer, data, about, first, device):
    writer, clips = logger(args.out), zip(*(loader(args, data[i], first, i) for i in (0, 1)), strict=True)
    bar = tqdm(range(first, args.steps), initial=first, total=args.steps, dynamic_ncols=True, disable=rank() > 0)
    for step, pair in zip(bar, clips, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * min(1, (step + 1) / args.warmup) * (1 - step / args.steps) ** 0.9
        # bfloat16 has float32's range: no gradient scaler is needed
        with torch.autocast(device.type, torch.bfloat16) if args.amp else nullcontext():
            losses = recipe.step(*(clip.to(device, non_blocking=True) for clip in pair))
        optimizer.zero_grad(set_to_none=True)
        losses["total"].backward()
        average_gradients(recipe.model)
        optimizer.step()
        if (step + 1) % 10 == 0:
            said = {name: value.item() for name, value in losses.items()}
            bar.set_postfix_str(" ".join(f"{name}={value:.3f}" for name, value in said.items() if name != "total"))
            if writer is not None:
                writer.add_scalars("loss", said, step + 1)
        if (step + 1) % args.save_every == 0 or step + 1 == args.steps:
            save(args.out / "last.pt", recipe, optimizer, step + 1, about)
            score(args, recipe.model, data[2], step + 1, device, writer)


def loader(args, clips, first, domain):
    sampler = StepSampler(len(clips), args.batch, range(first, args.steps), seed=args.seed, stream=domain + 2 * rank())
    return batches(
        clips, batch_sampler=sampler, num_workers=args.workers, persistent_workers=args.workers > 0,
        pin_memory=args.device == "cuda",
    )  # fmt: skip


def batches(clips, *args, **kwargs):
    # a generator of its own: else each loader draws from the one that dropout uses, and a resumed run has fewer loaders
    return DataLoader(clips, *args, collate_fn=stack_clips, generator=torch.Generator(), **kwargs)


def average_gradients(model):
    """Take the mean over ranks in one message. Every rank sends every gradient, whichever its clips led to."""
    if world() == 1:
        return
    learning = [p for p in model.parameters() if p.requires_grad]
    for parameter in learning:
        parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    gradients = [p.grad for p in learning]
    total = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(total)
    for gradient, mean in zip(gradients, (total / world()).split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view(gradient.shape))


def save(path, recipe, optimizer, step, about):
    # what differs between ranks are their draws; the rest is the first one's
    draws = [None] * world()
    mine = {"torch": torch.get_rng_state(), **{k: v for k, v in recipe.state_dict().items() if "_extra_state" in k}}
    if dist.is_initialized():
        dist.all_gather_object(draws, mine)
    else:
        draws = [mine]
    if rank() == 0:
        save_checkpoint(path, recipe, optimizer=optimizer, step=step, about={**about, "draws": draws})


def resumed(path, recipe, optimizer, about):
    state = load_checkpoint(path, recipe, optimizer=optimizer)
    for name, wanted in about["settings"].items():
        found = state["about"].get("settings", {}).get(name)
        if found != wanted:
            raise ValueError(f"--resume: `{name}` of {path} must be as it was, {found}; got {wanted}.")
    draws = state["about"]["draws"][rank()]
    torch.set_rng_state(draws.pop("torch"))
    recipe.load_state_dict({**recipe.state_dict(), **draws})
    return state["step"]


def score(args, model, clips, step, device, writer):
    if clips is None or rank() > 0:
        return
    space = clips.clips.label_space if args.skip_broken else clips.label_space
    scores = evaluate(model, batches(clips, args.batch), len(space.names), device=device)
    per_class = dict(zip(space.names, (round(x, 2) for x in scores.iou.per_class.tolist()), strict=True))
    row = {"step": step, "miou": round(float(scores.iou.miou), 2), "per_class": per_class}
    with open(args.out / "scores.jsonl", "a") as file:
        file.write(json.dumps(row) + "\n")
    tqdm.write(f"step {step}: mIoU {row['miou']:.2f}")
    if writer is not None:
        writer.add_scalar("miou", row["miou"], step)


def logger(out):
    """Return TensorBoard's writer where it is installed."""
    if rank() > 0 or find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(out / "tensorboard")


def print_once(text):
    if rank() == 0:
        print(text)


if __name__ == "__main__":
    main()
