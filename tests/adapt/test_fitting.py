"""Parts that do not fit each other are an error when a recipe is put together, and not at its first step."""

import re

import pytest
import torch
from at_hand import Colour, K, clips, own_parts
from torch import nn

from dastc.adapt import (
    Agreement,
    Alignment,
    Clean,
    Exchange,
    Hidden,
    Recipe,
    Segmentation,
    Shared,
    Teacher,
    TeacherLabels,
    View,
)
from dastc.fusion import SequencePatchFusion, ShallowFeatureFusion


def build(**parts):
    model = Colour()
    labels = TeacherLabels(Teacher(model))
    return Recipe(model, K, **({"labels": labels, "views": [Clean("source")]} | parts))


def exchange(**more):
    return Exchange(SequencePatchFusion(K, **more))


def blind():
    """Return a part that does not say what its views are called."""

    class Blind(nn.Module):
        def forward(self, *_):
            return [View("mine", clips()[0], torch.ones(2, 2, 16, 24, dtype=torch.bool))]

    return Blind()


@pytest.mark.parametrize(
    ("parts", "kind", "message"),
    [
        ({"views": []}, ValueError, "`views` must hold at least one part; got none."),
        ({"terms": []}, ValueError, "`terms` must hold at least one part; got none."),
        ({"views": [Clean]}, TypeError, "`views` must be of Modules; got type."),
        ({"views": [None]}, TypeError, "`views` must be of Modules; got NoneType."),
        ({"terms": [Segmentation(), None]}, TypeError, "`terms` must be of Modules; got NoneType."),
        ({"terms": [len]}, TypeError, "`terms` must be of Modules; got builtin_function_or_method."),
        ({"labels": "teacher"}, TypeError, "`labels` must be of Modules; got str."),
        ({"prepare": str}, TypeError, "`prepare` must be of Modules; got type."),
        (
            {"views": [Clean("source"), exchange(), Clean("source")]},
            ValueError,
            "`views` must have names of their own; got ['source'] more than once.",
        ),
        (
            {
                "views": [
                    exchange(),
                    Shared(SequencePatchFusion(K), feature_fusion=ShallowFeatureFusion(), shallow="stem"),
                ]
            },
            ValueError,
            "`views` must have names of their own; got ['in_source', 'in_target'] more than once.",
        ),
        (
            {"views": [Clean("source"), Clean("target"), Hidden()], "labels": None},
            ValueError,
            "the views ['target', 'masked'] need `labels` for the target; got None.",
        ),
        (
            {"terms": [Segmentation(), Alignment(K)]},
            ValueError,
            "Alignment needs the views ['in_source', 'in_target']; got ['source']. Add a part to `views` that makes "
            "them, or leave the term out.",
        ),
        (
            {
                "views": [Clean("source"), Exchange(SequencePatchFusion(K), contexts=("in_target",))],
                "terms": [Agreement()],
            },
            ValueError,
            "Agreement needs the views ['in_source']; got ['source', 'in_target']. Add a part to `views` that makes "
            "them, or leave the term out.",
        ),
        (
            {"views": [exchange()], "terms": [Segmentation(), Agreement()]},
            ValueError,
            "Agreement needs two contexts that show the same pixels; got Exchange without. Take Shared, or Exchange "
            "with a SequencePatchFusion(complementary=False).",
        ),
        (
            {"terms": [Segmentation(), Alignment(K, features="nek", over=["source"])]},
            ValueError,
            "FeatureTap: `name` must be a submodule of Colour; got 'nek'. Near: 'neck'.",
        ),
        (
            {"views": [Shared(SequencePatchFusion(K), feature_fusion=ShallowFeatureFusion(), shallow="stm")]},
            ValueError,
            "FeatureTap: `name` must be a submodule of Colour; got 'stm'. Near: 'stem'.",
        ),
        ({"warmup": -1}, ValueError, "`warmup` must be at least 0; got -1."),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_does_not_fit_is_named(parts, kind, message):
    caller = "" if message.startswith("FeatureTap") else "Recipe: "
    with pytest.raises(kind, match=f"^{re.escape(caller + message)}$"):
        build(**parts)


@pytest.mark.parametrize(
    "views",
    [
        lambda: [exchange(complementary=False)],
        lambda: [Shared(SequencePatchFusion(K))],
    ],
)
def test_contexts_that_show_the_same_pixels_may_be_asked_to_agree(views):
    recipe = build(views=views(), terms=[Segmentation(), Agreement()])
    assert "agreement" in [recipe(*clips(seed)) for seed in range(2)][-1]


def test_views_of_ones_own_may_keep_their_names_to_themselves():
    recipe = build(views=[blind()], terms=[Segmentation(), Alignment(K, over=["mine"])])
    assert list(recipe(*clips())) == ["mine", "align", "total"]
    assert list(build(views=[blind()], labels=None)(*clips())) == ["mine", "total"]


def test_views_and_terms_may_be_any_iterable():
    recipe = build(views=(x for x in [Clean("source")]), terms=(x for x in [Segmentation()]))
    assert list(recipe(*clips())) == ["source", "total"]


def test_a_change_of_the_source_of_ones_own_comes_first():
    class Darker(nn.Module):
        def forward(self, source, target):
            assert target.labels is None
            return source._replace(frames=source.frames - 5)

    recipe = build(prepare=Darker(), augment=nn.Identity())
    seen = []
    recipe.model.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    source, target = clips()
    recipe(source, target)
    assert torch.equal(seen[0], source.frames[:, -1] - 5)


def test_arguments_are_shown():
    recipe = own_parts(Colour(), warmup=3, ramp=0, all_frames=True, passes="together", seed=5, ignore_index=9)
    assert recipe.extra_repr() == (
        "num_classes=4, warmup=3, ramp=0, all_frames=True, passes='together', seed=5, ignore_index=9"
    )
    assert build(ignore_index=9).terms[0].ignore_index == 9
