"""Whether the domains are found alike, for streets that show the same things, and for streets that do not.

    python benchmarks/alike.py            trains a model of the source for 150 steps, and writes the file of results
    python benchmarks/alike.py --table    prints the file as a table

What differs is made from the same target clips: a camera that looks up, down or aside, or hangs head down.
"""

import argparse
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from example import load_example

from dastc.adapt import AlikeDomains
from dastc.data.spaces import STREET
from dastc.labelling.segment import segment
from dastc.training.records import commit, versions, write_json
from dastc.training.step_batches import in_order

FILE = Path(__file__).parent / "results/alike/street.json"


def cropped(top, bottom, left, right):
    """Return a change of frames: a part of the picture, as large as the whole was."""

    def crop(frames):
        height, width = frames.shape[-2:]
        rows, columns = (slice(round(a * n), round(b * n)) for a, b, n in ((top, bottom, height), (left, right, width)))
        part = frames[..., rows, columns].flatten(0, 1)
        return F.interpolate(part, (height, width), mode="bilinear").view_as(frames)

    return crop


VARIANTS = {
    "as it is": lambda frames: frames,
    "its middle, 1.4 times as large": cropped(1 / 7, 6 / 7, 1 / 7, 6 / 7),
    "its upper 60 %": cropped(0, 0.6, 0, 1),
    "its lower 60 %": cropped(0.4, 1, 0, 1),
    "its lower right quarter": cropped(0.5, 1, 0.5, 1),
    "upside down": lambda frames: frames.flip(-2),
}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--steps", type=int, default=150, help="of the model of the source")
    parser.add_argument("--seeds", type=int, nargs="+", default=[20, 21, 22])
    parser.add_argument("--out", type=Path, default=FILE)
    args = parser.parse_args(argv)
    if not args.table:
        rows = [row for seed in args.seeds for row in looked_at(seed, args.steps)]
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(args.out, {"steps": args.steps, "rows": rows, "commit": commit(), "versions": versions()})
    print_table(json.loads(args.out.read_text())["rows"])


@torch.no_grad()
def looked_at(seed, steps):
    """Return what is found of each variant by a model of the source that the first example trains."""
    example = load_example()
    args = example.parse(["--method", "source_only", "--steps", str(steps), "--seed", str(seed)])
    source, target, _ = example.datasets(args)
    with torch.enable_grad():
        recipe, optimizer = example.prepare("source_only", args, STREET)
        example.fit(
            recipe, optimizer, *example.batches("source_only", args, source, target), steps=steps,
            schedule=example.polynomial(600, warmup=50),  # the first quarter of a training, as the warm-up is
        )  # fmt: skip
    model = recipe.model.eval()
    rows = []
    for name, change in VARIANTS.items():
        domains = AlikeDomains(len(STREET.names), names=STREET.names)
        for batch in in_order(source, 4):
            domains.see(batch.labels)
        for batch in in_order(target, 4, most=4 * domains.looks):
            domains.hear(segment(model, batch._replace(frames=change(batch.frames))))
        rows.append({"variant": name, "seed": seed, "alike": domains.alike, "why": domains.why, **domains.found})
        print(f"{seed}, {name}: {domains.why}")
    return rows


def print_table(rows):
    print("\n| the target | worst ratio | apart | alike |\n|---|---|---|---|")
    for name in VARIANTS:
        found = [row for row in rows if row["variant"] == name]
        ratios, apart = ([row[key] for row in found] for key in ("ratio", "apart"))
        classes = ", ".join(sorted({STREET.names[int(row["class"])] for row in found}))
        alike = sum(row["alike"] for row in found)
        print(
            f"| {name} | {min(ratios):.1f} to {max(ratios):.1f} ({classes}) | {min(apart):.0%} to {max(apart):.0%} | "
            f"{alike} of {len(found)} |"
        )


if __name__ == "__main__":
    main()
