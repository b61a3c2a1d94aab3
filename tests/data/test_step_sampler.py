"""Batches told by the step alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dastc.data import StepSampler


@given(st.integers(0, 20), st.integers(0, 1000), st.integers(0, 7))
def test_a_run_that_goes_on_sees_what_it_would_have_seen(done, seed, stream):
    whole = list(StepSampler(1000, 3, range(20), seed=seed, stream=stream))
    assert list(StepSampler(1000, 3, range(done, 20), seed=seed, stream=stream)) == whole[done:]
    assert all(len(batch) == 3 and all(0 <= index < 1000 for index in batch) for batch in whole)


def test_seeds_streams_and_steps_differ():
    draws = [
        tuple(batch)
        for seed in range(3)
        for stream in range(3)
        for batch in StepSampler(10_000, 4, range(20), seed=seed, stream=stream)
    ]
    assert len(set(draws)) == len(draws) == 180


def test_every_clip_comes_in_turn():
    drawn = [index for batch in StepSampler(5, 4, range(100)) for index in batch]
    counts = [drawn.count(index) for index in range(5)]
    assert min(counts) > 50


def test_the_length_is_the_number_of_steps():
    assert len(StepSampler(5, 4, range(3, 10))) == 7


@pytest.mark.parametrize("name", ["length", "batch", "stream"])
def test_numbers_out_of_range_are_refused(name):
    given = {"length": 5, "batch": 2, "stream": 0, name: -1}
    with pytest.raises(ValueError, match=f"StepSampler: `{name}` must be at least [01]; got -1"):
        StepSampler(given["length"], given["batch"], range(3), stream=given["stream"])
