"""Adapt an image model: an image is a clip of one frame, and nothing else changes.

python examples/adapt_image.py
"""

import argparse

import torch

from dastc.adapt import DASTC, SourceOnly, evaluate
from dastc.data import StreetClips
from dastc.data.spaces import STREET
from dastc.models import TinySegmenter
from dastc.training import StepBatches, fit
from dastc.training.command_line import positive, reported
from dastc.training.ranks import device_of
from dastc.training.step_batches import in_order


def main(argv=None):
    with reported("adapt_image.py"):
        run(parse(argv))


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=positive, default=400)
    parser.add_argument("--images", type=positive, default=200, help="of each domain")
    parser.add_argument("--batch", type=positive, default=8)
    parser.add_argument("--device", default="auto", help="auto (the GPU if there is one), cpu, cuda, ...")
    return parser.parse_args(argv)


def run(args):
    device, classes = device_of(args.device), len(STREET.names)
    images = {domain: remembered(StreetClips(domain, length=args.images, frames=1)) for domain in ("source", "target")}
    scored = remembered(StreetClips("target", split="test", length=max(8, args.images // 2), frames=1))
    for recipe_class in (SourceOnly, DASTC):
        torch.manual_seed(0)
        recipe, name = recipe_class(TinySegmenter(classes), classes).to(device), recipe_class.__name__
        optimizer = torch.optim.AdamW(recipe.model.parameters(), lr=1e-3, weight_decay=0.01)
        source = StepBatches(images["source"], args.batch)
        target = StepBatches(images["target"], args.batch, stream=1, labels=False)
        fit(recipe, optimizer, source, target, steps=args.steps, title=f"{name:>10}")
        scores = evaluate(recipe.model, in_order(scored, 8), classes, device=device)
        print(f"{name:>10} mIoU on unseen target images: {float(scores.iou.miou):.1f}")


def remembered(clips):
    return [clips[i] for i in range(len(clips))]


if __name__ == "__main__":
    main()
