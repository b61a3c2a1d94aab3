"""The other commands, and what all of them share: help, exit codes, extras."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dastc.adapt import DACS, save_checkpoint
from dastc.commands import extras, main
from dastc.commands.entry import _COMMANDS
from dastc.commands.score_table import table
from dastc.data.folder_clips import named_space
from dastc.models import TinySegmenter
from dastc.training.records import classes_of

ROOT = Path(__file__).parents[2]
SMALL = {
    "demo": "--steps 2 --clips 4 --eval-clips 2 --size 32 48 --batch 1 --device cpu",
    "adapt": "--steps 2 --size 32 48 --batch 1 --workers 0 --device cpu",
    "segment": "--device cpu",
    "compare": "--device cpu --rows 1",
}


def checkpoint(path, classes=("sky", "road"), model="dastc.models:TinySegmenter"):
    torch.manual_seed(0)
    about = {"path": model, "arguments": {}, "video": False}
    recipe = DACS(TinySegmenter(len(classes)), len(classes))
    with torch.no_grad():
        recipe.labels.teacher.copy.head.bias[1] += 100  # the teacher says road everywhere
    kept = {"model": about, "classes": classes_of(named_space(classes)), "size": [32, 48]}
    save_checkpoint(path, recipe, step=3, about=kept)
    return path


def test_the_page_of_the_commands_runs_as_it_stands(there, tmp_path, monkeypatch, capsys):
    pytest.importorskip("av", reason="PyAV is in the extra `video`")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dastc.commands.compare._STREET_CLIPS", 2)
    for name in ("sim", "drive.mp4", "ids"):
        (tmp_path / name).symlink_to(there / name)
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "docs/commands.md").read_text(encoding="utf-8"), re.S)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    ran = []
    for line in lines:
        program, name, *words = shlex.split(line, comments=True)
        assert program == "dastc"
        main([name, *words, *SMALL.get(name, "").split()])
        ran.append(name)
    assert set(ran) == set(_COMMANDS)
    out = capsys.readouterr().out
    assert "mIoU on target streets that nobody trained on" in out
    assert f"Look at {tmp_path / 'runs/demo/panel.png'}" in out
    for made in ("runs/demo/panel.png", "runs/compare/compare.png", "segmented/overlay.mp4", "runs/adapt/last.pt"):
        assert (tmp_path / made).stat().st_size > 0
    assert [row["method"] for row in json.loads((tmp_path / "runs/demo/result.json").read_text())] == [
        "source_only", "dastc",
    ]  # fmt: skip
    before = (tmp_path / "runs/demo/dastc.pt").stat().st_mtime_ns
    main(["demo", *SMALL["demo"].split(), "--resume"])
    assert (tmp_path / "runs/demo/dastc.pt").stat().st_mtime_ns == before


def test_check_tells_what_is_wrong(there, refused, capsys):
    main(["check", "sim/rgb", "--labels", "sim/ids", "--classes", "sky,road", "--label-map", "{0: 0, 7: 1}"])
    said = capsys.readouterr().out
    assert "12 files opened, 5 of 5 clips usable, no problems" in said
    assert "% in     6 files: road" in said
    main(["check", "drive.mp4", "sim/rgb"])
    assert capsys.readouterr().out.count("no problems") == 2
    line = refused("check", "sim/rgb", "--labels", "sim/ids", "--classes", "sky,road")
    assert line.endswith("there are problems in the data, listed above; put them right, or leave those files out.")
    assert "--classes must name the classes of the labels" in refused("check", "sim/rgb", "--labels", "sim/ids")
    assert "nowhere does not exist" in refused("check", "nowhere")
    data = (there / "drive.mp4").read_bytes()
    (there / "cut.mp4").write_bytes(data[: len(data) // 2])
    with pytest.warns(RuntimeWarning, match="It was cut off"):
        assert refused("check", "cut.mp4").endswith("put them right, or leave those files out.")
    (there / "other").mkdir(exist_ok=True)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(there / "other/1.png")
    main(["check", "other", "--frames", "1"])
    wrong = ["check", "drive.mp4", "--labels", "other", "--classes", "sky,road"]
    assert "problems" in refused(*wrong)


@pytest.mark.usefixtures("there")
def test_segment_takes_the_teacher_if_asked_to(tmp_path):
    path = checkpoint(tmp_path / "a.pt")
    for more in ([], ["--teacher"]):
        out = tmp_path / f"out{len(more)}"
        main(["segment", str(path), "sim/rgb/a", "--device", "cpu", "--out", str(out), *more])
        labels = {int(x) for p in (out / "labels").iterdir() for x in np.unique(np.array(Image.open(p)))}
        assert (labels == {1}) is bool(more)


@pytest.mark.usefixtures("there")
def test_segment_says_what_is_wrong(tmp_path, refused):
    path, text = checkpoint(tmp_path / "a.pt"), tmp_path / "text.mp4"
    text.write_text("no video")
    plain = tmp_path / "plain.pt"
    save_checkpoint(plain, torch.nn.Linear(1, 1))
    for words, message in [
        ([tmp_path / "no.pt", "drive.mp4"], r"no\.pt does not exist"),
        ([text, "drive.mp4"], r"must be a whole checkpoint"),
        ([plain, "drive.mp4"], r"plain\.pt must say which model and classes it has"),
        ([path, text], r"text\.mp4 cannot be read as a video"),
        ([path, "no.mp4"], r"no\.mp4 does not exist"),
        ([path, "drive.mp4", "--model", "x.y:z"], r"holds a model of dastc\.models:TinySegmenter; got --model x\.y:z"),
        ([path, "drive.mp4", "--model-args", "{'width': 16}"], r"must hold a TinySegmenter like this one; .* \.\.\.$"),
        ([path, "drive.mp4", "--out", text / "out"], r"text\.mp4/out cannot be written to"),
        ([path, "drive.mp4", "--device", "cuda:99"], r"--device"),
    ]:
        assert re.search(message, refused("segment", *words)), message


@pytest.mark.usefixtures("there")
def test_compare_scores_models_of_the_same_classes(tmp_path, refused, capsys):
    (tmp_path / "x").mkdir()
    one, two = checkpoint(tmp_path / "x" / "last.pt"), checkpoint(tmp_path / "last.pt")
    data = ["--data", "sim/rgb", "--data-labels", "sim/ids", "--label-map", "{0: 0, 7: 1}", "--device", "cpu"]
    main(["compare", str(one), str(two), *data, "--teacher", "--rows", "2", "--out", str(tmp_path / "out")])
    rows = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert [row["method"] for row in rows] == ["x", tmp_path.name]
    assert rows[0]["per_class"]["sky"] == 0
    assert rows[0]["per_class"]["road"] > 10
    assert "5 clips; written to" in capsys.readouterr().out
    other = checkpoint(tmp_path / "other.pt", ("sky", "road", "car"))
    for words, message in [
        ([one, other, *data], r"other\.pt must have the classes of .*last\.pt, sky,road; got sky,road,car"),
        ([one, *data, "--classes", "road,sky"], r"--classes must have the classes of .*, sky,road; got road,sky"),
        ([one, "--data", "street"], r"--data street has the classes sky,building"),
        ([one, "--data", "drive.mp4"], r"--data-labels must name the labels of drive\.mp4"),
        ([one, "--data", "nowhere"], r"--data must name folders, .* nowhere does not exist"),
        ([tmp_path / "no.pt", *data], r"no\.pt does not exist"),
        ([one, *data, "--out", one / "out"], r"cannot be written to"),
    ]:
        assert re.search(message, refused("compare", *words)), message


def test_demo_says_what_is_missing_before_it_trains(tmp_path, monkeypatch, refused):
    (tmp_path / "file").touch()
    assert "file/out cannot be written to" in refused("demo", "--out", tmp_path / "file" / "out")
    assert "--device" in refused("demo", "--device", "cuda:99", "--out", tmp_path)
    assert "--steps: must be a whole number of at least 1; got '0'" in refused("demo", "--steps", 0)
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "matplotlib" else name)
    line = refused("demo", "--out", tmp_path)
    assert line == (
        "dastc demo: dastc demo needs matplotlib, which is not installed. Install it with "
        '`pip install "dastc[examples]"`.'
    )


def test_info_names_what_is_there_and_what_extras_would_add(capsys, monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "av" else name)
    main(["info"])
    said = capsys.readouterr().out
    for part in ("dastc ", "torch ", "class_pool", "devices", 'missing: pip install "dastc[video]"', "installed"):
        assert part in said


def test_extras_are_those_of_the_package():
    tomllib = pytest.importorskip("tomllib", reason="in the standard library from Python 3.11 on")
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for name, extra in extras.EXTRAS.items():
        assert set(extra.packages) == {line.split(">=")[0] for line in stated[name]}


@pytest.mark.parametrize("command", [*_COMMANDS, None])
def test_the_help_fits_a_screen_and_shows_an_example(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stopped:
        main([*([command] if command else []), "--help"])
    assert stopped.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 40
    assert max(map(len, lines)) <= 88
    assert "example:" in lines
    with pytest.raises(SystemExit):
        main([command, "--help-all"] if command else [])
    assert len(capsys.readouterr().out.splitlines()) >= len(lines) - 1


def test_an_unknown_command_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["adopt"])
    assert stopped.value.code == 2
    assert "invalid choice: 'adopt'" in capsys.readouterr().err


def test_python_m_dastc_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "dastc", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "dastc COMMAND [options]" in done.stdout


def test_the_table_turns_where_lines_would_be_too_long():
    classes = {f"class {number}": 50.0 for number in range(20)}
    lines = table([{"method": name, "miou": 50.0, "per_class": classes} for name in ("one", "another")]).splitlines()
    assert lines[0].split() == ["one", "another"]
    assert len(lines) == 22
    assert max(map(len, lines)) < 40
