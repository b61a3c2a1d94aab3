"""Views through the network: each by itself, as one batch, or computed again in the backward pass."""

import pytest
import torch
from at_hand import PRESETS, RECIPES, Colour, K, assert_same_losses, clips, gradients, make, own_parts, sgd, spied, tiny
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from dastc.adapt import Clean, Hidden, Recipe, Teacher, TeacherLabels, View
from dastc.adapt.passes import run_passes
from dastc.adapt.views import Blend
from dastc.fusion import ShallowFeatureFusion
from dastc.labelling.segment import segment
from dastc.models import FeatureTap, VideoSegmenter


def run(recipe, steps=2, **kind):
    """Take steps, and return the losses and gradients of each."""
    optimizer, found = sgd(recipe), []
    for step in range(steps):
        optimizer.zero_grad()
        torch.manual_seed(step)  # of dropout
        losses = recipe(*clips(seed=step, dtype=torch.float64, **kind))
        losses["total"].backward()
        found.append((losses, gradients(recipe), torch.rand(1)))
        optimizer.step()
    return found


def assert_alike(found, wanted):
    for (losses, grads, drawn), (want, their_grads, theirs) in zip(found, wanted, strict=True):
        assert_same_losses(losses, want, rtol=1e-6, atol=1e-9)
        assert grads.keys() == their_grads.keys()
        for name, value in their_grads.items():
            torch.testing.assert_close(grads[name], value, rtol=1e-6, atol=1e-9)
        assert torch.equal(drawn, theirs)


@pytest.mark.parametrize("video", [False, True], ids=["image model", "video model"])
@pytest.mark.parametrize("name", [*PRESETS, "own"])
def test_every_way_gives_the_same_losses_and_gradients(name, video):
    each = run(make(name, video=video, double=True))
    for way in ("together", "recomputed"):
        assert_alike(run(make(name, video=video, double=True, passes=way)), each)


def forgetful():
    """Return a model with dropout before and after the tap of its shallow features."""
    model = tiny()
    model.stem.append(nn.Dropout(0.3))
    model.neck = nn.Sequential(model.neck, nn.Dropout(0.4))
    return model


@pytest.mark.parametrize("name", ["default", "paper"])
def test_what_is_computed_again_drops_the_same(name):
    each, again = (
        run(make(name, model=forgetful(), double=True, passes=way), steps=2) for way in ("each", "recomputed")
    )
    assert_alike(again, each)


@pytest.mark.parametrize(
    ("name", "way", "sizes"),
    [
        ("default", "each", [2, 2, 2]),
        ("default", "together", [6]),
        ("default", "recomputed", [2, 2, 2]),
        ("paper", "each", [4, 8]),  # both contexts wait for each other's features
        ("paper", "together", [12]),
        ("paper", "recomputed", [4, 8]),
        ("released", "each", [2, 2, 2, 2]),
        ("released", "together", [8]),
    ],
)
def test_how_often_the_network_runs(name, way, sizes):
    recipe = make(name, passes=way)
    recipe(*clips(seed=0))
    seen = []
    recipe.model.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    losses = recipe(*clips(seed=1))
    assert seen == sizes
    losses["total"].backward()
    assert sorted(seen) == sorted(sizes * (2 if way == "recomputed" else 1))


def bytes_kept(recipe, pair):
    """Return how much is alive for the backward pass, apart from the weights and the clips."""
    kept, known = {}, {p.data_ptr() for p in recipe.parameters()} | {x.data_ptr() for clip in pair for x in clip[:3]}

    def pack(x):
        if x.data_ptr() not in known:
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes(), x
        return x

    with saved_tensors_hooks(pack, lambda x: x):
        losses = recipe(*pair)
    return sum(size for size, _ in kept.values()), losses


def test_computing_again_keeps_a_fraction_of_the_activations():
    pair, amounts = clips(), {}
    for way in ("each", "together", "recomputed"):
        recipe = make("default", model=tiny(width=64), passes=way)
        amounts[way], losses = bytes_kept(recipe, pair)
        assert len(losses) == 5
    assert amounts["recomputed"] < 0.2 * amounts["each"]
    assert amounts["together"] == pytest.approx(amounts["each"], rel=0.1)


# --- without a recipe


def view(name, seed=0, blend=None, **kind):
    clip = clips(seed, **kind)[0]
    return View(
        name, clip, torch.rand(clip.labels.shape) < 0.5, 0.5, alike=torch.rand(clip.labels.shape) < 0.5, blend=blend
    )


@pytest.mark.parametrize("way", ["each", "together", "recomputed"])
def test_what_the_network_says_of_each_view(way):
    model = Colour()
    views = [view("a"), view("b", 1, time=3), view("c", 2, flow=False), view("d", 3, batch=1), view("e", 4)]
    seen = spied(model)
    found = run_passes(model, views, {"neck": FeatureTap(model, "neck")}, read=["neck"], num_classes=K, passes=way)
    # those of one size, and next to each other, are one batch
    assert [len(images) for (images, *_), _, _ in seen] == ([4, 6, 4, 6] if way == "together" else [4, 6, 4, 2, 4])
    assert list(found) == ["a", "b", "c", "d", "e"]
    for one in views:
        told = found[one.name]
        assert torch.equal(told.clip.frames, one.clip.frames)
        assert (told.weight, told.from_source, told.alike) == (0.5, one.from_source, one.alike)
        torch.testing.assert_close(told.logits, segment(model, one.clip))
        deep = model.neck(model.stem(one.clip.frames.flatten(0, 1)))
        torch.testing.assert_close(told.features["neck"], deep.unflatten(0, one.clip.frames.shape[:2]))


@pytest.mark.parametrize("way", ["each", "together", "recomputed"])
@pytest.mark.parametrize("order", ["abc", "bac", "cba", "bca"])
def test_features_are_taken_from_the_other_view_whichever_comes_first(order, way):
    model, mix = Colour(), ShallowFeatureFusion(0.25)
    b_mask, c_mask = torch.rand(2, 2, 2, 16, 24) < 0.5
    views = {
        "a": view("a"),
        "b": view("b", 1, blend=Blend("stem", "a", b_mask, mix)),
        "c": view("c", 2, blend=Blend("stem", "b", c_mask, mix)),
    }
    found = run_passes(model, [views[name] for name in order], {"stem": FeatureTap(model, "stem")}, passes=way)
    plain = {name: model.stem(one.clip.frames.flatten(0, 1)) for name, one in views.items()}
    # as the other view has them before anything is mixed into it
    stems = {
        "a": plain["a"],
        "b": mix(plain["b"], plain["a"], b_mask.flatten(0, 1)),
        "c": mix(plain["c"], plain["b"], c_mask.flatten(0, 1)),
    }
    for name in order:
        torch.testing.assert_close(found[name].logits.flatten(0, 1), model.head(model.neck(stems[name])))


def test_a_video_model_sees_every_frame_and_is_trained_on_the_current_one():
    model = VideoSegmenter(Colour(), K)
    torch.nn.init.normal_(model.fusion.mix.weight)
    tap = {"image_model.neck": FeatureTap(model, "image_model.neck")}
    one = view("a", time=3)
    every, last = (run_passes(model, [one], tap, read=list(tap), all_frames=x)["a"] for x in (True, False))
    assert every.logits.shape[1] == 3
    assert torch.equal(last.logits, every.logits[:, -1:])
    assert torch.equal(last.features["image_model.neck"], every.features["image_model.neck"][:, -1:])
    assert torch.equal(last.from_source, one.from_source[:, -1:])
    assert torch.equal(last.alike, one.alike[:, -1:])
    assert last.clip.frames.shape[1] == 1
    assert last.weight == every.weight == 0.5


def test_views_of_another_size_may_stand_between():
    class Half(nn.Module):
        def forward(self, source, target, confidence=None):  # noqa: ARG002
            clip = target._replace(
                **{x: getattr(target, x)[..., ::2, ::2] for x in ("frames", "labels", "weights")}, flow=None
            )
            return [View("half", clip, torch.zeros_like(clip.labels, dtype=torch.bool))]

    def recipe(way):
        model = tiny().double()
        return Recipe(
            model,
            K,
            labels=TeacherLabels(Teacher(model), threshold=0.4),
            views=[Clean("source"), Half(), Hidden()],
            passes=way,
        )

    each = run(recipe("each"))
    assert set(each[0][0]) == {"source", "half", "masked", "total"}
    for way in ("together", "recomputed"):
        assert_alike(run(recipe(way)), each)


def test_an_unknown_way_is_named():
    message = r"^Recipe: `passes` must be one of 'each', 'together', 'recomputed'; got 'twice'\.$"
    with pytest.raises(ValueError, match=message):
        own_parts(tiny(), passes="twice")
    assert "passes='together'" in own_parts(tiny(), passes="together").extra_repr()


@pytest.mark.parametrize("name", ["source_only", "oracle", "dacs", "tps"])
def test_recipes_without_the_argument_pass_all_ways_too(name):
    def of(way):
        recipe = make(name, double=True)
        recipe.passes = way
        return run(recipe)

    for way in ("together", "recomputed"):
        assert_alike(of(way), of("each"))
    assert name in RECIPES
