"""Random changes that follow from the step; clips that are remembered; checkpoints that are kept."""

import pytest
import torch

from dastc.adapt import SourceOnly, save_checkpoint
from dastc.data import StreetClips
from dastc.models import TinySegmenter
from dastc.training import StepBatches
from dastc.training.changed_clips import ChangedClips, random_change
from dastc.training.kept_checkpoints import KeptCheckpoints
from dastc.training.records import read_rows
from dastc.training.remembered import Remembered


def batches(**more):
    change = random_change(scale=(0.5, 2.0), crop=(16, 24), flip=True)
    return StepBatches(ChangedClips(StreetClips("source", length=4, size=(32, 48)), change), 2, seed=1, **more)


def test_a_step_is_changed_alike_whatever_was_read_before():
    one, other = batches(), batches()
    wanted = one[3]
    assert wanted.frames.shape == (2, 2, 3, 16, 24)
    other[0], other[7]
    assert all(a.equal(b) for a, b in zip(other[3][:3], wanted[:3], strict=True))
    assert not one[4].frames.equal(wanted.frames)
    (of_worker,) = batches(workers=1).loader(range(3, 4))
    assert of_worker.frames.equal(wanted.frames)


def test_what_is_not_asked_for_is_not_changed():
    assert random_change() is None
    assert [type(part).__name__ for part in random_change(crop=(4, 4))] == ["RandomCrop"]
    with pytest.raises(ValueError, match=r"--scale needs --crop, .* got \(0\.5, 2\) alone"):
        random_change(scale=(0.5, 2))


def test_clips_are_read_once():
    clips = StreetClips("source", length=2, size=(16, 24))
    remembered = Remembered(clips)
    assert len(remembered) == 2
    assert remembered[1] is remembered[1]
    assert remembered[1].frames.equal(clips[1].frames)


@pytest.mark.parametrize(("best", "chosen"), [("entropy", 4), ("diversity", 2), ("density", None), (None, None)])
@pytest.mark.parametrize("links", [True, False])
def test_the_best_checkpoint_is_that_of_its_score(tmp_path, monkeypatch, best, chosen, links):
    if not links:
        monkeypatch.delattr("os.link")
        monkeypatch.setattr("os.link", no_link, raising=False)
    recipe, clips = SourceOnly(TinySegmenter(2), 2), StreetClips("target", length=2, size=(16, 24))
    kept = KeptCheckpoints(tmp_path / "last.pt", every=4, best=best)
    for step in (2, 4):
        if step == 4:
            with torch.no_grad():
                recipe.model.head.bias[0] += 50  # sure, and always of the same class
        save_checkpoint(tmp_path / "last.pt", recipe, step=step)
        assert set(kept.after(step, recipe.model, clips, 2)) == ({best} if best else set())
        assert kept.after(step, recipe.model, clips, 2) == {}  # once more, after an interruption
    steps = {path.stem: torch.load(path, weights_only=True)["step"] for path in tmp_path.glob("*.pt")}
    assert steps.pop("best", None) in ({chosen} if chosen else {None, 2, 4})
    assert steps == {"last": 4, "step_000004": 4}
    assert len(read_rows(tmp_path / "label_free.jsonl")) == (2 if best else 0)


def no_link(*_):
    raise OSError("not on this disk")
