"""Segment a video, or a folder of frames, with the model of a checkpoint, one frame at a time.

    python examples/segment_video.py runs/adapt_video/dastc.pt my_video.mp4 --out segmented
    python examples/segment_video.py runs/mine/last.pt folder/of/frames --model my_models.py:make_model

Writes OUT/overlay.mp4 and OUT/labels/*.png, label indices that look like the classes' colours. Memory does not grow
with the video. Takes the checkpoints of adapt_video.py and adapt_your_data.py.
"""

import argparse
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from PIL import Image
from tqdm import tqdm

from dastc.adapt import load_model, read_about
from dastc.data import DISFlow, LabelSpace, VideoFrames, VideoWriter, from_rgb
from dastc.data.read_ahead import read_ahead
from dastc.functional import pseudo_labels
from dastc.models import VideoSegmenter, VideoStream
from dastc.models.import_path import model_from
from dastc.training.command_line import mapping, positive, reported
from dastc.training.ranks import device_of
from dastc.viz import overlay

TINY = "dastc.models:TinySegmenter"


def main(argv=None):
    with reported("segment_video.py", RuntimeError):  # of files and libraries
        run(parse(argv))


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("video", type=Path, help="a video file, or a folder of pictures, in the order of their names")
    parser.add_argument("--out", type=Path, default=Path("segmented"), metavar="DIR")
    parser.add_argument("--model", metavar="MODULE:CALLABLE", help=f"as in training; {TINY} by default")
    parser.add_argument("--model-args", type=mapping(str, object, "'{\"width\": 64}'"), metavar="DICT",
                        help="if not as in training")  # fmt: skip
    parser.add_argument(
        "--size", type=positive, nargs=2, metavar=("H", "W"), help="for the model; as in training by default"
    )
    parser.add_argument("--flow", choices=("none", "dis"), default="none", help="for models that fuse two frames")
    parser.add_argument("--opacity", type=float, default=0.5, help="of the colours, in [0, 1]")
    parser.add_argument("--fps", type=float, help="of the overlay video; as the input by default, 10 for a folder")
    parser.add_argument("--no-png", action="store_true", help="write the video only")
    parser.add_argument("--amp", action="store_true", help="compute in bfloat16 where that is safe")
    parser.add_argument("--device", default="auto", help="auto (the GPU if there is one), cpu, cuda, ...")
    return parser.parse_args(argv)


def run(args):
    device, about = device_of(args.device), read_about(args.checkpoint)
    if "classes" not in about:
        raise ValueError(f"{args.checkpoint} must say which classes it has, as checkpoints of the examples do.")
    frames, space = VideoFrames(args.video), label_space(about)
    model = trained_model(args, about, len(space.names)).to(device, memory_format=torch.channels_last)
    writing = args.out / "labels"
    writing.mkdir(parents=True, exist_ok=True)
    timer = Timer(device)
    segmented = segment(args, model, frames, args.size or about["size"], timer)
    rate = args.fps or frames.rate or 10
    with VideoWriter(args.out / "overlay.mp4", rate=rate) as video:
        # reading, the model, and this loop, which draws and writes, run beside each other
        bar = tqdm(read_ahead(segmented), total=frames.total, unit="frame", dynamic_ncols=True)
        for index, (rgb, labels, seconds) in enumerate(bar):
            video.write(overlay(rgb, labels, space, opacity=args.opacity), seconds=None if args.fps else seconds)
            if not args.no_png:
                name = frames.names[index] if frames.names else f"{index:06d}"
                write_labels(writing / f"{name}.png", labels, space)
    print(f"{timer}; written to {args.out}")


def label_space(about):
    """Return the classes that a checkpoint was trained on."""
    names, colours = (tuple(about["classes"][key]) for key in ("names", "colours"))
    return LabelSpace(names, tuple(map(tuple, colours)), ignore_index=about["classes"]["ignore_index"])


def trained_model(args, about, num_classes):
    trained = about["model"]
    # what a checkpoint names is not imported unless the user names it, too: importing runs code
    if (args.model or TINY) != trained["path"]:
        raise ValueError(f"{args.checkpoint} holds a model of {trained['path']}; got --model {args.model or TINY}.")
    arguments = trained["arguments"] if args.model_args is None else args.model_args
    model = model_from(trained["path"], num_classes, **arguments)
    model = VideoSegmenter(model, num_classes) if trained["video"] else model
    load_model(args.checkpoint, model)
    return model.eval()


def segment(args, model, frames, size, timer):
    """Yield each frame with its labels, both of the frame's own size, and with its time."""
    stream, device = VideoStream(model), timer.device
    flow, before = DISFlow() if args.flow == "dis" else None, None
    with torch.autocast(device.type, torch.bfloat16) if args.amp else nullcontext():
        for rgb, seconds in read_ahead(frames.timed()):
            frame = resized(from_rgb(rgb.to(device)), size)
            back = None if flow is None or before is None else flow(before, frame).nan_to_num()[None].to(device)
            with timer.model():
                logits = stream(frame[None], back)
            labels = pseudo_labels(logits, (rgb.shape[0], rgb.shape[1])).labels[0].cpu()
            before = frame
            yield rgb, labels, seconds


def resized(frame, size):
    if size is None or tuple(frame.shape[-2:]) == tuple(size):
        return frame
    return torch.nn.functional.interpolate(frame[None], tuple(size), mode="bilinear", antialias=True)[0]


def write_labels(path, labels, space):
    if len(space.names) > 256:  # a palette has no more
        Image.fromarray(labels.to(torch.uint16).numpy()).save(path, compress_level=1)
        return
    picture = Image.fromarray(labels.to(torch.uint8).numpy())  # the palette makes it one of colours, of equal values
    picture.putpalette([channel for colour in space.colours for channel in colour])
    picture.save(path, compress_level=1)


class Timer:
    """Say how long frames took, and the model's part of it; the first frame, which warms up, is left out."""

    def __init__(self, device):
        self.device, self.frames, self.in_model, self.start = device, 0, 0.0, time.perf_counter()

    @contextmanager
    def model(self):
        """Time the block as the model's."""
        begin = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.in_model += time.perf_counter() - begin
        self.frames += 1
        if self.frames == 1:
            self.in_model, self.start = 0.0, time.perf_counter()

    def __str__(self):
        seconds, frames = time.perf_counter() - self.start, self.frames - 1
        if frames == 0:
            return "one frame"
        return (
            f"{frames} frames after the first in {seconds:.1f} s, {frames / seconds:.2f} frames per second, "
            f"{1 - self.in_model / seconds:.1%} of the time outside the model"
        )


if __name__ == "__main__":
    main()
