"""The named recipes: what each is made of, and that every argument reaches the part that it is meant for."""

import re

import pytest
import torch
from at_hand import PRESETS, Colour, K, clips, make, same, spied, tiny, train

from dastc.adapt import (
    DACS,
    DASTC,
    TPS,
    Alignment,
    Clean,
    Exchange,
    MatchHistograms,
    OnlyIfAlike,
    Recipe,
    Segmentation,
    Shared,
    dastc_parts,
)
from dastc.adapt.steps import segmentation_loss
from dastc.functional import confidence_weights
from dastc.labelling.segment import segment
from dastc.labelling.target_labels import labelled_by
from dastc.losses import CentroidAlignmentLoss


def loss_of(recipe, clip):
    return segmentation_loss(segment(recipe.model, clip), clip)


def weighted(clip, weighting, threshold):
    return clip._replace(weights=confidence_weights(clip.weights, weighting, threshold=threshold))


# --- the plain ones


def test_source_only_looks_at_the_source():
    recipe, (source, target) = make("source_only", augment=same), clips()
    for other in ((), (target,), (None,)):
        losses = recipe(source, *other)
        assert list(losses) == ["source", "total"]
        torch.testing.assert_close(losses["total"], loss_of(recipe, source))


def test_the_oracle_learns_from_both_domains():
    recipe, (source, target) = make("oracle", augment=same), clips()
    losses = recipe(source, target)
    torch.testing.assert_close(losses["source"], loss_of(recipe, source))
    torch.testing.assert_close(losses["target"], loss_of(recipe, target))
    torch.testing.assert_close(losses["total"], losses["source"] + losses["target"])


@pytest.mark.parametrize(("weighting", "threshold"), [("share", 0.6), ("threshold", 0.8), ("confidence", 0.5)])
def test_dacs_learns_from_the_source_and_from_the_target_with_source_patches(weighting, threshold):
    recipe = make("dacs", augment=same, weighting=weighting, threshold=threshold)
    source, target = clips()
    fused = spied(recipe.views[1].fusion)
    losses = recipe(source, target)
    labelled = weighted(labelled_by(recipe.teacher, target), weighting, threshold)
    assert (labelled.weights > 0).any()
    for name in ("frames", "labels", "weights"):
        torch.testing.assert_close(getattr(fused[0][0][1], name), getattr(labelled, name))
    torch.testing.assert_close(losses["source"], loss_of(recipe, source))
    torch.testing.assert_close(losses["mixed"], loss_of(recipe, fused[0][2][1].clip))
    torch.testing.assert_close(losses["total"], losses["source"] + losses["mixed"])


@pytest.mark.parametrize("cross_frame", ["none", "warped", "averaged"])
@pytest.mark.parametrize(("weighting", "threshold"), [("share", 0.6), ("none", 0.5)])
def test_tps_learns_from_labels_of_the_frame_before(cross_frame, weighting, threshold):
    given = {"cross_frame": cross_frame, "weighting": weighting, "threshold": threshold}
    recipe, (source, target) = make("tps", augment=same, target_weight=0.25, **given), clips()
    losses = recipe(source, target)
    labelled = weighted(labelled_by(recipe.teacher, target, cross_frame=cross_frame), weighting, threshold)
    assert losses["target"] > 0
    torch.testing.assert_close(losses["target"], 0.25 * loss_of(recipe, labelled))
    torch.testing.assert_close(losses["total"], losses["source"] + losses["target"])


def test_the_defaults_are_what_was_published():
    tps, dacs = TPS(Colour(), K), DACS(Colour(), K)
    for recipe, rule in ((tps, "warped"), (dacs, "none")):
        label = recipe.labels
        assert (label.cross_frame, label.weighting, label.threshold) == (rule, "share", 0.968)
        assert (label.teacher.mode, label.teacher.decay) == ("ema", 0.99)
        assert label.adjust is None
    assert [view.weight for view in tps.views] == [1, 1]


@pytest.mark.parametrize("kind", [DACS, TPS])
def test_the_decay_is_that_of_the_teacher(kind):
    assert kind(Colour(), K, decay=0.7).teacher.decay == 0.7


@pytest.mark.parametrize("mode", ["ema", "frozen", "student"])
def test_tps_may_be_taught_by_the_student(mode):
    assert TPS(Colour(), K, teacher=mode).teacher.mode == mode


@pytest.mark.parametrize("kind", [DACS, TPS])
def test_bad_arguments_of_plain_recipes_are_named(kind):
    for bad, message in (
        ({"weighting": "all"}, "`weighting` must be one of 'share', 'confidence', 'threshold', 'none'; got 'all'."),
        ({"threshold": 2.0}, "`threshold` must lie in [0, 1]; got 2.0."),
        ({"decay": -1.0}, "`decay` must lie in [0, 1]; got -1.0."),
    ):
        with pytest.raises(ValueError, match=f"{re.escape(message)}$"):
            kind(Colour(), K, **bad)


@pytest.mark.parametrize("name", ["dacs", *PRESETS])
def test_the_seed_is_that_of_what_is_pasted(name):
    def masks(seed):
        recipe = make(name, seed=seed, model=tiny(), augment=same)
        fused = spied(recipe.views[-1].fusion)
        for step in range(2):
            recipe(*clips(seed=step))
        return fused[-1][2][1].mask

    assert torch.equal(masks(1), masks(1))
    assert not torch.equal(masks(1), masks(2))


# --- DA-STC


def test_the_parts_of_the_default():
    parts = dastc_parts(Colour(), K, features="neck")
    assert [type(x) for x in parts["views"]] == [Clean, Exchange]
    assert [type(x) for x in parts["terms"]] == [Segmentation, Alignment]
    assert parts["views"][1].fusion.complementary
    # nothing is taken for granted of what the target shows: both wait for one decision
    prior, histograms = parts["labels"].adjust, parts["prepare"]
    assert prior.domains is histograms.domains
    assert not prior.domains.alike
    assert (prior.part.grid, prior.part.zoom, prior.part.shift, histograms.part.grid) == ((8, 8), 1.5, 0.05, (3, 1))
    label, align = parts["labels"], parts["terms"][1]
    assert (label.cross_frame, label.weighting, label.threshold) == ("averaged", "share", 0.8)
    assert (label.teacher.decay, label.random is not None) == (0.999, True)  # slow, and labels are drawn
    assert (align.features, align.weight, align.memory, align.objective.align) == ("neck", 0.1, None, "cdd")
    assert (parts["warmup"], parts["ramp"], parts["all_frames"]) == (600, 600, False)
    assert (DASTC(Colour(), K).ramp, DASTC(Colour(), K, ramp=7).ramp) == (600, 7)
    assert DASTC(Colour(), K, preset="paper", shallow="").ramp == 0


def test_the_parts_of_the_paper():
    parts = dastc_parts(Colour(), K, preset="paper", shallow="stem")
    assert [type(x) for x in parts["views"]] == [Clean, Shared]
    shared, align = parts["views"][1], parts["terms"][1]
    assert (shared.target_patches, shared.both_ways, shared.shallow) == (True, True, "stem")
    assert shared.feature_fusion.alpha == 0.3
    assert shared.fusion.bank is None
    assert align.aggregator.temporal
    assert align.over == ("in_source", "in_target")
    assert align.objective.align == "cdd"  # intra-class alignment and inter-class separation
    assert (parts["warmup"], parts["all_frames"], parts["labels"].adjust) == (600, True, None)
    assert "prepare" not in parts


@pytest.mark.parametrize("rare", [(), (1, 3)])
def test_the_parts_of_the_released_code(rare):
    parts = dastc_parts(Colour(), K, preset="released", shallow="stem", rare_classes=rare)
    assert [x.names for x in parts["views"]] == [("source",), ("target",), ("in_source", "in_target")]
    shared, align, label = parts["views"][2], parts["terms"][1], parts["labels"]
    assert (shared.target_patches, shared.both_ways, shared.feature_fusion.alpha) == (True, False, 0.3)
    assert shared.fusion.rare_classes == rare
    assert (shared.fusion.bank is not None) == bool(rare)
    if rare:
        assert shared.fusion.bank.classes.tolist() == list(rare)
    assert (align.over, align.weight, align.objective.align) == (("source", "target"), 0.01, "mmd")
    assert (label.cross_frame, label.weighting, label.threshold, label.teacher.decay) == ("warped", "none", 0.9, 0.99)
    assert (parts["warmup"], parts["all_frames"], parts["prepare"].grid) == (0, False, (1, 1))


@pytest.mark.parametrize("preset", PRESETS)
def test_parts_make_the_preset_and_one_may_be_left_out(preset):
    model = tiny()
    fused = {} if preset == "default" else {"shallow": "stem"}
    given = {"preset": preset, "features": "neck", "seed": 4, **fused}
    parts = dastc_parts(model, K, **given)
    whole = Recipe(model, K, seed=4, **(parts | {"warmup": 0}))
    named = DASTC(tiny(), K, warmup=0, **given)
    for step in range(2):
        wanted, found = named(*clips(step)), whole(*clips(step))
        assert list(found) == list(wanted)
        assert torch.equal(found["total"], wanted["total"])
    parts = dastc_parts(tiny(), K, **given)
    parts["terms"].pop()
    bare = Recipe(tiny(), K, seed=4, **(parts | {"warmup": 0}))
    assert "align" not in [bare(*clips(step)) for step in range(2)][-1]


@pytest.mark.parametrize("preset", PRESETS)
def test_the_arguments_of_a_preset_reach_their_parts(preset):
    objective, taken = CentroidAlignmentLoss("infonce"), {} if preset == "default" else {"shallow": "stem"}
    taken |= {"rare_classes": (1, 3)} if preset == "released" else {}
    recipe = DASTC(
        tiny(),
        K,
        preset=preset,
        features="neck",
        warmup=7,
        objective=objective,
        augment=same,
        passes="together",
        seed=3,
        ignore_index=9,
        **taken,
    )
    fusion, align = recipe.views[-1].fusion, recipe.terms[1]
    assert align.objective is objective
    assert align.features == "neck"
    assert (recipe.warmup, recipe.passes, recipe.seed, fusion.seed, recipe.preset) == (7, "together", 3, 3, preset)
    ignoring = [recipe, recipe.labels, *recipe.terms, align.aggregator, fusion]
    ignoring += [] if fusion.bank is None else [fusion.bank]
    if preset == "default":
        ignoring += [recipe.labels.adjust.part, recipe.labels.adjust.domains.shares]
    assert len(ignoring) == {"default": 8, "paper": 6, "released": 7}[preset]
    assert [x.ignore_index for x in ignoring] == [9] * len(ignoring)
    assert recipe.augment is same
    assert recipe.extra_repr().startswith(f"preset={preset!r}, num_classes=4, warmup=7, ramp=")
    assert DASTC(tiny(), K, preset=preset, **taken).warmup == (0 if preset == "released" else 600)
    prepare = {"default": OnlyIfAlike, "paper": type(None), "released": MatchHistograms}[preset]
    assert isinstance(DASTC(tiny(), K, preset=preset, **taken).prepare, prepare)


def test_without_a_name_logits_are_aligned():
    recipe = DASTC(tiny(), K, warmup=0)
    calls = spied(recipe.terms[1].aggregator)
    recipe(*clips())
    assert torch.equal(calls[0][0][0], calls[0][1]["logits"])


def test_the_first_step_of_shared_patches_has_none_yet():
    released, paper = make("released"), make("paper")
    assert list(paper(*clips(seed=0))) == ["source", "total"]
    assert list(paper(*clips(seed=1))) == ["source", "in_source", "in_target", "align", "total"]
    assert list(released(*clips(seed=0))) == ["source", "target", "align", "total"]
    assert list(released(*clips(seed=1))) == ["source", "target", "in_source", "in_target", "align", "total"]


def test_the_released_code_weighs_all_labels_alike():
    recipe = make("released")
    labelled = spied(recipe.labels)
    train(recipe, 1)
    clip, confidence = labelled[0][2]
    assert torch.equal(clip.weights, (confidence > 0).float())


def test_released_features_are_mixed_in_target_context_in_the_current_frame():
    recipe = make("released")
    mixed, fused = spied(recipe.views[2].feature_fusion), spied(recipe.views[2].fusion)
    train(recipe, 2)
    mask = fused[0][2][1].mask
    assert mask.shape[1] == 1  # what an image model does not train on is not fused
    assert len(mixed) == 1
    assert torch.equal(mixed[0][0][2], mask[:, -1])


# --- arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "papr"}, "DASTC: `preset` must be one of 'default', 'paper', 'released'; got 'papr'."),
        (
            {"preset": "paper"},
            "DASTC: `shallow`, the name of a submodule whose output is fused, must be given with preset='paper'; "
            "got None.",
        ),
        (
            {"preset": "released"},
            "DASTC: `shallow`, the name of a submodule whose output is fused, must be given with preset='released'; "
            "got None.",
        ),
        (
            {"features": "nek"},
            "FeatureTap: `name` must be a submodule of Colour; got 'nek'. Near: 'neck'.",
        ),
        (
            {"preset": "paper", "shallow": "stem", "rare_classes": (1,)},
            "DASTC: `rare_classes` is of preset='released'; got [1] with preset='paper', "
            "which pastes all classes alike.",
        ),
        ({"warmup": -1}, "DASTC: `warmup` must be at least 0; got -1."),
        ({"passes": "all"}, "DASTC: `passes` must be one of 'each', 'together', 'recomputed'; got 'all'."),
    ],
    ids=str,
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        DASTC(Colour(), K, **arguments)
