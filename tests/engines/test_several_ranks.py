"""N ranks equal one process on the whole batch, whichever engine carries the recipe."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import several_ranks

SCRIPT = Path(several_ranks.__file__)


def on_ranks(world, folder, *engines):
    path = folder / "found.pt"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world)]
    done = subprocess.run(
        [*command, str(SCRIPT), str(path), *engines],
        capture_output=True, text=True, check=False, timeout=280, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(path, weights_only=True)


@cache
def on_one_process(name, video=False, pattern="alike"):
    return several_ranks.trained(name, video, pattern)


def assert_alike(found, wanted):
    for (weights, updates), (expected, counted) in zip(found, wanted, strict=True):
        torch.testing.assert_close(weights, expected, rtol=0, atol=1e-12)
        assert updates == counted == several_ranks.STEPS


def assert_all_cases(found, world):
    assert list(found) == several_ranks.cases(world)
    assert {name for name, *_ in found} == set(several_ranks.RECIPES)
    assert_alike(found.values(), [on_one_process(*case) for case in found])


def test_two_ranks_equal_one_process_on_the_whole_batch(tmp_path):
    found = on_ranks(2, tmp_path, "ddp", "student", "fsdp")
    assert_all_cases(found["ddp"], 2)
    for engine in ("student", "fsdp"):  # the student is wrapped, or sharded, and not the recipe
        assert_alike(found[engine].values(), [on_one_process(name) for name in found[engine]])


@pytest.mark.parametrize("engine", ["accelerate", "lightning"])
def test_ranks_equal_one_process_in_the_loops_of_others(engine, tmp_path):
    pytest.importorskip(engine)
    found = on_ranks(2, tmp_path, engine)[engine]
    assert_alike(found.values(), [on_one_process(name, pattern="classes missing") for name in found])


def test_the_cases_teach_something():
    start = {name: several_ranks.state_of(several_ranks.make(name, False))[0] for name in several_ranks.RECIPES}
    for name, weights in start.items():
        ends = [on_one_process(name, pattern=pattern)[0] for pattern in several_ranks.PATTERNS]
        assert all((end - weights).abs().max() > 1e-3 for end in ends)
        assert not torch.equal(ends[0], ends[1])


def test_ranks_whose_gradients_nobody_averages_are_warned(monkeypatch):
    recipe = several_ranks.make("source_only", False)
    monkeypatch.setattr("dastc._core.wrappers.world", lambda: 2)
    with pytest.warns(UserWarning, match=r"SourceOnly: there are several ranks, and nothing that averages"):
        recipe(*several_ranks.clips(0, "alike"))
