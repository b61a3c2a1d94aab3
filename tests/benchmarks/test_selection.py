import importlib
import json
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PAGE = "before\n<!-- small: made by benchmarks/accuracy.py -->\n<!-- end of small -->\nafter\n"
OURS = "<!-- selection_small: made by benchmarks/selection.py -->\n<!-- end of selection_small -->\n"


@pytest.fixture
def selection(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("selection")


def row(method, seed, miou, entropy, **more):
    return {
        "method": method, "seed": seed, "miou": miou, "entropy": entropy, "diversity": miou, "consistency": None,
        "density": 1.0, **more,
    }  # fmt: skip


# entropy orders all four models exactly, and prefers the better of each seed; diversity is the mIoU itself
ROWS = [row("a", 0, 40.0, 0.3), row("b", 0, 50.0, 0.1), row("a", 1, 45.0, 0.2), row("b", 1, 30.0, 0.4)]


def test_scores_are_ranked_by_how_they_order_and_what_their_choice_costs(selection):
    rows = [one | {"consistency": 100 - one["miou"]} for one in ROWS]
    lines = selection.ranks(rows).splitlines()[2:]
    cells = {line.split(" | ")[0].strip("| "): [x.strip(" |") for x in line.split(" | ")[1:]] for line in lines[:3]}
    assert cells["entropy"] == ["+1.00", "0.0 ± 0.0"]
    assert cells["diversity"] == ["+1.00", "0.0 ± 0.0"]
    assert cells["consistency"] == ["-1.00", "12.5 ± 3.5"]  # takes the worse of both: 10 and 15 lost


def test_means_leave_out_what_is_not_known(selection):
    lines = selection.means([*ROWS[:2], row("b", 1, 30.0, 0.5, consistency=80.0)]).splitlines()
    assert lines[2] == "| a | 1 | 40.0 | 0.3 | 40 | - | 1 |"
    assert lines[3] == "| b | 2 | 40.0 | 0.3 | 40 | 80 | 1 |"


def test_finished_models_are_scored_once_without_their_labels(selection, tmp_path, monkeypatch):
    accuracy, table = importlib.import_module("accuracy"), importlib.import_module("accuracy_tables").Table
    small = ("--size", "32", "48", "--clips", "4", "--batch", "2", "--steps", "2", "--eval-clips", "2")
    methods = ("source_only", "source_only --norm batch")
    tables = {"small": table(methods, small, against=(), seeds=(0,))}
    monkeypatch.setattr(accuracy, "TABLES", tables)
    monkeypatch.setattr(selection, "TABLES", tables)
    docs = tmp_path / "page.md"
    docs.write_text(PAGE + OURS)
    common = ["--runs", str(tmp_path), "--docs", str(docs)]
    accuracy.main(["small", "--jobs", "1", "--results", str(tmp_path / "accuracy"), *common])
    seen, evaluate = [], selection.evaluate_without_labels
    monkeypatch.setattr(
        selection, "evaluate_without_labels", lambda model, clips, k: seen.append(clips) or evaluate(model, clips, k)
    )
    for _ in range(2):
        selection.main(["small", "--clips", "3", "--results", str(tmp_path), *common])
    assert len(seen) == 2
    assert all(clip.labels is None for clips in seen for clip in clips)
    assert sum(len(clip.frames) for clip in seen[0]) == 3
    rows = json.loads((tmp_path / "selection/small.json").read_text())
    assert [one["method"] for one in rows] == list(methods)
    assert rows[0]["entropy"] != rows[1]["entropy"]
    assert "| source_only | 1 |" in docs.read_text()


def test_what_is_missing_is_named(selection, tmp_path):
    with pytest.raises(SystemExit, match=r"there is no .*accuracy/street\.json; run accuracy\.py street first"):
        selection.main(["street", "--results", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"there is no score in .*street\.json; run without --table first"):
        selection.main(["street", "--table", "--results", str(tmp_path)])
