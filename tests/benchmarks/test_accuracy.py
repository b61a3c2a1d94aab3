import argparse
import importlib
import json
import subprocess
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("score_tables")


@pytest.fixture
def accuracy(tables):  # noqa: ARG001  # for the path
    return importlib.import_module("accuracy")


@pytest.fixture
def figures(tables):  # noqa: ARG001  # for the path
    return importlib.import_module("score_figures")


@pytest.fixture
def table(accuracy):  # noqa: ARG001  # for the path
    return importlib.import_module("accuracy_tables").Table


def row(method, seed, steady, odd):
    return {
        "method": method,
        "seed": seed,
        "miou": (steady + odd) / 2,
        "per_class": {"road": steady, "person": odd, "absent": None},
        "seconds": 10.0,
        "data": "street",
        "steps": 600,
        "device": "cpu",
        "versions": {"torch": "2"},
        "commit": "abcdefabcdefabc",
    }


ROWS = [
    row("source_only", 1, 42.0, 20.0),
    row("source_only", 0, 40.0, 10.0),
    row("dastc", 0, 44.0, 26.0),
    row("dastc", 1, 46.0, 18.0),
]


def cells(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def test_scores_show_mean_and_spread_of_each_class_and_without_the_most_variable(tables):
    header, _, source, dastc = cells(tables.scores(ROWS))
    assert header == ["method", "seeds", "mIoU", "without person", "road", "person", "absent", "seconds"]
    assert source[:4] == ["source_only", "2", "**28.0 ± 4.2** (25.0 / 31.0)", "41.0 ± 1.4"]
    assert dastc[4:] == ["45.0 ± 1.4", "22.0 ± 5.7", "-", "10"]
    assert "600 steps, cpu; torch 2; commit abcdefabcd." in tables.scores(ROWS)


def test_differences_pair_the_seeds(tables):
    _, _, dastc = cells(tables.differences(ROWS, "source_only"))
    # 35 - 25 and 32 - 31; Student's quantile of one degree of freedom at 97.5 % is 12.706
    assert dastc == ["dastc", "+5.5 ± 4.5", "-51.7 to +62.7", "+10.0 / +1.0", "+4.0 ± 0.0"]


def test_a_seed_without_its_pair_is_left_out(tables):
    rows = [*ROWS, row("dastc", 2, 90.0, 90.0), row("tps", 7, 1.0, 1.0)]
    assert tables.differences(rows, "source_only") == tables.differences(ROWS, "source_only")
    one = cells(tables.differences(ROWS[1:3], "source_only"))[2]
    assert one[1:4] == ["+10.0", "-", "+10.0"]


def test_equal_differences_have_no_interval(tables):
    rows = [row(method, seed, 40.0 + gap, 10.0 + seed) for method, gap in (("a", 0), ("b", 3)) for seed in range(3)]
    assert cells(tables.differences(rows, "a"))[2][1:3] == ["+1.5 ± 0.0", "-"]


@pytest.fixture
def small(accuracy, table, tmp_path, monkeypatch):
    """Return a function that runs the script on one small table, in a folder of its own."""
    methods = ("source_only", "dastc", "dastc(memory=False) --steps 9")
    tables = {"small": table(methods, ("--clips", "3"), ("source_only",), (0, 1))}
    monkeypatch.setattr(accuracy, "TABLES", tables)
    given = ["--results", str(tmp_path), "--docs", str(tmp_path / "page.md"), "--jobs", "1", "--runs", str(tmp_path)]
    return lambda *more: accuracy.main([*more, *given])


def test_only_missing_cells_run_and_the_page_is_rewritten(accuracy, small, tmp_path, monkeypatch):
    page, store = tmp_path / "page.md", tmp_path / "small.json"
    page.write_text("before\n<!-- small: made by benchmarks/accuracy.py -->\nold\n<!-- end of small -->\nafter\n")
    store.write_text(json.dumps(ROWS[:3]))
    asked = []

    def run(args, name, method, seed, settings):  # noqa: ARG001
        asked.append((name, method, seed, settings))
        return row(method, seed, 50.0, 30.0 + seed)

    monkeypatch.setattr(accuracy, "run", run)
    small("--seeds", "0")
    small("small", "--methods", "dastc")
    assert [(method, seed) for _, method, seed, _ in asked][1:] == [("dastc", 1)]
    small()
    other = "dastc(memory=False) --steps 9"
    assert [(method, seed) for _, method, seed, _ in asked] == [(other, 0), ("dastc", 1), (other, 1)]
    assert {(name, tuple(settings)) for name, _, _, settings in asked} == {("small", ("--clips", "3"))}
    assert len(json.loads(store.read_text())) == 6
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("<!-- end of small -->\nafter\n")
    assert "old" not in text
    assert "| minus source_only |" in text
    # methods stand in the order of the table, not in that of the runs
    assert [line.split(" | ")[0] for line in text.splitlines() if line[:4] in ("| so", "| da")][:3] == [
        "| source_only", "| dastc", f"| {other}",
    ]  # fmt: skip

    small("small", "--table")
    assert len(asked) == 3
    assert page.read_text() == text


def test_a_table_of_differences_needs_the_row_that_is_taken_off(small, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- small: made by benchmarks/accuracy.py -->\n<!-- end of small -->\n")
    (tmp_path / "small.json").write_text(json.dumps(ROWS[2:4]))  # of dastc alone
    small("--table")
    assert "| dastc | 2 |" in page.read_text()
    assert "minus" not in page.read_text()


def test_a_cell_is_one_run_of_the_example_with_its_own_settings(accuracy, small, tmp_path, monkeypatch):  # noqa: ARG001
    seen = []

    def finish(command, **_):
        seen.append(command)
        out = Path(command[command.index("--out") + 1])
        (out / "result.json").write_text(json.dumps([row("dastc(memory=False)", 3, 1.0, 2.0)]))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(accuracy.subprocess, "run", finish)
    args = argparse.Namespace(runs=tmp_path, jobs=2)
    method = "dastc(memory=False) --steps 9"
    assert accuracy.run(args, "small", method, 3, ["--clips", "3"])["method"] == method
    assert seen[0][2:6] == ["--method", "dastc(memory=False)", "--seed", "3"]
    assert seen[0][-5:] == ["--resume", "--clips", "3", "--steps", "9"]

    monkeypatch.setattr(accuracy.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 7))
    with pytest.raises(RuntimeError, match=r"dacs with seed 1 ended with 7; see .*log"):
        accuracy.run(args, "small", "dacs", 1, [])


def test_figures_show_each_seed_and_variants_from_the_best_on(figures, tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(figures, "save", lambda figure, path: drawn.update({path.name: figure.axes[0]}))
    rows = [*ROWS, *(row("dastc(bank=True)", seed, 48.0 + seed, 30.0 - 9 * seed) for seed in (0, 1))]
    figures.draw_scores(rows, tmp_path / "scores")
    figures.draw_differences([*rows, row("dastc(memory=False)", 0, 20.0, 26.0)], "dastc", tmp_path / "gaps")
    names = {path: [text.get_text() for text in axis.get_yticklabels()] for path, axis in drawn.items()}
    assert names == {
        "scores": ["source_only", "dastc", "dastc(bank=True)"],
        "gaps": ["dastc(bank=True)", "dastc(memory=False)"],
    }
    each, mean = [list(line.get_xdata()) for line in drawn["scores"].lines[:2]]
    assert (each, mean) == ([25.0, 31.0], [28.0, 28.0])
    _, each, interval, mean, *other = (list(line.get_xdata()) for line in drawn["gaps"].lines)
    assert (each, mean, other) == ([4.0, 3.0], [3.5], [[-12.0], [-12.0]])  # of one seed there is no interval
    assert interval[0] < 3.5 < interval[1]


def test_the_same_numbers_give_the_same_figure(figures, tmp_path):
    paths = [tmp_path / "figures" / f"{number}.svg" for number in range(2)]
    for path in paths:
        figures.draw_scores(ROWS, path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_run_draws_what_its_table_asks_for(accuracy, small, tmp_path, monkeypatch):
    (tmp_path / "small.json").write_text(json.dumps(ROWS))
    (tmp_path / "page.md").write_text("<!-- small: made by benchmarks/accuracy.py -->\n<!-- end of small -->\n")
    drawn = []
    for name in ("draw_scores", "draw_differences"):
        monkeypatch.setattr(accuracy.score_figures, name, lambda _, *more, name=name: drawn.append((name, *more)))
    for figure in ("", "scores", "differences"):
        monkeypatch.setitem(accuracy.TABLES, "small", accuracy.TABLES["small"]._replace(figure=figure))
        small("--table")
    path = tmp_path / "figures" / "small.svg"
    assert drawn == [("draw_scores", path), ("draw_differences", "source_only", path)]


def test_every_cell_of_every_table_can_be_made(accuracy):
    example = importlib.import_module("example").load_example()
    cells = {(method, table.settings) for table in accuracy.TABLES.values() for method in accuracy.to_run(table)}
    assert {method.split(" ")[0].split("(")[0] for method, _ in cells} == {"source_only", "dacs", "tps", "oracle"}
    for method, settings in cells:
        recipe, *own = method.split(" ")
        args = example.parse(["--method", recipe, *settings, *own])
        model = example.make_model(args, 9)
        assert example.make_recipe(recipe, model, example.StreetClips.label_space, args).model is model
    for name, table in accuracy.TABLES.items():
        assert set(table.against) <= set(table.methods), name
        page = BENCHMARKS.parent / "docs" / (table.page or "results.md")
        assert f"<!-- {name}: made by benchmarks/accuracy.py" in page.read_text(), name  # else no run ends


def test_rows_of_earlier_recipes_are_kept_and_not_run(accuracy, table, monkeypatch, capsys):
    monkeypatch.setitem(accuracy.TABLES, "small", table(("dacs", "dastc", "dastc(memory=False)"), kept="dastc"))
    assert accuracy.to_run(accuracy.TABLES["small"]) == ["dacs"]
    with pytest.raises(SystemExit):
        accuracy.parse(["small", "--methods", "dastc(memory=False)"])
    assert "'dastc(memory=False)' of small is of an earlier recipe: check out the commit" in capsys.readouterr().err


def test_a_table_may_show_other_rows_of_the_same_results(accuracy, table, small, tmp_path, monkeypatch):
    (tmp_path / "small.json").write_text(json.dumps(ROWS))
    (tmp_path / "other.md").write_text("<!-- earlier: made by benchmarks/accuracy.py -->\n<!-- end of earlier -->\n")
    earlier = table(("dastc", "tps"), against=("dastc",), seeds=(0, 1), page="other.md", of="small")
    monkeypatch.setitem(accuracy.TABLES, "earlier", earlier)
    asked = []
    monkeypatch.setattr(
        accuracy, "run", lambda _, *cell: asked.append(cell[:3]) or row("tps", cell[2], 40.0 + cell[2], 9.0)
    )
    small("earlier")
    assert asked == [("small", "tps", 0), ("small", "tps", 1)]
    rows = json.loads((tmp_path / "small.json").read_text())
    assert rows[:4] == ROWS
    assert len(rows) == 6
    assert [line[0] for line in cells((tmp_path / "other.md").read_text())[2:4]] == ["dastc", "tps"]
    monkeypatch.setitem(accuracy.TABLES, "earlier", earlier._replace(methods=("dacs",)))
    with pytest.raises(SystemExit, match=r"there is no result of earlier in .*small\.json"):
        small("earlier", "--table")


def test_what_cannot_be_done_is_named(accuracy, table, small, tmp_path, monkeypatch, capsys):
    (tmp_path / "page.md").write_text("nothing here\n")
    small("--table")  # tables without results are passed over
    with pytest.raises(SystemExit, match=r"there is no result of small in .*small\.json; run without --table first"):
        small("small", "--table")
    (tmp_path / "small.json").write_text(json.dumps(ROWS))
    with pytest.raises(SystemExit, match=r"page\.md must hold the lines .*small: made by"):
        small("--table")
    with pytest.raises(SystemExit):
        small("street")
    assert "there is no table 'street'; there are small" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        small("small", "--methods", "dast")
    assert "small has no row 'dast'; it has 'source_only', 'dastc', " in capsys.readouterr().err
    with pytest.raises(SystemExit):
        small("--methods", "dastc")
    assert "--methods needs the name of a table" in capsys.readouterr().err
    monkeypatch.setitem(accuracy.TABLES, "video", table(("dacs",), camvid=True))
    with pytest.raises(SystemExit):
        small("video")
    assert "video needs --camvid DIR" in capsys.readouterr().err
