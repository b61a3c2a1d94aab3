"""Fuse a source clip and a target clip in both directions, and draw both fused domains.

python examples/fuse_two_clips.py --out fused.png
"""

import argparse
from pathlib import Path

from dastc.clip import stack_clips
from dastc.data import StreetClips, to_rgb
from dastc.data.spaces import STREET
from dastc.fusion import PatchBank, SequencePatchFusion
from dastc.viz import colourise, side_by_side


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("fused.png"), metavar="FILE.png")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)

    classes = len(STREET.names)
    sources, targets = (StreetClips(domain, length=8, seed=args.seed) for domain in ("source", "target"))
    source, target = stack_clips([sources[0]]), stack_clips([targets[0]])

    # exchange: two complementary clips, every pixel of both domains used once
    exchange = SequencePatchFusion(classes, seed=args.seed)
    rows = {"source": source, "target": target}
    rows["exchange,\nin source"], rows["exchange,\nin target"] = (fused.clip for fused in exchange(source, target))

    # shared: the same patches of an earlier clip, and static ones from a bank, in both contexts
    bank = PatchBank(classes, classes=STREET.rare, min_pixels=4)
    for i in range(2, 8):
        bank.update(stack_clips([sources[i]]))
    shared = SequencePatchFusion(classes, rare_classes=STREET.rare, bank=bank, seed=args.seed)
    patches = stack_clips([sources[1]])
    rows["shared,\nin source"], rows["shared,\nin target"] = (fused.clip for fused in shared(source, target, patches))

    pictures = [
        [to_rgb(clip.frames[0, t]) for t in range(2)] + [colourise(clip.labels[0, t], STREET) for t in range(2)]
        for clip in rows.values()
    ]
    titles = ["earlier frame", "current frame", "labels, earlier", "labels, current"]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    side_by_side(pictures, titles=titles, row_titles=list(rows), path=args.out, space=STREET)
    print(f"written to {args.out}")


if __name__ == "__main__":
    main()
