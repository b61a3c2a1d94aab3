import importlib
import json
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def diagnosis(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("diagnosis")


def test_recipes_are_watched_and_drawn_and_finished_ones_are_not_run_again(diagnosis, tmp_path, monkeypatch):
    given = ["--methods", "dacs", "dastc(warmup=1)", "--steps", "3", "--every", "2"]
    given += ["--records", str(tmp_path / "r/street.json"), "--figures", str(tmp_path / "figures")]
    small = ["--settings", "--clips", "4", "--size", "32", "48", "--batch", "2"]
    diagnosis.main([*given, *small])
    records = json.loads((tmp_path / "r/street.json").read_text())
    ours = "dastc(warmup=1)"
    assert list(records) == ["dacs", ours]
    assert [look["step"] for look in records["dacs"]["looks"]] == [0, 2]
    seen = [set(look["gradients"]) for look in records[ours]["looks"]]
    assert seen == [{"source"}, {"source", "in_source", "in_target", "align"}]
    committed = json.loads((BENCHMARKS / "results/diagnosis/street.json").read_text())
    assert _names(records["dacs"]["looks"]) == _names(committed["dacs"]["looks"])
    drawn = {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    assert set(drawn) == {f"{name}.svg" for name in ("labels", "rules", "classes", "pasted", "features", "gradients")}

    monkeypatch.setattr(diagnosis, "watch", lambda *_: pytest.fail("a finished recipe must not run again"))
    diagnosis.main([*given, *small])
    diagnosis.main([*given, "--draw"])
    assert {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()} == drawn


def _names(value):
    """Return the names in a record, one below the other; of a list, those of its first member."""
    if isinstance(value, dict):
        return {name: _names(one) for name, one in value.items()}
    return _names(value[0]) if isinstance(value, list) else None


@pytest.mark.parametrize("method", ["source_only", "tps", "dacz"])
def test_recipes_without_what_is_looked_at_are_refused_before_anything_runs(diagnosis, capsys, method):
    with pytest.raises(SystemExit):
        diagnosis.parse(["--methods", "dacs", method])
    assert f"'{method}' cannot be watched, only dacs, dastc" in capsys.readouterr().err


def test_looking_changes_nothing(diagnosis, monkeypatch):
    example = diagnosis.load_example()
    prepare = example.prepare
    weights = []
    for every in (1, 100):
        given = ["--methods", "dastc(warmup=1)", "--steps", "3", "--every", str(every)]
        args = diagnosis.parse([*given, "--settings", "--clips", "4", "--size", "32", "48", "--batch", "2"])
        made = []
        with monkeypatch.context() as patch:
            patch.setattr(example, "prepare", lambda *a, made=made: made.append(prepare(*a)) or made[-1])
            diagnosis.watch(example, args.methods[0], args)
        weights.append(made[0][0].state_dict())
    for (name, one), other in zip(weights[0].items(), weights[1].values(), strict=True):
        assert one.equal(other) if torch.is_tensor(one) else one == other, name
