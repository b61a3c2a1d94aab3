"""Every recipe: on images and clips, with and without flow, reproducible, restorable, and blind to target labels."""

import copy
import re

import pytest
import torch
from at_hand import (
    ADAPTING,
    RECIPES,
    SIZE,
    Colour,
    K,
    assert_same_losses,
    assert_same_state,
    clips,
    make,
    own_parts,
    same,
    sgd,
    spied,
    tiny,
    train,
)
from torch import nn

from dastc.adapt import (
    Alignment,
    Clean,
    Exchange,
    MatchHistograms,
    Recipe,
    Segmentation,
    SourceOnly,
    Teacher,
    TeacherLabels,
)
from dastc.adapt.steps import segmentation_loss
from dastc.functional import match_histograms
from dastc.fusion import SequencePatchFusion
from dastc.labelling.segment import segment


def loss_of(recipe, clip):
    return segmentation_loss(segment(recipe.model, clip), clip)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("kind", [{"time": 1, "flow": False}, {"flow": False}, {}, {"time": 3, "batch": 1}], ids=str)
def test_every_recipe_takes_images_and_clips(name, kind):
    recipe = make(name)
    losses, _ = train(recipe, 2, **kind)
    assert all(torch.isfinite(loss) for loss in losses.values())
    total = sum(value for key, value in losses.items() if key != "total")
    torch.testing.assert_close(losses["total"], total)
    for parameter in recipe.model.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


@pytest.mark.parametrize("name", RECIPES)
def test_a_step_is_a_call(name):
    called, stepped = make(name), make(name)
    for seed in range(2):
        assert_same_losses(stepped.step(*clips(seed)), called(*clips(seed)), rtol=0, atol=0)


@pytest.mark.parametrize("name", ADAPTING)
def test_target_labels_change_nothing(name):
    def last(spoil):
        recipe = make(name)
        for step in range(2):
            source, target = clips(seed=step)
            losses = recipe(source, spoil(target))
        return losses

    honest = last(lambda clip: clip._replace(labels=None))
    for spoiled in (last(lambda clip: clip), last(lambda clip: clip._replace(weights=torch.zeros(2, 2, *SIZE)))):
        assert_same_losses(spoiled, honest, rtol=0, atol=0)


@pytest.mark.parametrize("name", RECIPES)
def test_one_seed_gives_one_result_and_another_another(name):
    runs = [train(make(name, seed=seed, model=tiny()), 2)[0]["total"] for seed in (1, 1, 2)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize("name", RECIPES)
def test_a_restored_recipe_goes_on_as_if_nothing_had_happened(name):
    whole = make(name)
    train(whole, 4)
    before = make(name)
    _, optimizer = train(before, 2)
    state = copy.deepcopy((before.state_dict(), optimizer.state_dict()))
    after = make(name, seed=7)  # another seed: everything must come from the state
    optimizer = sgd(after)
    after.load_state_dict(state[0])
    optimizer.load_state_dict(state[1])
    train(after, 2, first=2, optimizer=optimizer)
    assert_same_state(whole, after)


@pytest.mark.parametrize("name", RECIPES)
def test_a_video_model_can_be_adapted(name):
    recipe = make(name, video=True)
    losses, _ = train(recipe, 2)
    assert losses["total"].isfinite()
    assert recipe.model.fusion.mix.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("channels", [1, 5])
def test_frames_may_have_any_number_of_channels(name, channels):
    recipe = make(name, model=Colour(channels=channels), augment=nn.Identity())
    losses, _ = train(recipe, 2, channels=channels)
    assert losses["total"].isfinite()
    assert recipe.model.stem.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", RECIPES)
def test_the_student_sees_augmented_frames_alone(name):
    recipe = make(name, augment=lambda frames: torch.full_like(frames, 0.5))
    seen = spied(recipe.model)
    train(recipe, 2)
    assert seen
    # what is hidden, is hidden after the change of look
    assert all(((images == 0.5) | ((images == 0) if name == "own" else False)).all() for (images, *_), _, _ in seen)


@pytest.mark.parametrize("name", ["default", "paper", "released", "own"])
def test_the_warm_up_trains_on_the_clean_source_alone(name):
    recipe, (source, target) = make(name, augment=same, warmup=1), clips()
    recipe.prepare = None
    asked = spied(recipe.teacher)
    first = recipe(source, target)
    assert set(first) == {"source", "total"}
    torch.testing.assert_close(first["total"], loss_of(recipe, source if recipe.all_frames else source.last()))
    assert not asked  # no label of the target was made
    assert recipe.warming
    sgd(recipe).step()  # without a gradient, nothing changes
    assert set(recipe(source, target)) == {"source", "total"}
    first["total"].backward()
    sgd(recipe).step()
    assert "in_target" in recipe(source, target) | recipe(source, target)
    assert asked
    assert not recipe.warming


def test_the_class_prior_counts_the_source_in_the_warm_up_too():
    recipe = make("own", warmup=9)
    train(recipe, 1)
    assert recipe.labels.adjust.shown.sum() > 0


def test_in_the_warm_up_the_first_term_alone_counts():
    model = tiny()
    ignoring = Segmentation(ignore_index=0)
    recipe = own_parts(model, warmup=1, terms=[ignoring, Segmentation()], views=[Clean("source")], augment=same)
    recipe.prepare = None
    (source, target) = clips()
    expected = segmentation_loss(segment(model, source.last()), source.last(), ignore_index=0)
    torch.testing.assert_close(recipe(source, target)["total"], expected)


@pytest.mark.parametrize(("warmup", "step", "share"), [(0, 1, 0.25), (0, 3, 0.75), (0, 4, 1), (0, 6, 1), (2, 4, 0.5)])
def test_what_adapts_grows_to_its_weight_over_the_ramp(warmup, step, share):
    def losses_of(ramp):
        views = [Clean("source"), Clean("target", weight=0.5), Exchange(SequencePatchFusion(K))]
        recipe = own_parts(tiny(), ramp=ramp, warmup=warmup, augment=same, views=views, terms=[Segmentation()])
        source, target = clips()
        for _ in range(step):  # the weights stay, and so do all losses but for the ramp
            recipe.update(force=True)
        return recipe(source, target)

    whole, grown = losses_of(0), losses_of(4)
    assert {"source", "target", "in_source", "in_target", "total"} == set(grown)
    for name in grown.keys() - {"total"}:
        torch.testing.assert_close(grown[name], whole[name] * (1 if name == "source" else share))
    torch.testing.assert_close(grown["total"], sum(grown[name] for name in grown.keys() - {"total"}))


def test_a_recipe_that_is_loaded_goes_on_where_the_ramp_was():
    recipe, other = make("own", ramp=8), make("own", ramp=8)
    train(recipe, 3)
    other.load_state_dict(recipe.state_dict())
    source, target = clips(seed=9)
    assert_same_losses(recipe(source, target), other(source, target))
    assert "_grown" not in recipe.state_dict()


def test_ranks_whose_gradients_nothing_averages_are_warned_of(monkeypatch):
    monkeypatch.setattr("dastc._core.wrappers.world", lambda: 2)
    recipe = SourceOnly(Colour(), K)
    message = (
        "SourceOnly: there are several ranks, and nothing that averages their gradients, so their weights will drift "
        "apart. Call DistributedDataParallel(recipe), and not its `module`."
    )
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}$"):
        recipe(*clips())
    recipe(*clips())  # once is enough


@pytest.mark.parametrize("terms", ["alignment first", "alignment alone"])
def test_a_step_without_a_loss_is_zero_and_connected(terms):
    model = tiny()
    align = Alignment(K, features="neck")
    more = {"warmup": 1, "terms": [align, Segmentation()]} if terms == "alignment first" else {"terms": [align]}
    recipe = Recipe(
        model,
        K,
        labels=TeacherLabels(Teacher(model)),
        views=[Exchange(SequencePatchFusion(K))],
        **more,
    )
    if terms == "alignment alone":
        recipe.views[0].contexts = ()  # as the first step of shared patches
    losses = recipe(*clips())
    assert list(losses) == ["total"]
    assert losses["total"] == 0
    losses["total"].backward()
    assert all((p.grad == 0).all() for p in model.parameters())


@pytest.mark.parametrize("grid", [(3, 1), (1, 1)])
def test_the_source_gets_the_histograms_of_the_target_window_by_window(grid):
    recipe, (source, target) = make("own", augment=same, warmup=1, prepare=MatchHistograms(grid=grid)), clips()
    matched = source._replace(frames=match_histograms(source.frames, target.frames, grid=grid))
    torch.testing.assert_close(recipe(source, target)["total"], loss_of(recipe, matched.last()))


@pytest.mark.parametrize("all_frames", [False, True])
@pytest.mark.parametrize("video", [False, True])
def test_all_frames_or_the_current_one_are_trained_on(all_frames, video):
    recipe, (source, target) = make("own", video=video, augment=same, warmup=1, all_frames=all_frames), clips(time=3)
    recipe.prepare = None
    seen = spied(recipe.model)
    loss = recipe(source, target)["total"]
    logits = segment(recipe.model, source)
    if all_frames:
        torch.testing.assert_close(loss, segmentation_loss(logits, source))
    else:
        torch.testing.assert_close(loss, segmentation_loss(logits[:, -1:], source.last()))
    images = seen[0][0][0]
    assert images.shape[:2] == (2, 3) if video else len(images) == (6 if all_frames else 2)


def test_the_seed_is_that_of_the_change_of_look():
    (source, target), shown = clips(), []
    for seed in (0, 0, 1):
        recipe = SourceOnly(tiny(), K, seed=seed)
        seen = spied(recipe.model)
        recipe(source, target)
        shown.append(seen[0][0][0])
    assert torch.equal(shown[0], shown[1])
    assert not torch.equal(shown[0], shown[2])


@pytest.mark.parametrize("name", RECIPES)
def test_any_label_may_be_the_ignored_one(name):
    def run(ignored):
        recipe = make(name, ignore_index=ignored)
        for step in range(2):
            pair = clips(step)
            for clip in pair:
                clip.labels[:, :, :5] = ignored
            losses = recipe(*pair, target_labels=None if recipe.labels is None else pair[1].labels)
        return losses

    assert_same_losses(run(77), run(255), rtol=0, atol=0)
