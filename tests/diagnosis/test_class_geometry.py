import math

import pytest
import torch
from torch import nn

from dastc import Clip
from dastc.diagnosis import class_geometry
from dastc.diagnosis.class_geometry import ClassGeometry
from dastc.models import TinySegmenter

K = 4
NOWHERE = Clip(torch.zeros(1, 1, 3, 8, 8), torch.full((1, 1, 8, 8), 255))


class Directions(nn.Module):
    """Features are unit vectors in the plane, at the angle in the first channel."""

    def __init__(self):
        super().__init__()
        self.features = nn.Identity()

    def forward(self, frames):
        angle = frames[:, 0]
        return self.features(torch.stack((7 * angle.cos(), 7 * angle.sin()), dim=1))


def turned(*angles):
    angle = torch.tensor(angles).view(1, 1, 1, -1).expand(1, 1, 2, -1)
    labels = torch.arange(len(angles)).view(1, 1, 1, -1).expand(1, 1, 2, -1)
    return Clip(torch.stack((angle,) * 3, dim=2), labels.clone())


def test_class_geometry_of_known_directions():
    source, target = turned(0.0, math.pi / 2), turned(0.1, math.pi / 2 + 0.3)
    geometry = class_geometry(Directions(), "features", [source], [target, target], 2)
    expected = ClassGeometry(
        within_source=0,
        within_target=0,
        between_source=1,
        between_target=1 - math.cos(math.pi / 2 + 0.2),
        across=(2 - math.cos(0.1) - math.cos(0.3)) / 2,
        confused=0,
    )
    assert geometry == pytest.approx(expected, abs=1e-6)
    swapped = class_geometry(Directions(), "features", [source], [turned(math.pi / 2, 0.0)], 2)
    assert swapped.confused == 1
    # one target class lies nearest to the other's source, the other to its own
    one_wrong = class_geometry(Directions(), "features", [source], [turned(1.2, 1.5)], 2)
    assert one_wrong.confused == 0.5
    assert class_geometry(Directions(), "features", [turned(1.2, 1.5)], [source], 2).confused == 0
    # one class, half of it at 0 and half at 90 degrees: every pixel is 45 degrees from the mean
    spread = turned(0.0, math.pi / 2)._replace(labels=torch.zeros(1, 1, 2, 2, dtype=torch.long))
    within = class_geometry(Directions(), "features", [spread], [spread], 2).within_source
    assert within == pytest.approx(1 - math.cos(math.pi / 4))


def test_classes_of_one_domain_alone_are_left_out():
    both, one = turned(0.0, 1.0), turned(0.0)
    geometry = class_geometry(Directions(), "features", [both], [one], 2)
    assert geometry.across == pytest.approx(0, abs=1e-6)
    assert math.isnan(geometry.between_source)


def test_where_nothing_is_labelled_there_is_no_geometry():
    geometry = class_geometry(TinySegmenter(K, width=16), "neck", [NOWHERE], [NOWHERE], K)
    assert all(math.isnan(value) for value in geometry)


def test_bad_clips_are_named():
    model, bare = TinySegmenter(K, width=16), Clip(torch.zeros(1, 1, 3, 8, 8))
    with pytest.raises(ValueError, match="class_geometry: `target` must hold at least one batch"):
        class_geometry(model, "neck", [NOWHERE], [], K)
    with pytest.raises(ValueError, match="class_geometry: `clips` must be labelled"):
        class_geometry(model, "neck", [NOWHERE], [bare], K)
