"""Folders, arguments, devices, rates, modes and records of a run."""

import argparse
import json
import subprocess

import pytest
import torch
from torch import nn

import dastc
from dastc.data.spaces import STREET
from dastc.models import freeze
from dastc.training import polynomial, ranks
from dastc.training.command_line import add_run_arguments, any_number, mapping, names, positive, reported
from dastc.training.records import append_row, classes_of, commit, device_name, read_rows, versions, write_json
from dastc.training.run_folder import claim
from dastc.training.training_mode import set_to_train


def test_a_folder_belongs_to_one_run(tmp_path):
    out = tmp_path / "new" / "run"
    claim(out, ["last.pt", "board"])
    assert list(out.iterdir()) == []
    (out / "last.pt").write_text("a run")
    (out / "board").mkdir()
    (out / "board" / "events").write_text("more")
    (out / "mine.txt").write_text("not of a run")
    with pytest.raises(ValueError, match=r"run already holds a run \(last\.pt, board\): --resume goes on"):
        claim(out, ["last.pt", "other.pt", "board"])
    claim(out, ["last.pt", "board"], resume=True)
    assert len(list(out.iterdir())) == 3
    claim(out, ["last.pt", "board"], overwrite=True)
    assert [path.name for path in out.iterdir()] == ["mine.txt"]
    with pytest.raises(ValueError, match="got both --resume and --overwrite"):
        claim(out, [], resume=True, overwrite=True)
    with pytest.raises(OSError, match=r"mine\.txt"):
        claim(out / "mine.txt" / "below", [])


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ValueError("no such class"), 2, "tool: no such class\n"),
        (FileNotFoundError("x.png"), 2, "tool: x.png\n"),
        (FloatingPointError("the losses"), 1, "tool: the losses\n"),
        (KeyError("own"), 2, "tool: 'own'\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_what_can_be_put_right_is_one_line_and_a_code(error, code, said, capsys):
    with pytest.raises(SystemExit) as stopped, reported("tool", KeyError):
        raise error
    assert stopped.value.code == code
    assert capsys.readouterr().err == said


def test_a_bug_keeps_its_traceback():
    with pytest.raises(RuntimeError, match="a bug"), reported("tool"):
        raise RuntimeError("a bug")


def test_arguments_are_read_or_refused(tmp_path):
    assert positive("3") == 3
    assert any_number("0") == 0
    for read, text in ((positive, "0"), (positive, "1.5"), (positive, "x"), (any_number, "-1")):
        with pytest.raises(argparse.ArgumentTypeError, match=f"must be a whole number of at least [01]; got '{text}'"):
            read(text)
    assert names("sky, road,,") == ("sky", "road")
    (tmp_path / "classes.txt").write_text("sky\n\nroad \n")
    assert names(str(tmp_path / "classes.txt")) == ("sky", "road")
    ids, factors, anything = (mapping(int, int, "'{7: 0}'"), mapping(str, (int, float), "x"), mapping(str, object, "x"))
    assert ids("{7: 0, 26: 1}") == {7: 0, 26: 1}
    assert factors("{'head': 10, 'neck': 0.5}") == {"head": 10, "neck": 0.5}
    assert anything("{'a': True}") == {"a": True}
    for text in ('{"0": 0}', "[0, 1]", "0:0,1:1", "{0: 'a'}", "{0: True}", "width=64", "(", "{[]: 0}"):
        with pytest.raises(argparse.ArgumentTypeError, match=r"must be a dict such as '\{7: 0\}'; got"):
            ids(text)
    parser = argparse.ArgumentParser()
    add_run_arguments(parser, out="runs/x", save_every=7)
    args = parser.parse_args(["--resume"])
    assert (str(args.out), args.save_every, args.resume, args.overwrite, args.seed) == ("runs/x", 7, True, False, 0)


def test_devices_are_named_or_refused():
    with ranks("cpu") as device:
        assert device == torch.device("cpu")
    with ranks() as device:
        assert device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    with (
        pytest.raises(ValueError, match="--device must be auto, cpu, cuda or another one that torch can use"),
        ranks("x"),
    ):
        pass
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="--device cuda needs a GPU that torch can use"), ranks("cuda"):
            pass


def test_rates_rise_and_fall():
    assert [polynomial(10, warmup=0, power=1)(2.0, step) for step in (0, 5, 10, 99)] == [2.0, 1.0, 0.0, 0.0]
    assert polynomial(100, warmup=4, power=0)(1.0, 1) == 0.5
    assert polynomial(600, warmup=50)(1e-3, 7) == 1e-3 * (8 / 50) * (1 - 7 / 600) ** 0.9
    for wrong in ({"steps": 0}, {"steps": 1, "warmup": -1}, {"steps": 1, "power": -1}):
        with pytest.raises(ValueError, match="polynomial: `"):
            polynomial(**wrong)


class OwnMind(nn.BatchNorm2d):
    """Never learns from a batch, whoever asks."""

    def train(self, mode=True):
        return super().train(mode and False)


def test_all_is_set_to_train_but_what_is_frozen():
    parts = {
        "learns": nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Dropout(0.1)),
        "frozen": nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Dropout(0.1)),
        "fixed": nn.BatchNorm2d(3).requires_grad_(False), "own": OwnMind(3), "plain": nn.BatchNorm2d(3, affine=False),
    }  # fmt: skip
    model = nn.ModuleDict(parts)
    freeze(model, ["frozen"])
    model["learns"].eval()
    model["plain"].eval()
    set_to_train(model)
    assert all(part.training for part in model["learns"].modules())
    assert not any(part.training for part in model["frozen"].modules())
    assert [model[name].training for name in ("fixed", "own", "plain")] == [True, False, True]


def test_records_are_whole_and_say_what_made_them(tmp_path):
    write_json(tmp_path / "result.json", [1])
    assert json.loads((tmp_path / "result.json").read_text()) == [1]
    assert read_rows(tmp_path / "rows") == []
    append_row(tmp_path / "rows", {"step": 1})
    append_row(tmp_path / "rows", {"step": 2})
    assert read_rows(tmp_path / "rows") == [{"step": 1}, {"step": 2}]
    assert classes_of(STREET)["names"][2] == "road"
    assert device_name(torch.device("cpu")).startswith("cpu, ")
    assert versions()["dastc"] == dastc.__version__


def test_the_commit_is_that_of_this_project_or_none(tmp_path, monkeypatch):
    def git(*command):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *command], cwd=tmp_path, check=True)

    git("init", "-q")
    package = tmp_path / "dastc"
    package.mkdir()
    (package / "__init__.py").touch()
    git("commit", "-q", "--allow-empty", "-m", "of another project, with an environment in it")
    monkeypatch.setattr(dastc, "__file__", str(package / "__init__.py"))
    assert commit() is None
    git("add", "dastc/__init__.py")
    git("commit", "-q", "-m", "of this one")
    assert len(commit()) == 40
