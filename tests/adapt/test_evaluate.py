import math

import pytest
import torch
from torch import nn

from dastc import Clip
from dastc.adapt import evaluate


class Says(nn.Module):
    """Answers with the class that the first channel of a picture names."""

    def forward(self, images):
        return 10 * nn.functional.one_hot(images[:, 0].long(), 3).movedim(-1, 1).float()


def clip(said, labels, flow=None):
    said, labels = torch.tensor(said), torch.tensor(labels)
    frames = said.float().unsqueeze(2).expand(-1, -1, 3, -1, -1)
    return Clip(frames, labels, flow)


def test_current_frames_are_scored_over_all_batches():
    first = clip([[[[2, 2]], [[0, 1]]]], [[[[0, 0]], [[0, 1]]]])  # wrong in the earlier frame, right in the current
    second = clip([[[[0, 0]], [[0, 1]]]], [[[[0, 0]], [[0, 255]]]])
    scores = evaluate(Says(), [first, second], 3)
    assert scores.iou.per_class[:2].tolist() == [100, 100]
    assert scores.iou.per_class[2].isnan()
    assert math.isnan(scores.consistency)


def test_consistency_follows_the_flow():
    said = [[[[0, 1, 1, 2]], [[0, 0, 1, 1]]]]  # all moved one to the right
    flow = torch.zeros(1, 1, 2, 1, 4)
    flow[:, :, 0] = -1
    assert evaluate(Says(), [clip(said, said, flow)], 3).consistency == 100
    assert evaluate(Says(), [clip(said, said, torch.zeros_like(flow))], 3).consistency == 50


def test_the_model_is_in_evaluation_mode_and_comes_back():
    model = nn.Sequential(Says(), nn.Dropout(0.9), nn.BatchNorm2d(3))
    model.train()
    model[2].eval()  # a frozen part
    said = [[[[0, 1, 2, 0]]]]
    assert evaluate(model, [clip(said, said)], 3).iou.miou == 100
    assert [module.training for module in model] == [True, True, False]
    with pytest.raises(ValueError, match=r"evaluate: `clips` must be labelled; got a clip without labels\."):
        evaluate(model, [clip(said, said)._replace(labels=None)], 3)
    assert [module.training for module in model] == [True, True, False]


def test_the_mean_is_over_the_classes_asked_for():
    said = clip([[[[0, 1, 1, 2]]]], [[[[0, 1, 2, 2]]]])
    assert evaluate(Says(), [said], 3, classes=(0, 1)).iou.miou == 75
    assert evaluate(Says(), [said], 3, classes=(0,)).iou.miou == 100
    with pytest.raises(ValueError, match=r"`classes` must be different class indices"):
        evaluate(Says(), [said], 3, classes=())


class Sees(Says):
    """Remembers the size of what it saw."""

    def forward(self, images):
        self.size = tuple(images.shape[-2:])
        return super().forward(images.round())


def test_the_model_may_see_less_than_the_labels_show():
    labels = torch.zeros(1, 1, 4, 8, dtype=torch.long)
    labels[..., 4:] = 2
    frames = labels.float().unsqueeze(2).expand(-1, -1, 3, -1, -1)
    model = Sees()
    scores = evaluate(model, [Clip(frames, labels)], 3, input_size=(2, 4))
    assert model.size == (2, 4)
    assert scores.iou.per_class[[0, 2]].tolist() == [100, 100]
    labels[..., 3] = 1  # one column at full size: the model could not see it
    assert evaluate(model, [Clip(frames, labels)], 3, input_size=(2, 4)).iou.per_class[1] == 0


def test_consistency_is_that_of_the_labels_size():
    said = torch.zeros(1, 2, 2, 8, dtype=torch.long)
    said[:, 0, :, 2:], said[:, 1, :, 4:] = 2, 2  # moved two to the right
    flow = torch.zeros(1, 1, 2, 2, 8)
    flow[:, :, 0] = -2
    moved = Clip(said.float().unsqueeze(2).expand(-1, -1, 3, -1, -1), said, flow)
    assert evaluate(Sees(), [moved], 3, input_size=(1, 4)).consistency == 100
