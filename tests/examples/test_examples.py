"""Every example runs, on small settings; the main one also survives being killed."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = ["--size", "32", "48", "--clips", "6", "--eval-clips", "4", "--batch", "2"]


def run(name, *arguments):
    """Run an example's main in this process."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(list(map(str, arguments)))


def size(path):
    with Image.open(path) as picture:
        return picture.size


def test_loss_in_your_loop(capsys):
    run("loss_in_your_loop", "--steps", 20)
    lines = capsys.readouterr().out.splitlines()
    losses = [float(line.split()[3]) for line in lines]
    assert len(losses) == 2
    assert losses[1] < losses[0]


def test_fuse_two_clips(tmp_path):
    run("fuse_two_clips", "--out", tmp_path / "new" / "fused.png")
    assert min(size(tmp_path / "new" / "fused.png")) > 400


def test_adapt_image(capsys):
    run("adapt_image", "--steps", 2, "--images", 4, "--batch", 2, "--device", "cpu")
    out = capsys.readouterr().out
    assert "SourceOnly mIoU on unseen target images:" in out
    assert "DASTC mIoU on unseen target images:" in out


def test_adapt_video_writes_results_panel_and_checkpoints(tmp_path, capsys):
    methods = ["source_only", "dacs", "tps", "dastc", "dastc(warmup=3)", "dastc_paper", "dastc_released", "oracle"]
    run("adapt_video", *SMALL, "--steps", 3, "--device", "cpu", "--out", tmp_path, "--method", *methods)
    rows = json.loads((tmp_path / "result.json").read_text())
    assert [row["method"] for row in rows] == methods
    keys = {"method", "data", "seed", "steps", "miou", "per_class", "seconds", "device", "versions", "commit"}
    for row in rows:
        assert keys <= set(row)
        assert 0 <= row["miou"] <= 100
        assert len(row["per_class"]) == 9
    assert {file.name for file in tmp_path.glob("*.pt")} == {
        f"{method.replace('(', '_').strip(')')}.pt" for method in methods
    }
    assert size(tmp_path / "panel.png")[0] > 800
    table = capsys.readouterr().out
    assert all(method in table for method in methods)
    assert "mIoU" in table
    assert table.count("steps are warm-up") == 1  # of the others, a quarter of the steps
    assert "dastc(warmup=3): all 3 steps are warm-up on the source; 'dastc(warmup=0)' has none." in table


def test_adapt_video_estimates_flow_once(tmp_path):
    pytest.importorskip("cv2", reason="DIS is OpenCV's")
    given = [*SMALL, "--steps", 2, "--device", "cpu", "--method", "dastc", "--flow", "dis"]
    run("adapt_video", *given, "--out", tmp_path / "a", "--flow-cache", tmp_path / "flow")
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "flow").rglob("*.npy")}
    assert len(files) == 6 + 6 + 4  # a pair of frames in each clip
    run("adapt_video", *given, "--out", tmp_path / "b", "--flow-cache", tmp_path / "flow")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "flow").rglob("*.npy")} == files
    assert not (tmp_path / "b" / "flow").exists()


def weights(path):
    return torch.load(path, weights_only=True)["state"]


def same(a, b):
    return a.keys() == b.keys() and all(
        torch.equal(a[key], b[key]) if torch.is_tensor(a[key]) else a[key] == b[key] for key in a
    )


def test_adapt_video_killed_and_resumed_ends_with_the_same_weights(tmp_path):
    command = [sys.executable, str(EXAMPLES / "adapt_video.py"), *SMALL, "--device", "cpu", "--method"]
    command += ["dastc(warmup=3)", "--steps", "12", "--save-every", "2"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([*command, "--out", tmp_path / "whole"], check=True, **quiet)

    victim = subprocess.Popen([*command, "--out", tmp_path / "killed"], **quiet)
    checkpoint = tmp_path / "killed" / "dastc_warmup=3.pt"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and victim.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    done = torch.load(checkpoint, weights_only=True)["step"]
    assert done % 2 == 0
    subprocess.run([*command, "--out", tmp_path / "killed", "--resume"], check=True, **quiet)

    assert torch.load(checkpoint, weights_only=True)["step"] == 12
    assert same(weights(checkpoint), weights(tmp_path / "whole" / checkpoint.name))


def refused(capsys, name, *arguments):
    """Return what an example says of bad arguments: a line, and exit code 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        run(name, *arguments)
    assert stopped.value.code == 2
    *usage, line = capsys.readouterr().err.splitlines()
    assert all(one.startswith(("usage:", " ")) for one in usage)
    return line


def test_resume_refuses_other_settings(tmp_path, capsys):
    settings = [*SMALL, "--device", "cpu", "--method", "source_only", "--out", tmp_path]
    run("adapt_video", *settings, "--steps", 2)
    said = refused(capsys, "adapt_video", *settings, "--steps", 4, "--resume")
    assert re.match(r"adapt_video\.py: fit: `steps` must be as it was in .*source_only\.pt, 2; got 4", said)


def test_a_run_is_not_replaced_unless_asked_to(tmp_path, capsys):
    settings = [*SMALL, "--device", "cpu", "--method", "source_only", "--out", tmp_path]
    run("adapt_video", *settings, "--steps", 2)
    before = (tmp_path / "result.json").read_bytes()
    said = refused(capsys, "adapt_video", *settings, "--steps", 3)
    assert re.match(r"adapt_video\.py: .* already holds a run \(result\.json, panel\.png, source_only\.pt\)", said)
    assert (tmp_path / "result.json").read_bytes() == before
    run("adapt_video", *settings, "--steps", 3, "--overwrite")
    assert json.loads((tmp_path / "result.json").read_text())[0]["steps"] == 3


def test_to_resume_where_there_is_nothing_is_to_start(tmp_path, capsys):
    settings = [*SMALL, "--device", "cpu", "--method", "source_only", "--steps", 2, "--resume"]
    run("adapt_video", *settings, "--out", tmp_path)
    assert "source_only.pt does not exist: the run starts from the beginning" in capsys.readouterr().out
    run("adapt_video", *settings, "--out", tmp_path)
    assert "from the beginning" not in capsys.readouterr().out


@pytest.fixture
def camvid(tmp_path):
    rng, root = np.random.default_rng(0), tmp_path / "camvid"
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    for sequence in ("day", "dusk", "night"):
        for frame in (0, 30, 60, 90):
            name = f"{sequence}_{frame:05d}"
            Image.fromarray(rng.integers(0, 256, (36, 48, 3), dtype=np.uint8)).save(root / "images" / f"{name}.jpg")
            Image.fromarray(rng.integers(0, 12, (36, 48), dtype=np.uint8)).save(root / "labels" / f"{name}.png")
    return root


def test_adapt_video_on_camvid_scores_other_sequences_than_it_trains_on(tmp_path, camvid):
    arguments = ["--data", f"camvid:{camvid}", "--source-seqs", "day", "--target-seqs", "dusk", "--eval-seqs", "night"]
    arguments += ["--size", 36, "48", "--steps", 2, "--batch", 2, "--device", "cpu", "--out", tmp_path / "out"]
    run("adapt_video", *arguments)
    rows = json.loads((tmp_path / "out" / "result.json").read_text())
    assert [row["method"] for row in rows] == ["source_only", "dastc"]
    assert len(rows[0]["per_class"]) == 11


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "kitti"], r"--data must be 'street' or 'camvid:DIR'; got 'kitti'"),
        (["--data", "camvid:nowhere"], r"nowhere"),
        (["--source-seqs", "A"], r"need --data camvid:DIR"),
        (["--device", "cuda"], r"--device cuda needs a GPU"),
        (["--device", "gpu"], r"--device must be auto, cpu, cuda or another one"),
        (["--steps", "0"], r"--steps: must be a whole number of at least 1; got '0'"),
        (["--size", "48", "x"], r"--size: must be a whole number of at least 1; got 'x'"),
        (["--shift", "9"], r"shift"),
        (["--resume", "--overwrite"], r"got both --resume and --overwrite"),
    ],
)
def test_adapt_video_says_what_is_wrong(tmp_path, arguments, message, capsys):
    if arguments == ["--device", "cuda"] and torch.cuda.is_available():
        arguments, message = ["--data", "camvid:"], r"--data must be"
    assert re.search(message, refused(capsys, "adapt_video", *arguments, "--out", tmp_path))


@pytest.mark.parametrize("method", ["dast", "dastc(False)", "dastc(warmup=)", "dastc(warmup=no)", "dastc().x", ""])
def test_adapt_video_refuses_a_misspelt_method(method, capsys):
    with pytest.raises(SystemExit):
        run("adapt_video", "--method", method)
    said = capsys.readouterr().err
    assert "must be one of source_only, dacs, tps, dastc" in said
    assert f"got {method!r}" in said


def test_adapt_video_takes_what_other_methods_are_made_of(tmp_path, capsys):
    def score(name, *more):
        run("adapt_video", *SMALL, "--steps", 3, "--device", "cpu", "--out", tmp_path / name, "--method", "dacs", *more)
        return json.loads((tmp_path / name / "result.json").read_text())[0]["per_class"]

    plain, batch = score("plain"), score("batch", "--norm", "batch")
    assert plain != batch
    assert plain != score("rare", "--rare", 0.05)
    assert plain != score("scales", "--scales", 1, 0.5)
    assert batch != score("statistics", "--norm", "batch", "--adapt-statistics")
    for wrong, message in (
        (["--adapt-statistics"], "--adapt-statistics needs --norm batch; got --norm group"),
        (["--scales", 1, 0], "--scales must be above 0; got [1.0, 0.0]"),
        (["--scales", 1, 0.5, "--video"], "--scales needs a model of single images; got --video"),
    ):
        assert message in refused(capsys, "adapt_video", *SMALL, "--out", tmp_path / "none", *wrong)
    assert not list(tmp_path.glob("none/*.pt"))  # before anything was trained


def test_adapt_video_trains_a_video_model_that_another_script_can_use(tmp_path):
    methods = ["dacs", "dastc(warmup=1)", "dastc_released"]
    run("adapt_video", *SMALL, "--steps", 3, "--device", "cpu", "--out", tmp_path, "--video", "--method", *methods)
    assert [row["method"] for row in json.loads((tmp_path / "result.json").read_text())] == methods
    assert size(tmp_path / "panel.png")[0] > 400
    state = torch.load(tmp_path / "dacs.pt", weights_only=True)["state"]
    assert state["model.fusion.mix.weight"].shape == (9, 18, 1, 1)
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(2):
        Image.fromarray(np.full((36, 48, 3), 90 * number, dtype=np.uint8)).save(frames / f"{number}.png")
    run("segment_video", tmp_path / "dacs.pt", frames, "--out", tmp_path / "seen", "--device", "cpu")
    assert len(list((tmp_path / "seen").glob("**/*.png"))) == 2


def test_adapt_video_takes_arguments_of_the_recipe(tmp_path, capsys):
    methods = ["dacs", "dacs(decay=0.5)", "oracle(seed=3)", "dastc(without='align', warmup=0)"]
    run("adapt_video", *SMALL, "--steps", 3, "--device", "cpu", "--out", tmp_path, "--method", *methods)
    assert [row["method"] for row in json.loads((tmp_path / "result.json").read_text())] == methods
    names = {"dacs.pt", "dacs_decay=0.5.pt", "oracle_seed=3.pt", "dastc_without=_align_warmup=0.pt"}
    assert {file.name for file in tmp_path.glob("*.pt")} == names
    said = refused(capsys, "adapt_video", *SMALL, "--out", tmp_path / "none", "--method", "dacs", "dastc(warmpu=1)")
    assert "--method: dastc has no `warmpu`, but preset, features, shallow," in said
    assert not (tmp_path / "none").exists()
    said = refused(capsys, "adapt_video", *SMALL, "--out", tmp_path / "none", "--method", "dacs", "dacs(decay=7)")
    assert "`decay` must lie in [0, 1]; got 7" in said
    assert not list((tmp_path / "none").iterdir())


def test_a_sequence_cannot_be_source_and_target(tmp_path, camvid, capsys):
    arguments = ["--data", f"camvid:{camvid}", "--source-seqs", "day", "--target-seqs", "day", "--out", tmp_path / "o"]
    said = refused(capsys, "adapt_video", *arguments)
    assert "--source-seqs must not be targets or scored, too; got ['day'] in both" in said
