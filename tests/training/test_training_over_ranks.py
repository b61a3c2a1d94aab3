"""Two processes train one model: on the clips, and to the weights, of one process with twice the batch."""

import datetime
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dastc import Clip
from dastc.adapt import SourceOnly
from dastc.models import TinySegmenter
from dastc.training import StepBatches, fit
from dastc.training.ranks import rank, together
from dastc.training.train_step import TrainStep

RANKS, STEPS, CLASSES = 2, 3, 3
pytestmark = pytest.mark.skipif(not dist.is_gloo_available(), reason="processes talk through gloo")


class Numbered:
    """Clips of noise, each labelled everywhere."""

    def __len__(self):
        return 7

    def __getitem__(self, index):
        draw = torch.Generator().manual_seed(index)
        labels = torch.randint(0, CLASSES, (1, 16, 24), generator=draw)
        return Clip(torch.randn(1, 3, 16, 24, generator=draw), labels)


class Watched(SourceOnly):
    """Keep the frames that each step sees."""

    def forward(self, source, target=None, **more):
        self.seen = [*getattr(self, "seen", ()), (source.frames.clone(), target.frames.clone())]
        self.inside = DistributedDataParallel._get_active_ddp_module() is not None
        return super().forward(source, target, **more)


def trained(path, batch, *, kind=Watched, **more):
    torch.manual_seed(rank())  # a start of its own for each rank, as of an unseeded model
    model = TinySegmenter(CLASSES, width=16)
    recipe = kind(model, CLASSES, augment=nn.Identity())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    source, target = (StepBatches(Numbered(), batch, seed=3, stream=n, labels=n == 0) for n in (0, 1))
    fit(recipe, optimizer, source, target, steps=STEPS, path=path, save_every=2, **more)
    return recipe


def _ranks(number, folder):
    torch.set_num_threads(1)
    for phase in (_train, _keep, _count, _wait, _ruin, _fail):
        more = {"timeout": datetime.timedelta(seconds=2)} if phase is _wait else {}
        join = f"file://{folder}/{phase.__name__}"
        dist.init_process_group("gloo", init_method=join, rank=number, world_size=RANKS, **more)
        torch.save(phase(number, folder), f"{folder}/{phase.__name__}{number}.pt")
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(_ranks, (str(folder),), nprocs=RANKS)
    return folder


def found(folder, phase):
    return [torch.load(folder / f"{phase.__name__}{number}.pt", weights_only=True) for number in range(RANKS)]


def _train(number, folder):  # noqa: ARG001
    scored = []
    recipe = trained(f"{folder}/run.pt", 2, accumulate=2, score=lambda step: scored.append(step))
    return {"state": recipe.model.state_dict(), "seen": recipe.seen, "inside": recipe.inside, "scored": scored}


def test_two_ranks_equal_one_process_on_the_whole_batch(folder, tmp_path):
    first, second = found(folder, _train)
    whole = trained(tmp_path / "whole.pt", 2 * RANKS)
    assert first["inside"]
    assert second["inside"]
    assert not whole.inside
    assert (first["scored"], second["scored"]) == ([2, 3], [])
    for step, pair in enumerate(whole.seen):
        for domain, frames in enumerate(pair):
            # each rank passes its two clips one after the other
            parts = [one["seen"][2 * step + part][domain] for one in (first, second) for part in (0, 1)]
            assert torch.equal(torch.cat(parts), frames)
    for name, wanted in whole.model.state_dict().items():
        assert torch.equal(first["state"][name], second["state"][name])
        torch.testing.assert_close(first["state"][name], wanted, rtol=0, atol=1e-5)


def test_what_two_ranks_saved_is_for_two_ranks(folder):
    saved = torch.load(folder / "run.pt", weights_only=True)
    assert saved["step"] == STEPS
    assert saved["about"]["settings"] == {"ranks": "2"}
    assert len(saved["about"]["ranks"]) == RANKS
    assert not torch.equal(*(own["draws"]["cpu"] for own in saved["about"]["ranks"]))
    with pytest.raises(ValueError, match=r"fit: `ranks` must be as it was in .*run\.pt, 2; got 1"):
        trained(folder / "run.pt", 4, resume=True)


class Own(nn.Module):
    """Keeps what each rank has for itself."""

    value = None

    def get_extra_state(self):
        return self.value

    def set_extra_state(self, value):
        self.value = value


class Keeping(Watched):
    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        self.own = Own()

    def forward(self, source, target=None, **more):
        self.own.value = source.frames
        return super().forward(source, target, **more)


def _keep(number, folder):  # noqa: ARG001
    before = trained(f"{folder}/kept.pt", 2, kind=Keeping)
    drawn = torch.rand(1)
    after = trained(f"{folder}/kept.pt", 2, kind=Keeping, resume=True)
    return torch.equal(before.own.value, after.own.value), after.own.value, torch.equal(drawn, torch.rand(1))


def test_each_rank_goes_on_with_what_it_had_for_itself(folder):
    (first, seen, drawn), (second, other, also) = found(folder, _keep)
    assert first
    assert second
    assert drawn
    assert also
    assert not torch.equal(seen, other)


def _count(number, folder):  # noqa: ARG001
    model = TinySegmenter(CLASSES, width=16)
    recipe, sent = SourceOnly(model, CLASSES, augment=nn.Identity()), []
    step = TrainStep(recipe, torch.optim.SGD(model.parameters(), lr=0.1), accumulate=4)

    def hook(_, bucket):
        sent.append(bucket.index())
        done = torch.futures.Future()
        done.set_result(bucket.buffer())
        return done

    step.module.register_comm_hook(None, hook)
    batches = StepBatches(Numbered(), 4)
    step(0, batches[0], batches[0])
    return len(sent)


def test_gradients_are_sent_once_for_a_batch(folder):
    assert found(folder, _count) == [1, 1]


def _wait(number, folder):
    checked = Path(folder, "checked")
    with together():
        if number == 0:
            time.sleep(3)
            checked.touch()
    return checked.exists()


def test_who_waits_waits_longer_than_a_collective_would(folder):
    assert found(folder, _wait) == [True, True]


def _fail(number, folder):  # noqa: ARG001
    try:
        with together():
            if number == 0:
                raise ValueError("a file is broken")
    except BaseException as error:
        return repr(error)


def test_a_rank_that_fails_ends_those_that_wait_for_it(folder):
    assert found(folder, _fail) == ["ValueError('a file is broken')", "SystemExit(1)"]


class Ruined(Watched):
    def forward(self, source, target=None, **more):
        losses = super().forward(source, target, **more)
        bad = float("nan") if rank() == 1 and len(self.seen) == 3 else 1.0
        return {name: value * bad for name, value in losses.items()}


def _ruin(number, folder):  # noqa: ARG001
    try:
        trained(f"{folder}/ruined.pt", 2, kind=Ruined)
    except FloatingPointError as error:
        return str(error)


def test_a_loss_that_is_ruined_on_one_rank_stops_all_of_them(folder):
    first, second = found(folder, _ruin)
    assert first == second
    assert first.startswith("the losses of step 3 are not finite: source=nan, total=nan. ")
    assert first.endswith("ruined.pt holds step 2: --resume goes on from there.")
    assert torch.load(folder / "ruined.pt", weights_only=True)["step"] == 2
