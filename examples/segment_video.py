"""Segment a video, or a folder of frames, with the model of a checkpoint, one frame at a time.

    python examples/segment_video.py runs/adapt_video/dastc.pt my_video.mp4 --out segmented
    python examples/segment_video.py runs/mine/last.pt folder/of/frames --model my_models.py:make_model

`dastc segment` as a script to copy and change. Writes OUT/overlay.mp4 and OUT/labels/*.png, label indices that look
like the classes' colours. Memory does not grow with the video. Takes the checkpoints of all commands and examples.
"""

import sys

from dastc.adapt import read_about
from dastc.commands.segment import parse
from dastc.commands.segmented_video import Timer, segment_frames, write_segmented
from dastc.commands.trained_model import about_of, label_space, trained_model
from dastc.data import VideoFrames
from dastc.training.command_line import reported
from dastc.training.ranks import device_of
from dastc.training.run_folder import make_writable

__all__ = ["label_space", "main", "read_about", "run"]


def main(argv=None):
    with reported("segment_video.py", RuntimeError):  # of files and libraries
        run(parse(sys.argv[1:] if argv is None else argv, "segment_video.py"))


def run(args):
    device, about = device_of(args.device), about_of(args.checkpoint)
    frames, space = VideoFrames(args.video), label_space(about)
    given = {"model": args.model, "arguments": args.model_args, "teacher": args.teacher}
    model = trained_model(args.checkpoint, about, **given).to(device)
    make_writable(args.out)
    timer = Timer(device)
    size = args.size or about["size"]
    segmented = segment_frames(model, frames, timer, size=size, flow=args.flow == "dis", amp=args.amp)
    write_segmented(segmented, frames, space, args.out, opacity=args.opacity, rate=args.fps, labels=not args.no_png)
    print(f"{timer}; written to {args.out}")


if __name__ == "__main__":
    main()
