"""What a recipe is given and cannot work with: named, and without a NaN where there is nothing to learn from."""

import re

import pytest
import torch
from at_hand import RECIPES, SIZE, Colour, K, clips, make, tiny
from torch import nn

from dastc.adapt import DACS, DASTC, TPS, Oracle, SourceOnly, evaluate, evaluate_without_labels
from dastc.models import VideoSegmenter


@pytest.mark.parametrize("name", RECIPES)
def test_bad_clips_are_named(name):
    recipe, (source, target) = make(name), clips()
    caller = f"{type(recipe).__name__}.step: "
    for bad, message in (
        (source._replace(labels=None), "`source.labels` must be given; got None."),
        (
            source._replace(flow=torch.zeros(2, 2, 2, *SIZE)),
            "`source.flow` must have shape (B=2, T-1=1, 2, H=16, W=24); got (2, 2, 2, 16, 24). "
            "One flow field between two frames.",
        ),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(caller + message)}$"):
            recipe(bad, target)
    with pytest.raises(TypeError, match=rf"^{re.escape(caller)}`source` must be a dastc\.Clip; got Tensor\.$"):
        recipe(source.frames, target)
    if name == "source_only":
        return
    if name == "oracle":
        with pytest.raises(ValueError, match=rf"^{re.escape(caller)}`target\.labels` must be given; got None\.$"):
            recipe(source, target._replace(labels=None))
    else:
        for bad in (clips(batch=3)[0], clips(channels=4)[0]):
            message = f"`source.frames` must have shape (B=2, T=2, C=3, H=16, W=24); got {tuple(bad.frames.shape)}."
            with pytest.raises(ValueError, match=f"^{re.escape(caller + message)} As target.frames.$"):
                recipe(bad, target)
    with pytest.raises(TypeError, match=rf"^{re.escape(caller)}`target` must be a dastc\.Clip; got None\.$"):
        recipe(source)


@pytest.mark.parametrize("name", ["dacs", "default", "own"])
def test_nothing_to_learn_from_is_zero_and_not_nan(name):
    recipe, (source, target) = make(name), clips()
    with torch.no_grad():
        recipe.model.head.weight.zero_()
        recipe.model.head.bias.zero_()  # no confidence anywhere: no target pixel counts
    recipe.labels.weighting, recipe.labels.threshold = "share", 0.9
    losses = recipe(source._replace(labels=torch.full_like(source.labels, 255)), target)
    assert losses["total"] == 0
    losses["total"].backward()
    assert all(p.grad is not None and (p.grad == 0).all() for p in recipe.model.parameters())


def test_a_model_that_returns_no_logits_is_named():
    class Odd(nn.Module):
        def forward(self, x):
            return [x]

    with pytest.raises(TypeError, match=r"logits_of: the model must return a tensor, .*; got list"):
        SourceOnly(Odd(), K)(clips()[0])


@pytest.mark.parametrize("video", [False, True])
@pytest.mark.parametrize("name", RECIPES)
def test_a_model_of_another_number_of_classes_is_named_at_the_first_step(name, video):
    model = tiny()
    model.head = nn.Conv2d(model.head.in_channels, K + 1, 1)
    recipe = RECIPES[name](VideoSegmenter(model, K + 1) if video else model, prefix="image_model." if video else "")
    message = (
        f"segment: `model` must return logits of {K} classes, as `num_classes` says; got {K + 1}. Models of "
        f"transformers take num_labels={K}."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        recipe(*clips())
    for score in (evaluate, evaluate_without_labels):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            score(recipe.model, [clips()[0]], K)


@pytest.mark.parametrize("kind", [SourceOnly, Oracle, DACS, TPS, DASTC])
def test_one_class_is_refused_with_what_to_do_instead(kind):
    message = (
        f"{kind.__name__}: `num_classes` must be at least 2; got 1, of which a softmax is always sure. Give what is "
        "not of the class a class of its own, and the model two outputs."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        kind(Colour(1), 1)
    with pytest.raises(ValueError, match=r"`num_classes` must be at least [12]; got 0\.$"):
        kind(Colour(1), 0)
