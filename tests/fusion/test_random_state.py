import copy
import pickle

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from dastc import Clip, stack_clips
from dastc._core.random_state import RandomState
from dastc.augment import OnFrames, PhotometricJitter, RandomCrop, RandomFlip, RandomScale


def _draw(state, count=3):
    return torch.rand(count, generator=state.generator)


def test_a_seed_starts_the_sequence():
    expected = torch.rand(3, generator=torch.Generator().manual_seed(7))
    assert torch.equal(_draw(RandomState(7)), expected)
    assert torch.equal(_draw(RandomState()), torch.rand(3, generator=torch.Generator().manual_seed(0)))
    assert not torch.equal(_draw(RandomState(8)), expected)


def test_it_does_not_touch_the_global_generator():
    before = torch.get_rng_state()
    _draw(RandomState(3))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_sequence_goes_on_after_a_round_trip(tmp_path):
    module = nn.ModuleDict({"random": RandomState(1)})
    _draw(module["random"], 5)
    torch.save(module.state_dict(), tmp_path / "state.pt")
    expected = _draw(module["random"], 4)
    other = nn.ModuleDict({"random": RandomState(2)})
    other.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert torch.equal(_draw(other["random"], 4), expected)


def test_the_saved_state_does_not_move_on():
    state = RandomState(1)
    saved = state.state_dict()
    expected = _draw(state)
    state.load_state_dict(saved)
    assert torch.equal(_draw(state), expected)


def test_a_copy_goes_its_own_way_from_here():
    state = RandomState(1)
    _draw(state)
    other = copy.deepcopy(state)
    expected = _draw(state)
    assert torch.equal(_draw(other), expected)
    assert other.generator is not state.generator


def test_a_copy_of_two_owners_of_one_state_shares_one_copy():
    state = RandomState(1)
    pair = copy.deepcopy([state, state])
    assert pair[0] is pair[1]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_to_leaves_it_alone(dtype):
    state = RandomState(1).to(dtype)
    assert torch.equal(_draw(state), _draw(RandomState(1)))
    assert state.state_dict()["_extra_state"].dtype == torch.uint8


def test_a_pickled_state_goes_on_where_it_was_and_names_no_memory():
    state = RandomState(3)
    _draw(state)
    content = pickle.dumps(state)
    assert b"rebuild" not in content  # of a tensor or a generator, which a spawned process would look for in vain
    other = pickle.loads(content)
    expected = _draw(state)
    assert torch.equal(_draw(other), expected)
    assert other.generator.initial_seed() == 3


@pytest.mark.parametrize("context", ["spawn", "forkserver"])
def test_random_transforms_work_in_processes_that_share_no_memory(context):
    transform = torch.nn.Sequential(
        RandomScale(0.5, 1.5), RandomCrop((4, 4)), RandomFlip(), OnFrames(PhotometricJitter())
    )
    loader = DataLoader(
        Changed(transform), batch_size=2, num_workers=1, collate_fn=stack_clips, multiprocessing_context=context
    )
    clips = list(loader)
    assert [tuple(clip.frames.shape) for clip in clips] == [(2, 2, 3, 4, 4)] * 2
    assert not torch.equal(clips[0].frames, clips[1].frames)


class Changed(Dataset):
    """Four clips of one picture, changed at random."""

    def __init__(self, transform):
        self.transform = transform

    def __len__(self):
        return 4

    def __getitem__(self, index):
        ramp = torch.linspace(0, 1, 2 * 3 * 8 * 9).view(2, 3, 8, 9)
        return self.transform(Clip(ramp, torch.zeros(2, 8, 9, dtype=torch.int64)))
