"""``dastc segment``: segment a video, or a folder of pictures, with the model of a checkpoint."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from dastc.commands.arguments import Parser, add_model
from dastc.commands.segmented_video import Timer, segment_frames, write_segmented
from dastc.commands.trained_model import about_of, label_space, trained_model
from dastc.data import VideoFrames
from dastc.training.command_line import positive, reported
from dastc.training.progress import say
from dastc.training.ranks import device_of
from dastc.training.run_folder import make_writable

__all__ = ["main", "parse", "run"]


def main(argv: Sequence[str], program: str) -> None:
    """Run the command."""
    args = parse(argv, program)
    with reported(program, RuntimeError):  # of files and libraries
        run(args)


def parse(argv: Sequence[str], program: str = "dastc segment") -> argparse.Namespace:
    """Return the arguments of a command line."""
    parser = Parser(
        program, usage="CHECKPOINT VIDEO [options]", argv=argv,
        about="Segment a video one frame at a time: an overlay video and label pictures.",
        example="runs/adapt/last.pt my_video.mp4 --out segmented",
    )  # fmt: skip
    rare = parser.rare
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="of `dastc adapt` or an example")
    parser.add_argument("video", type=Path, metavar="VIDEO", help="a video file, or a folder of pictures")
    parser.add_argument("--out", type=Path, default=Path("segmented"), metavar="DIR", help="where to write; segmented")
    add_model(parser, parser)
    parser.add_argument(
        "--size", type=positive, nargs=2, metavar=("H", "W"), help="that the model sees; as in training if not given"
    )
    parser.add_argument("--flow", choices=("none", "dis"), default="none", help=rare("for models that fuse two frames"))
    parser.add_argument("--opacity", type=float, default=0.5, metavar="X", help="of the colours, in [0, 1]; 0.5")
    parser.add_argument(
        "--fps", type=float, help=rare("of the overlay video; as the input by default, 10 for a folder")
    )
    parser.add_argument("--no-png", action="store_true", help="write the video only")
    parser.add_argument("--amp", action="store_true", help=rare("compute in bfloat16 where that is safe"))
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda ...; auto: the GPU if any")
    return parser.parse(argv)


def run(args: argparse.Namespace) -> None:
    """Segment the video, and say how fast it went."""
    device, about = device_of(args.device), about_of(args.checkpoint)
    frames, space = VideoFrames(args.video), label_space(about)
    model = trained_model(args.checkpoint, about, model=args.model, arguments=args.model_args, teacher=args.teacher).to(
        device
    )
    make_writable(args.out)
    timer = Timer(device)
    segmented = segment_frames(
        model, frames, timer, size=args.size or about.get("size"), flow=args.flow == "dis", amp=args.amp
    )
    write_segmented(segmented, frames, space, args.out, opacity=args.opacity, rate=args.fps, labels=not args.no_png)
    say(f"{timer}; written to {args.out}")
