"""What a step trains on: each view's pixels, where they come from, and each option of the parts that make views."""

import copy
import re

import pytest
import torch
from at_hand import K, clips, make, own_parts, spied, tiny, train
from torch import nn

from dastc.adapt import Clean, Exchange, Hidden, Shared, View
from dastc.adapt.views import Mixed
from dastc.functional.appearance import hidden_blocks
from dastc.fusion import PatchBank, SequencePatchFusion, ShallowFeatureFusion
from dastc.fusion.clip_template import ClipTemplate


def pair(seed=0, **kind):
    """Return clips whose first channel says from which domain they come: 0 the source, 1 the target."""
    source, target = clips(seed, **kind)
    source.frames[:, :, 0], target.frames[:, :, 0] = 0, 1
    return source, target._replace(weights=torch.rand(target.labels.shape))


def fusion(seed=3, **more):
    return SequencePatchFusion(K, seed=seed, **more)


def assert_known(views):
    """Check that each view says rightly which of its pixels are the source's."""
    for view in views:
        assert torch.equal(view.from_source, view.clip.frames[:, :, 0] == 0)


def alike(one, other):
    return (one.clip.frames == other.clip.frames).all(dim=2)


# --- clean and hidden


@pytest.mark.parametrize(("domain", "index"), [("source", 0), ("target", 1)])
def test_a_clean_view_is_the_clip(domain, index):
    part, given = Clean(domain, weight=0.3), pair()
    (view,) = part(*given)
    assert part.names == (view.name,) == (domain,)
    assert view.clip is given[index]
    assert view.weight == 0.3
    assert (view.hidden, view.alike, view.blend) == (None, None, None)
    assert_known([view])


@pytest.mark.parametrize("share", [0.2, 0.7])
def test_blocks_of_the_target_are_hidden(share):
    part, (source, target) = Hidden(share, weight=0.3, seed=4), pair(time=3, batch=4)
    (view,) = part(source, target)
    wanted = hidden_blocks(target.frames, share, block=2, generator=torch.Generator().manual_seed(4))
    assert torch.equal(view.hidden, wanted)
    assert view.hidden.float().mean() == pytest.approx(share, abs=0.1)
    assert view.clip is target
    assert (view.name, view.weight) == ("masked", 0.3)
    assert_known([view])
    assert not torch.equal(part(source, target)[0].hidden, wanted)  # each step draws anew


def test_what_is_hidden_is_the_mean_colour_after_the_change_of_look():
    recipe = own_parts(tiny(), views=[Hidden(0.5)], terms=None, augment=lambda frames: frames * 0 + 7)
    hidden, seen = spied(recipe.views[0]), spied(recipe.model)
    recipe(*clips())
    mask = hidden[0][2][0].hidden[:, -1:].expand(-1, 3, -1, -1)
    assert torch.equal(seen[0][0][0], torch.full_like(seen[0][0][0], 7).masked_fill(mask, 0))


# --- both domains in one picture


def test_source_patches_lie_in_target_context():
    source, target = pair()
    (view,) = Mixed(fusion())(source, target)
    _, wanted = fusion()(source, target)
    assert view.name == "mixed"
    for found, given in zip(view.clip, wanted.clip, strict=True):
        assert torch.equal(found, given)
    assert 0 < view.from_source.float().mean() < 1
    assert_known([view])


@pytest.mark.parametrize("bank", [False, True])
@pytest.mark.parametrize("complementary", [False, True])
def test_both_contexts_know_what_is_whose_and_what_both_show(complementary, bank):
    rare = PatchBank(K, classes=[2], min_pixels=1) if bank else None
    part = Exchange(fusion(complementary=complementary, bank=rare), target_weight=0.4)
    one, other = part(*pair())
    assert part.names == (one.name, other.name) == ("in_source", "in_target")
    assert (one.weight, other.weight) == (1, 0.4)
    assert_known([one, other])
    assert part.alike == (not complementary)
    for view in (one, other):
        assert torch.equal(view.alike, alike(one, other))
    assert one.alike.any() == (bank or not complementary)


@pytest.mark.parametrize("context", ["in_source", "in_target"])
def test_one_context_may_be_enough(context):
    part, both = Exchange(fusion(), contexts=(context,)), Exchange(fusion())
    (view,) = part(*pair())
    (wanted,) = (one for one in both(*pair()) if one.name == context)
    assert part.names == (view.name,) == (context,)
    assert torch.equal(view.clip.frames, wanted.clip.frames)


# --- shared patches


def test_shared_patches_are_those_of_the_step_before_in_both_contexts():
    part = Shared(fusion(), target_weight=0.4)
    before, now = pair(0), pair(1)
    assert part(*before) == []
    one, other = part(*now)
    wanted = fusion()(*now, before[0])
    assert (one.name, other.name, one.weight, other.weight) == (*part.names, 1, 0.4)
    for view, fused in zip((one, other), wanted, strict=True):
        for found, given in zip(view.clip[:3], fused.clip[:3], strict=True):
            assert torch.equal(found, given)
        assert view.blend is None
    assert torch.equal(one.alike, alike(one, other))
    assert one.alike.any()
    assert_known([one, other])


def test_patches_of_the_target_keep_the_confidence_of_their_labels():
    part = Shared(fusion(threshold=0.5), target_patches=True)
    called, sure = spied(part.fusion), [torch.rand(2, 2, 16, 24) for _ in range(2)]
    part(*pair(0), sure[0])
    one, other = part(*pair(1), sure[1])
    before, patches = pair(0)
    _, _, source_patches, target_patches = called[0][0]
    assert torch.equal(source_patches.frames, before.frames)
    assert torch.equal(target_patches.frames, patches.frames)
    assert torch.equal(target_patches.weights, sure[0])
    assert_known([one, other])
    pasted = (one.clip.frames == patches.frames).all(dim=2)
    assert pasted.any()
    assert not (pasted & (sure[0] < 0.5)).any()


def test_without_target_patches_there_are_none():
    part = Shared(fusion())
    called = spied(part.fusion)
    for seed in range(2):
        part(*pair(seed), torch.ones(2, 2, 16, 24))
    assert called[0][0][3] is None


@pytest.mark.parametrize("both_ways", [False, True])
def test_shallow_features_are_mixed_where_shared_patches_lie(both_ways):
    mix = ShallowFeatureFusion(0.3)
    part = Shared(fusion(), feature_fusion=mix, shallow="stem", both_ways=both_ways)
    part(*pair(0))
    one, other = part(*pair(1))
    assert other.blend[:2] == ("stem", "in_source")
    assert other.blend.mix is mix
    assert torch.equal(other.blend.mask, one.alike)
    assert (one.blend is not None) == both_ways
    if both_ways:
        assert one.blend[:2] == ("stem", "in_target")
        assert one.blend.mix is mix
        assert torch.equal(one.blend.mask, one.alike)


def test_shared_patches_of_another_size_are_left_out():
    recipe = make("released")
    train(recipe, 2)
    assert "in_source" not in recipe(*clips(batch=1))
    assert "in_source" in recipe(*clips(batch=1))


def test_a_template_is_a_copy_that_goes_where_it_is_told():
    template, clip = ClipTemplate(), clips()[0]
    template.swap(clip)
    before = clip.frames.clone()
    clip.frames.zero_()
    twin = copy.deepcopy(template).double()
    assert twin.swap(clip._replace(frames=clip.frames.double())).frames.dtype == torch.float64
    template.eval()
    for _ in range(2):  # what is only looked at is not kept
        assert torch.equal(template.swap(clips(1)[0]).frames, before)


# --- one's own, and arguments


def test_a_view_of_ones_own_is_trained_on():
    class Upright(nn.Module):
        def forward(self, source, target, confidence=None):  # noqa: ARG002
            turned = target._replace(**{x: getattr(target, x).flip(-2) for x in ("frames", "labels", "weights")})
            return [View("upright", turned._replace(flow=None), torch.zeros_like(turned.labels, dtype=torch.bool))]

    recipe = own_parts(tiny(), views=[Clean("source"), Upright()], terms=None)
    losses, _ = train(recipe, 2)
    assert set(losses) == {"source", "upright", "total"}
    assert losses["upright"] > 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Clean("both"), "Clean: `domain` must be one of 'source', 'target'; got 'both'."),
        (lambda: Clean(weight=-1.0), "Clean: `weight` must be at least 0; got -1.0."),
        (lambda: Hidden(0.0), "Hidden: `share` must lie in (0, 1); got 0.0."),
        (lambda: Hidden(1.0), "Hidden: `share` must lie in (0, 1); got 1.0."),
        (lambda: Hidden(weight=-1.0), "Hidden: `weight` must be at least 0; got -1.0."),
        (
            lambda: Exchange(fusion(), contexts=()),
            "Exchange: `contexts` must be some of 'in_source', 'in_target'; got (). Without any, leave the part out.",
        ),
        (
            lambda: Exchange(fusion(), contexts=("in_target", "here")),
            "Exchange: `contexts` must be some of 'in_source', 'in_target'; got ('in_target', 'here'). Without any, "
            "leave the part out.",
        ),
        (lambda: Exchange(fusion(), target_weight=-1.0), "Exchange: `target_weight` must be at least 0; got -1.0."),
        (lambda: Shared(fusion(), target_weight=-1.0), "Shared: `target_weight` must be at least 0; got -1.0."),
        (
            lambda: Shared(fusion(), shallow="stem"),
            "Shared: `feature_fusion` and `shallow`, the name of a submodule whose output it mixes, need each other; "
            "got shallow='stem'.",
        ),
        (
            lambda: Shared(fusion(), feature_fusion=ShallowFeatureFusion()),
            "Shared: `feature_fusion` and `shallow`, the name of a submodule whose output it mixes, need each other; "
            "got shallow=None.",
        ),
        (lambda: Shared(fusion(), both_ways=True), "Shared: `both_ways` needs `feature_fusion`; got None."),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()


def test_arguments_are_shown():
    assert Clean("target", weight=0.5).extra_repr() == "'target', weight=0.5"
    assert Hidden(0.2, weight=0.5).extra_repr() == "share=0.2, weight=0.5"
    exchange = Exchange(fusion(), contexts=("in_source",), target_weight=0.5)
    assert exchange.extra_repr() == "contexts=('in_source',), target_weight=0.5"
    shared = Shared(
        fusion(),
        target_patches=True,
        feature_fusion=ShallowFeatureFusion(),
        shallow="stem",
        both_ways=True,
        target_weight=0.5,
    )
    assert shared.extra_repr() == "target_patches=True, shallow='stem', both_ways=True, target_weight=0.5"
