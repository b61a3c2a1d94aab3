import math

import pytest
import torch
from torch import nn

from dastc import Clip
from dastc.adapt import evaluate, evaluate_without_labels
from dastc.models import TinySegmenter

K = 4


class Says(nn.Module):
    """Give the same logits, scaled, for every pixel of class c of the first channel."""

    def __init__(self, scale=20.0):
        super().__init__()
        self.scale = scale

    def forward(self, frames):
        return self.scale * nn.functional.one_hot(frames[:, 0].long(), K).movedim(-1, 1).float()


def clip_of(labels, flow=None):
    return Clip(labels.float().unsqueeze(2).expand(-1, -1, 3, -1, -1).clone(), None, flow)


def test_unsure_models_have_all_the_entropy_and_sure_ones_none():
    clip = clip_of(torch.randint(0, K, (2, 1, 6, 8)))
    assert evaluate_without_labels(Says(0.0), [clip], K).entropy == pytest.approx(1)
    assert evaluate_without_labels(Says(100.0), [clip], K).entropy == pytest.approx(0, abs=1e-6)


def test_diversity_is_that_of_the_mean_over_all_batches():
    one, other = clip_of(torch.zeros(1, 1, 4, 4)), clip_of(torch.ones(1, 1, 4, 4))
    assert evaluate_without_labels(Says(), [one, one], K).diversity == pytest.approx(0, abs=1e-6)
    assert evaluate_without_labels(Says(), [one, other], K).diversity == pytest.approx(math.log(2) / math.log(K))


def test_density_of_groups_of_equal_predictions():
    # two groups of 8, far apart: each prediction has 7 equal neighbours
    labels = torch.tensor([0, 1]).repeat(8).view(1, 1, 4, 4)
    assert evaluate_without_labels(Says(), [clip_of(labels)], K).density == pytest.approx(math.log(7), abs=1e-3)
    three = evaluate_without_labels(Says(), [clip_of(labels)], K, pixels=3).density
    assert three < math.log(2) + 1e-6  # of three predictions, each has two neighbours at most


def test_density_compares_directions_and_not_lengths():
    # two groups of predictions that differ in how sure they are; by cosine, and by nothing else
    probability = Says(2.0)(torch.tensor([[[[0, 1]]]]).float()).softmax(dim=1)[0, :, 0].T.repeat(8, 1)  # (16, K)
    cosine = float(torch.cosine_similarity(probability[0], probability[1], dim=0))
    weights = torch.tensor([1 / 0.05] * 7 + [cosine / 0.05] * 8).softmax(dim=0)
    expected = float(-(weights * weights.log()).sum())
    labels = torch.tensor([0, 1]).repeat(8).view(1, 1, 4, 4)
    assert evaluate_without_labels(Says(2.0), [clip_of(labels)], K).density == pytest.approx(expected, rel=1e-4)


def test_consistency_is_that_of_evaluate_and_labels_are_not_looked_at():
    clip = Clip(torch.randn(2, 2, 3, 16, 16), torch.randint(0, K, (2, 2, 16, 16)), torch.randn(2, 1, 2, 16, 16))
    model = TinySegmenter(K, width=16)
    scores = evaluate_without_labels(model, [clip], K)
    assert scores.consistency == pytest.approx(evaluate(model, [clip], K).consistency)
    assert scores == evaluate_without_labels(model, [clip._replace(labels=None)], K)
    assert math.isnan(evaluate_without_labels(model, [clip._replace(flow=None)], K).consistency)


def test_modes_are_put_back_and_no_gradient_is_kept():
    model = TinySegmenter(K, width=16).train()
    model.stem.eval()
    evaluate_without_labels(model, [Clip(torch.randn(1, 1, 3, 16, 16))], K)
    assert model.training
    assert not model.stem.training


def test_the_seed_draws_the_pixels():
    model, clip = TinySegmenter(K, width=16), Clip(torch.randn(2, 1, 3, 32, 32))
    one, same, other = (evaluate_without_labels(model, [clip], K, pixels=16, seed=s).density for s in (1, 1, 2))
    assert one == same
    assert one != other


@pytest.mark.parametrize(
    ("given", "clips", "message"),
    [
        ({"pixels": 1}, 1, "evaluate_without_labels: `pixels` must be at least 2; got 1"),
        ({"temperature": 0.0}, 1, "evaluate_without_labels: `temperature` must be above 0; got 0.0"),
        ({}, 0, "evaluate_without_labels: `clips` must hold at least one batch of clips; got none"),
    ],
)
def test_bad_arguments_are_named(given, clips, message):
    with pytest.raises(ValueError, match=message):
        evaluate_without_labels(Says(), [clip_of(torch.zeros(1, 1, 4, 4))] * clips, K, **given)
