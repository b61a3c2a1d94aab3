"""What a step minimises: each loss by hand, and each option of the terms."""

import re

import pytest
import torch
from at_hand import SIZE, K, clips, make, own_parts, spied, tiny, train
from torch import nn

from dastc.adapt import Agreement, Alignment, Exchange, Pass, Segmentation
from dastc.adapt.steps import segmentation_loss
from dastc.aggregation import CategoryAggregator
from dastc.fusion import PatchBank, SequencePatchFusion
from dastc.losses import CentroidAlignmentLoss, ContextConsistencyLoss


def passes(*names, seed=0, alike=True):
    """Return passes of both domains, with weights and flow."""
    out = {}
    for i, name in enumerate(names):
        generator = torch.Generator().manual_seed(100 * seed + i)
        clip = clips(100 * seed + i)[0]._replace(weights=torch.rand(2, 2, *SIZE, generator=generator))
        logits, deep = (torch.randn(2, 2, n, 8, 12, generator=generator).requires_grad_() for n in (K, 6))
        mine, both = (torch.rand(2, 2, *SIZE, generator=generator) < 0.5 for _ in range(2))
        out[name] = Pass(name, clip, mine, 5 * logits, {"deep": deep}, 1 + 0.5 * i, both if alike else None)
    return out


class Difference(nn.Module):
    """An objective of one's own: how far apart the centroids of classes are that both domains show."""

    def forward(self, source, target):
        both = (source.present & target.present).unsqueeze(1)
        return (source.values - target.values).where(both, 0).square().sum()


# --- segmentation


def test_each_view_has_a_loss_of_its_own_weight():
    given = passes("source", "mine")
    found = Segmentation()(given)
    assert list(found) == ["source", "mine"]
    for name, one in given.items():
        torch.testing.assert_close(found[name], one.weight * segmentation_loss(one.logits, one.clip))
    assert given["mine"].weight == 1.5


def test_segmentation_leaves_out_what_is_ignored():
    given = passes("source")
    found = Segmentation(ignore_index=2)(given)["source"]
    torch.testing.assert_close(found, segmentation_loss(given["source"].logits, given["source"].clip, ignore_index=2))
    assert not torch.equal(found, Segmentation()(given)["source"])


# --- alignment


@pytest.mark.parametrize("features", [None, "deep"])
@pytest.mark.parametrize("over", [("in_source", "in_target"), ("in_target",), ["mine", "in_source"]])
def test_centroids_of_each_domain_over_the_views_are_aligned(features, over):
    given = passes("source", "in_source", "mine", "in_target")
    aggregator = CategoryAggregator(K)
    objective = CentroidAlignmentLoss("infonce", temperature=0.3)
    term = Alignment(K, objective, features=features, weight=0.4, over=over, aggregator=aggregator)
    calls = spied(aggregator)
    found = term(given)
    assert list(found) == ["align"]
    chosen = [given[name] for name in over]
    labels, mine, logits, weights, flow = (
        torch.cat(x)
        for x in zip(*((p.clip.labels, p.from_source, p.logits, p.clip.weights, p.clip.flow) for p in chosen))  # noqa: B905
    )
    deep = logits if features is None else torch.cat([p.features["deep"] for p in chosen])
    of_domain = [
        CategoryAggregator(K)(deep, labels.where(own, 255), logits=logits, weights=weights, flow=flow)
        for own in (mine, ~mine)
    ]
    torch.testing.assert_close(found["align"], 0.4 * objective(*of_domain))
    for (_, seen), more, _ in calls:
        assert (seen != 255).any()
        for name, want in {"logits": logits, "weights": weights, "flow": flow}.items():
            assert torch.equal(more[name], want)
    assert term.needs == term.over == tuple(over)


def test_the_defaults_of_alignment():
    given = passes("in_source", "in_target")
    spelt = Alignment(K, CentroidAlignmentLoss("cdd"), weight=0.1, over=("in_source", "in_target"), ignore_index=255)
    torch.testing.assert_close(Alignment(K)(given)["align"], spelt(given)["align"])


def test_an_aggregator_of_ones_own_averages():
    given = passes("in_source", "in_target")
    plain = CategoryAggregator(K, agreement=False, confidence=False, temporal=False, persistence=False)
    found = Alignment(K, Difference(), features="deep", aggregator=plain)(given)["align"]
    assert not torch.equal(found, Alignment(K, Difference(), features="deep")(given)["align"])


def test_alignment_leaves_out_what_is_ignored():
    given = passes("in_source", "in_target")
    term = Alignment(K, Difference(), features="deep", ignore_index=1)
    assert term.aggregator.ignore_index == 1
    source, target = spied(term.objective), spied(term.aggregator)
    term(given)
    for centroids in source[0][0]:
        assert centroids.present.tolist() == [True, False, True, True]
    assert all((labels != 255).all() for (_, labels), *_ in target)


def test_each_domain_is_pulled_toward_the_memory_of_the_other():
    term = Alignment(K, Difference(), features="deep", weight=0.5, memory=0.6)
    assert (term.source_memory.momentum, term.target_memory.momentum) == (0.6, 0.6)
    aggregated, aligned = spied(term.aggregator), spied(term.objective)
    remembered = spied(term.source_memory), spied(term.target_memory)
    for seed in range(2):
        found = term(passes("in_source", "in_target", seed=seed))
    source, target = (call[2] for call in aggregated[2:])
    of_source, of_target = (calls[1][2] for calls in remembered)
    assert remembered[0][1][0][0] is source
    assert remembered[1][1][0][0] is target
    assert not torch.equal(of_source.values, source.values)
    for call, want in zip(aligned[2:], [(of_source, target), (source, of_target)], strict=True):
        assert all(one is other for one, other in zip(call[0], want, strict=True))
    torch.testing.assert_close(found["align"], 0.5 * (aligned[2][2] + aligned[3][2]) / 2)


def test_without_any_of_its_views_there_is_nothing_to_align():
    assert Alignment(K)(passes("source")) == {}
    assert list(Alignment(K)(passes("source", "in_target"))) == ["align"]
    given = passes("in_source", "in_target")
    given["in_source"] = given["in_source"]._replace(clip=given["in_source"].clip._replace(labels=None))
    with pytest.raises(ValueError, match=r"^Alignment: the clips of all views must be labelled; got None\.$"):
        Alignment(K)(given)


# --- agreement


@pytest.mark.parametrize("between", [("in_source", "in_target"), ("mine", "in_source")])
def test_contexts_are_compared_where_both_show_the_same(between):
    given = passes("in_source", "mine", "in_target")
    term = Agreement(0.3, between=between)
    found = term(given)
    first, second = (given[name] for name in between)
    flat = [x.flatten(0, 1) for x in (first.logits, second.logits, first.alike)]
    assert list(found) == ["agreement"]
    torch.testing.assert_close(found["agreement"], 0.3 * ContextConsistencyLoss()(*flat))
    assert term.needs == between
    assert term(passes(between[0])) == {}


def test_agreement_may_have_an_objective_of_ones_own():
    class Gap(nn.Module):
        def forward(self, first, second, mask):
            return (first - second).abs().mean() + mask.float().mean()

    given = passes("in_source", "in_target")
    one, other = given.values()
    wanted = (one.logits - other.logits).abs().mean() + one.alike.float().mean()
    torch.testing.assert_close(Agreement(2.0, Gap())(given)["agreement"], 2 * wanted)


def test_agreement_needs_to_know_where():
    message = "Agreement: view 'in_source' must say where both contexts are `alike`; got None."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Agreement()(passes("in_source", "in_target", alike=False))


# --- inside a recipe


def test_both_domains_are_aligned_over_both_contexts():
    recipe = make("default")
    calls, fused = spied(recipe.terms[1].aggregator), spied(recipe.views[1].fusion)
    recipe(*clips())
    of_source, of_target = (labels != 255 for (_, labels), _, _ in calls)
    assert torch.equal(of_source, ~of_target)
    contexts = fused[0][2]
    # complementary clips: each place is source in exactly one of the contexts, and what is pasted is the other's
    assert torch.equal(of_source[:2], ~contexts[0].mask[:, -1:])
    assert torch.equal(of_source[2:], contexts[1].mask[:, -1:])
    for half in (of_source[:2], of_source[2:]):
        assert half.any()
        assert not half.all()


@pytest.mark.parametrize("complementary", [False, True])
def test_patches_from_the_bank_are_of_the_source_in_both_contexts(complementary):
    bank = PatchBank(K, classes=[2], min_pixels=1)
    fusion = SequencePatchFusion(K, bank=bank, complementary=complementary)
    recipe = own_parts(tiny(), views=[Exchange(fusion)], terms=[Alignment(K)])
    aggregated, fused = spied(recipe.terms[0].aggregator), spied(recipe.views[0].fusion)
    recipe(*clips(seed=0))  # fills the bank, whose patches stand still where they are pasted
    static = torch.cat([context.static[:, -1:] for context in fused[0][2]])
    assert static[:2].any()
    assert static[2:].any()
    assert (aggregated[0][0][1] != 255)[static].all()


def test_aggregation_sees_the_weights_and_the_flow_of_the_fused_clips():
    recipe = make("own", all_frames=True)
    aggregated, fused = spied(recipe.terms[1].aggregator), spied(recipe.views[1].fusion)
    recipe(*clips())
    assert len(aggregated) == 2
    for _, more, _ in aggregated:
        for name in ("weights", "flow"):
            wanted = torch.cat([getattr(one.clip, name) for one in fused[0][2]])
            assert torch.equal(more[name], wanted)


def test_contexts_are_compared_in_the_frames_that_are_trained_on():
    recipe = make("own", augment=nn.Identity())
    fused, compared = spied(recipe.views[1].fusion), spied(recipe.terms[2].objective)
    losses, _ = train(recipe, 1)
    (first, second, mask), _, value = compared[0]
    one, other = (context.clip.frames for context in fused[0][2])
    assert torch.equal(mask, (one == other).all(dim=2)[:, -1])
    assert 0 < mask.float().mean() < 1
    assert not torch.equal(first, second)
    torch.testing.assert_close(losses["agreement"], 0.7 * value)


# --- one's own, and arguments


def test_a_term_and_an_objective_of_ones_own_are_minimised():
    class Quiet(nn.Module):
        """Ask for small features."""

        features = "neck"

        def forward(self, passes):
            return {"quiet": 0.1 * sum(one.features["neck"].square().mean() for one in passes.values())}

    recipe = own_parts(tiny(), terms=[Segmentation(), Quiet(), Alignment(K, Difference())])
    seen = spied(recipe.terms[2].objective)
    losses, _ = train(recipe, 2)
    assert list(losses)[-3:] == ["quiet", "align", "total"]
    assert losses["quiet"] > 0
    torch.testing.assert_close(losses["total"], sum(value for key, value in losses.items() if key != "total"))
    assert [type(x).__name__ for x in seen[0][0]] == ["Centroids", "Centroids"]


def test_two_losses_of_one_name_are_an_error_and_not_one_loss():
    recipe = own_parts(tiny(), terms=[Segmentation(), Alignment(K), Alignment(K, features="neck")])
    message = (
        "Recipe.step: `terms` must give losses of names of their own; got ['align'] more than once. Put a Module "
        "around one of them that gives its loss another name."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        recipe(*clips())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Alignment(K, weight=-0.1), "Alignment: `weight` must be at least 0; got -0.1."),
        (lambda: Alignment(K, over=()), "Alignment: `over` must list the names of views; got ()."),
        (lambda: Alignment(K, over="source"), "Alignment: `over` must list the names of views; got 'source'."),
        (lambda: Alignment(K, memory=1.5), "CategoryMemory: `momentum` must lie in [0, 1]; got 1.5."),
        (lambda: Agreement(-1.0), "Agreement: `weight` must be at least 0; got -1.0."),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()


def test_arguments_are_shown():
    assert Segmentation(ignore_index=7).extra_repr() == "ignore_index=7"
    term = Alignment(K, features="neck", weight=0.2, over=["source"], memory=0.5)
    assert term.extra_repr() == "features='neck', weight=0.2, over=('source',), memory=0.5"
    assert Agreement(0.5, between=("a", "b")).extra_repr() == "weight=0.5, between=('a', 'b')"
