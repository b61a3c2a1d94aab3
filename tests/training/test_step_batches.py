"""Batches as a function of the step: of the clips, and of what reading them draws."""

import pytest
import torch

import dastc.training.step_batches as module
from dastc import Clip
from dastc.data import RareClassSampler
from dastc.training import StepBatches
from dastc.training.step_batches import in_order


class Windows:
    """Clips whose reading draws, as a random window does."""

    def __len__(self):
        return 5

    def __getitem__(self, index):
        frames = torch.full((1, 3, 1, 2), float(index)) + torch.rand(1)
        return Clip(frames, torch.full((1, 1, 2), index))


def of_rank(monkeypatch, rank, world, *args, **more):
    monkeypatch.setattr(module, "rank", lambda: rank)
    monkeypatch.setattr(module, "world", lambda: world)
    return StepBatches(Windows(), *args, **more)


def test_a_batch_is_the_same_whenever_and_wherever_it_is_read():
    batches = StepBatches(Windows(), 3, seed=4, stream=1)
    wanted = [batches[step] for step in range(6)]
    torch.manual_seed(99)
    assert all(torch.equal(batches[step].frames, wanted[step].frames) for step in (5, 2))
    later = [clip.frames for clip in batches.loader(range(2, 6))]
    assert all(torch.equal(a, b.frames) for a, b in zip(later, wanted[2:], strict=True))
    working = StepBatches(Windows(), 3, seed=4, stream=1, workers=2)
    assert all(torch.equal(a.frames, b.frames) for a, b in zip(working.loader(range(6)), wanted, strict=True))


def test_reading_leaves_the_generator_of_dropout_alone():
    torch.manual_seed(0)
    wanted = torch.rand(3)
    torch.manual_seed(0)
    list(StepBatches(Windows(), 2).loader(range(3)))
    list(in_order([Windows()[0]] * 2, 2))
    torch.manual_seed(0)
    batches = StepBatches(Windows(), 2)
    for _ in batches.loader(range(2)):
        pass
    assert torch.equal(torch.rand(3), wanted)


def test_draws_of_steps_seeds_streams_and_places_differ():
    batches = [StepBatches(Windows(), 3, seed=seed, stream=stream) for seed in range(2) for stream in range(3)]
    drawn = [x.item() % 1 for one in batches for step in range(3) for x in one[step].frames[:, 0, 0, 0, 0]]
    assert len(set(drawn)) == len(drawn) == 2 * 3 * 3 * 3


@pytest.mark.parametrize("rare", [None, RareClassSampler(torch.eye(5, dtype=torch.int64), temperature=0.5)])
def test_ranks_together_read_the_whole_batch(monkeypatch, rare):
    parts = [of_rank(monkeypatch, rank, 3, 2, rare=rare)[7] for rank in range(3)]
    whole = of_rank(monkeypatch, 0, 1, 6, rare=rare)[7]
    for name in ("frames", "labels"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))


def test_labels_are_there_unless_they_must_not_be_seen():
    assert StepBatches(Windows(), 2)[0].labels.shape == (2, 1, 1, 2)
    assert StepBatches(Windows(), 2, labels=False)[0].labels is None


def test_in_order_gives_each_clip_once_or_some_of_them_spread_evenly():
    clips = [Clip(torch.full((1, 3, 1, 1), float(n))) for n in range(9)]
    assert torch.cat([batch.frames for batch in in_order(clips, 4)])[:, 0, 0, 0, 0].tolist() == list(range(9))
    assert [len(batch.frames) for batch in in_order(clips, 4)] == [4, 4, 1]
    assert torch.cat([batch.frames for batch in in_order(clips, 2, most=3)])[:, 0, 0, 0, 0].tolist() == [0, 3, 6]
    assert sum(len(batch.frames) for batch in in_order(clips, 2, most=99)) == 9
