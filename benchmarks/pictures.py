"""Draw the pictures of the pages on data, models and your own data; the way is that of a new user.

    python benchmarks/pictures.py

Writes StreetClips into folders, trains on them with examples/adapt_your_data.py, once on the source alone and once with
DASTC, and segments a target video with examples/segment_video.py. Takes minutes. Figures: docs/figures/.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from example import load_example
from flow import coloured, shrink
from PIL import Image
from torch import nn

from dastc.adapt import load_model
from dastc.augment import OnFrames, PhotometricJitter, RandomCrop, RandomFlip, RandomScale
from dastc.data import StreetClips, VideoFrames, from_rgb, to_rgb, write_flow
from dastc.data.spaces import STREET
from dastc.functional import pseudo_labels
from dastc.models import FeatureTap, TinySegmenter, logits_of, taps_of
from dastc.viz import colourise, side_by_side

ROOT = Path(__file__).parents[1]
METHODS = ("source_only", "dastc")
DOMAINS = ("source", "target")
SIZE = (96, 160)


def main(argv=None):
    args = parse(argv)
    args.figures.mkdir(parents=True, exist_ok=True)
    draw_data(args)
    training, segmenting = load_example("adapt_your_data"), load_example("segment_video")
    with TemporaryDirectory() as folder:
        root = Path(folder)
        for domain in DOMAINS:
            write(root / domain, StreetClips(domain, length=args.clips, size=SIZE, seed=1))
        video = root / "video"
        write(video, StreetClips("target", split="val", length=1, frames=9, size=SIZE, seed=1))
        for method in METHODS:
            training.main(settings(root, method, args))
            segmenting.main([str(root / method / "last.pt"), str(video / "0000"), "--out", str(root / method)])
        # the folders say nothing of colours: those of the overlay come from the checkpoint
        draw_video(root, segmenting.label_space(segmenting.read_about(root / METHODS[0] / "last.pt")), args)
        draw_taps(root, args)


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--clips", type=int, default=100, help="of each domain")
    parser.add_argument("--figures", type=Path, default=ROOT / "docs/figures")
    return parser.parse_args(argv)


def settings(root, method, args):
    given = {
        "classes": ",".join(STREET.names), "source": root / "source", "source_flow": "{sequence}/flow/{number}.npy",
        "target": root / "target", "target_flow": "{sequence}/flow/{number}.npy", "flow": "folder", "method": method,
        "steps": args.steps, "batch": 4, "lr": 1e-3, "warmup": args.steps // 4, "out": root / method, "workers": 1,
        "device": "cpu",
    }  # fmt: skip
    return [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value))]


def write(root, clips):
    """Write clips as anyone would have them: a folder for each, pictures, ids and flow in it."""
    for index in range(len(clips)):
        clip, folder = clips[index], root / f"{index:04}"
        for part in ("labels", "flow"):
            (folder / part).mkdir(parents=True)
        for number, (frame, labels) in enumerate(zip(clip.frames, clip.labels, strict=True)):
            Image.fromarray(to_rgb(frame).numpy()).save(folder / f"{number:04}.png")
            Image.fromarray(labels.numpy().astype(np.uint8)).save(folder / "labels" / f"{number:04}.png")
        for number, flow in enumerate(clip.flow, 1):
            write_flow(folder / "flow" / f"{number:04}.npy", flow)


def draw_data(args):
    """Show a clip of each domain, and what the transforms make of frames, labels and flow."""
    change = nn.Sequential(
        RandomScale(1.0, 1.6, smallest=SIZE), RandomCrop(SIZE), RandomFlip(1.0), OnFrames(PhotometricJitter(seed=3))
    )
    rows = []
    for domain in DOMAINS:
        clip = StreetClips(domain, length=1, size=SIZE)[0]
        changed = change(clip)
        longest = float(clip.flow[0].norm(dim=0).quantile(0.98))
        rows.append([
            picture
            for one in (clip, changed)
            for picture in (to_rgb(one.frames[-1]), colourise(one.labels[-1], STREET), coloured(one.flow[0], longest))
        ])  # fmt: skip
    titles = ("frame", "labels", "flow", "scaled, cropped, flipped, recoloured", "labels", "flow")
    path = args.figures / "data.png"
    side_by_side(rows, titles=titles, path=path, row_titles=DOMAINS, space=STREET)
    shrink(path)


def draw_video(root, space, args):
    """Show frames of the video that segment_video.py wrote for each method."""
    frames, *videos = (
        list(VideoFrames(path)) for path in (root / "video" / "0000", *(root / m / "overlay.mp4" for m in METHODS))
    )
    labels = [np.array(Image.open(root / "video/0000/labels" / f"{n:04}.png")) for n in range(len(frames))]
    rows = [
        [frames[n], *(video[n] for video in videos), colourise(torch.from_numpy(labels[n]).long(), space)]
        for n in (0, len(frames) // 2, len(frames) - 1)
    ]
    titles = ("frame", "overlay, trained on the source alone", "overlay, adapted with DASTC", "truth")
    path = args.figures / "your_data.png"
    side_by_side(rows, titles=titles, path=path, row_titles=("first", "middle", "last"), space=space)
    shrink(path)


@torch.no_grad()
def draw_taps(root, args):
    """Show what the two taps of a model hold: first principal components as red, green and blue."""
    model = TinySegmenter(len(STREET.names))
    load_model(root / "dastc/last.pt", model)
    model.eval()
    names = taps_of(model)
    frames = torch.stack([from_rgb(next(iter(VideoFrames(root / domain / "0000")))) for domain in DOMAINS])
    held = []
    for name in (names.shallow, names.features):
        with FeatureTap(model, name).read() as reading:
            logits = logits_of(model(frames))
        held.append(components(reading.feature))
    said = pseudo_labels(logits, SIZE)
    grey = (255 * said.confidence).to(torch.uint8).unsqueeze(-1).expand(-1, -1, -1, 3)
    rows = [
        [to_rgb(frame), *maps, colourise(labels, STREET), confidence]
        for frame, *maps, labels, confidence in zip(frames, *held, said.labels, grey, strict=True)
    ]
    titles = ("frame", f"shallow: {names.shallow}", f"features: {names.features}", "labels", "confidence")
    path = args.figures / "models.png"
    side_by_side(rows, titles=titles, path=path, row_titles=DOMAINS, space=STREET)
    shrink(path)


def components(maps):
    """Turn maps (N, C, h, w) into pictures (N, h, w, 3) of the first three principal components of them all."""
    pixels = maps.movedim(1, -1).flatten(0, -2)
    pixels = pixels - pixels.mean(dim=0)
    _, _, axes = torch.linalg.svd(pixels, full_matrices=False)
    values = pixels @ axes[:3].T
    low, high = (values.quantile(share, dim=0) for share in (0.02, 0.98))
    rgb = ((values - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
    return (255 * rgb).round().to(torch.uint8).view(len(maps), *maps.shape[-2:], 3)


if __name__ == "__main__":
    main()
