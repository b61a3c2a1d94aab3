"""The preset "paper" does what the abstract claims: space and time, shared patches, shallow features."""

import pytest
import torch
from at_hand import SIZE, K, clips, make, same, spied, train


@pytest.mark.parametrize("time", [2, 3])
def test_the_paper_averages_over_space_and_time(time):
    recipe = make("paper")
    shown = spied(recipe.terms[1].aggregator)
    fused = spied(recipe.views[1].fusion)
    train(recipe, 2, time=time)
    contexts = fused[0][2]
    for (features, labels), more, centroids in shown:
        assert features.shape[:2] == (4, time)  # both contexts of two clips, all frames
        assert more["logits"].shape[:3] == (4, time, K)
        assert labels.shape == (4, time, *SIZE)
        assert torch.equal(more["flow"], torch.cat([one.clip.flow for one in contexts]))
        assert more["flow"].shape[1] == time - 1
        assert torch.equal(more["weights"], torch.cat([one.clip.weights for one in contexts]))
        assert centroids.present.any()


def test_which_frame_is_surer_decides_what_the_paper_aligns():
    """Swap how sure the frames are, and nothing else: only weights over time can tell."""
    term = make("paper").terms[1]
    term.features = "neck"
    one = make("paper")
    seen = spied(one.terms[1])
    train(one, 2)
    passes = {name: x for name, x in seen[-1][0][0].items() if name.startswith("in_")}

    def aligned(sure, temporal=True):
        # labels as told, in both frames alike, so that nothing but the entropy differs between them
        term.aggregator.temporal &= temporal
        term.aggregator.agreement = term.aggregator.confidence = term.aggregator.persistence = False
        changed = {}
        for name, x in passes.items():
            logits = torch.zeros_like(x.logits)
            logits[:, sure] = 5 * torch.eye(K)[0].view(K, 1, 1)
            changed[name] = x._replace(logits=logits)
        return term(changed)["align"].detach()

    assert not torch.isclose(aligned(0), aligned(1))
    torch.testing.assert_close(aligned(0, temporal=False), aligned(1, temporal=False))
    assert passes["in_source"].logits.shape[1] == 2


@pytest.mark.parametrize("video", [False, True], ids=["image model", "video model"])
def test_the_paper_mixes_shallow_features_both_ways_from_what_neither_has_changed(video):
    recipe = make("paper", video=video)
    mixed, fused = spied(recipe.views[1].feature_fusion), spied(recipe.views[1].fusion)
    model = recipe.model.image_model if video else recipe.model
    stems = spied(model.stem)
    for step in range(2):
        losses = recipe(*clips(seed=step))
    (one, other), mask = (call[0] for call in mixed), fused[0][2][1].mask
    assert torch.equal(one[0], other[1])
    assert torch.equal(one[1], other[0])
    unchanged = stems[-1][2].chunk(2)
    assert torch.equal(one[0], unchanged[0])
    assert torch.equal(other[0], unchanged[1])
    for call in (one, other):
        assert torch.equal(call[2], mask.flatten(0, 1))
        assert call[2].any()
    assert list(losses) == ["source", "in_source", "in_target", "align", "total"]


def test_the_paper_shows_the_same_patches_in_both_contexts():
    recipe = make("paper", augment=same)
    fused = spied(recipe.views[1].fusion)
    for step in range(2):
        recipe(*clips(seed=step))
    first, second = fused[0][2]
    assert torch.equal(first.mask, second.mask)
    assert 0 < first.mask.float().mean() < 1
    there = first.mask.unsqueeze(2)
    assert torch.equal(first.clip.frames.where(there, 0), second.clip.frames.where(there, 0))
    before = fused[0][0][2], fused[0][0][3]
    torch.testing.assert_close(before[0].frames, clips(seed=0)[0].frames)
    torch.testing.assert_close(before[1].frames, clips(seed=0)[1].frames)
