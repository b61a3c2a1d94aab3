"""A video, its labels and its overlay, one frame at a time."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dastc.data import DISFlow, LabelSpace, VideoFrames, VideoWriter, from_rgb
from dastc.data.progress import with_progress
from dastc.data.read_ahead import read_ahead
from dastc.functional import pseudo_labels
from dastc.models import VideoStream
from dastc.viz import overlay

__all__ = ["Timer", "segment_frames", "write_labels", "write_segmented"]


class Timer:
    """Say how long frames took, and the model's part of it; the first frame, which warms up, is left out.

    Args:
        device: Where the model computes.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.frames, self.in_model, self.start = device, 0, 0.0, time.perf_counter()

    @contextmanager
    def model(self) -> Iterator[None]:
        """Time the block as the model's."""
        begin = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.in_model += time.perf_counter() - begin
        self.frames += 1
        if self.frames == 1:
            self.in_model, self.start = 0.0, time.perf_counter()

    def __str__(self) -> str:
        seconds, frames = time.perf_counter() - self.start, self.frames - 1
        if frames == 0:
            return "one frame"
        return (
            f"{frames} frames after the first in {seconds:.1f} s, {frames / seconds:.2f} frames per second, "
            f"{1 - self.in_model / seconds:.1%} of the time outside the model"
        )


@torch.no_grad()
def segment_frames(
    model: nn.Module,
    frames: VideoFrames,
    timer: Timer,
    *,
    size: tuple[int, int] | None = None,
    flow: bool = False,
    amp: bool = False,
) -> Iterator[tuple[Tensor, Tensor, float | None]]:
    """Yield each frame with its labels, both of the frame's own size, and with its time.

    Args:
        model: In evaluation mode, on the timer's device.
        frames: Of a video or a folder.
        timer: Measures the model.
        size: ``(height, width)`` at which the model sees frames; ``None`` keeps their own.
        flow: Estimate flow by DIS, for models that fuse two frames.
        amp: Compute in bfloat16 where that is safe.
    """
    stream, device, before = VideoStream(model), timer.device, None
    estimator = DISFlow() if flow else None
    with torch.autocast(device.type, torch.bfloat16) if amp else nullcontext():
        for rgb, seconds in read_ahead(frames.timed()):
            frame = _resized(from_rgb(rgb.to(device)), size)
            moved = estimator is not None and before is not None
            back = estimator(before, frame).nan_to_num()[None].to(device) if moved else None  # type: ignore[misc, arg-type]
            with timer.model():
                logits = stream(frame[None], back)
            labels = pseudo_labels(logits, (rgb.shape[0], rgb.shape[1])).labels[0].cpu()
            before = frame
            yield rgb, labels, seconds


def write_segmented(
    segmented: Iterator[tuple[Tensor, Tensor, float | None]],
    frames: VideoFrames,
    space: LabelSpace,
    out: Path,
    *,
    opacity: float = 0.5,
    rate: Fraction | float | None = None,
    labels: bool = True,
) -> None:
    """Write ``OUT/overlay.mp4`` and ``OUT/labels/*.png``; memory does not grow with the video.

    Args:
        segmented: What :func:`segment_frames` yields. It runs in a thread beside drawing and writing.
        frames: Where it comes from.
        space: Names and colours of the classes.
        out: The folder to write to.
        opacity: Of the colours, in [0, 1].
        rate: Frames per second; ``None`` takes the times of the input, and 10 a second for a folder.
        labels: Write label pictures, too.
    """
    if labels:
        (out / "labels").mkdir(parents=True, exist_ok=True)
    with VideoWriter(out / "overlay.mp4", rate=rate or frames.rate or 10) as video:
        bar = with_progress("segment", read_ahead(segmented), "segmenting", total=frames.total, wanted=True)
        for index, (rgb, found, seconds) in enumerate(bar):
            video.write(overlay(rgb, found, space, opacity=opacity), seconds=None if rate else seconds)
            if labels:
                name = frames.names[index] if frames.names else f"{index:06d}"
                write_labels(out / "labels" / f"{name}.png", found, space)


def write_labels(path: Path, labels: Tensor, space: LabelSpace) -> None:
    """Write class indices as a picture whose palette makes them look like the classes' colours."""
    from PIL import Image

    if len(space.names) > 256:  # a palette has no more
        Image.fromarray(labels.to(torch.uint16).numpy()).save(path, compress_level=1)
        return
    picture: Any = Image.fromarray(labels.to(torch.uint8).numpy())  # the palette keeps the values equal
    picture.putpalette([channel for colour in space.colours for channel in colour])
    picture.save(path, compress_level=1)


def _resized(frame: Tensor, size: tuple[int, int] | None) -> Tensor:
    if size is None or tuple(frame.shape[-2:]) == tuple(size):
        return frame
    return torch.nn.functional.interpolate(frame[None], tuple(size), mode="bilinear", antialias=True)[0]
