import importlib
import json
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PAGE = "before\n<!-- flow: made by benchmarks/flow.py -->\nold\n<!-- end of flow -->\nafter\n"


@pytest.fixture
def flow(monkeypatch):
    pytest.importorskip("cv2", reason="DIS is OpenCV's")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("flow")


def test_errors_are_measured_drawn_and_written(flow, tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    given = ["--results", str(tmp_path / "r" / "a.json"), "--figure", str(tmp_path / "f" / "a.png")]
    given += ["--docs", str(page)]
    monkeypatch.setattr(flow, "DIS", (("ultrafast", 2), ("fast", 0)))
    flow.main([*given, "--clips", "2", "--size", "48", "64"])
    rows = json.loads((tmp_path / "r" / "a.json").read_text())["rows"]
    assert [row["domain"] for row in rows] == ["source"] * 3 + ["target"] * 3
    for row in rows:
        assert row["percentiles"]["50"] < row["percentiles"]["90"] < row["percentiles"]["99"]
    assert rows[2]["mean"] < rows[0]["mean"]
    assert 0.5 < rows[2]["kept"] <= 1
    assert (tmp_path / "f" / "a.png").stat().st_size > 10_000
    written = page.read_text()
    assert written.startswith("before\n")
    assert written.endswith("after\n")
    assert "old" not in written
    assert "| source | `DISFlow('fast', finest_scale=0)` |" in written

    page.write_text(PAGE)
    monkeypatch.setattr(flow, "measure", lambda *_: pytest.fail("--table must not measure"))
    flow.main([*given, "--table"])
    assert page.read_text() == written


def test_errors_by_hand(flow):
    exact = torch.zeros(1, 2, 1, 4)
    guess = torch.tensor([3.0, 0.0, 6.0, 9.0]).view(1, 1, 1, 4).expand(1, 2, 1, 4) * torch.tensor([1, 4 / 3]).view(
        2, 1, 1
    )
    got = flow.errors(guess, exact, torch.tensor([[[True, True, True, False]]]))
    assert got["mean"] == pytest.approx(5)
    assert got["percentiles"]["50"] == pytest.approx(5)
    assert got["hidden"] == pytest.approx(15)
    assert got["visible"] == pytest.approx(0.75)


def test_without_results_there_is_no_table(flow, tmp_path):
    with pytest.raises(SystemExit, match=r"there is no result in .*none\.json; run without --table first"):
        flow.main(["--results", str(tmp_path / "none.json"), "--table"])
