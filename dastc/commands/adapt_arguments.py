"""The arguments of ``dastc adapt``."""

import argparse
from collections.abc import Sequence
from typing import get_args

from dastc.commands.arguments import Parser, add_clips, add_reading
from dastc.commands.flows import FLOWS
from dastc.commands.recipes import ALIGN, BASELINES
from dastc.training.command_line import add_run_arguments, any_number, mapping, positive
from dastc.training.kept_checkpoints import Best
from dastc.training.parts_by_name import ADDITIONS, PARTS

__all__ = ["parse"]


def parse(argv: Sequence[str], program: str = "dastc adapt") -> argparse.Namespace:
    """Return the arguments of a command line."""
    parser = Parser(
        program, usage="--source PATH ... --target PATH ... --classes A,B,... [options]", argv=argv,
        about="Adapt a model from a labelled source to a target without labels. A PATH is a\n"
        "folder, a video file, or a pattern: 'DIR/{sequence}/{number}.png'.",
        example="--source sim/rgb --source-labels sim/ids --target drive.mp4 \\\n"
        "    --classes road,car,person --size 512 1024",
    )  # fmt: skip
    _add_data(parser)
    _add_method(parser)
    _add_training(parser)
    args = parser.parse(argv)
    if args.warmup is None:
        args.warmup = min(max(600, args.steps // 10), args.steps // 2)
    return args


def _add_data(parser: Parser) -> None:
    group, rare = parser.add_argument_group("data"), parser.rare
    add_clips(parser, group, "source", "to learn from", required=True, labelled=True)
    add_clips(parser, group, "target", "to adapt to", required=True, labelled=False)
    add_clips(parser, group, "scored", rare("labelled part of the target, to watch"), required=False, labelled=False)
    add_reading(parser, group, classes=True)
    group.add_argument(
        "--flow", choices=FLOWS, default="none", metavar="KIND", help="none, folder (your files), dis, raft"
    )
    group.add_argument(
        "--scale", type=float, nargs=2, metavar=("LOW", "HIGH"), help="random size in training, with --crop"
    )
    group.add_argument("--crop", type=positive, nargs=2, metavar=("H", "W"), help="random windows in training")
    group.add_argument("--flip", action="store_true", help="mirror every other clip in training")
    group.add_argument("--rare", type=float, metavar="TEMPERATURE", help="draw rare source classes more often: 0.05")
    group.add_argument("--no-check", action="store_true", help=rare("do not open all files before training"))
    group.add_argument("--skip-broken", action="store_true", help=rare("go on without the files that are broken"))


def _add_method(parser: Parser) -> None:
    group, rare = parser.add_argument_group("model and method"), parser.rare
    group.add_argument("--model", default="dastc.models:TinySegmenter", metavar="MODULE:CALLABLE",
                       help="called with the number of classes")  # fmt: skip
    group.add_argument("--model-args", type=mapping(str, object, "'{\"width\": 64}'"), default={}, metavar="DICT",
                       help=rare("'{\"width\": 64}'"))  # fmt: skip
    group.add_argument(
        "--video", action="store_true", help=rare("fuse the scores of neighbouring frames along the flow")
    )
    group.add_argument("--method", choices=("dastc", *BASELINES), default="dastc", metavar="METHOD",
                       help=f"dastc, {', '.join(BASELINES)}")  # fmt: skip
    group.add_argument("--preset", choices=("default", "paper", "released"), default="default", help=rare("of dastc"))
    group.add_argument(
        "--align", choices=ALIGN, help=rare("what brings classes together; as in the preset if not given")
    )
    group.add_argument("--without", nargs="+", choices=PARTS, default=[], help=rare("parts of dastc to leave out"))
    group.add_argument("--adding", nargs="+", choices=ADDITIONS, default=[],
                       help=rare("parts for domains that show the same things from the same height"))  # fmt: skip
    group.add_argument(
        "--features", metavar="NAME", help=rare("submodule to align; known for the models of docs/models.md")
    )
    group.add_argument("--shallow", metavar="NAME", help=rare("submodule to fuse, of the other presets"))
    group.add_argument("--freeze", nargs="+", default=[], metavar="NAME", help=rare("submodules that stay as they are"))
    group.add_argument("--factors", type=mapping(str, (int, float), "'{\"head\": 10}'"), default={}, metavar="DICT",
                       help=rare("of --lr: '{\"head\": 10}'"))  # fmt: skip


def _add_training(parser: Parser) -> None:
    group, rare = parser.add_argument_group("training"), parser.rare
    group.add_argument("--steps", type=positive, default=20_000, metavar="N", help="of the optimiser; 20000")
    group.add_argument("--batch", type=positive, default=2, metavar="N", help="clips of each domain; 2")
    group.add_argument("--accumulate", type=positive, default=1, metavar="N", help=rare("parts of a batch"))
    group.add_argument("--lr", type=float, default=6e-5, help="learning rate; 6e-5")
    group.add_argument("--weight-decay", type=float, default=0.01, help=rare("of AdamW"))
    group.add_argument("--warmup", type=any_number, metavar="N", help="steps on the source before adapting starts")
    group.add_argument("--amp", action="store_true", help=rare("compute in bfloat16 where that is safe"))
    group.add_argument("--workers", type=any_number, default=2, metavar="N", help=rare("processes that read"))
    add_run_arguments(group, out="runs/adapt", save_every=500, rare=rare)
    group.add_argument("--keep-every", type=positive, metavar="N", help="keep a copy of every Nth step's checkpoint")
    group.add_argument(
        "--best", choices=get_args(Best), metavar="SCORE", help="keep best.pt by a score without labels: diversity"
    )
    group.add_argument(
        "--export", choices=("student", "teacher"), metavar="WHICH", help="student, teacher: write its weights"
    )
