import copy
import math

import pytest
import torch
from torch import nn

from dastc import Clip
from dastc.adapt import DACS, DASTC, Teacher
from dastc.diagnosis import class_geometry, disagreement, label_quality, loss_gradients, pasted_shares
from dastc.fusion import SequencePatchFusion
from dastc.models import TinySegmenter

K = 4
NOWHERE = Clip(torch.zeros(1, 1, 3, 8, 8), torch.full((1, 1, 8, 8), 255))


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
    assert quality.keys() == expected.keys()
    for name, value in expected.items():
        assert quality[name] == pytest.approx(value, abs=1e-5), name


def test_calibration_error_of_doubt_and_of_conceit_do_not_cancel():
    said, labels = torch.zeros(1, 1, 1, 4), torch.tensor([0, 0, 1, 1]).view(1, 1, 1, 4)
    clip = told(labels, said, torch.tensor([0.5, 0.5, 0.9, 0.9]).view(1, 1, 1, 4))  # always right, never right
    assert label_quality(Teacher(Told()), [clip], K)["calibration_error"] == pytest.approx((0.5 + 0.9) / 2)


def test_label_quality_is_that_of_adjusted_labels():
    clip = told(torch.ones(1, 1, 2, 2, dtype=torch.long), torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.9))
    toward_one = torch.tensor([0.0, 9.0, 0.0, 0.0]).view(-1, 1, 1)
    assert label_quality(Teacher(Told()), [clip], K)["accuracy"] == 0
    assert label_quality(Teacher(Told()), [clip], K, adjust=lambda logits: logits + toward_one)["accuracy"] == 1


def test_label_quality_of_batches_is_that_of_all_clips():
    clip = some_clips()
    parts = [Clip(*(None if x is None else x[i : i + 1] for x in clip)) for i in range(3)]
    one, several = (label_quality(Teacher(Told()), clips, K) for clips in ([clip], parts))
    assert one.keys() == several.keys()
    for name, value in one.items():
        assert several[name] == pytest.approx(value), name


def test_label_quality_looks_at_the_labels_that_are_asked_for():
    labels, flow = torch.zeros(1, 2, 4, 4, dtype=torch.long), torch.zeros(1, 1, 2, 4, 4)
    said, sure = torch.stack((torch.zeros(4, 4), torch.ones(4, 4))).unsqueeze(0), torch.full((1, 2, 4, 4), 0.9)
    clip = told(labels, said, sure, flow)
    accuracy = {
        rule: label_quality(Teacher(Told()), [clip], K, cross_frame=rule)["accuracy"] for rule in ("none", "warped")
    }
    assert accuracy["none"] == 0
    assert accuracy["warped"] == 1


def test_images_have_labels_too_and_nothing_moves():
    quality = label_quality(Teacher(Told()), [some_clips(time=1)], K)
    assert 0 < quality["accuracy"] < 1
    assert math.isnan(quality["accuracy_of_moving"])
    assert math.isnan(quality["accuracy_of_still"])


def test_where_nothing_is_labelled_there_is_no_accuracy():
    quality = label_quality(Teacher(TinySegmenter(K, width=16)), [NOWHERE], K)
    assert math.isnan(quality["accuracy"])
    assert all(math.isnan(value) for value in quality["recall"] + quality["precision"])
    geometry = class_geometry(TinySegmenter(K, width=16), "neck", [NOWHERE], [NOWHERE], K)
    assert all(math.isnan(value) for value in geometry.values())


def test_disagreement_says_who_is_right_where_two_labels_differ():
    # the frame before says 0 everywhere; this one says 1 in the left half, where the truth is 0, 1, 2, 3 by rows
    labels = torch.arange(4).view(1, 1, 4, 1).expand(1, 2, 4, 4).clone()
    said = torch.zeros(1, 2, 4, 4)
    said[:, 1, :, :2] = 1
    flow = torch.zeros(1, 1, 2, 4, 4)
    clip = told(labels, said, torch.full((1, 2, 4, 4), 0.9), flow)
    assert disagreement(Teacher(Told()), [clip], K) == {"share": 0.5, "own": 0.25, "warped": 0.25}
    flow[..., 0] = 100  # the first column comes from outside: it has one label only
    half = {"share": pytest.approx(1 / 3), "own": 0.25, "warped": 0.25}
    assert disagreement(Teacher(Told()), [clip], K) == half
    labels[:, 1, 0] = 255
    assert disagreement(Teacher(Told()), [clip], K)["warped"] == 0


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
    assert geometry == pytest.approx(
        {
            "within_source": 0,
            "within_target": 0,
            "between_source": 1,
            "between_target": 1 - math.cos(math.pi / 2 + 0.2),
            "across": (2 - math.cos(0.1) - math.cos(0.3)) / 2,
            "confused": 0,
        },
        abs=1e-6,
    )
    swapped = class_geometry(Directions(), "features", [source], [turned(math.pi / 2, 0.0)], 2)
    assert swapped["confused"] == 1
    # one target class lies nearest to the other's source, the other to its own
    one_wrong = class_geometry(Directions(), "features", [source], [turned(1.2, 1.5)], 2)
    assert one_wrong["confused"] == 0.5
    assert class_geometry(Directions(), "features", [turned(1.2, 1.5)], [source], 2)["confused"] == 0
    # one class, half of it at 0 and half at 90 degrees: every pixel is 45 degrees from the mean
    spread = turned(0.0, math.pi / 2)._replace(labels=torch.zeros(1, 1, 2, 2, dtype=torch.long))
    within = class_geometry(Directions(), "features", [spread], [spread], 2)["within_source"]
    assert within == pytest.approx(1 - math.cos(math.pi / 4))


def test_classes_of_one_domain_alone_are_left_out():
    both, one = turned(0.0, 1.0), turned(0.0)
    geometry = class_geometry(Directions(), "features", [both], [one], 2)
    assert geometry["across"] == pytest.approx(0, abs=1e-6)
    assert math.isnan(geometry["between_source"])


def test_gradients_of_the_terms_and_nothing_is_changed():
    torch.manual_seed(0)
    recipe = DASTC(TinySegmenter(K, width=16), K, features="neck", warmup=0, seed=3)
    recipe.labels.threshold = 0.26
    source, target = (
        Clip(torch.randn(2, 2, 3, 16, 16), torch.randint(0, K, (2, 2, 16, 16)), torch.zeros(2, 1, 2, 16, 16))
        for _ in range(2)
    )
    before = copy.deepcopy(recipe.state_dict())
    pulls = loss_gradients(recipe, source, target)
    after = recipe.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(a, after[key]) for key, a in before.items() if isinstance(a, torch.Tensor))
    assert recipe.updates == 0
    assert all(p.grad is None for p in recipe.parameters())
    assert pulls.keys() == {"source", "in_source", "in_target", "align"}

    losses = recipe.step(source, target)
    parameters = list(recipe.model.parameters())
    flat = {
        name: torch.cat([
            torch.zeros_like(p).flatten() if g is None else g.flatten()
            for p, g in zip(
                parameters, torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True), strict=True
            )
        ])
        for name, loss in losses.items()
    }  # fmt: skip
    for name, pull in pulls.items():
        assert pull["norm"] == pytest.approx(float(flat[name].norm()), rel=1e-4)
        rest = flat["total"] - flat[name]
        assert pull["cosine"] == pytest.approx(float(torch.cosine_similarity(flat[name], rest, dim=0)), abs=1e-3)


def test_a_term_without_gradient_has_no_direction():
    clip = Clip(torch.randn(1, 1, 3, 16, 16), torch.full((1, 1, 16, 16), 255))
    pulls = loss_gradients(DACS(TinySegmenter(K, width=16), K), clip, clip)
    assert pulls["source"]["norm"] == 0
    assert math.isnan(pulls["source"]["cosine"])


def test_pasted_shares_count_the_pixels_of_each_class_in_both_contexts():
    fusion = SequencePatchFusion(K, classes=1, seed=5)
    source, target = (
        Clip(torch.full((2, 1, 3, 4, 4), float(i)), torch.randint(0, K, (2, 1, 4, 4)), None) for i in range(2)
    )
    shares = pasted_shares(fusion, source, target, K)
    in_source, in_target = fusion(source, target)  # the copy drew what the original draws
    for name, context, pasted in (("in_source", in_source, 1), ("in_target", in_target, 0)):
        came = context.clip.frames[:, :, 0] == pasted
        counts = [int((came & (context.clip.labels == k)).sum()) for k in range(K)]
        assert 0 < sum(counts) < 32
        assert shares[name] == pytest.approx([count / 32 for count in counts])


def test_bad_clips_are_named():
    teacher, bare = Teacher(TinySegmenter(K, width=16)), Clip(torch.zeros(1, 1, 3, 8, 8))
    for call, name in ((label_quality, "label_quality"), (disagreement, "disagreement")):
        with pytest.raises(ValueError, match=f"{name}: `clips` must be labelled; got a clip without labels"):
            call(teacher, [bare], K)
        with pytest.raises(ValueError, match=f"{name}: `clips` must hold at least one batch of clips; got none"):
            call(teacher, [], K)
    with pytest.raises(ValueError, match="class_geometry: `target` must hold at least one batch"):
        class_geometry(teacher, "neck", [NOWHERE], [], K)
    with pytest.raises(ValueError, match="label_quality: `bins` must be at least 1; got 0"):
        label_quality(teacher, [NOWHERE], K, bins=0)
