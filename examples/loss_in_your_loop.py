"""Add one dastc loss to a plain PyTorch loop, with a model that knows nothing of dastc.

python examples/loss_in_your_loop.py
"""

import argparse

import torch
import torch.nn.functional as F
from torch import nn

from dastc.data import StreetClips
from dastc.data.spaces import STREET
from dastc.functional import pseudo_labels
from dastc.losses import CategoryAlignmentLoss


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--weight", type=float, default=0.1, help="of the alignment loss")
    args = parser.parse_args(argv)

    torch.manual_seed(0)
    classes = len(STREET.names)
    encoder = nn.Sequential(
        nn.Conv2d(3, 32, 7, stride=4, padding=3), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU()
    )
    head = nn.Conv2d(64, classes, 1)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=1e-3)
    sources, targets = (StreetClips(domain, length=16, size=(48, 80), frames=1) for domain in ("source", "target"))

    align = CategoryAlignmentLoss(num_classes=classes)  # the one line that is new
    for step in range(args.steps):
        source, target = sources[step % 16], targets[step % 16]
        source_features, target_features = encoder(source.frames), encoder(target.frames)
        logits = F.interpolate(head(source_features), size=source.labels.shape[-2:], mode="bilinear")
        loss = F.cross_entropy(logits, source.labels)

        labels, confidence = pseudo_labels(head(target_features), tuple(source.labels.shape[-2:]))
        alignment = align(source_features, source.labels, target_features, labels, target_weights=confidence)

        optimizer.zero_grad()
        (loss + args.weight * alignment).backward()
        optimizer.step()
        if (step + 1) % 10 == 0:
            print(f"step {step + 1:3d}  segmentation {loss.item():.3f}  alignment {alignment.item():.3f}")


if __name__ == "__main__":
    main()
