"""Compare estimated flow with the exact flow of StreetClips, and write the table and the figure of docs/flow.md.

    python benchmarks/flow.py            # measure, then write
    python benchmarks/flow.py --table    # write the table from the committed results alone

Errors are end-point errors in pixels on the `test` streets, over the pixels whose point the frame before shows;
"hidden" are the others, where an estimate has nothing to match. "Kept" is what the forward-backward check with its
default thresholds keeps.
Results: benchmarks/results/flow/street.json; figure: docs/figures/flow.png.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import score_tables
import torch
from matplotlib.colors import hsv_to_rgb
from PIL import Image
from tqdm import tqdm

from dastc.data import DISFlow, StreetClips, to_rgb
from dastc.functional.flow import flow_consistency
from dastc.training.records import commit, device_name, versions, write_json
from dastc.viz import side_by_side

ROOT = Path(__file__).parents[1]
# as OpenCV has its presets, and the default here, which goes on to full resolution
DIS = (("ultrafast", 2), ("fast", 2), ("medium", 1), ("medium", 0))


def main(argv=None):
    args = parse(argv)
    if not args.table:
        rows = [row for domain in ("source", "target") for row in measure(domain, args)]
        about = {
            "clips": args.clips, "size": list(args.size), "versions": versions() | {"opencv": opencv()},
            "device": device_name(torch.device("cpu")), "commit": commit(),
        }  # fmt: skip
        args.results.parent.mkdir(parents=True, exist_ok=True)
        write_json(args.results, {"about": about, "rows": rows})
        args.figure.parent.mkdir(parents=True, exist_ok=True)
        draw(args)
    if not args.results.exists():
        raise SystemExit(f"flow.py: there is no result in {args.results}; run without --table first.")
    text = table(json.loads(args.results.read_text()))
    score_tables.put(args.docs, "flow", text, script="flow.py")
    print(text)


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=100, help="of each domain")
    parser.add_argument("--size", type=int, nargs=2, default=(96, 160), metavar=("H", "W"))
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results/flow/street.json")
    parser.add_argument("--figure", type=Path, default=ROOT / "docs/figures/flow.png")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs/flow.md")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    return parser.parse_args(argv)


def streets(domain, args):
    return StreetClips(domain, split="test", length=args.clips, size=tuple(args.size))


def opencv():
    import cv2

    return cv2.__version__


def measure(domain, args):
    """Return a row for zero flow and for each setting of DIS."""
    clips = streets(domain, args)
    seen = [(clips[i], clips.visible(i)[0]) for i in tqdm(range(args.clips), desc=f"{domain}: filming")]
    exact = torch.stack([clip.flow[0] for clip, _ in seen])
    visible = torch.stack([one for _, one in seen])
    still = torch.zeros_like(exact)
    rows = [{"domain": domain, "flow": "zero", **errors(still, exact, visible)}]
    for preset, scale in DIS:
        estimator = DISFlow(preset, finest_scale=scale)
        pairs = [clip.frames for clip, _ in seen]
        start = time.perf_counter()
        flow = torch.stack([estimator(*frames) for frames in tqdm(pairs, desc=f"{domain}: {preset} {scale}")])
        seconds = time.perf_counter() - start
        reverse = torch.stack([estimator(*frames.flip(0)) for frames in pairs])
        kept = flow_consistency(flow, reverse)
        rows.append({
            "domain": domain, "flow": f"DISFlow({preset!r}, finest_scale={scale})", **errors(flow, exact, visible),
            "kept": float(kept[visible].float().mean()), "kept_hidden": float(kept[~visible].float().mean()),
            "kept_mean": float((flow - exact).norm(dim=1)[kept].mean()),
            "milliseconds": 1000 * seconds / len(pairs),
        })  # fmt: skip
    return rows


def errors(flow, exact, visible):
    error = (flow - exact).norm(dim=1)
    shares = np.percentile(error[visible].numpy(), (50, 90, 99)).tolist()
    return {
        "mean": float(error[visible].mean()), "percentiles": dict(zip(("50", "90", "99"), shares, strict=True)),
        "hidden": float(error[~visible].mean()), "visible": float(visible.float().mean()),
    }  # fmt: skip


def table(results):
    lines = [
        "| domain | flow | mean | 50 % | 90 % | 99 % | hidden | kept visible / hidden | mean of kept |",
        "|---" * 9 + "|",
    ]
    for row in results["rows"]:
        values = [row["mean"], *row["percentiles"].values(), row["hidden"]]
        checked = ["-"] * 2
        if "kept" in row:
            kept = f"{row['kept']:.0%} / {row['kept_hidden']:.0%}"
            checked = [kept, f"{row['kept_mean']:.2f}"]
        name = row["flow"] if row["flow"] == "zero" else f"`{row['flow']}`"
        cells = [row["domain"], name, *(f"{value:.2f}" for value in values), *checked]
        lines.append(f"| {' | '.join(cells)} |")
    about = results["about"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    size = " x ".join(map(str, about["size"]))
    return "\n".join([
        *lines, "", f"{about['clips']} clips of each domain at {size}; {about['device']}; {versions}; "
        f"commit {(about['commit'] or 'unknown')[:10]}.",
    ])  # fmt: skip


def draw(args):
    """Show frames, exact flow, DIS flow and the error of one clip of each domain."""
    rows = []
    for domain in ("source", "target"):
        clips = streets(domain, args)
        clip, exact = clips[0], clips[0].flow[0]
        flow = DISFlow()(*clip.frames)
        longest = float(exact.norm(dim=0).quantile(0.98))
        error = (flow - exact).norm(dim=0).where(clips.visible(0)[0], torch.tensor(torch.nan))
        rows.append([*map(to_rgb, clip.frames), coloured(exact, longest), coloured(flow, longest), shaded(error)])
    titles = ("previous frame", "current frame", "exact flow", "DIS flow", "error up to 3 px; hidden: blue")
    side_by_side(rows, titles=titles, path=args.figure, row_titles=("source", "target"))
    shrink(args.figure)


def shrink(path):
    """Halve the sides and the colours: a page does not need what a repository would keep for ever."""
    with Image.open(path) as picture:
        small = picture.convert("RGB").reduce(2).quantize(128)
    small.save(path, optimize=True)


def coloured(flow, longest):
    """Turn directions into hues and lengths into saturation: white stands still."""
    dx, dy = flow.numpy()
    hue = np.arctan2(dy, dx) / (2 * np.pi) % 1
    rgb = hsv_to_rgb(np.stack((hue, np.hypot(dx, dy).clip(0, longest) / longest, np.ones_like(hue)), axis=-1))
    return torch.from_numpy((255 * rgb).round().astype(np.uint8))


def shaded(error):
    grey = (error / 3).clamp(max=1).mul(255).nan_to_num(0).to(torch.uint8).unsqueeze(-1).repeat(1, 1, 3)
    grey[error.isnan()] = torch.tensor([60, 90, 200], dtype=torch.uint8)
    return grey


if __name__ == "__main__":
    main()
