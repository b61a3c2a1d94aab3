import copy

import pytest
import torch
from torch import nn

from dastc._core.random_state import RandomState


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
