import math

import pytest
import torch
from torch import nn

from dastc import Clip
from dastc.adapt import Teacher
from dastc.diagnosis import disagreement, label_quality
from dastc.models import TinySegmenter

K = 4


class Told(nn.Module):
    """Say the class that stands in the first channel, with the probability that stands in the second."""

    def __init__(self):
        super().__init__()
        self.pass_on = nn.Identity()

    def forward(self, frames):
        said, sure = frames[:, 0].long(), frames[:, 1].clamp(max=0.9999)
        rest = ((1 - sure) / (K - 1)).unsqueeze(1).expand(-1, K, -1, -1)
        return self.pass_on(rest.scatter(1, said.unsqueeze(1), sure.unsqueeze(1)).log())


def told(labels, said, sure, flow=None):
    return Clip(torch.stack((said.float(), sure, torch.zeros_like(sure)), dim=2), labels, flow)


def some_clips(seed=0, time=2):
    rng = torch.Generator().manual_seed(seed)
    shape = (3, time, 5, 6)
    labels, said = (torch.randint(0, K, shape, generator=rng) for _ in range(2))
    labels[torch.rand(shape, generator=rng) < 0.1] = 255
    flow = 3 * torch.rand(3, time - 1, 2, 5, 6, generator=rng) if time > 1 else None
    return told(labels, said, 0.4 + 0.6 * torch.rand(shape, generator=rng), flow)


def test_label_quality_counts_what_a_loop_counts():
    clip = some_clips()
    quality = label_quality(Teacher(Told()), [clip], K, threshold=0.8, bins=5)
    rows = []
    for b in range(3):
        for y in range(5):
            for x in range(6):
                truth, said = int(clip.labels[b, 1, y, x]), int(clip.frames[b, 1, 0, y, x])
                moved = float(clip.flow[b, 0, :, y, x].square().sum().sqrt()) > 1
                if truth != 255:
                    rows.append((truth, said, min(float(clip.frames[b, 1, 1, y, x]), 0.9999), moved))

    def accuracy(chosen):
        return sum(truth == said for truth, said, *_ in chosen) / len(chosen)

    gap = 0.0
    for i in range(5):
        inside = [row for row in rows if i / 5 <= row[2] < (i + 1) / 5]
        if inside:
            gap += abs(accuracy(inside) - sum(row[2] for row in inside) / len(inside)) * len(inside) / len(rows)
    expected = {
        "accuracy": accuracy(rows),
        "confidence": sum(row[2] for row in rows) / len(rows),
        "calibration_error": gap,
        "confident": sum(row[2] >= 0.8 for row in rows) / len(rows),
        "accuracy_of_confident": accuracy([row for row in rows if row[2] >= 0.8]),
        "accuracy_of_moving": accuracy([row for row in rows if row[3]]),
        "accuracy_of_still": accuracy([row for row in rows if not row[3]]),
        "recall": [accuracy([row for row in rows if row[0] == k]) for k in range(K)],
        "precision": [accuracy([row for row in rows if row[1] == k]) for k in range(K)],
    }
    assert set(quality._fields) == expected.keys()
    for name, value in expected.items():
        assert getattr(quality, name) == pytest.approx(value, abs=1e-5), name


def test_calibration_error_of_doubt_and_of_conceit_do_not_cancel():
    said, labels = torch.zeros(1, 1, 1, 4), torch.tensor([0, 0, 1, 1]).view(1, 1, 1, 4)
    clip = told(labels, said, torch.tensor([0.5, 0.5, 0.9, 0.9]).view(1, 1, 1, 4))  # always right, never right
    assert label_quality(Teacher(Told()), [clip], K).calibration_error == pytest.approx((0.5 + 0.9) / 2)


def test_label_quality_is_that_of_adjusted_labels():
    clip = told(torch.ones(1, 1, 2, 2, dtype=torch.long), torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.9))
    toward_one = torch.tensor([0.0, 9.0, 0.0, 0.0]).view(-1, 1, 1)
    assert label_quality(Teacher(Told()), [clip], K).accuracy == 0
    assert label_quality(Teacher(Told()), [clip], K, adjust=lambda logits: logits + toward_one).accuracy == 1


def test_label_quality_of_batches_is_that_of_all_clips():
    clip = some_clips()
    parts = [Clip(*(None if x is None else x[i : i + 1] for x in clip)) for i in range(3)]
    one, several = (label_quality(Teacher(Told()), clips, K) for clips in ([clip], parts))
    for name, value, other in zip(one._fields, one, several, strict=True):
        assert other == pytest.approx(value), name


def test_label_quality_looks_at_the_labels_that_are_asked_for():
    labels, flow = torch.zeros(1, 2, 4, 4, dtype=torch.long), torch.zeros(1, 1, 2, 4, 4)
    said, sure = torch.stack((torch.zeros(4, 4), torch.ones(4, 4))).unsqueeze(0), torch.full((1, 2, 4, 4), 0.9)
    clip = told(labels, said, sure, flow)
    accuracy = {
        rule: label_quality(Teacher(Told()), [clip], K, cross_frame=rule).accuracy for rule in ("none", "warped")
    }
    assert accuracy["none"] == 0
    assert accuracy["warped"] == 1


@pytest.mark.parametrize("flow", [None, torch.zeros(3, 0, 2, 5, 6)])
def test_images_have_labels_too_and_nothing_moves(flow):
    quality = label_quality(Teacher(Told()), [some_clips(time=1)._replace(flow=flow)], K)
    assert 0 < quality.accuracy < 1
    assert math.isnan(quality.accuracy_of_moving)
    assert math.isnan(quality.accuracy_of_still)


def test_clips_without_flow_are_neither_moving_nor_still():
    clip, more = some_clips(), some_clips(seed=1)._replace(flow=None)
    one, both = (label_quality(Teacher(Told()), clips, K) for clips in ([clip], [clip, more]))
    assert (both.accuracy_of_moving, both.accuracy_of_still) == (one.accuracy_of_moving, one.accuracy_of_still)
    assert both.accuracy != one.accuracy


def test_where_nothing_is_labelled_there_is_no_accuracy():
    nowhere = Clip(torch.zeros(1, 1, 3, 8, 8), torch.full((1, 1, 8, 8), 255))
    quality = label_quality(Teacher(TinySegmenter(K, width=16)), [nowhere], K)
    assert math.isnan(quality.accuracy)
    assert all(math.isnan(value) for value in quality.recall + quality.precision)


def test_disagreement_says_who_is_right_where_two_labels_differ():
    # the frame before says 0 everywhere; this one says 1 in the left half, where the truth is 0, 1, 2, 3 by rows
    labels = torch.arange(4).view(1, 1, 4, 1).expand(1, 2, 4, 4).clone()
    said = torch.zeros(1, 2, 4, 4)
    said[:, 1, :, :2] = 1
    flow = torch.zeros(1, 1, 2, 4, 4)
    clip = told(labels, said, torch.full((1, 2, 4, 4), 0.9), flow)
    assert disagreement(Teacher(Told()), [clip], K) == (0.5, 0.25, 0.25)
    flow[..., 0] = 100  # the first column comes from outside: it has one label only
    assert disagreement(Teacher(Told()), [clip], K) == (pytest.approx(1 / 3), 0.25, 0.25)
    labels[:, 1, 0] = 255
    assert disagreement(Teacher(Told()), [clip], K).warped == 0


@pytest.mark.parametrize("measure", [label_quality, disagreement], ids=lambda measure: measure.__name__)
def test_bad_clips_are_named(measure):
    teacher, bare = Teacher(Told()), Clip(torch.zeros(1, 1, 3, 8, 8))
    name = measure.__name__
    with pytest.raises(ValueError, match=f"{name}: `clips` must be labelled; got a clip without labels"):
        measure(teacher, [bare], K)
    with pytest.raises(ValueError, match=f"{name}: `clips` must hold at least one batch of clips; got none"):
        measure(teacher, [], K)


def test_there_must_be_intervals_of_confidence():
    with pytest.raises(ValueError, match="label_quality: `bins` must be at least 1; got 0"):
        label_quality(Teacher(Told()), [some_clips()], K, bins=0)
