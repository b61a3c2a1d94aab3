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

pytest.importorskip("av", reason="PyAV is in the extra `video`")

EXAMPLES = Path(__file__).parents[2] / "examples"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(EXAMPLES.parent)}


def module(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


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
    return [part for key, value in given.items() for part in (f"--{key.replace('_', '-')}", str(value))]


def checkpoint(out):
    return torch.load(out / "last.pt", weights_only=True)


def same(a, b):
    a, b = a["state"], b["state"]
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a if a[key] is not None)


def start(arguments, *launch):
    return subprocess.Popen(
        [sys.executable, *launch, str(EXAMPLES / "adapt_your_data.py"), *arguments],
        env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finish(process):
    said, _ = process.communicate(timeout=250)
    assert process.returncode == 0, said
    return said


def test_any_part_of_the_recipe_can_be_set(tree, tmp_path):
    example, seen = module("adapt_your_data"), {}
    make = example.make_recipe
    example.make_recipe = lambda *given: seen.setdefault("recipe", make(*given))
    example.main([*settings(tree, tmp_path / "out", steps=1), "--switches", "{'class_prior': 0.0}"])
    assert (seen["recipe"].parts.class_prior, seen["recipe"].parts.align) == (0.0, "cdd")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--switches", "{'clas_prior': 0.0}"], "class_prior"),
        (["--switches", "{'class_prior': 0.0}", "--method", "dacs"], "--switches is of --method dastc"),
        (["--switches", "[1]"], "--switches must be a dict; got [1]"),
    ],
)
def test_a_part_that_is_not_there_is_named(tree, tmp_path, more, message):
    with pytest.raises(SystemExit, match=re.escape(message)):
        run("adapt_your_data", *settings(tree, tmp_path / "out", steps=1), *more)


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


def test_interrupted_and_resumed_it_ends_with_the_same_weights(tree, tmp_path):
    run("adapt_your_data", *settings(tree, tmp_path / "whole", steps=5))
    example, steps = module("adapt_your_data"), []

    def interrupted(model):
        steps.append(model)
        if len(steps) == 4:  # in the middle of a step, after the checkpoint of step 2
            raise KeyboardInterrupt

    example.average_gradients = interrupted
    arguments = settings(tree, tmp_path / "cut", steps=5)
    with pytest.raises(KeyboardInterrupt):
        example.main(arguments)
    assert checkpoint(tmp_path / "cut")["step"] == 2
    run("adapt_your_data", *arguments, "--resume")
    assert checkpoint(tmp_path / "cut")["step"] == 5
    assert same(checkpoint(tmp_path / "cut"), checkpoint(tmp_path / "whole"))


def test_two_processes_share_one_model_and_resume(tree, tmp_path):
    # standalone: a port found free here could be taken by another test before it is bound
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    said = finish(start([*settings(tree, tmp_path / "two", steps=2), "--align", "infonce"], *launch))
    assert "aligning neck" in said
    saved = checkpoint(tmp_path / "two")
    assert len(saved["about"]["draws"]) == 2
    assert not torch.equal(*(draws["fusion.random._extra_state"] for draws in saved["about"]["draws"]))
    with pytest.raises(SystemExit, match=r"`ranks` of .*last\.pt must be as it was, 2; got 1"):
        run("adapt_your_data", *settings(tree, tmp_path / "two", steps=2), "--align", "infonce", "--resume")


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
        ({}, ["--resume"], r"last\.pt does not exist"),
    ],
)
def test_what_is_wrong_is_said_before_the_training(tree, tmp_path, changes, more, message):
    with pytest.raises(SystemExit, match=rf"^adapt_your_data\.py: [\s\S]*{message}"):
        run("adapt_your_data", *settings(tree, tmp_path / "out", **changes), *more)
    assert not (tmp_path / "out" / "last.pt").exists()


def test_a_folder_that_cannot_be_written_is_named(tree, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match=r"adapt_your_data\.py: .*file"):
        run("adapt_your_data", *settings(tree, tmp_path / "file" / "out"))


@pytest.fixture(scope="module")
def trained(tree, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained")
    run("adapt_your_data", *settings(tree, out, steps=1), "--no-check", "--method", "source_only")
    return out / "last.pt"


def test_segment_video_says_what_is_wrong(tree, trained, tmp_path):
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
        with pytest.raises(SystemExit, match=rf"^segment_video\.py: .*{message}"):
            run("segment_video", *common, *arguments)


def test_segment_video_takes_the_checkpoints_of_adapt_video(tree, tmp_path):
    small = ["--size", "32", "48", "--clips", "2", "--eval-clips", "2", "--batch", "1", "--steps", "1"]
    run("adapt_video", *small, "--device", "cpu", "--method", "source_only", "--out", tmp_path)
    frames, out = tree / "drive" / "a", tmp_path / "seg"
    run("segment_video", tmp_path / "source_only.pt", frames, "--device", "cpu", "--out", out)
    assert (out / "overlay.mp4").stat().st_size > 0
