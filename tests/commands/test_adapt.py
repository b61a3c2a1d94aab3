"""`dastc adapt`: what data it takes, which checkpoints it keeps, how it stops and goes on."""

import json
import os
import re
import signal
import sys
from types import ModuleType

import pytest
import torch
from torch import nn

from dastc.commands import main
from dastc.commands.adapt_arguments import parse
from dastc.commands.clip_sources import clips_of
from dastc.data import to_rgb
from dastc.models import TinySegmenter
from dastc.training.train_step import TrainStep

pytest.importorskip("av", reason="PyAV is in the extra `video`")
TRAINING = ("--crop", 16, 24, "--scale", 0.75, 1.5, "--flip", "--rare", 0.05)


def state(path):
    return torch.load(path, weights_only=True)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) if torch.is_tensor(a[k]) else a[k] == b[k] for k in a)


def test_from_pictures_to_a_video_that_stays_a_file(adapted, tmp_path, capsys):
    main(adapted(tmp_path, *TRAINING, "--keep-every", 2, "--best", "entropy", "--export", "teacher", "--no-check"))
    assert {path.name for path in tmp_path.iterdir()} == {
        "last.pt", "best.pt", "step_000002.pt", "step_000004.pt", "teacher.pt", "class_counts.npy", "label_free.jsonl",
    }  # fmt: skip
    rows = [json.loads(line) for line in (tmp_path / "label_free.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4]
    best = min(rows, key=lambda row: row["entropy"])
    assert state(tmp_path / "best.pt")["step"] == best["step"]
    assert state(tmp_path / "step_000002.pt")["step"] == 2
    last = state(tmp_path / "last.pt")["state"]
    teacher = {key.removeprefix("labels.teacher.copy."): x for key, x in last.items() if "teacher.copy." in key}
    assert same(state(tmp_path / "teacher.pt"), teacher)
    TinySegmenter(2).load_state_dict(state(tmp_path / "teacher.pt"))
    assert "aligning neck" in capsys.readouterr().out
    main(adapted(tmp_path, "--overwrite", "--steps", 1, "--no-check", "--method", "source_only"))
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_interrupted_it_says_how_to_go_on_and_ends_with_the_same_weights(adapted, tmp_path, monkeypatch, capsys):
    words, train_step, steps = adapted(tmp_path / "cut", *TRAINING, "--steps", 5), TrainStep.__call__, []

    def interrupted(self, step, *pair):
        losses = train_step(self, step, *pair)
        steps.append(step)
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGINT)  # as Ctrl-C does, in the middle of a step
        return losses

    with monkeypatch.context() as patch:
        patch.setattr(TrainStep, "__call__", interrupted)
        with pytest.raises(SystemExit) as stopped:
            main(words)
    assert stopped.value.code == 130
    assert re.search(r"Stopped after step 3\. .*last\.pt holds step 3: --resume goes on", capsys.readouterr().out)
    main([*words, "--resume"])
    main(adapted(tmp_path / "whole", *TRAINING, "--steps", 5))
    assert same(*(state(tmp_path / name / "last.pt")["state"] for name in ("cut", "whole")))


def read(*words):
    given = ["--target", "drive.mp4", "--classes", "sky,road", "--label-map", "{0: 0, 7: 1}"]
    args = parse([*given, *map(str, words)])
    return clips_of(args, "source"), clips_of(args, "target")


def test_sources_are_folders_patterns_videos_and_lists_of_them(there):
    folder, target = read("--source", "sim/rgb", "--source-labels", "sim/ids")
    pattern, _ = read("--source", "sim/rgb/{sequence}/{number}.jpg", "--source-labels",
                      there / "sim/ids/{sequence}/{number}.png")  # fmt: skip
    assert len(folder) == len(pattern) == len(target) == 5
    assert folder[3].frames.equal(pattern[3].frames)
    assert folder[3].labels.equal(pattern[3].labels)
    assert target[0].labels is None
    video, _ = read("--source", "drive.mp4", "--source-labels", "ids")
    numbered, _ = read("--source", "drive.mp4", "--source-labels", "ids/{number}.png")
    assert len(video) == len(numbered) == 2
    assert video[1].frames.equal(target[4].frames)
    assert video[1].labels[0].eq(255).all()
    assert video[1].labels[1].equal(folder[4].labels[1])
    both, _ = read("--source", "sim/rgb", "drive.m*", "--source-labels", "sim/ids", "ids", "--interval", 2)
    assert len(both) == 4 + 2
    assert to_rgb(both[5].frames).equal(to_rgb(torch.stack([target[2].frames[1], target[4].frames[1]])))


def test_flow_is_estimated_by_dis_for_a_video(adapted, tmp_path):
    pytest.importorskip("cv2", reason="DIS is OpenCV's")
    main(adapted(tmp_path, "--flow", "dis", "--steps", 1, "--no-check", "--method", "dacs", "--flip"))
    assert len(list((tmp_path / "flow").rglob("*.npy"))) == 10  # of 5 pairs in each domain


class Still(nn.Module):
    def forward(self, first, second):  # noqa: ARG002
        return [torch.zeros_like(first[:, :2])]


def test_flow_is_estimated_by_raft_where_torchvision_is(adapted, tmp_path, monkeypatch, refused):
    monkeypatch.setattr("dastc.commands.flows.find_spec", lambda _: None)
    words = adapted(tmp_path, "--flow", "raft", "--steps", 1, "--no-check", "--method", "dacs")
    assert "needs torchvision, which is not installed. Install it with `pip install torchvision`" in refused(*words)
    made = ModuleType("torchvision.models.optical_flow")
    made.raft_large, made.Raft_Large_Weights = lambda **_: Still(), type("Weights", (), {"DEFAULT": None})
    for name in ("torchvision", "torchvision.models"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, made.__name__, made)
    monkeypatch.setattr("dastc.commands.flows.find_spec", lambda name: name)
    main(words)
    assert "Still" in (tmp_path / "flow" / "made_by.txt").read_text()

    def offline(**_):
        raise OSError("no route")

    made.raft_large = offline
    assert "needs its weights, which cannot be fetched (no route)" in refused(*words, "--resume")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--source", "nowhere"], r"--source must name folders, patterns of file names, or video files; nowhere does"),
        (["--source", "sim/rgb/a/0.jpg"], r"--source must name the folder of a picture, or a pattern; got the picture"),
        (["--target", "*.avi"], r"\*\.avi must stand for folders or video files; got none"),
        (["--target", "broken.mp4"], r"broken\.mp4 cannot be read as a video"),
        (["--target", "nothing/{number}.png"], r"`root` must be an existing folder; got nothing"),
        (["--source-labels", "ids"], r"`labels` must hold pictures of the same names as those in sim/rgb, such as a/0"),
        (["--source-labels", "sim/ids", "ids", "ids"], r"--source-labels must name one folder or pattern for all, or"),
        (["--source", "drive.mp4"], r"must hold pictures .* got sim/ids without"),
        (["--source", "sim/rgb/a/{number}.jpg"], r"--source-labels must be a pattern, as .* is one; got sim/ids"),
        (["--classes", "sky"], r"label_map"),
        (["--label-map", "{0: 0}"], r"there are problems in the data"),
        (["--scale", "0.5", "2"], r"--scale needs --crop"),
        (["--crop", "64", "64"], r"RandomCrop: `size` must be at most that of the clip"),
        (["--export", "teacher", "--method", "source_only"], r"--export teacher needs a method that has one"),
        (["--best", "consistency", "--steps", "1"], r"--best consistency needs flow"),
        (["--best", "luck"], r"--best: invalid choice: 'luck'"),
        (["--flow", "folder"], r"--source-flow and --flow folder need each other"),
        (
            ["--out", "broken.mp4/out"],
            r"broken\.mp4/out cannot be written to \(Not a directory\); choose another folder",
        ),
        (["--device", "cuda:99"], r"--device"),
        (["--target-images", "x{number}.png"], r"--target-images is for folders; got drive\.mp4"),
    ],
)
def test_what_is_wrong_is_a_line_that_names_it(adapted, tmp_path, refused, there, more, message):
    (there / "broken.mp4").write_text("no video")
    words = adapted(tmp_path / "out")
    if more[0] not in ("--label-map", "--crop"):
        words += ["--no-check"]
    assert re.search(message, refused(*words, *more))


def test_other_classes_do_not_go_on_from_a_checkpoint(adapted, tmp_path, refused):
    words = adapted(tmp_path, "--method", "source_only", "--steps", 1, "--no-check")
    main(words)
    said = refused(*words, "--resume", "--classes", "sky,road,car")
    assert f"--classes must be those of {tmp_path / 'last.pt'}, sky,road; got sky,road,car. Give another --out" in said
    assert "already holds a run (last.pt): --resume goes on, --overwrite removes it" in refused(*words)
