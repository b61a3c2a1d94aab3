"""A head on any backbone."""

from collections import OrderedDict
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dastc.models import BackboneSegmenter, FeatureTap


class Maps(nn.Module):
    """Two maps, 4 and 8 times smaller than the images, returned as ``pack`` likes."""

    def __init__(self, pack=list):
        super().__init__()
        self.fine, self.coarse, self.pack = nn.Conv2d(3, 5, 4, stride=4), nn.Conv2d(5, 7, 2, stride=2), pack

    def forward(self, images):
        fine = self.fine(images)
        return self.pack([fine, self.coarse(fine)])


PACKS = {
    "list": list,
    "tuple": tuple,
    "mapping": lambda maps: OrderedDict(low=maps[0], high=maps[1]),
    "object": lambda maps: SimpleNamespace(feature_maps=tuple(maps)),
    "channels last": lambda maps: [x.movedim(1, -1) for x in maps],
}


@pytest.mark.parametrize("pack", PACKS.values(), ids=PACKS)
def test_every_way_to_return_maps_says_the_same(pack):
    images = torch.randn(2, 3, 24, 40)
    plain = BackboneSegmenter(Maps(), 4, channels=(5, 7), width=16)
    other = BackboneSegmenter(Maps(pack), 4, channels=(5, 7), width=16)
    other.load_state_dict(plain.state_dict())
    assert plain(images).shape == (2, 4, 6, 10)
    assert torch.equal(plain(images), other(images))


def test_every_map_counts_and_every_parameter_learns():
    model = BackboneSegmenter(Maps(), 4, channels=(5, 7), width=16)
    model(torch.randn(2, 3, 24, 40)).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_the_taps_hold_the_first_map_and_the_deep_features():
    model, images = BackboneSegmenter(Maps(), 4, channels=(5, 7), width=16), torch.randn(1, 3, 24, 40)
    with FeatureTap(model, "shallow").read() as shallow, FeatureTap(model, "neck").read() as deep:
        before = model(images)
    assert torch.equal(shallow.feature, model.backbone(images)[0])
    assert deep.feature.shape == (1, 16, 6, 10)
    with FeatureTap(model, "shallow").replace(torch.zeros_like):
        assert not torch.equal(model(images), before)


def test_a_backbone_that_knows_its_channels_is_asked():
    timm, transformers = Maps(), Maps()
    timm.feature_info = SimpleNamespace(channels=lambda: [5, 7])
    transformers.channels = [5, 7]
    assert BackboneSegmenter(timm, 4).channels == BackboneSegmenter(transformers, 4).channels == (5, 7)
    assert "num_classes=4, channels=(5, 7), width=128" in repr(BackboneSegmenter(timm, 4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "`channels` must be given for a Maps, which does not tell them; got None"),
        ({"channels": ()}, "`channels` must have a number for each map; got none"),
        ({"channels": (5, 7), "width": 12}, "`width` must be a positive multiple of 8; got 12"),
        ({"channels": (5, 7), "num_classes": 0}, "`num_classes` must be at least 1; got 0"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=f"BackboneSegmenter: {message}"):
        BackboneSegmenter(Maps(), **{"num_classes": 4, **arguments})


@pytest.mark.parametrize(
    ("pack", "channels", "error", "message"),
    [
        (list, (5, 7, 9), ValueError, r"return a map for each of the 3 `channels`; got 2"),
        (list, (5, 8), ValueError, r"a map of `backbone` must have 8 channels, as `channels` says; got \(1, 7, 3, 5\)"),
        (lambda maps: maps[0], (5, 7), TypeError, r"must return maps \(N, C, h, w\).*; got Tensor"),
        (lambda maps: [maps[0].flatten(2)], (5,), TypeError, r"must return maps \(N, C, h, w\).*; got list"),
    ],
)
def test_a_backbone_that_returns_something_else_is_refused(pack, channels, error, message):
    with pytest.raises(error, match=message):
        BackboneSegmenter(Maps(pack), 4, channels=channels)(torch.zeros(1, 3, 24, 40))
