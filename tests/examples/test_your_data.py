"""Adapting on one's own folders, and segmenting a video with the result, end to end on a miniature tree."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dastc.adapt import Alignment
from dastc.training.train_step import TrainStep

pytest.importorskip("av", reason="PyAV is in the extra `video`")

EXAMPLES = Path(__file__).parents[2] / "examples"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(EXAMPLES.parent)}


def module(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture(autouse=True)
def called_by_its_name(monkeypatch):
    """Argparse takes the name of what runs, which here is pytest, or one of its workers."""
    monkeypatch.setattr(sys, "argv", ["adapt_your_data.py"])


def run(name, *arguments):
    module(name).main(list(map(str, arguments)))


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Two short videos with labels, two without, 32x48; ids 0, 7 and 9, of which 9 is nothing."""
    root, rng = tmp_path_factory.mktemp("tree"), np.random.default_rng(0)
    for domain, light in (("sim", 60), ("drive", 120)):
        for sequence in ("a", "b"):
            (root / domain / sequence / "labels").mkdir(parents=True)
            for number in range(3):
                ids = np.zeros((32, 48), np.uint8)
                ids[16:, number * 4 :] = 7
                ids[:2] = 9
                rgb = rng.integers(0, 60, (32, 48, 3)) + light * (ids[..., None] == 7)
                Image.fromarray(rgb.astype(np.uint8)).save(root / domain / sequence / f"{number:04d}.png")
                Image.fromarray(ids).save(root / domain / sequence / "labels" / f"{number}.png")
    (root / "mine.py").write_text(
        "from torch import nn\nfrom dastc.models import TinySegmenter\ndef make(num_classes, width=16):\n"
        "    model = TinySegmenter(num_classes, width=width)\n"
        "    model.stem = nn.Sequential(model.stem, nn.Dropout(0.1))  # draws from torch's own generator\n"
        "    return model\n"
    )
    return root


def settings(tree, out, **changes):
    given = {
        "source": tree / "sim", "target": tree / "drive", "scored": tree / "drive", "classes": "sky,road",
        "label_map": "{0: 0, 7: 1}", "other_ids": "ignore", "model": f"{tree / 'mine.py'}:make", "steps": 4,
        "save_every": 2, "workers": 0, "lr": 1e-3, "warmup": 1, "device": "cpu", "out": out, **changes,
    }  # fmt: skip
    given = {key: value for key, value in given.items() if value is not None}
    return [part for key, value in given.items() for part in (f"--{key.replace('_', '-')}", str(value))]


def checkpoint(out):
    return torch.load(out / "last.pt", weights_only=True)


def same(a, b):
    a, b = a["state"], b["state"]
    return a.keys() == b.keys() and all(
        torch.equal(a[key], b[key]) if torch.is_tensor(a[key]) else a[key] == b[key] for key in a
    )


def start(arguments, *launch):
    return subprocess.Popen(
        [sys.executable, *launch, str(EXAMPLES / "adapt_your_data.py"), *arguments],
        env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finish(process):
    said, _ = process.communicate(timeout=250)
    assert process.returncode == 0, said
    return said


def made(tree, out, *more, **changes):
    example = module("adapt_your_data")
    args = example.parse([*settings(tree, out, **changes), *more])
    space = example.clips_of(args, "source").label_space
    return example.make_recipe(args, example.prepared_model(args, 2), space)


def test_dastc_is_what_is_asked_for(tree, tmp_path):
    default, released = made(tree, tmp_path), made(tree, tmp_path, preset="released")
    assert (default.preset, released.preset, default.warmup) == ("default", "released", 1)
    assert next(term for term in default.terms if isinstance(term, Alignment)).features == "neck"
    infonce = next(term for term in made(tree, tmp_path, align="infonce").terms if isinstance(term, Alignment))
    assert infonce.objective.align == "infonce"
    without = made(tree, tmp_path, align="none", preset="paper", warmup=7)
    assert not any(isinstance(term, Alignment) for term in without.terms)
    assert without.warmup == 7
    more = made(tree, tmp_path, "--adding", "class_prior", "histograms")
    assert (more.prepare.grid, more.labels.adjust.grid, len(more.terms)) == ((3, 1), (8, 8), 2)
    for steps, warmup in ((20_000, 2000), (2000, 600), (600, 300)):
        assert made(tree, tmp_path, steps=steps, warmup=None).warmup == warmup
    assert type(made(tree, tmp_path, method="dacs")).__name__ == "DACS"


def test_it_trains_scores_and_writes_what_segment_video_takes(tree, tmp_path, capsys):
    out = tmp_path / "out"
    run("adapt_your_data", *settings(tree, out), "--amp", "--video", "--align", "infonce",
        "--freeze", "image_model.stem", "--factors", "{'image_model.head': 10}")  # fmt: skip
    rows = [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4]
    assert rows[0]["per_class"].keys() == {"sky", "road"}
    assert "aligning image_model.neck" in capsys.readouterr().out
    assert not (out / ".writable").exists()

    saved = checkpoint(out)
    rates = {group["name"]: group["initial_lr"] for group in saved["optimizer"]["param_groups"]}
    assert rates["image_model.head"] == pytest.approx(10 * rates["rest"])
    fresh = module("adapt_your_data")
    torch.manual_seed(0)
    untrained = fresh.prepared_model(fresh.parse([*settings(tree, out), "--video"]), 2).state_dict()
    frozen = {key for key, value in untrained.items() if torch.equal(value, saved["state"][f"model.{key}"])}
    assert {key for key in untrained if key.startswith("image_model.stem")} <= frozen
    assert "image_model.head.weight" not in frozen

    model = f"{tree / 'mine.py'}:make"
    run("segment_video", out / "last.pt", tree / "drive" / "a", "--model", model, "--flow", "none",
        "--device", "cpu", "--out", tmp_path / "seg")  # fmt: skip
    assert sorted(p.name for p in (tmp_path / "seg" / "labels").iterdir()) == ["0000.png", "0001.png", "0002.png"]
    assert "2 frames after the first" in capsys.readouterr().out
    # the overlay can be read back, and segmented again
    run("segment_video", out / "last.pt", tmp_path / "seg" / "overlay.mp4", "--model", model,
        "--device", "cpu", "--out", tmp_path / "again", "--size", 16, 24)  # fmt: skip
    with Image.open(tmp_path / "again" / "labels" / "000002.png") as labels:
        assert labels.size == (48, 32)
        assert set(np.unique(labels)) <= {0, 1}
        assert labels.getpalette()[:6] != [0] * 6


def test_interrupted_and_resumed_it_ends_with_the_same_weights(tree, tmp_path, monkeypatch, capsys):
    run("adapt_your_data", *settings(tree, tmp_path / "whole", steps=5))
    example, steps, train_step = module("adapt_your_data"), [], TrainStep.__call__

    def interrupted(self, step, *pair):
        steps.append(step)
        if len(steps) == 4:  # in the middle of a step, after the checkpoint of step 2
            raise KeyboardInterrupt
        return train_step(self, step, *pair)

    arguments = settings(tree, tmp_path / "cut", steps=5)
    with monkeypatch.context() as patch:
        patch.setattr(TrainStep, "__call__", interrupted)
        with pytest.raises(SystemExit) as stopped:
            example.main(arguments)
    assert stopped.value.code == 130
    assert re.search(r"Stopped after step 3\. .*last\.pt holds step 2: --resume goes on", capsys.readouterr().out)
    assert checkpoint(tmp_path / "cut")["step"] == 2
    run("adapt_your_data", *arguments, "--resume")
    assert checkpoint(tmp_path / "cut")["step"] == 5
    assert same(checkpoint(tmp_path / "cut"), checkpoint(tmp_path / "whole"))
    rows = [(tmp_path / name / "scores.jsonl").read_text() for name in ("cut", "whole")]
    assert rows[0] == rows[1]


def test_two_processes_share_one_model_and_resume(tree, tmp_path, capsys):
    # standalone: a port found free here could be taken by another test before it is bound
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    arguments = settings(tree, tmp_path / "two", steps=2, batch=1)
    said = finish(start(arguments, *launch))
    assert "aligning neck" in said
    assert "drift apart" not in said
    saved = checkpoint(tmp_path / "two")
    assert len(saved["about"]["ranks"]) == 2
    assert not torch.equal(*(own["draws"]["cpu"] for own in saved["about"]["ranks"]))  # of dropout
    assert refused(capsys, *arguments, "--resume").endswith(
        f"`ranks` must be as it was in {tmp_path / 'two' / 'last.pt'}, 2; got 1."
    )
    said = finish(start([*arguments, "--resume"], *launch))
    assert same(checkpoint(tmp_path / "two"), saved)


def test_a_labelled_part_of_the_target_is_learnt_from(tree, tmp_path, capsys):
    weights = []
    for out, more in (("without", []), ("with", ["--target-labels", "{sequence}/labels/{number}.png"])):
        run("adapt_your_data", *settings(tree, tmp_path / out, method="dacs", steps=2), *more)
        weights.append(checkpoint(tmp_path / out))
    assert not same(*weights)
    said = refused(capsys, *settings(tree, tmp_path / "no", method="source_only"), "--target-labels", "{number}.png")
    assert "--target-labels needs a method that learns from the target" in said


def test_a_run_is_not_replaced_unless_asked_to(tree, tmp_path, capsys):
    arguments = settings(tree, tmp_path, method="source_only")
    run("adapt_your_data", *arguments)
    said = refused(capsys, *arguments)
    assert re.search(r"already holds a run \(last\.pt, scores\.jsonl\): --resume goes on, --overwrite removes", said)
    run("adapt_your_data", *arguments, "--overwrite")
    assert len((tmp_path / "scores.jsonl").read_text().splitlines()) == 2


def refused(capsys, *arguments):
    """Return the line in which bad arguments are told, with exit code 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        run("adapt_your_data", *arguments)
    assert stopped.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("adapt_your_data.py: ")
    return line


@pytest.mark.parametrize(
    ("changes", "more", "message"),
    [
        ({"source": "nowhere"}, [], r"nowhere"),
        ({"target_images": "{sequence}/{number}.jpg"}, [], r"`images` must find files in .*drive"),
        ({"classes": "sky"}, [], r"label_map"),
        ({"other_ids": "error"}, [], r"there are problems in the data"),
        ({"model": "mine.modul:make"}, [], r"must name a module that Python finds"),
        ({"model_args": "{'depth': 3}"}, [], r"depth"),
        ({"factors": "{'haed': 10}"}, [], r"got 'haed'\. Near: 'head'"),
        ({"freeze": "stm"}, [], r"got 'stm'\. Near: 'stem'"),
        ({"features": "nekc"}, [], r"'neck'"),
        ({"flow": "folder"}, [], r"--source-flow and --flow folder need each other; got --flow folder and None"),
        ({}, ["--resume", "--overwrite"], r"got both --resume and --overwrite"),
        (
            {"method": "dacs"},
            ["--without", "align"],
            r"--without leaves out parts of --method dastc; got --method dacs",
        ),
        ({"preset": "paper", "shallow": "stm"}, [], r"'stem'"),
        ({"accumulate": 3}, [], r"--accumulate must divide --batch, 2; got 3"),
        ({"label_map": "{'0': 0}"}, [], r"--label-map: must be a dict such as '\{7: 0, 26: 1\}'; got"),
        ({"model_args": "width=64"}, [], r"--model-args: must be a dict such as '\{\"width\": 64\}'; got 'width=64'"),
        ({"factors": "{'head': '10'}"}, [], r"--factors: must be a dict such as '\{\"head\": 10\}'; got"),
        ({"warmup": -1}, [], r"--warmup: must be a whole number of at least 0; got '-1'"),
        ({"lr": 0}, [], r"`lr` must be above 0; got 0"),
    ],
)
def test_what_is_wrong_is_said_before_the_training(tree, tmp_path, changes, more, message, capsys):
    assert re.search(message, refused(capsys, *settings(tree, tmp_path / "out", **changes), *more))
    assert not (tmp_path / "out" / "last.pt").exists()


def test_a_folder_that_cannot_be_written_is_named(tree, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert str(tmp_path / "file") in refused(capsys, *settings(tree, tmp_path / "file" / "out"))


@pytest.fixture(scope="module")
def trained(tree, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained")
    run("adapt_your_data", *settings(tree, out, steps=1), "--no-check", "--method", "source_only")
    return out / "last.pt"


def test_segment_video_says_what_is_wrong(tree, trained, tmp_path, capsys):
    empty, text = tmp_path / "empty", tmp_path / "text.mp4"
    empty.mkdir()
    text.write_text("no video")
    mine, common = f"{tree / 'mine.py'}:make", ["--device", "cpu", "--out", tmp_path / "out"]
    frames = tree / "drive" / "a"
    cases = [
        ([trained, empty, "--model", mine], r"`path` must hold pictures"),
        ([trained, text, "--model", mine], r"text\.mp4 cannot be read as a video"),
        ([trained, tmp_path / "none.mp4", "--model", mine], r"none\.mp4 does not exist"),
        ([trained, frames], r"holds a model of .*mine\.py:make; got --model dastc\.models:TinySegmenter"),
        ([trained, frames, "--model", mine, "--model-args", "{'width': 32}"], r"must hold a TinySegmenter like this"),
        ([text, frames], r"must be a whole checkpoint"),
        ([tmp_path / "no.pt", frames], r"no\.pt does not exist"),
        ([trained, frames, "--model", mine, "--out", text / "out"], r"text\.mp4"),
    ]
    for arguments, message in cases:
        with pytest.raises(SystemExit) as stopped:
            run("segment_video", *common, *arguments)
        assert stopped.value.code == 2
        assert re.match(rf"segment_video\.py: .*{message}", capsys.readouterr().err)


def test_segment_video_takes_the_checkpoints_of_adapt_video(tree, tmp_path):
    small = ["--size", "32", "48", "--clips", "2", "--eval-clips", "2", "--batch", "1", "--steps", "1"]
    run("adapt_video", *small, "--device", "cpu", "--method", "source_only", "--out", tmp_path)
    frames, out = tree / "drive" / "a", tmp_path / "seg"
    run("segment_video", tmp_path / "source_only.pt", frames, "--device", "cpu", "--out", out)
    assert (out / "overlay.mp4").stat().st_size > 0
