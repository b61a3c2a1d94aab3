"""``dastc check``: open all files of a data set, and say what is wrong with them."""

from collections.abc import Sequence

from dastc.commands.arguments import Parser, add_reading
from dastc.commands.clip_sources import Reading, check_clips, clips_from
from dastc.training.command_line import reported
from dastc.training.progress import say

__all__ = ["main"]


def main(argv: Sequence[str], program: str) -> None:
    """Run the command."""
    parser = Parser(
        program, usage="PATH ... [--labels PATH --classes A,B,...] [options]", argv=argv,
        about="Open every picture, label and video once: what is missing, broken or does not\n"
        "fit, and how often each class occurs. A PATH is a folder, a video file, or a\n"
        "pattern: 'DIR/{sequence}/{number}.png'.",
        example="sim/rgb --labels sim/ids --classes road,car --label-map '{7: 0, 26: 1}'",
    )  # fmt: skip
    parser.add_argument("paths", nargs="+", metavar="PATH", help="pictures or videos")
    parser.add_argument("--labels", nargs="+", metavar="PATH", help="folder or pattern of their labels")
    parser.add_argument("--images", metavar="PATTERN", help="of pictures, in a folder: '{sequence}/rgb/{number}.png'")
    parser.add_argument("--flow", metavar="PATTERN", help="of flow files")
    add_reading(parser, parser, classes=False)
    args = parser.parse(argv)
    size = None if args.size is None else tuple(args.size)
    reading = Reading(args.classes, args.label_map, args.other_ids, args.frames, args.interval, size)
    with reported(program, RuntimeError):  # of files and libraries
        clips = clips_from(args.paths, reading, argument="PATH", images=args.images, labels=args.labels, flow=args.flow)
        reports = check_clips(clips)
        for report in reports:
            say(str(report))
        if not all(reports):
            raise ValueError("there are problems in the data, listed above; put them right, or leave those files out.")
