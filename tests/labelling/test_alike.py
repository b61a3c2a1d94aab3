"""What the domains are found to be, and what follows from it."""

import copy
import logging

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dastc import Clip
from dastc.adapt import AlikeDomains, ClassPrior, MatchHistograms, OnlyIfAlike, Recipe, dastc_parts
from dastc.data import StreetClips
from dastc.data.spaces import STREET
from dastc.models import TinySegmenter

K = len(STREET.names)


def said_of(labels, wrong=0.1, classes=K):
    """Return logits of a teacher that names each class right but for a part, which it spreads over all."""
    right = F.one_hot(labels, classes).movedim(-1, -3).float()
    return ((1 - wrong) * right + wrong / classes).log().unsqueeze(0)


def street(domain, change=lambda labels: labels, clips=24, size=(48, 80)):
    data = StreetClips(domain, length=clips, size=size, frames=1)
    return torch.stack([change(data[index].labels) for index in range(clips)])


def looked_at(source, target, **options):
    domains = AlikeDomains(K, looks=len(target), names=STREET.names, **options)
    domains.see(source)
    for labels in target:
        domains.hear(said_of(labels))
    assert domains.decided
    return domains


def look_down(labels):
    lower = labels[:, labels.shape[1] // 2 :]
    return F.interpolate(lower.unsqueeze(1).float(), labels.shape[-2:]).squeeze(1).long()


def crowded(labels):
    """Put a car, which covers a quarter of the picture, where road is."""
    labels = labels.clone()
    labels[:, -24:, 18:62] = STREET.names.index("car")
    return labels


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda labels: labels, "the target seems to show the same things: "),
        (look_down, "the target seems to show other things: "),
        (lambda labels: labels.flip(-2), "the target seems to show other things: "),  # as often, but elsewhere
        (crowded, "the target seems to show other things: car on "),
    ],
)
def test_streets_are_alike_only_if_they_show_the_same_things_at_the_same_places(change, why):
    domains = looked_at(street("source"), street("target", change))
    assert domains.why.startswith(why)
    assert domains.alike == ("the same" in why)


def test_names_that_are_mostly_right_do_not_make_other_domains_of_equal_ones():
    labels = street("target")
    confused = torch.arange(K)
    confused[STREET.names.index("pole")] = STREET.names.index("sign")  # every second pole is named a sign
    domains = AlikeDomains(K, looks=len(labels))
    domains.see(street("source"))
    for index, one in enumerate(labels):
        domains.hear(said_of(confused[one] if index % 2 else one))
    assert domains.alike


def test_what_differs_is_named_with_its_shares():
    domains = AlikeDomains(2, looks=1, names=("road", "car"), bands=1)
    domains.see(torch.tensor([[0, 0, 0, 0], [0, 0, 0, 1]]))
    domains.hear(torch.tensor([0.25, 0.75]).log().view(1, 1, 2, 1, 1).expand(-1, -1, -1, 2, 2))
    assert domains.why == "the target seems to show other things: car on 75.0 % of it, and on 12.5 % of the source"


@pytest.mark.parametrize(("bands", "apart"), [(1, 0), (2, 50)])
def test_bands_are_compared_each_by_itself(bands, apart):
    domains = AlikeDomains(2, looks=1, bands=bands)
    domains.see(torch.tensor([[0, 0], [0, 1]]))
    domains.hear(said_of(torch.tensor([[0, 1], [0, 0]]), 0.0, 2).unsqueeze(0))
    assert domains.why.endswith(f" {apart} % of the pixels would have to change their class")
    assert domains.alike == (apart == 0)


@pytest.mark.parametrize(("most", "apart", "alike"), [(3.1, 0.26, True), (2.9, 0.26, False), (3.1, 0.24, False)])
def test_both_limits_count(most, apart, alike):
    # 1/8 - floor against 3/8: three times as often with the floor of 0.3 %, a quarter of the pixels apart
    domains = AlikeDomains(2, looks=1, bands=1, most=most, apart=apart)
    source = torch.zeros(1, 1000, dtype=torch.long)
    source[:, :125] = 1
    domains.see(source)
    ratio = 3 * 0.128 - 0.003
    domains.hear(torch.tensor([1 - ratio, ratio]).log().view(1, 1, 2, 1, 1))
    assert domains.alike is alike
    assert "256" not in domains.why


def test_it_is_decided_once_after_so_many_looks_in_training_mode(caplog):
    caplog.set_level(logging.INFO, logger="dastc")
    domains = AlikeDomains(2, looks=2)
    same, other = (said_of(torch.full((4, 4), label), 0.0, 2).unsqueeze(0) for label in (0, 1))
    domains.see(torch.zeros(4, 4, dtype=torch.long))
    domains.eval().hear(other)
    domains.train().hear(same)
    assert not domains.decided
    assert not caplog.messages
    domains.hear(same)
    assert domains.alike
    shares = copy.deepcopy(domains.shares.state_dict())
    for _ in range(9):
        domains.hear(other)
        domains.see(torch.ones(4, 4, dtype=torch.long))
    assert domains.alike
    assert all(torch.equal(value, shares[name]) for name, value in domains.shares.state_dict().items())
    assert caplog.messages == [f"{domains.why}."]


def test_a_broken_frame_does_not_decide():
    domains = AlikeDomains(2, looks=2)
    domains.see(torch.zeros(4, 4, dtype=torch.long))
    domains.hear(torch.full((1, 1, 2, 4, 4), torch.nan))
    domains.hear(said_of(torch.zeros(4, 4, dtype=torch.long), 0.0, 2).unsqueeze(0))
    assert domains.alike


def test_the_decision_travels_with_the_state():
    domains = looked_at(street("source"), street("target", crowded))
    fresh = AlikeDomains(K, looks=24)
    fresh.load_state_dict(domains.state_dict())
    assert (fresh.alike, fresh.why, fresh.decided) == (False, domains.why, True)
    half = AlikeDomains(2, looks=2)
    half.see(torch.zeros(4, 4, dtype=torch.long))
    half.hear(torch.zeros(1, 1, 2, 4, 4))
    fresh = AlikeDomains(2, looks=2)
    fresh.load_state_dict(half.state_dict())
    for each in (half, fresh):
        each.hear(torch.tensor([4.0, 0.0]).view(1, 1, 2, 1, 1).expand(-1, -1, -1, 4, 4))
    assert fresh.decided
    assert fresh.why == half.why


class Plus(nn.Module):
    """Adds one."""

    def forward(self, x):
        return x + 1


@pytest.mark.parametrize("alike", [True, False])
def test_a_part_changes_nothing_before_and_everything_after_if_alike(alike):
    domains = AlikeDomains(2, looks=1)
    part, follower = OnlyIfAlike(Plus(), domains), OnlyIfAlike(MatchHistograms(), domains)
    assert part.decision == ""
    part.see(torch.zeros(4, 4, dtype=torch.long))
    source, target = Clip(torch.zeros(1, 1, 3, 4, 4)), Clip(torch.ones(1, 1, 3, 4, 4))
    assert follower(source, target) is source
    logits = said_of(torch.full((4, 4), int(not alike)), 0.0, 2).unsqueeze(0)
    domains.eval()
    assert part(logits) is logits
    domains.train()
    assert (part(logits) is logits) == (not alike)
    assert (follower(source, target) is source) == (not alike)
    assert part.decision == f"Plus {'on' if alike else 'off'}: {domains.why}"


def test_a_prior_counts_while_nothing_is_decided_and_stops_if_it_stays_off():
    domains = AlikeDomains(2, looks=2)
    prior = OnlyIfAlike(ClassPrior(2), domains)
    assert prior.num_classes == 2
    logits = torch.tensor([0.0, 9.0]).view(1, 1, 2, 1, 1).expand(-1, -1, -1, 4, 4)
    counts = []
    for _ in range(4):
        prior.see(torch.zeros(4, 4, dtype=torch.long))
        assert torch.equal(prior(logits), logits)
        counts.append((float(prior.part.shown.sum()), float(prior.part.said.sum())))
    assert counts[0] < counts[1] == counts[2] == counts[3]


def test_the_default_decides_in_a_training(caplog):
    caplog.set_level(logging.INFO, logger="dastc")
    torch.manual_seed(0)
    model = TinySegmenter(2)
    parts = dastc_parts(model, 2, class_names=("road", "car"))
    parts["labels"].adjust.domains.looks = 2
    recipe = Recipe(model, 2, **{**parts, "warmup": 1})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    source = Clip(torch.rand(1, 1, 3, 16, 16), torch.zeros(1, 1, 16, 16, dtype=torch.long))
    for _ in range(4):
        recipe.step(source, Clip(torch.rand(1, 1, 3, 16, 16)))["total"].backward()
        optimizer.step()
    assert len(recipe.decisions) == 2
    assert recipe.decisions[0].startswith(("MatchHistograms off: ", "ClassPrior off: "))
    assert " car on " in caplog.messages[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"looks": 0}, "AlikeDomains: `looks` must be at least 1; got 0."),
        ({"most": 0.5}, "AlikeDomains: `most` must be at least 1; got 0.5."),
        ({"apart": 1.5}, "AlikeDomains: `apart` must lie in [0, 1]; got 1.5."),
        ({"bands": 0}, "AlikeDomains: `bands` must be at least 1; got 0."),
        ({"names": ("a",)}, "AlikeDomains: `names` must name all 2 classes; got 1 names."),
    ],
)
def test_wrong_arguments_are_named(wrong, message):
    with pytest.raises(ValueError, match="AlikeDomains") as error:
        AlikeDomains(2, **wrong)
    assert str(error.value) == message
