import warnings

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from dastc import Clip, stack_clips
from dastc.data import SkipBroken


class Numbers(Dataset):
    """Clips that hold their number; some cannot be read."""

    def __init__(self, length, broken, error=RuntimeError):
        self.length, self.broken, self.error = length, broken, error

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if index in self.broken:
            raise self.error(f"{index}.png cannot be read")
        return Clip(torch.full((1, 3, 1, 1), float(index)))


def _number(clip):
    return int(clip.frames[0, 0, 0, 0])


@pytest.mark.parametrize("error", [OSError, RuntimeError, ValueError])
def test_the_next_clip_is_taken_and_each_is_told_once(error):
    data = SkipBroken(Numbers(5, {1, 2, 4}, error))
    assert len(data) == 5
    with pytest.warns(UserWarning, match="left out") as caught:
        assert [_number(data[i]) for i in (0, 1, 2, 3, 4, -1, -4)] == [0, 3, 3, 3, 0, 0, 3]
    assert [str(one.message) for one in caught] == [
        f"SkipBroken: clip {i} is left out. {i}.png cannot be read" for i in (1, 2, 4)
    ]
    assert data.skipped == {1: 2, 2: 3, 4: 2}


def test_workers_count_into_one_place():
    data = SkipBroken(Numbers(6, {2, 5}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the workers inherit it
        numbers = [_number(clip) for _ in range(2) for batch in DataLoader(data, collate_fn=stack_clips, num_workers=2)
                   for clip in [Clip(batch.frames[0])]]  # fmt: skip
    assert numbers == [0, 1, 3, 3, 4, 0] * 2
    assert data.skipped == {2: 2, 5: 2}


def test_nothing_to_read_is_an_error():
    data = SkipBroken(Numbers(2, {0, 1}))
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(RuntimeError, match=r"^SkipBroken: no clip can be read\. 0\.png cannot be read$"),
    ):
        data[1]
    for index in (2, -3):
        with pytest.raises(IndexError, match=r"^SkipBroken: `index` must lie in \[-2, 2\)"):
            data[index]


def test_a_bug_is_no_broken_file():
    with pytest.raises(KeyError):
        SkipBroken(Numbers(2, {0}, KeyError))[0]
