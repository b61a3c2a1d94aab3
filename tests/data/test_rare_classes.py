import math

import numpy as np
import pytest
import torch

from dastc import Clip
from dastc.data import RareClassSampler, StreetClips, class_counts, rare_classes

# class 0 everywhere, class 1 in the last clip only and little of it, class 2 nowhere
COUNTS = torch.tensor([[80, 20, 0], [60, 40, 0], [100, 0, 0], [95, 5, 0]])


def test_counts_are_those_of_the_last_frame():
    clips = StreetClips("source", length=3, size=(24, 32))
    counts = class_counts(clips, 9)
    assert counts.shape == (3, 9)
    assert torch.equal(counts.sum(1), torch.full((3,), 24 * 32))
    assert torch.equal(counts[1], torch.bincount(clips[1].labels[-1].flatten(), minlength=9))
    assert class_counts([], 4).shape == (0, 4)


def test_labels_outside_are_not_counted():
    labels = torch.tensor([[[0, 1, 255, -1, 7]]])
    assert class_counts([Clip(torch.zeros(1, 3, 1, 5), labels)], 2).tolist() == [[1, 1]]


def test_a_clip_without_labels_is_named():
    with pytest.raises(ValueError, match=r"class_counts: `clips` must be labelled; got labels=None in clip 1"):
        class_counts([Clip(torch.zeros(1, 3, 1, 1), torch.zeros(1, 1, 1).long()), Clip(torch.zeros(1, 3, 1, 1))], 2)


class Counted:
    """Clips that tell how often each was read, and that may break off."""

    def __init__(self, length=5, offset=0, breaks_at=None):
        self.length, self.offset, self.breaks_at, self.read = length, offset, breaks_at, []

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if index >= self.length:
            raise IndexError(index)
        if index == self.breaks_at:
            raise KeyboardInterrupt
        self.read.append(index)
        labels = torch.arange(12).view(1, 3, 4).remainder(index + self.offset + 1)
        return Clip(torch.zeros(1, 3, 3, 4), labels)


def test_a_finished_count_is_read_from_the_cache(tmp_path):
    wanted = class_counts(Counted(), 9)
    clips = Counted()
    assert torch.equal(class_counts(clips, 9, cache=tmp_path / "counts.npy"), wanted)
    assert clips.read == [0, 1, 2, 3, 4]
    again = Counted()
    assert torch.equal(class_counts(again, 9, cache=str(tmp_path / "counts.npy")), wanted)
    assert again.read == [0, 2, 4]  # to see that it is the same data
    assert [path.name for path in tmp_path.iterdir()] == ["counts.npy"]


def test_an_interrupted_count_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(rare_classes, "_SAVE_EVERY", 2)
    cache = tmp_path / "counts.npy"
    with pytest.raises(KeyboardInterrupt):
        class_counts(Counted(breaks_at=3), 9, cache=cache)
    clips = Counted()
    assert torch.equal(class_counts(clips, 9, cache=cache), class_counts(Counted(), 9))
    assert clips.read == [0, 1, 2, 3, 4]  # the first two for comparison
    assert len(np.load(cache)) == 5


def test_a_cache_of_other_clips_is_refused(tmp_path):
    cache = tmp_path / "counts.npy"
    class_counts(Counted(), 9, cache=cache)
    with pytest.raises(ValueError, match=r"got others for clip 0 in .*counts\.npy\. Delete it"):
        class_counts(Counted(offset=1), 9, cache=cache)
    with pytest.raises(ValueError, match=r"at most \(4, K=9\) int64 counts; got \(5, 9\) torch.int64 in .*counts\.npy"):
        class_counts(Counted(4), 9, cache=cache)
    with pytest.raises(ValueError, match=r"at most \(5, K=8\)"):
        class_counts(Counted(), 8, cache=cache)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01", b"text"])
def test_a_broken_cache_is_named_and_made_anew(tmp_path, content):
    cache = tmp_path / "counts.npy"
    cache.write_bytes(content)
    with pytest.warns(RuntimeWarning, match=f"class_counts: {cache} is broken and made anew"):
        counts = class_counts(Counted(), 9, cache=cache)
    assert torch.equal(counts, torch.from_numpy(np.load(cache)))


def test_counting_shows_a_bar_if_wanted(capsys):
    class_counts(Counted(), 9, progress=True)
    class_counts((Counted()[i] for i in range(3)), 9, progress=True)
    assert "class counts: 100%" in capsys.readouterr().err
    class_counts(Counted(), 9)
    assert capsys.readouterr().err == ""


def test_without_tqdm_the_bar_says_what_to_install(monkeypatch):
    monkeypatch.setattr("dastc.data.progress.find_spec", lambda _: None)
    with pytest.raises(RuntimeError, match=r'`progress=True` needs tqdm, .* `pip install "dastc\[data\]"`'):
        class_counts(Counted(), 9, progress=True)
    assert class_counts(Counted(), 9).shape == (5, 9)


def test_bad_caches_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"`cache` must end in \.npy; got .*counts\.json"):
        class_counts(Counted(), 9, cache=tmp_path / "counts.json")
    with pytest.raises(TypeError, match=r"`clips` must have len\(\) and an index with `cache`; got generator"):
        class_counts((x for x in ()), 9, cache=tmp_path / "counts.npy")
    with pytest.raises(RuntimeError, match=r"class_counts: .*no/counts\.npy cannot be written"):
        class_counts(Counted(), 9, cache=tmp_path / "no/counts.npy")
    with pytest.raises(ValueError, match="`num_classes` must be at least 1; got 0"):
        class_counts([], 0)


def test_classes_are_drawn_by_their_rarity():
    sampler = RareClassSampler(COUNTS, temperature=0.5)
    shares = COUNTS.sum(0) / COUNTS.sum()
    odds = math.exp((shares[0] - shares[1]) / 0.5)  # of class 1 against class 0
    torch.testing.assert_close(sampler.probability, torch.tensor([1, odds, 0]).double() / (1 + odds))


def test_a_clip_shows_enough_of_the_class_it_was_drawn_for():
    enough = RareClassSampler(COUNTS, temperature=1e-3, min_pixels=20, length=400)  # always class 1
    assert sorted(set(enough)) == [0, 1]
    few = RareClassSampler(COUNTS, temperature=1e-3, min_pixels=50, length=400)  # none has as much: any will do
    assert sorted(set(few)) == [0, 1, 3]
    balance = torch.bincount(torch.tensor(list(few)))[[0, 1, 3]] / 400
    assert (balance - 1 / 3).abs().max() < 0.1


def test_one_seed_gives_one_sequence_and_epochs_differ():
    one, other = (RareClassSampler(COUNTS, temperature=10, length=50, seed=seed) for seed in (3, 3))
    first = list(one)
    assert first == list(other)
    assert first != list(one)
    assert first != list(RareClassSampler(COUNTS, temperature=10, length=50, seed=4))
    assert len(one) == len(first) == 50
    assert len(RareClassSampler(COUNTS)) == 4


def test_draws_depend_on_the_generator_alone():
    sampler = RareClassSampler(COUNTS, temperature=10)
    one, other = (sampler.draw(9, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(one, other)
    assert sampler.draw(0, torch.Generator()).shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"counts": torch.zeros(3, dtype=torch.int64)}, r"`counts` must have shape \(N, K\); got \(3,\)"),
        ({"counts": torch.zeros(3, 2, dtype=torch.int64)}, "`counts` must show some class in some clip; got none"),
        ({"temperature": 0.0}, "`temperature` must be greater than 0; got 0.0"),
        ({"min_pixels": 0}, "`min_pixels` must be at least 1; got 0"),
        ({"length": -1}, "`length` must be at least 0; got -1"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=f"RareClassSampler: {message}"):
        RareClassSampler(**({"counts": COUNTS} | arguments))
