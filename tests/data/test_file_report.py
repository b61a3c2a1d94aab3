import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Subset

from dastc.data import CamVid, FolderClips, SkipBroken, write_flow
from dastc.data.class_shares import ClassShare
from dastc.data.file_report import FileReport


def _save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path):
    for n in range(6):
        _save(tmp_path / f"images/a_{n}.png", np.random.default_rng(n).integers(0, 256, (6, 8, 3), dtype=np.uint8))
        _save(tmp_path / f"labels/a_{n}.png", np.full((6, 8), n % 3, np.uint8))
        write_flow(tmp_path / f"flow_{n}.npy", torch.zeros(2, 6, 8))
    return tmp_path


def _read(root, **rest):
    given = {"images": "images/a_{number}.png", "labels": "labels/a_{number}.png", "flow": "flow_{number}.npy"}
    return FolderClips(root, **given, label_space=("x", "y", "z"), frames=2, **rest)


def test_a_sound_data_set_passes(root):
    report = _read(root).check(progress=False)
    shares = tuple(ClassShare(name, 1 / 3, 2) for name in "xyz")
    assert report == FileReport(17, (), (), (0, 1, 2, 3, 4), 5, shares)  # 6 pictures, 6 label files, 5 flow files
    assert report
    assert str(report).splitlines() == [
        "17 files opened, 5 of 5 clips usable, no problems.",
        "Share of the labelled pixels:",
        *(f"   33.333 % in     2 files: {name}" for name in "xyz"),
    ]


def test_each_bad_file_is_named_once_and_the_rest_is_usable(root):
    data = _read(root)
    (root / "images/a_0.png").write_bytes(b"")
    (root / "labels/a_1.png").unlink()
    _save(root / "labels/a_4.png", np.zeros((6, 9), np.uint8))
    (root / "flow_3.npy").write_bytes((root / "flow_3.npy").read_bytes()[:-1])
    report = data.check(progress=False)
    assert not report.ok
    assert not report
    assert len(report.problems) == 4
    for name, problem in {"a_0.png": "cannot be read", "a_1.png": "is missing", "a_4.png": "must have the size",
                          "flow_3.npy": ""}.items():  # fmt: skip
        assert len([line for line in report.problems if name in line and problem in line]) == 1
    assert report.usable == ()
    _save(root / "labels/a_1.png", np.zeros((6, 8), np.uint8))
    usable = data.check(progress=False).usable
    assert usable == (1,)  # clips (0, 1), (2, 3) for its flow, (3, 4) and (4, 5) are not
    assert [clip.frames.shape[0] for clip in Subset(data, usable)] == [2]


def test_what_could_not_be_listed_is_reported_too(root):
    (root / "images/a_3.png").unlink()
    with pytest.warns(UserWarning, match="2 clips are left out"):
        data = _read(root)
    report = data.check(progress=False)
    assert len(data) == len(report.usable) == 3
    assert [line for line in report.problems if "picture of frame 3 is missing" in line] == list(report.problems)
    assert "3 of 3 clips usable, 2 problems:\n- The picture of frame 3" in str(report)


def test_sizes_that_do_not_stack_are_a_problem_unless_resized(root):
    for name in ("images", "labels"):
        path = root / f"{name}/a_5.png"
        _save(path, np.array(Image.open(path).resize((4, 4), 0)))
    report = _read(root).check(progress=False)
    assert report.usable == (0, 1, 2, 3)
    assert any("(4, 4), (6, 8) are the sizes in the clip that ends with" in line for line in report.problems)
    assert any("2 sizes, which do not stack" in line and "a_5.png" in line for line in report.problems)
    assert _read(root, size=(6, 8)).check(progress=False).ok


def test_long_reports_are_cut_in_print_alone():
    problems = tuple(f"file {n}" for n in range(25))
    report = FileReport(30, problems, ("odd",), (), 25)
    lines = str(report).splitlines()
    assert lines[0].endswith("0 of 25 clips usable, 25 problems:")
    assert lines[-2:] == ["- and 5 more, in `problems`", "- note: odd"]
    assert report.problems == problems


def test_progress_is_shown_if_asked_for(root, capsys, monkeypatch):
    _read(root).check(progress=False)
    assert capsys.readouterr().err == ""
    _read(root).check()
    assert "FolderClips: checking: 100%" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(RuntimeError, match=r"^FolderClips\.check: `progress=True` needs tqdm"):
        _read(root).check()


def test_camvid_checks_itself_likewise(root):
    data = CamVid(root)
    assert data.check(progress=False).files == 12
    Image.new("L", (8, 6), 77).save(root / "labels/a_2.png")
    report = data.check(progress=False)
    assert report.usable == (0, 3, 4)
    assert "a_2.png must hold labels in [0, 11), or 11 or 255 for none; got 77." in report.problems[0]


def test_an_interrupt_ends_the_check(root, monkeypatch):
    data = _read(root)
    monkeypatch.setattr(data, "_look", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        data.check(progress=False)


def test_skip_broken_is_the_way_on_in_an_epoch(root):
    data = SkipBroken(_read(root, size=(6, 8)))
    assert data.skipped == {}
    (root / "images/a_2.png").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"SkipBroken: clip \d is left out\. FolderClips: .*a_2\.png cannot be read"):
        assert torch.equal(data[1].frames, data.clips[3].frames)
    assert data.skipped == {1: 1, 2: 1}
