import copy

import pytest
import torch
from torch import nn

from dastc import Clip
from dastc.adapt import adapt_statistics
from dastc.models import TinySegmenter, VideoSegmenter


class Normalised(nn.Module):
    def __init__(self, **more):
        super().__init__()
        self.norm, self.drop = nn.BatchNorm2d(3, **more), nn.Dropout(0.9)

    def forward(self, images):
        return self.drop(self.norm(images))


def batches(count=3, size=2, shift=5.0):
    rng = torch.Generator().manual_seed(0)
    return [Clip(torch.randn(size, 2, 3, 4, 6, generator=rng) * 3 + shift) for _ in range(count)]


def test_statistics_become_those_of_the_new_domain():
    model, clips = Normalised(momentum=0.3), batches()
    model(torch.full((2, 3, 4, 6), -100.0))  # what was counted before must be forgotten
    assert adapt_statistics(model, iter(clips)) == 1
    pixels = [clip.frames.movedim(2, 0).flatten(1) for clip in clips]
    torch.testing.assert_close(model.norm.running_mean, torch.stack([x.mean(1) for x in pixels]).mean(0))
    torch.testing.assert_close(model.norm.running_var, torch.stack([x.var(1) for x in pixels]).mean(0))
    assert model.norm.momentum == 0.3


def test_nothing_else_changes():
    model = VideoSegmenter(TinySegmenter(3, width=16, norm="batch"), 3)
    model.train()
    model.image_model.stem.eval()  # frozen on purpose
    before = copy.deepcopy(model)
    assert adapt_statistics(model, batches()) == 11
    for (name, one), other in zip(model.state_dict().items(), before.state_dict().values(), strict=True):
        assert torch.equal(one, other) != ("running" in name or "num_batches" in name), name
    assert [m.training for m in model.modules()] == [m.training for m in before.modules()]


def test_dropout_is_off_and_modes_come_back_after_an_error():
    seen = []

    class Watched(Normalised):
        def forward(self, images):
            seen.append((self.norm.training, self.drop.training))
            if len(seen) == 2:
                raise KeyError("broken batch")
            return super().forward(images)

    model = Watched(momentum=0.2)
    with pytest.raises(KeyError):
        adapt_statistics(model, batches())
    assert seen[0] == (True, False)
    assert model.training
    assert model.drop.training
    assert model.norm.momentum == 0.2


@pytest.mark.parametrize("model", [TinySegmenter(3), Normalised(track_running_stats=False)], ids=["group", "untracked"])
def test_a_model_without_statistics_is_named(model):
    with pytest.raises(
        ValueError, match="adapt_statistics: `model` must have BatchNorm layers with running statistics"
    ):
        adapt_statistics(model, batches())


def test_batches_are_taken_one_at_a_time():
    model, seen = Normalised(), []

    def stream():
        for number, clip in enumerate(batches()):
            seen.append((number, int(model.norm.num_batches_tracked)))
            yield clip

    adapt_statistics(model, stream())
    assert seen == [(0, 0), (1, 1), (2, 2)]


def test_no_clip_is_an_error_and_leaves_the_statistics():
    model = Normalised()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="adapt_statistics: `clips` must hold at least one batch of clips; got none"):
        adapt_statistics(model, [])
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
