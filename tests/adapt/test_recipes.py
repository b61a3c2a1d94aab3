"""Every recipe: on images and clips, with and without flow, reproducible, restorable, and blind to target labels."""

import copy

import pytest
import torch
from torch import nn

from dastc import Clip
from dastc.adapt import ARRANGEMENTS, DACS, DASTC, TPS, Arrangement, Oracle, SourceOnly, labelled_by
from dastc.adapt.arrangement import Switches
from dastc.adapt.clip_template import ClipTemplate
from dastc.adapt.steps import reweighted, segment, segmentation_loss
from dastc.functional import match_histograms
from dastc.models import TinySegmenter, VideoSegmenter

K, SIZE = 4, (16, 24)
RELEASED = {"arrangement": "released", "features": "neck", "shallow": "stem", "rare_classes": (1, 3)}
RECIPES = {
    "source_only": (SourceOnly, {}),
    "oracle": (Oracle, {}),
    "dacs": (DACS, {}),
    "tps": (TPS, {}),
    "dastc": (
        DASTC,
        {
            "features": "neck",
            "warmup": 0,
            "class_prior_grid": (1, 1),
            "match_histograms": False,
            "align": "infonce",
            "both_frames": True,  # so that every part is tested
        },
    ),
    "released": (DASTC, RELEASED),
}


def clips(seed=0, time=2, flow=True, batch=2):
    generator = torch.Generator().manual_seed(seed)

    def one():
        frames = torch.randn(batch, time, 3, *SIZE, generator=generator)
        labels = torch.randint(0, K, (batch, time, *SIZE), generator=generator)
        shift = torch.randn(batch, time - 1, 2, *SIZE, generator=generator) if flow else None
        return Clip(frames, labels, shift)

    return one(), one()


def make(name, seed=0, **more):
    torch.manual_seed(seed)
    recipe_class, arguments = RECIPES[name]
    return recipe_class(TinySegmenter(K, width=16), K, seed=seed, **{**arguments, **more})


def train(recipe, steps, first=0, optimizer=None, **kind):
    optimizer = optimizer or torch.optim.SGD(recipe.model.parameters(), lr=0.05, momentum=0.9)
    for step in range(first, first + steps):
        losses = recipe.step(*clips(seed=step, **kind))
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
    return losses, optimizer


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("kind", [{"time": 1, "flow": False}, {"flow": False}, {}, {"time": 3, "batch": 1}], ids=str)
def test_every_recipe_takes_images_and_clips(name, kind):
    recipe = make(name)
    losses, _ = train(recipe, 3, **kind)
    assert all(torch.isfinite(loss) for loss in losses.values())
    total = sum(value for key, value in losses.items() if key != "total")
    torch.testing.assert_close(losses["total"], total)
    for parameter in recipe.model.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


@pytest.mark.parametrize("name", ["dacs", "tps", "dastc", "released"])
def test_target_labels_change_nothing(name):
    def last(spoil):
        recipe = make(name)
        for step in range(3):
            source, target = clips(seed=step)
            losses = recipe.step(source, spoil(target))
        return losses

    honest = last(lambda clip: clip._replace(labels=None))
    for spoiled in (last(lambda clip: clip), last(lambda clip: clip._replace(weights=torch.zeros(2, 2, *SIZE)))):
        for key, value in honest.items():
            assert torch.equal(value, spoiled[key]), key


@pytest.mark.parametrize("name", RECIPES)
def test_one_seed_gives_one_result_and_another_another(name):
    runs = [train(make(name, seed=seed), 4)[0]["total"] for seed in (1, 1, 2)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize("name", RECIPES)
def test_a_restored_recipe_goes_on_as_if_nothing_had_happened(name):
    whole = make(name)
    train(whole, 5)
    before = make(name)
    _, optimizer = train(before, 3)
    state = copy.deepcopy((before.state_dict(), optimizer.state_dict()))
    after = make(name, seed=7)  # another seed: everything must come from the state
    optimizer = torch.optim.SGD(after.model.parameters(), lr=0.05, momentum=0.9)
    after.load_state_dict(state[0])
    optimizer.load_state_dict(state[1])
    train(after, 2, first=3, optimizer=optimizer)
    for (key, a), b in zip(whole.state_dict().items(), after.state_dict().values(), strict=True):
        assert a is b is None or torch.equal(a, b), key


@pytest.mark.parametrize("name", ["dacs", "tps", "dastc", "released"])
def test_a_video_model_can_be_adapted(name):
    torch.manual_seed(0)
    recipe_class, arguments = RECIPES[name]
    taps = {key: f"image_model.{value}" for key, value in arguments.items() if key in ("features", "shallow")}
    model = VideoSegmenter(TinySegmenter(K, width=16), K)
    losses, _ = train(recipe_class(model, K, **{**arguments, **taps}), 3)
    assert losses["total"].isfinite()
    assert model.fusion.mix.weight.grad.abs().sum() > 0


def test_switches_and_arrangement_have_the_same_parts():
    assert tuple(Switches.__annotations__) == Arrangement._fields


def test_a_switch_differs_from_its_arrangement_in_that_part_alone():
    recipe = make("dastc", memory=False)
    assert recipe.parts == ARRANGEMENTS["exchange"]._replace(
        memory=False, warmup=0, class_prior_grid=(1, 1), match_histograms=False, align="infonce", both_frames=True
    )
    assert make("released", bank=False).parts == ARRANGEMENTS["released"]._replace(bank=False)


@pytest.mark.parametrize(
    "switch",
    [
        {"source_context": False},
        {"clean_source": False},
        {"clean_target": True},
        {"complementary": False},
        {"masked_target": 0.5},
        {"target_weight": 0.3},
        {"rare_probability": 1.0, "rare_classes": (0, 1, 2)},
        {"bank": True, "rare_classes": (2,)},
        {"cross_frame": "none"},
        {"cross_frame": "warped"},
        {"class_prior": 0.0},
        {"both_frames": False},
        {"temporal": False},
        {"align": "none"},
        {"align": "cdd"},
        {"align": "margin"},
        {"align": "mmd"},
        {"align": "pixel"},
        {"align": "pixel", "memory": False},
        {"class_prior_grid": (2, 2), "class_prior_views": (1.0, 0.0)},
        {"warmup": 2},
        {"complementary": False, "context_consistency": 1.0},
        {"align_weight": 1.0},
        {"align_ramp": 3},
        {"align_context": "in_source"},
        {"align_context": "in_target"},
        {"align_context": "clean", "clean_target": True},
        {"memory": False},
        {"match_histograms": True},
        {"teacher": "student"},
        {"teacher": "frozen"},
        {"decay": 0.5},
        {"weighting": "confidence"},
        {"weighting": "none"},
        {"threshold": 0.3},
        {"fusion": "shared", "clean_source": True, "clean_target": True},
        {"fusion": "none", "clean_source": True, "clean_target": True},
    ],
    ids=str,
)
def test_every_switch_of_the_default_matters(switch):
    plain, _ = train(make("dastc"), 4)
    other, _ = train(make("dastc", **switch), 4)
    assert other["total"].isfinite()
    assert not torch.equal(plain["total"], other["total"])


def test_labels_that_disagree_between_frames_can_be_left_out():
    # weights by share look at confident pixels alone, and an untrained net has none
    one, other = (train(make("dastc", weighting="confidence", cross_frame=x), 4)[0] for x in ("averaged", "agreeing"))
    assert not torch.equal(one["total"], other["total"])


@pytest.mark.parametrize(
    "switch",
    [
        {"target_patches": False},
        {"feature_fusion": 0.0},
        {"feature_fusion_both": True},
        {"bank": False},
        {"temporal": False},
    ],
    ids=str,
)
def test_every_switch_of_the_released_arrangement_matters(switch):
    def last(**more):
        # an untrained net is never sure: patches of the target need a threshold that it passes
        return train(make("released", threshold=0.2, both_frames=True, **more), 4)[0]["total"]

    assert not torch.equal(last(), last(**switch))


@pytest.mark.parametrize("name", ["dastc", "released"])
def test_the_warm_up_trains_on_the_clean_source_alone(name):
    recipe, (source, target) = make(name, augment=same, match_histograms=False, warmup=2), clips()
    asked = spied(recipe.teacher)
    first = recipe.step(source, target)
    assert set(first) == {"source", "total"}
    torch.testing.assert_close(first["total"], loss_of(recipe, source if recipe.parts.both_frames else source.last()))
    recipe.step(source, target)
    assert not asked  # no label of the target was made
    assert recipe.teacher.updates == 2
    assert (recipe.class_prior.shown.sum() > 0) == (recipe.parts.class_prior > 0)
    assert "in_target" in recipe.step(source, target) | recipe.step(source, target)
    assert asked


@pytest.mark.parametrize(("grid", "switch"), [((3, 1), {}), ((1, 1), {"histogram_grid": (1, 1)})])
def test_the_source_gets_the_histograms_of_the_target_window_by_window(grid, switch):
    recipe, (source, target) = make("dastc", augment=same, match_histograms=True, warmup=1, **switch), clips()
    matched = source._replace(frames=match_histograms(source.frames, target.frames, grid=grid))
    torch.testing.assert_close(recipe.step(source, target)["total"], loss_of(recipe, matched))


def test_a_recipe_restored_in_the_warm_up_still_has_the_rest_of_it():
    before, after = make("dastc", warmup=2), make("dastc", warmup=2)
    train(before, 1)
    after.load_state_dict(before.state_dict())
    assert "in_target" not in after.step(*clips())
    assert "in_target" in after.step(*clips())


def test_the_first_step_of_shared_fusion_has_no_patches_yet():
    recipe = make("released")
    assert set(recipe.step(*clips(seed=0))) == {"source", "target", "align", "total"}
    assert set(recipe.step(*clips(seed=1))) == {"source", "target", "in_source", "in_target", "align", "total"}


def spied(module):
    """Note what a module is called with and what it returns."""
    calls, forward = [], module.forward

    def noted(*args, **more):
        calls.append((args, more, forward(*args, **more)))
        return calls[-1][2]

    module.forward = noted
    return calls


def test_both_domains_are_aligned_over_both_contexts():
    recipe = make("dastc")
    calls, fused = spied(recipe.aggregator), spied(recipe.fusion)
    recipe.step(*clips())
    of_source, of_target = (labels != 255 for (_, labels), _, _ in calls)
    assert torch.equal(of_source, ~of_target)
    # the batch holds the source context first, then the target context: in each both domains have pixels
    for half in (slice(0, 2), slice(2, 4)):
        assert of_source[half].any()
        assert of_target[half].any()
    # complementary clips: each place is source in exactly one of the contexts, and what is pasted is the other's
    assert torch.equal(of_source[:2], ~fused[0][2][0].mask)
    assert torch.equal(of_source[2:], fused[0][2][1].mask)


def test_patches_from_the_bank_are_of_the_source_in_both_contexts():
    recipe = make("dastc", bank=True, rare_classes=(2,))
    aggregated, fused = spied(recipe.aggregator), spied(recipe.fusion)
    recipe.step(*clips(seed=0))  # fills the bank, whose patches stand still where they are pasted
    static = torch.cat([context.static for context in fused[0][2]])
    of_source = aggregated[0][0][1] != 255
    assert static[:2].any()
    assert static[2:].any()
    assert of_source[static].all()


def test_patches_of_the_target_keep_the_confidence_of_their_labels():
    recipe = make("released")  # whose losses weigh all labels alike
    fused = spied(recipe.fusion)
    for seed in range(2):
        recipe.step(*clips(seed=seed))
    weights = fused[0][0][3].weights
    assert (weights < 0.9).all()  # an untrained teacher is sure of nothing


def test_the_teacher_is_kept_to_how_often_the_source_shows_each_class():
    recipe, (source, target) = make("dastc", class_prior=0.7), clips()
    fused = spied(recipe.fusion)
    recipe.step(source, target)
    shown = torch.bincount(source.labels.clamp(min=0)[source.labels < K], minlength=K).float()
    torch.testing.assert_close(recipe.class_prior.shown.flatten(), shown / shown.sum())
    assert recipe.class_prior.strength == 0.7
    expected = labelled_by(recipe.teacher, target, cross_frame="averaged", adjust=recipe.class_prior.eval())
    assert torch.equal(fused[0][0][1].labels, expected.labels)
    assert not torch.equal(expected.labels, labelled_by(recipe.teacher, target, cross_frame="averaged").labels)


def test_aggregation_sees_the_weights_and_the_flow_of_the_fused_clips():
    recipe = make("dastc", weighting="confidence")
    aggregated, fused = spied(recipe.aggregator), spied(recipe.fusion)
    recipe.step(*clips())
    for _, more, _ in aggregated:
        for name in ("weights", "flow"):
            torch.testing.assert_close(more[name], torch.cat([getattr(one.clip, name) for one in fused[0][2]]))


def test_each_domain_is_pulled_toward_the_memory_of_the_other():
    recipe = make("dastc")
    aggregated, aligned = spied(recipe.aggregator), spied(recipe.alignment)
    remembered = spied(recipe.source_memory), spied(recipe.target_memory)
    train(recipe, 2)
    (source, target), (of_source, of_target) = (
        [call[2] for call in aggregated[2:]],
        [calls[1][2] for calls in remembered],
    )
    assert not torch.equal(of_source.values, source.values)
    found = [call[0] for call in aligned[2:]]
    for pair, want in zip(found, [(of_source, target), (source, of_target)], strict=True):
        for one, other in zip(pair, want, strict=True):
            assert one is other


def test_pixels_are_aligned_with_the_memory_of_the_other_domain():
    recipe = make("dastc", align="pixel", weighting="confidence")
    fused, aligned = spied(recipe.fusion), spied(recipe.alignment)
    remembered = [spied(memory) for memory in (recipe.source_memory, recipe.target_memory)]
    recipe.step(*clips())
    from_source = torch.cat((~fused[0][2][0].mask, fused[0][2][1].mask)).flatten(0, 1)
    labels, weights = (
        torch.cat([getattr(one.clip, name) for one in fused[0][2]]).flatten(0, 1) for name in ("labels", "weights")
    )
    for call, mine, calls in zip(aligned, (~from_source, from_source), remembered, strict=True):
        (_, found, centroids), more, _ = call
        assert torch.equal(found, labels.where(mine, 255))
        assert centroids is calls[0][2]
        assert torch.equal(more["weights"], weights)


@pytest.mark.parametrize("bank", [False, True])
def test_contexts_are_compared_where_both_show_the_same_pixels(bank):
    recipe = make("dastc", complementary=False, context_consistency=0.5, bank=bank, rare_classes=(2,), augment=same)
    fused, compared = spied(recipe.fusion), spied(recipe.consistency)
    losses = recipe.step(*clips())
    (first, second, mask), _, value = compared[0]
    one, other = (context.clip.frames for context in fused[0][2])
    alike = (one == other).all(dim=2).flatten(0, 1)
    assert torch.equal(mask, alike)
    assert 0 < alike.float().mean() < 1
    assert not torch.equal(first, second)
    torch.testing.assert_close(losses["consistency"], 0.5 * value)


def test_shared_patches_are_compared_in_the_frames_that_are_trained_on():
    recipe = make("released", context_consistency=1.0)
    fused, compared = spied(recipe.fusion), spied(recipe.consistency)
    train(recipe, 2)
    assert torch.equal(compared[0][0][2], fused[0][2][1].mask[:, -1])


def test_shallow_features_are_fused_where_patches_of_the_current_frame_lie():
    recipe = make("released")
    mixed, fused = spied(recipe.feature_fusion), spied(recipe.fusion)
    train(recipe, 2)
    mask = fused[0][2][1].mask
    assert not torch.equal(mask[:, 0], mask[:, 1])
    assert torch.equal(mixed[0][0][2], mask[:, -1])


@pytest.mark.parametrize("video", [False, True], ids=["image model", "video model"])
def test_shallow_features_are_fused_both_ways_from_what_neither_has_changed(video):
    torch.manual_seed(0)
    model, prefix = TinySegmenter(K, width=16), "image_model." if video else ""
    taps = {"features": f"{prefix}neck", "shallow": f"{prefix}stem"}
    recipe = DASTC(VideoSegmenter(model, K) if video else model, K, **{**RELEASED, **taps}, feature_fusion_both=True)
    mixed, fused, stems = spied(recipe.feature_fusion), spied(recipe.fusion), spied(model.stem)
    losses = [recipe.step(*clips(seed=step)) for step in range(2)]
    (there, back), mask = [call[0] for call in mixed], fused[0][2][1].mask
    assert torch.equal(there[0], back[1])
    assert torch.equal(there[1], back[0])
    unchanged = stems[-1][2].chunk(2)
    assert torch.equal(there[0], unchanged[0])
    assert torch.equal(back[0], unchanged[1])
    for call in (there, back):
        assert torch.equal(call[2], mask.flatten(0, 1) if video else mask[:, -1])
    assert set(losses[1]) == {"source", "target", "in_source", "in_target", "align", "total"}


def test_one_pass_of_both_contexts_is_two_passes_where_nothing_is_blended():
    one, other = make("released", augment=same), make("released", augment=same, feature_fusion_both=True)
    for recipe in (one, other):
        recipe.feature_fusion.alpha = 0.0
    for step in range(2):
        found, wanted = (recipe.step(*clips(seed=step)) for recipe in (other, one))
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value)


@pytest.mark.parametrize(
    ("context", "read"),
    [("fused", [0, 1]), ("in_source", [0]), ("in_target", [1])],
)
def test_classes_are_averaged_over_the_contexts_that_were_asked_for(context, read):
    recipe = make("dastc", align_context=context)
    aggregated, fused = spied(recipe.aggregator), spied(recipe.fusion)
    recipe.step(*clips())
    of_source, of_target = (call[0][1] for call in aggregated)
    chosen = [fused[0][2][i] for i in read]
    labels = torch.cat([one.clip.labels for one in chosen])
    from_source = torch.cat([fused[0][2][i].mask if i else ~fused[0][2][i].mask for i in read])
    assert torch.equal(of_source, labels.where(from_source, 255))
    assert torch.equal(of_target, labels.where(~from_source, 255))


def test_clean_clips_can_be_averaged_over():
    recipe = make("dastc", align_context="clean", clean_target=True)
    aggregated, (source, target) = spied(recipe.aggregator), clips()
    recipe.step(source, target)
    of_source, of_target = (call[0][1] for call in aggregated)
    batch = source.labels.shape[0]
    assert torch.equal(of_source[:batch], source.labels)
    assert (of_source[batch:] == 255).all()
    assert (of_target[:batch] == 255).all()


def test_the_weight_of_alignment_is_reached_in_equal_parts_after_the_warm_up():
    recipe = make("dastc", warmup=1, align_weight=0.8, align_ramp=4)
    aligned = spied(recipe.alignment)
    recipe.step(*clips())
    shares = []
    for step in range(1, 6):
        aligned.clear()
        losses = recipe.step(*clips(seed=step))
        whole = torch.stack([call[2] for call in aligned]).mean()
        shares.append(float((losses["align"] / whole).detach()))
    assert shares == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8], rel=1e-4)


def test_the_released_arrangement_weighs_all_labels_alike():
    recipe = make("released")
    fused = spied(recipe.fusion)
    train(recipe, 2)
    assert (fused[0][0][1].weights[:, 0] == 1).all()  # the first frame has no place without a label


def test_shared_patches_of_another_size_are_left_out():
    recipe = make("released")
    train(recipe, 2)
    assert "in_source" not in recipe.step(*clips(batch=1))
    assert "in_source" in recipe.step(*clips(batch=1))


def test_a_template_is_not_changed_with_the_clip_it_was_made_of():
    template, clip = ClipTemplate(), clips()[0]
    template.swap(clip)
    before = clip.frames.clone()
    clip.frames.zero_()
    assert torch.equal(template.swap(clip).frames, before)


def same(frames):
    return frames


def loss_of(recipe, clip):
    return segmentation_loss(segment(recipe.model, clip), clip)


def test_the_oracle_learns_from_both_domains():
    recipe, (source, target) = make("oracle", augment=same), clips()
    losses = recipe.step(source, target)
    torch.testing.assert_close(losses["source"], loss_of(recipe, source))
    torch.testing.assert_close(losses["target"], loss_of(recipe, target))
    torch.testing.assert_close(losses["total"], losses["source"] + losses["target"])


def test_dacs_learns_from_the_source_and_from_the_target_with_source_patches():
    recipe, (source, target) = make("dacs", augment=same, threshold=0.21), clips()
    fused = spied(recipe.fusion)
    losses = recipe.step(source, target)
    labelled = reweighted(labelled_by(recipe.teacher, target), "share", threshold=0.21)
    assert (labelled.weights > 0).any()
    for name in ("frames", "labels", "weights"):
        torch.testing.assert_close(getattr(fused[0][0][1], name), getattr(labelled, name))
    torch.testing.assert_close(losses["source"], loss_of(recipe, source))
    torch.testing.assert_close(losses["mixed"], loss_of(recipe, fused[0][2][1].clip))
    torch.testing.assert_close(losses["total"], losses["source"] + losses["mixed"])


@pytest.mark.parametrize("cross_frame", ["none", "warped", "averaged"])
def test_tps_learns_from_labels_of_the_frame_before(cross_frame):
    # an untrained net is never sure: its labels count from a low threshold on only
    given = {"augment": same, "cross_frame": cross_frame, "threshold": 0.21}
    recipe, (source, target) = make("tps", target_weight=0.25, **given), clips()
    losses = recipe.step(source, target)
    labelled = reweighted(labelled_by(recipe.teacher, target, cross_frame=cross_frame), "share", threshold=0.21)
    assert losses["target"] > 0
    torch.testing.assert_close(losses["target"], loss_of(recipe, labelled))
    torch.testing.assert_close(losses["total"], losses["source"] + 0.25 * losses["target"])


@pytest.mark.parametrize("name", ["dacs", "tps", "dastc", "released"])
def test_the_teacher_follows_once_a_step(name):
    recipe = make(name)
    train(recipe, 3)
    assert recipe.teacher.updates == 3


@pytest.mark.parametrize("name", RECIPES)
def test_the_student_sees_augmented_frames_alone(name):
    recipe = make(name, augment=lambda frames: torch.full_like(frames, 0.5))
    seen = spied(recipe.model)
    train(recipe, 2)
    assert seen
    assert all((images == 0.5).all() for (images, *_), _, _ in seen)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"memry": False}, TypeError, "DASTC: `memry` is no part of the method. Near: memory"),
        ({"arrangement": "relased"}, ValueError, "`arrangement` must be one of 'exchange', 'released'; got 'relased'"),
        (
            {"align": "info"},
            ValueError,
            "`align` must be one of 'infonce', 'cdd', 'mmd', 'margin', 'pixel', 'none'; got 'info'",
        ),
        ({"features": "nek"}, ValueError, "`name` must be a submodule of TinySegmenter; got 'nek'. Near: 'neck'"),
        ({"feature_fusion": 0.3}, ValueError, "`feature_fusion` needs fusion='shared'"),
        ({"bank": True}, ValueError, "`bank` and `rare_probability` need `rare_classes`"),
        (
            {**RELEASED, "source_context": False},
            ValueError,
            "`feature_fusion` needs `source_context`, whose features it takes",
        ),
        ({"target_patches": True}, ValueError, "`target_patches` needs fusion='shared'"),
        ({"fusion": "none"}, ValueError, "fusion='none' needs `clean_source` and `clean_target`"),
        ({"arrangement": "released", "rare_classes": (1,)}, ValueError, "needs `shallow`, the name of a submodule"),
        ({"threshold": 2.0}, ValueError, r"`threshold` must lie in [0, 1]; got 2.0"),
        ({"decay": -1.0}, ValueError, r"`decay` must lie in [0, 1]; got -1.0"),
        ({"context_consistency": 1.0}, ValueError, "`context_consistency` needs `source_context`, and fusion='shared'"),
        (
            {"class_prior_grid": (8, 0)},
            ValueError,
            "`class_prior_grid` must be (rows, columns), two whole numbers of at least 1; got (8, 0)",
        ),
        ({"class_prior_views": (0.8, 0.0)}, ValueError, "`class_prior_views` must be a zoom of at least 1 and a shift"),
        ({"class_prior_views": 1.5}, ValueError, "shift in [0, 1), finite both; got 1.5"),
        (
            {"histogram_grid": (3,)},
            ValueError,
            "`histogram_grid` must be (rows, columns), two whole numbers of at least 1; got (3,)",
        ),
        ({"warmup": -1}, ValueError, "`warmup` must be at least 0; got -1"),
        (
            {"align_context": "clean"},
            ValueError,
            "`align_context='clean'` needs `clean_source` and `clean_target`, to find both domains; got",
        ),
        (
            {"align_context": "in_source", "source_context": False},
            ValueError,
            "`align_context='in_source'` needs `source_context`; got fusion='exchange'",
        ),
        (
            {"align_context": "in_target", "fusion": "shared", "clean_target": True},
            ValueError,
            "`align_context` of one fused clip needs fusion='exchange': else classes are averaged over the clean "
            "clips; got fusion='shared', align_context='in_target'",
        ),
        (
            {"align_context": "source"},
            ValueError,
            "`align_context` must be one of 'fused', 'in_source', 'in_target', 'clean'; got 'source'",
        ),
        ({"align_ramp": -1}, ValueError, "`align_ramp` must be at least 0; got -1"),
        ({"feature_fusion_both": True}, ValueError, "`feature_fusion_both` needs `feature_fusion` above 0; got"),
        ({"align_weight": -0.1}, ValueError, "`align_weight` must be at least 0; got -0.1"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_arguments_are_named(arguments, kind, message):
    with pytest.raises(kind) as error:
        DASTC(TinySegmenter(K, width=16), K, **arguments)
    assert message in str(error.value)


@pytest.mark.parametrize("name", RECIPES)
def test_bad_clips_are_named(name):
    recipe, (source, target) = make(name), clips()
    with pytest.raises(ValueError, match=r"`source\.labels` must be given; got None"):
        recipe.step(source._replace(labels=None), target)
    with pytest.raises(ValueError, match=r"`source\.flow` must have shape \(B=2, T-1=1, 2, H=16, W=24\); got"):
        recipe.step(source._replace(flow=torch.zeros(2, 2, 2, *SIZE)), target)
    with pytest.raises(TypeError, match=r"`source` must be a dastc\.Clip; got Tensor"):
        recipe.step(source.frames, target)
    if name not in ("source_only", "oracle"):
        with pytest.raises(ValueError, match=r"`source\.frames` must have shape \(B=2, T=2, 3, H=16, W=24\); got"):
            recipe.step(clips(batch=3)[0], target)


@pytest.mark.parametrize("name", ["dacs", "dastc"])
def test_nothing_to_learn_from_is_zero_and_not_nan(name):
    recipe, (source, target) = make(name), clips()
    with torch.no_grad():
        recipe.model.head.weight.zero_()
        recipe.model.head.bias.zero_()  # no confidence anywhere: no target pixel counts
    losses = recipe.step(source._replace(labels=torch.full_like(source.labels, 255)), target)
    assert losses["total"] == 0
    losses["total"].backward()
    assert all(p.grad is not None and (p.grad == 0).all() for p in recipe.model.parameters())


def test_a_model_that_returns_no_logits_is_named():
    class Odd(nn.Module):
        def forward(self, x):
            return [x]

    with pytest.raises(TypeError, match=r"logits_of: the model must return a tensor, .*; got list"):
        SourceOnly(Odd(), K).step(clips()[0])
