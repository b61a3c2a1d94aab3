"""Labels for the target: from the teacher, decided how much they count, or known."""

import re

import pytest
import torch
from at_hand import SIZE, Colour, K, clips, make, same, spied, tiny
from torch import nn

from dastc.adapt import ClassPrior, Clean, Recipe, Teacher, TeacherLabels
from dastc.functional import confidence_weights
from dastc.labelling.target_labels import TrueLabels, labelled_by


@pytest.fixture
def teacher():
    return Teacher(tiny(), mode="frozen")


@pytest.mark.parametrize("cross_frame", ["none", "warped", "averaged", "agreeing"])
@pytest.mark.parametrize("weighting", ["share", "confidence", "threshold", "none"])
def test_labels_and_weights_are_those_of_the_rules(teacher, cross_frame, weighting):
    _, target = clips(time=3)
    clip, confidence = TeacherLabels(teacher, cross_frame=cross_frame, weighting=weighting, threshold=0.6)(target)
    expected = labelled_by(teacher, target, cross_frame=cross_frame)
    assert torch.equal(clip.labels, expected.labels)
    assert torch.equal(confidence, expected.weights)
    assert torch.equal(clip.weights, confidence_weights(expected.weights, weighting, threshold=0.6))
    assert clip.frames is target.frames
    assert clip.flow is target.flow
    assert not confidence.requires_grad


def test_every_rule_gives_labels_of_its_own(teacher):
    _, target = clips(time=3)
    rules = [TeacherLabels(teacher, cross_frame=rule)(target) for rule in ("none", "warped", "averaged", "agreeing")]
    for i, one in enumerate(rules):
        for other in rules[:i]:
            assert not (
                torch.equal(one.clip.labels, other.clip.labels) and torch.equal(one.confidence, other.confidence)
            )


def test_the_threshold_says_which_pixels_are_confident(teacher):
    _, target = clips()
    shares = []
    for threshold in (0.4, 0.6, 0.9):
        clip, confidence = TeacherLabels(teacher, threshold=threshold)(target)
        shares.append((confidence >= threshold).flatten(1).float().mean(1))
        torch.testing.assert_close(clip.weights, shares[-1].view(-1, 1, 1, 1).expand_as(clip.weights))
    assert (shares[0] > shares[1]).all()
    assert (shares[1] > shares[2]).all()


def test_logits_can_be_adjusted_by_a_module_of_ones_own(teacher):
    class Always(nn.Module):
        def forward(self, logits):
            return logits + torch.tensor([0.0, 0.0, 90.0, 0.0]).view(-1, 1, 1)

    label = TeacherLabels(teacher, adjust=Always())
    clip, confidence = label(clips()[1])
    assert (clip.labels == 2).all()
    assert (confidence > 0.99).all()
    label.see(clips()[0])  # only a class prior counts


def test_a_class_prior_counts_the_source_and_shifts_the_labels(teacher):
    source, target = clips()
    prior = ClassPrior(K, strength=0.7)
    label = TeacherLabels(teacher, cross_frame="averaged", adjust=prior)
    label.eval().see(source)
    assert prior.shown.sum() == 0
    label.train().see(source)
    label.see(target._replace(labels=None))
    shown = torch.bincount(source.labels.flatten(), minlength=K).float()
    torch.testing.assert_close(prior.shown.flatten(), shown / shown.sum())
    found = label(target).clip
    assert torch.equal(found.labels, labelled_by(teacher, target, cross_frame="averaged", adjust=prior.eval()).labels)
    assert not torch.equal(found.labels, labelled_by(teacher, target, cross_frame="averaged").labels)


def test_the_teacher_is_kept_to_how_often_the_source_shows_each_class():
    recipe, (source, target) = make("own"), clips()
    counted, fused = spied(recipe.labels), spied(recipe.views[1].fusion)
    recipe(source, target)
    prior = recipe.labels.adjust
    assert prior.shown.sum() == pytest.approx(16)  # 1 for each cell
    assert torch.equal(fused[0][0][1].labels, counted[0][2].clip.labels)
    assert torch.equal(fused[0][0][1].weights, counted[0][2].clip.weights)


# --- known labels


def known(share, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, K, (2, 2, *SIZE), generator=generator)
    return labels.where(torch.rand(labels.shape, generator=generator) < share, 255)


@pytest.mark.parametrize("ignore_index", [255, 3])
def test_known_pixels_take_the_true_label_and_the_others_the_teachers(teacher, ignore_index):
    _, target = clips()
    label = TeacherLabels(teacher, weighting="confidence", ignore_index=ignore_index)
    truth, own = known(0.3), label(target)
    if ignore_index != 255:
        truth = truth.where(truth != 255, ignore_index)
    clip, confidence = label(target, truth)
    given = truth != ignore_index
    assert 0 < given.float().mean() < 1
    assert torch.equal(clip.labels[given], truth[given])
    assert torch.equal(clip.labels[~given], own.clip.labels[~given])
    for found, before in ((clip.weights, own.clip.weights), (confidence, own.confidence)):
        assert (found[given] == 1).all()
        assert torch.equal(found[~given], before[~given])


@pytest.mark.parametrize("name", ["dacs", "tps", "default", "paper", "released", "own"])
def test_target_labels_take_part_in_every_recipe(name):
    def last(truth):
        recipe = make(name)
        return [recipe.step(*clips(seed), target_labels=truth)["total"] for seed in range(2)][-1]

    without = last(None)
    assert torch.equal(last(torch.full((2, 2, *SIZE), 255)), without)
    assert not torch.equal(last(known(0.5)), without)


def test_a_target_that_is_known_throughout_is_learnt_as_the_oracle_learns_it():
    source, target = clips()
    half, full = make("tps", augment=same), make("oracle", augment=same)
    found = half(source, target._replace(labels=None), target_labels=target.labels)
    for name, loss in full(source, target).items():
        torch.testing.assert_close(found[name], loss)


def test_target_labels_stand_in_for_those_of_the_oracle_and_are_refused_where_nothing_looks_at_them():
    source, target = clips()
    bare = target._replace(labels=None)
    expected, found = make("oracle")(source, target), make("oracle")(source, bare, target_labels=target.labels)
    torch.testing.assert_close(found, expected)
    with pytest.raises(ValueError, match=r"^SourceOnly\.step: `target_labels` must be None in a recipe without"):
        make("source_only")(source, target, target_labels=target.labels)


def test_true_labels_are_the_targets_own_or_those_given():
    _, target = clips()
    truth = known(1.0)
    for given, labels in ((None, target.labels), (truth, truth)):
        clip, confidence = TrueLabels()(target, given)
        assert torch.equal(clip.labels, labels)
        assert (confidence == 1).all()
        assert confidence.shape == labels.shape
    with pytest.raises(ValueError, match=r"^TrueLabels: `target\.labels` must be given; got None\.$"):
        TrueLabels()(target._replace(labels=None))


@pytest.mark.parametrize("name", ["dacs", "default"])  # one trains on all frames, the other on the current one
def test_labels_of_another_shape_or_kind_are_named(name):
    recipe, pair = make(name), clips()
    message = "TeacherLabels: `target_labels` must have shape (B=2, T=2, H=16, W=24); got (2, 16, 24)."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        recipe(*pair, target_labels=known(1.0)[:, 0])
    with pytest.raises(ValueError, match=re.escape(message.replace("(2, 16, 24)", "(2, 3, 16, 24)"))):
        recipe(*pair, target_labels=known(1.0)[:, [0, 1, 1]])
    with pytest.raises(
        TypeError, match=r"^TeacherLabels: `target_labels` must be of dtype int64; got torch\.float32\.$"
    ):
        recipe(*pair, target_labels=known(1.0).float())


# --- arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"cross_frame": "mean"},
            "`cross_frame` must be one of 'none', 'warped', 'averaged', 'agreeing'; got 'mean'.",
        ),
        (
            {"weighting": "all"},
            "`weighting` must be one of 'share', 'confidence', 'threshold', 'none'; got 'all'.",
        ),
        ({"threshold": 2.0}, "`threshold` must lie in [0, 1]; got 2.0."),
    ],
)
def test_bad_arguments_are_named(teacher, arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape('TeacherLabels: ' + message)}$"):
        TeacherLabels(teacher, **arguments)


def test_arguments_are_shown():
    label = TeacherLabels(Teacher(Colour()), cross_frame="warped", weighting="none", threshold=0.5, ignore_index=7)
    assert (
        label.extra_repr()
        == "cross_frame='warped', choice='likeliest', weighting='none', threshold=0.5, ignore_index=7"
    )


def test_a_labeller_of_ones_own_takes_the_place():
    class Sure(nn.Module):
        def forward(self, target, known=None):  # noqa: ARG002
            labels = torch.full_like(target.frames[:, :, 0], 3, dtype=torch.long)
            return target._replace(labels=labels), torch.ones_like(target.frames[:, :, 0])

    recipe = Recipe(Colour(), K, labels=Sure(), views=[Clean("target")], augment=same, all_frames=True)
    _, target = clips()
    wanted = nn.functional.cross_entropy(recipe.model(target.frames.flatten(0, 1)), torch.full((4, *SIZE), 3))
    torch.testing.assert_close(recipe(*clips())["total"], wanted)
    assert recipe.teacher is None
