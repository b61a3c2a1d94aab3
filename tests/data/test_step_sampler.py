"""Batches as a function of the step alone."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dastc.data import RareClassSampler
from dastc.data.step_sampler import StepSampler

RARE = RareClassSampler(torch.tensor([[5, 0], [4, 1], [0, 7], [3, 3], [9, 0]]), temperature=0.5)


@given(st.integers(0, 20), st.integers(0, 1000), st.integers(0, 7))
def test_a_run_that_goes_on_sees_what_it_would_have_seen(done, seed, stream):
    whole = list(StepSampler(1000, 3, range(20), seed=seed, stream=stream))
    assert list(StepSampler(1000, 3, range(done, 20), seed=seed, stream=stream)) == whole[done:]
    assert all(len(batch) == 3 and all(0 <= index < 1000 for index in batch) for batch in whole)


@pytest.mark.parametrize("rare", [None, RARE])
@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 30))
def test_ranks_together_see_what_one_process_sees(rare, world, batch, step):
    parts = [StepSampler(5, batch, range(40), rank=rank, world=world, rare=rare).draw(step) for rank in range(world)]
    whole = StepSampler(5, batch * world, range(40), rare=rare)
    assert [index for part in parts for index in part] == whole.draw(step) == list(whole)[step]


@pytest.mark.parametrize("domain", [0, 1])
def test_committed_results_rest_on_these_draws(domain):
    seed, step = 21, 345
    generator = torch.Generator().manual_seed((seed * 1_000_003 + step) * 2 + domain)
    wanted = torch.randint(300, (4,), generator=generator).tolist()
    assert StepSampler(300, 4, range(600), seed=seed, stream=domain).draw(step) == wanted
    generator.manual_seed((seed * 1_000_003 + step) * 2 + domain)
    wanted = RARE.draw(4, generator).tolist()
    assert StepSampler(5, 4, range(600), seed=seed, stream=domain, rare=RARE).draw(step) == wanted


def test_seeds_streams_and_steps_differ():
    draws = [
        tuple(batch)
        for seed in range(3)
        for stream in range(5)
        for batch in StepSampler(10_000, 4, range(20), seed=seed, stream=stream)
    ]
    assert len(set(draws)) == len(draws) == 300


def test_every_clip_comes_in_turn():
    drawn = [index for batch in StepSampler(5, 4, range(100)) for index in batch]
    counts = [drawn.count(index) for index in range(5)]
    assert min(counts) > 50


def test_the_length_is_the_number_of_steps():
    assert len(StepSampler(5, 4, range(3, 10))) == 7


@pytest.mark.parametrize("name", ["length", "batch", "stream", "world"])
def test_numbers_out_of_range_are_refused(name):
    given = {"length": 5, "batch": 2, "stream": 0, "world": 1, name: -1}
    with pytest.raises(ValueError, match=f"StepSampler: `{name}` must be at least [01]; got -1"):
        StepSampler(given["length"], given["batch"], range(3), stream=given["stream"], world=given["world"])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rank": 2, "world": 2}, r"`rank` must lie in \[0, world=2\); got 2"),
        ({"rank": -1}, r"`rank` must lie in \[0, world=1\); got -1"),
        ({"rare": RARE}, r"`rare` must count 6 clips; got 5"),
    ],
)
def test_what_does_not_fit_is_refused(changed, message):
    with pytest.raises(ValueError, match=f"StepSampler: {message}"):
        StepSampler(6, 2, range(3), **changed)
