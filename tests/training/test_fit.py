"""The loop: what it saves, when it stops, and how it goes on."""

import os
import re
import signal

import pytest
import torch
from torch import nn

from dastc import Clip
from dastc.training import StepBatches, fit, polynomial
from dastc.training.progress import Progress, say
from dastc.training.train_step import TrainStep


class Points:
    def __len__(self):
        return 6

    def __getitem__(self, index):
        return Clip(torch.full((1, 3, 2, 2), index / 6), torch.full((1, 2, 2), index % 2))


class Recipe(nn.Module):
    """A point of each clip, with dropout, and a hook that does as a test likes."""

    def __init__(self, hook=None):
        super().__init__()
        self.model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.hook, self.calls = hook, 0

    def forward(self, source, target, target_labels=None):
        self.calls += 1
        first, second = (self.model(clip.frames[:, 0, :, 0, 0]).square().mean() for clip in (source, target))
        losses = {"first": first, "second": second, "total": first + 0.5 * second}
        self.known = target_labels
        return losses if self.hook is None else self.hook(self, losses)


def run(path=None, *, hook=None, batch=2, recipe=None, **more):
    torch.manual_seed(0)
    recipe = Recipe(hook) if recipe is None else recipe
    optimizer = torch.optim.AdamW(recipe.model.parameters(), lr=0.01)
    source, target = (StepBatches(Points(), batch, stream=stream) for stream in (0, 1))
    given = {"steps": 6, "save_every": 2, **more}
    return recipe, fit(recipe, optimizer, source, target, path=path, **given)


def saved(path):
    return torch.load(path, weights_only=True)


def test_a_run_that_goes_on_ends_as_one_that_was_not_interrupted(tmp_path):
    whole, wanted = run(tmp_path / "whole.pt", schedule=polynomial(6, warmup=2), settings={"seed": 0})

    def stop(recipe, losses):
        if recipe.calls == 4:
            raise RuntimeError("power failed")
        return losses

    common = {"schedule": polynomial(6, warmup=2), "settings": {"seed": 0}}
    with pytest.raises(RuntimeError, match="power failed"):
        run(tmp_path / "cut.pt", hook=stop, **common)
    assert saved(tmp_path / "cut.pt")["step"] == 2
    recipe, found = run(tmp_path / "cut.pt", resume=True, **common)
    assert recipe.calls == 4
    assert found.losses == wanted.losses
    assert (found.step, wanted.step) == (6, 6)
    assert all(torch.equal(a, b) for a, b in zip(recipe.parameters(), whole.parameters(), strict=True))
    _, again = run(tmp_path / "cut.pt", resume=True, **common)
    assert again == found._replace(losses={})


def test_a_checkpoint_is_neither_replaced_nor_taken_for_that_of_another_run(tmp_path):
    run(tmp_path / "run.pt", settings={"seed": 1, "data": ["a"]})
    with pytest.raises(ValueError, match=r"fit: `path` must be new, or the run must be resumed; .*run\.pt exists"):
        run(tmp_path / "run.pt", settings={"seed": 1, "data": ["a"]})
    with pytest.raises(ValueError, match=r"fit: `seed` must be as it was in .*run\.pt, 1; got 2"):
        run(tmp_path / "run.pt", settings={"seed": 2, "data": ["a"]}, resume=True)


def test_to_resume_where_there_is_nothing_is_to_start(tmp_path, capsys):
    _, found = run(tmp_path / "run.pt", resume=True)
    assert found.step == 6
    assert "run.pt does not exist: the run starts from the beginning" in capsys.readouterr().out


def test_losses_that_are_not_finite_stop_the_run_and_leave_the_last_good_checkpoint(tmp_path):
    def ruin(recipe, losses):
        return losses if recipe.calls < 5 else {name: x * float("inf") for name, x in losses.items()}

    with pytest.raises(FloatingPointError) as stopped:
        run(tmp_path / "run.pt", hook=ruin)
    said = (
        r"the losses of step 6 are not finite: first=(inf|nan), .*total=.*\. .*run\.pt holds step 4: --resume goes on"
    )
    assert re.match(said, str(stopped.value))
    state = saved(tmp_path / "run.pt")
    assert state["step"] == 4
    assert all(x.isfinite().all() for x in state["state"].values())


def test_losses_are_looked_at_every_tenth_step():
    def ruin(recipe, losses):
        return losses if recipe.calls < 5 else {name: x * float("nan") for name, x in losses.items()}

    with pytest.raises(FloatingPointError, match=r"the losses of step 10 are not finite: .*There is no checkpoint"):
        run(hook=ruin, steps=100, save_every=100)


def test_weights_ruined_under_finite_losses_are_not_saved(tmp_path):
    def ruin(recipe, losses):
        if recipe.calls == 4:  # a root of nothing: 0, and its slope is infinite
            losses = losses | {"total": losses["total"] + (0 * recipe.model[0].bias[0]).sqrt()}
        return losses

    with pytest.raises(FloatingPointError, match=r"the weights are not finite after step 4: .*of 4 .*model\.0\.bias"):
        run(tmp_path / "run.pt", hook=ruin)
    assert saved(tmp_path / "run.pt")["step"] == 2


def test_ctrl_c_ends_the_step_and_saves_it(tmp_path, capsys):
    whole, _ = run(tmp_path / "whole.pt")

    def interrupt(recipe, losses):
        if recipe.calls == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return losses

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut.pt", hook=interrupt)
    assert saved(tmp_path / "cut.pt")["step"] == 3
    assert re.search(r"Stopped after step 3\. .*cut\.pt holds step 3: --resume", capsys.readouterr().out)
    recipe, _ = run(tmp_path / "cut.pt", resume=True)
    assert all(torch.equal(a, b) for a, b in zip(recipe.parameters(), whole.parameters(), strict=True))


def test_a_second_ctrl_c_does_not_wait_and_saves_nothing_half_done(tmp_path):
    def interrupt(recipe, losses):
        if recipe.calls == 3:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return losses

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut.pt", hook=interrupt)
    assert saved(tmp_path / "cut.pt")["step"] == 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_scores_follow_checkpoints_and_that_of_an_interrupted_run_is_made_up_for(tmp_path):
    scored = []

    def score(step):
        assert saved(tmp_path / "run.pt")["step"] == step
        if step == 4 and len(scored) == 1:
            raise RuntimeError("power failed")
        scored.append(step)
        return {"mIoU": 50.0}

    with pytest.raises(RuntimeError, match="power failed"):
        run(tmp_path / "run.pt", score=score)
    scored.append("resumed")
    run(tmp_path / "run.pt", score=score, resume=True)
    assert scored == [2, "resumed", 4, 6]


def test_the_model_is_left_in_training_mode():
    recipe = Recipe().eval()
    run(recipe=recipe, score=lambda _: recipe.eval() and None, save_every=6)
    assert not recipe.training  # the score's own doing
    run(recipe=recipe)
    assert recipe.training
    assert recipe.model[1].training


def test_labels_of_the_target_are_handed_on_only_if_asked_for():
    assert run()[0].known is None
    assert run(target_labels=True)[0].known.shape == (2, 1, 2, 2)


def test_parts_of_a_batch_add_up_to_the_batch():
    def weights(accumulate):
        torch.manual_seed(0)
        recipe = Recipe()
        recipe.model[1].p = 0.0
        step = TrainStep(recipe, torch.optim.SGD(recipe.parameters(), lr=0.1), accumulate=accumulate)
        source, target = (StepBatches(Points(), 6, stream=stream)[0] for stream in (0, 1))
        losses = step(0, source, target)
        return [*recipe.parameters(), *losses.values()], recipe.calls

    (whole, once), (parts, thrice) = weights(1), weights(3)
    assert (once, thrice) == (1, 3)
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b)


def test_rates_are_those_of_the_schedule_for_each_group():
    recipe, rates = Recipe(), []
    groups = [{"params": recipe.model[0].parameters(), "lr": 0.1}, {"params": recipe.model[2].parameters(), "lr": 1.0}]
    optimizer = torch.optim.SGD(groups)
    step = TrainStep(recipe, optimizer, schedule=lambda full, number: full / (1 + number))
    batches = StepBatches(Points(), 2)
    for number in range(3):
        step(number, batches[number], batches[number])
        rates.append([group["lr"] for group in optimizer.param_groups])
    assert rates == [[0.1, 1.0], [0.05, 0.5], [0.1 / 3, 1.0 / 3]]


def test_half_precision_is_computed_in_where_it_is_asked_for():
    seen = []

    def look(_, losses):
        seen.append(torch.is_autocast_enabled("cpu"))
        return losses

    run(hook=look, steps=1, amp=True)
    run(hook=look, steps=1)
    assert seen == [True, False]


@pytest.mark.parametrize("name", ["steps", "accumulate", "save_every"])
def test_numbers_out_of_range_are_refused(name):
    with pytest.raises(ValueError, match=f"fit: `{name}` must be at least 1; got 0"):
        run(**{name: 0})


def test_a_batch_that_cannot_be_parted_is_refused():
    with pytest.raises(ValueError, match="fit: `accumulate` must divide the 2 clips of a batch; got 3"):
        run(accumulate=3)


def test_progress_needs_neither_tqdm_nor_tensorboard(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("dastc.training.progress.find_spec", lambda _: None)
    with Progress(0, 3, tensorboard=tmp_path / "board") as progress:
        progress.advance()
        progress.show("loss", {"total": 1.0, "first": 2.0}, 1)
        say("a line")
    assert capsys.readouterr().out == "a line\n"
    assert not (tmp_path / "board").exists()
