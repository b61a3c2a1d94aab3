"""Clips per second that a loader delivers from PNG, beside the limit that the decoder sets.

    python benchmarks/loading.py [--out FILE] [--clips N] [--workers N] [--pictures FOLDER]

The files are written first: streets of StreetClips with the noise of a camera, so that a pixel takes about as many
bytes as in Cityscapes, or frames of yours. They are read from the system's cache: no disk is measured.

The limit is what as many processes reach that do nothing but let Pillow decode the same files. A clip is two frames
with labels, and flow where the case says so; the loader's clips arrive in the main process, normalised and stacked.
Each case is run --rounds times, loader and decoder in turns; medians are given, and all rounds beside them. On a
machine that does other work as well, the processor's time per clip says more than clips per second: it is what the
workers and the main process used, and cores / time is the rate that an idle machine could have at most.
"""

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import PIL
import torch
from meters import cpu_name
from PIL import Image
from torch.utils.data import DataLoader

import dastc
from dastc import stack_clips
from dastc.data import FolderClips, StreetClips, to_rgb, write_flow
from dastc.data.spaces import STREET
from dastc.training.records import commit

SIZE = (512, 1024)
CASES = {
    "512x1024": {"file": (512, 1024)},
    "512x1024, with flow": {"file": (512, 1024), "flow": True},
    "1024x2048, resized to 512x1024": {"file": (1024, 2048)},
}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/loading/cpu.json"))
    parser.add_argument("--clips", type=int, default=24, help="clips in an epoch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--pictures", type=Path, help="PNG or JPEG frames to take instead of StreetClips'")
    args = parser.parse_args(argv)
    rows = []
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            rows.append({"case": name} | measured(Path(folder), args, **case))
        print(json.dumps(rows[-1]))
    report = {
        "rows": rows, "clips": args.clips, "workers": args.workers, "cores": os.cpu_count(), "machine": cpu_name(),
        "pictures": "StreetClips with noise" if args.pictures is None else args.pictures.name,
        "versions": {"dastc": dastc.__version__, "torch": torch.__version__, "pillow": PIL.__version__},
        "command": " ".join(["python benchmarks/loading.py", *sys.argv[1:]]), "rounds": args.rounds,
        "commit": commit(),
    }  # fmt: skip
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=1) + "\n")


def measured(folder, args, file, flow=False):
    frames = write(folder, file, args.pictures, flow)
    data = FolderClips(
        folder, images="{number}.png", labels="{number}_ids.png", flow="{number}.npy" if flow else None,
        label_space=STREET, frames=2, size=SIZE,
    )  # fmt: skip
    order = [i % len(data) for i in range(args.clips)]
    # what the clips are decoded from, in the loader's order
    paths = [[path for frame in data._clips[i] for path in (frame.image, frame.labels)] for i in order]
    loader = DataLoader(data, batch_size=2, sampler=order, num_workers=args.workers, collate_fn=stack_clips)
    ours, decoder = [], []
    for _ in range(args.rounds):
        ours.append(timed(lambda: consume(loader), len(order)))
        decoder.append(timed(lambda: decode_all(paths, args.workers), len(order)))
    written = sum((folder / f"{n}.png").stat().st_size for n in range(frames))
    return {
        **summary(ours), "decoder": summary(decoder),
        "png_bytes_per_pixel": round(written / frames / (file[0] * file[1]), 2),
    }  # fmt: skip


def summary(rounds):
    rates, milliseconds = zip(*rounds, strict=True)
    return {
        "clips_per_second": round(statistics.median(rates), 1), "rounds": [round(x, 1) for x in rates],
        "cpu_ms_per_clip": round(statistics.median(milliseconds), 1),
    }  # fmt: skip


def timed(work, clips):
    """Return clips per second, and milliseconds of processor time per clip, of the processes started too."""
    start, used = time.perf_counter(), processor_seconds()
    work()
    return clips / (time.perf_counter() - start), 1000 * (processor_seconds() - used) / clips


def processor_seconds():
    # of children that have ended: the workers of an epoch do
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in usage)


def consume(loader):
    for batch in loader:
        assert batch.frames.shape[-2:] == SIZE


def decode_all(paths, workers):
    with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
        list(pool.map(decode, paths))


def decode(paths):
    for path in paths:
        with Image.open(path) as picture:
            picture.load()


def write(folder, size, pictures, flow, frames=9):
    """Write pictures and labels; return how many."""
    rng = np.random.default_rng(0)
    streets = StreetClips("source", length=frames, size=(256, 512), seed=0)
    given = [] if pictures is None else sorted(p for p in pictures.iterdir() if p.suffix in (".png", ".jpg"))[:frames]
    for n in range(frames):
        clip = streets[n]
        rgb = Image.open(given[n]).convert("RGB") if given else Image.fromarray(to_rgb(clip.frames[-1]).numpy())
        rgb = np.array(rgb.resize((size[1], size[0]), Image.Resampling.BICUBIC)).astype(float)
        if not given:
            rgb += rng.normal(0, 1.0, rgb.shape)
        Image.fromarray(rgb.round().clip(0, 255).astype(np.uint8)).save(folder / f"{n}.png")
        ids = Image.fromarray(clip.labels[-1].numpy().astype(np.uint8))
        ids.resize((size[1], size[0]), Image.Resampling.NEAREST).save(folder / f"{n}_ids.png")
        if flow:
            write_flow(folder / f"{n}.npy", torch.from_numpy(rng.normal(0, 5, (2, *size)).astype(np.float32)))
    return frames


if __name__ == "__main__":
    main()
