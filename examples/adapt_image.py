"""Adapt an image model: an image is a clip of one frame, and nothing else changes.

python examples/adapt_image.py
"""

import argparse

import torch
from torch.utils.data import DataLoader, RandomSampler

from dastc.adapt import DASTC, SourceOnly, evaluate
from dastc.clip import stack_clips
from dastc.data import STREET, StreetClips
from dastc.models import TinySegmenter


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--images", type=int, default=200, help="of each domain")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args(argv)

    images = {domain: remembered(StreetClips(domain, length=args.images, frames=1)) for domain in ("source", "target")}
    scored = remembered(StreetClips("target", split="test", length=max(8, args.images // 2), frames=1))
    for recipe_class in (SourceOnly, DASTC):
        torch.manual_seed(0)
        recipe = recipe_class(TinySegmenter(len(STREET.names)), len(STREET.names)).to(args.device)
        optimizer = torch.optim.AdamW(recipe.model.parameters(), lr=1e-3, weight_decay=0.01)
        for step, (source, target) in enumerate(zip(*(loader(images[d], args) for d in images), strict=True), 1):
            losses = recipe.step(source.to(args.device), target._replace(labels=None).to(args.device))
            optimizer.zero_grad()
            losses["total"].backward()
            optimizer.step()
            if step % 50 == 0:
                print(
                    f"{recipe_class.__name__:>10} step {step:4d}  "
                    + "  ".join(f"{k} {v.item():.3f}" for k, v in losses.items())
                )
        scores = evaluate(
            recipe.model, DataLoader(scored, 8, collate_fn=stack_clips), len(STREET.names), device=args.device
        )
        print(f"{recipe_class.__name__:>10} mIoU on unseen target images: {float(scores.iou.miou):.1f}")


def remembered(clips):
    return [clips[i] for i in range(len(clips))]


def loader(images, args):
    sampler = RandomSampler(images, replacement=True, num_samples=args.steps * args.batch)
    return DataLoader(images, args.batch, sampler=sampler, collate_fn=stack_clips)


if __name__ == "__main__":
    main()
