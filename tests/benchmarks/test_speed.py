import importlib
import json
from pathlib import Path

import pytest
import torch

from dastc.functional import class_pool

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PAGE = "before\n<!-- speed: made by benchmarks/speed.py -->\nold\n<!-- end of speed -->\nafter\n"
OPERATORS = ["flow_warp", "class_pool", "pseudo_label", "clip_paste", "upsampled_ce", "centroid_kernel", "step"]


@pytest.fixture
def speed(monkeypatch):
    """Return the script; what Inductor would compile runs as it is, so that only its arithmetic is tested here."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module = importlib.import_module("speed")
    for name in ("speed_cases", "speed_step"):
        monkeypatch.setattr(importlib.import_module(name), "compiled", lambda function: function)
    monkeypatch.setattr(module, "check_tests", lambda *_: None)
    monkeypatch.setattr(module, "commit", lambda: "a" * 40)
    monkeypatch.setattr(module, "changed", lambda: False)
    monkeypatch.setenv("TRITON_CACHE_DIR", "")  # put back afterwards, as the next two
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    monkeypatch.setenv("KINETO_LOG_LEVEL", "99")
    return module


@pytest.fixture
def run(speed, tmp_path):
    """Return a function that runs the script on tiny sizes, in a folder of its own, and returns what it wrote."""
    docs = tmp_path / "page.md"
    docs.write_text(PAGE)

    def call(*arguments):
        speed.main([*arguments, "--results", str(tmp_path), "--docs", str(docs)])
        store = tmp_path / "cpu.json"
        return json.loads(store.read_text()) if store.exists() else {}, docs.read_text()

    return call


TINY = ("--size", "tiny", "--rounds", "3", "--threads", "1")


@pytest.mark.parametrize("operator", OPERATORS)
def test_all_that_compute_an_operator_agree_and_are_measured(speed, operator):
    meters, cases = importlib.import_module("meters"), importlib.import_module("speed_cases")
    built = list(speed.BUILDERS[operator](cases.SIZES["tiny"], 2, "cpu"))
    assert built
    for case in built:
        rows = meters.measure(case, cases.REFERENCE, 3, 0.0, "cpu", copy=10.0)
        *present, fused = rows
        assert fused == {"name": "fused kernel", "absent": "needs a GPU"}
        if operator == "step":
            assert present.pop() == {"name": "compiled reference", "absent": "of its operators only, above"}
        assert len(present) == 2 + (operator != "step")
        for row in present:
            assert row["rounds"] == 3
            assert row["peak_extra_mib"] > 0
            assert {"forward", "backward", "both"} - row.keys() == (set() if case.leaves else {"backward", "both"})
            whole = row.get("both", row["forward"])
            assert 0 < whole["p10_ms"] <= whole["median_ms"] <= whole["p90_ms"]
            if case.floor is not None:
                assert whole["gb_per_s"] == pytest.approx(sum(case.floor) / whole["median_ms"] / 1e6, abs=0.01)


def wrong_case(meters, change):
    x = torch.randn(1, 2, 4, 4, requires_grad=True)
    labels = torch.randint(0, 3, (1, 4, 4))

    def ours():
        return class_pool(x, labels, 3)

    return meters.Case("pooling", {"ours": ours, "theirs": lambda: change(*ours())}, (x,))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda sums, mass: (sums, mass + 1), "pooling: theirs and ours differ in 100.0% of output 1"),
        (lambda sums, mass: (sums * 1.01, mass), r"differ in \d+\.\d% of output 0"),
        (lambda sums, mass: (sums.detach() + sums * 2 - 2 * sums.detach(), mass), r"differ in .* of gradient 0"),
        (lambda sums, mass: (sums.squeeze(0), mass), "differ in 100.0% of output 0"),
        (lambda sums, mass: (sums * float("nan"), mass), "differ in 100.0% of output 0"),
        (lambda sums, mass: (sums, mass, mass), "theirs returns 4 tensors, ours 3"),
    ],
)
def test_a_wrong_contender_is_refused(speed, change, message):  # noqa: ARG001  # for the path
    meters = importlib.import_module("meters")
    with pytest.raises(RuntimeError, match=message):
        meters.measure(wrong_case(meters, change), "ours", 3, 0.0, "cpu", copy=1.0)


def test_the_memory_meter_knows_what_is_held(speed):  # noqa: ARG001  # for the path
    meters = importlib.import_module("meters")
    meters.check_meter("cpu")
    found = meters.peak_bytes(lambda: torch.ones(2**18).sum(), "cpu")
    assert 2**20 <= found < 2**20 + 2**10


def test_slow_cases_have_fewer_rounds(speed):  # noqa: ARG001  # for the path
    meters = importlib.import_module("meters")
    case = meters.Case("nothing", {"one": lambda: (), "other": lambda: (), "missing": "is not there"})
    assert {len(parts["forward"]) for parts in meters.time_rounds(case, [], 9, "cpu").values()} == {9}
    times = meters.time_rounds(case, [], 9, "cpu", seconds=0.0)
    assert list(times) == ["one", "other"]
    assert {len(parts["forward"]) for parts in times.values()} == {3}


def test_what_is_finished_is_not_measured_again(speed, run, monkeypatch):
    results, _ = run("--op", "clip_paste", "centroid_kernel", *TINY)
    assert list(results) == ["clip_paste", "centroid_kernel"]
    seen, measured = [], speed.measured
    monkeypatch.setattr(speed, "measured", lambda op, args: seen.append(op) or measured(op, args))
    assert run("--op", "clip_paste", "centroid_kernel", *TINY)[0] == results
    assert seen == []
    run("--op", "clip_paste", *TINY, "--again")
    assert seen == ["clip_paste"]
    monkeypatch.setattr(speed, "commit", lambda: "b" * 40)
    later, _ = run("--op", "centroid_kernel", *TINY)
    assert seen == ["clip_paste", "centroid_kernel"]
    assert [later[op]["commit"][0] for op in later] == ["a", "b"]
    monkeypatch.setattr(speed, "changed", lambda: True)  # the commit no longer says what was measured
    run("--op", "centroid_kernel", *TINY)
    assert seen[2:] == ["centroid_kernel"]


def test_other_sizes_are_measured_again(speed, run, monkeypatch):
    run("--op", "centroid_kernel", *TINY)
    seen = []
    monkeypatch.setattr(speed, "measured", lambda op, args: seen.append((op, args.size)) or {"cases": {}})
    monkeypatch.setattr(speed.speed_table, "page", lambda _: "")
    monkeypatch.setattr(speed.speed_table, "each", lambda _: {})
    run("--op", "centroid_kernel", "--size", "short")
    assert seen == [("centroid_kernel", "short")]


def test_failing_tests_print_no_figure(run, speed, tmp_path, monkeypatch, capsys):
    monkeypatch.undo()
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    failing = tmp_path / "test_wrong.py"
    failing.write_text("def test_wrong():\n    assert 1 == 2\n")
    monkeypatch.setitem(speed.TESTS, "centroid_kernel", (str(failing),))
    monkeypatch.setattr(speed, "measured", lambda *_: pytest.fail("measured in spite of failing tests"))
    with pytest.raises(SystemExit, match="the tests of centroid_kernel fail, so nothing of it was measured") as error:
        run("--op", "centroid_kernel", *TINY)
    assert "assert 1 == 2" in str(error.value)
    assert "|" not in capsys.readouterr().out
    assert not (tmp_path / "cpu.json").exists()


def test_every_operator_has_tests_that_are_there(speed):
    for operator in OPERATORS:
        for name in speed.TESTS.get(operator, (f"tests/ops/test_{operator}.py",)):
            assert (BENCHMARKS.parent / name).exists(), name


def row(name, forward, both=None, **more):
    parts = {"forward": forward} | ({} if both is None else {"backward": both - forward, "both": both})
    timed = {
        part: {"median_ms": ms, "p10_ms": ms - 0.5, "p90_ms": ms + 1, "gb_per_s": 8 / ms, "of_copy": 0.8 / ms}
        for part, ms in parts.items()
    }
    return {"name": name, "first_call_s": 2.0, "rounds": 3, "peak_extra_mib": 1.0} | timed | more


def entry(*cases, gpu=None, **more):
    return {
        "commit": "c" * 40, "uncommitted_changes": False, "size": "tiny", "threads": 2, "copy_gb_per_s": 10.0,
        "load_average": [0.5, 3.0, 9.0],
        "hardware": {"cpu": "a CPU", "logical_cores": 2, "gpu": gpu}, "versions": {"torch": "2"}, "dtype": "float32",
        "cases": {f"case {index}": list(rows) for index, rows in enumerate(cases)}, **more,
    }  # fmt: skip


def four(fused, *others):
    names = ("plain composition", "reference", "compiled reference")
    return (*(row(name, *times) for name, times in zip(names, others, strict=True)), fused)


NO_KERNEL = {"name": "fused kernel", "absent": "needs a GPU"}


def test_the_table_is_made_from_the_results_alone(run, tmp_path):
    lost = four(NO_KERNEL, (2.0, 4.0), (4.0, 8.0), (1.0, 2.0))
    whole = {
        part: {"median_ms": ms, "p10_ms": ms, "p90_ms": ms} for part, ms in (("whole step", 1234.4), ("own work", 5.0))
    }
    networks = [{"name": "demo", **whole, "share": 0.1}, {"name": "large", "absent": "transformers is not installed"}]
    store = tmp_path / "cpu.json"
    store.write_text(json.dumps({"class_pool": entry(lost), "step": entry(networks=networks)}))
    before = store.read_text()
    _, page = run("--table")
    assert store.read_text() == before
    lines = page.splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    assert "old" not in page
    assert "| `class_pool`, case 0 | plain composition | 2 (1.5 to 3) | 2 (1.5 to 3) | 4 (3.5 to 5) | 1 |" in page
    # a loss stands there as one
    reference = "|  | reference | 4 (3.5 to 5) | 4 (3.5 to 5) | 8 (7.5 to 9) | 0.5 | 1 | 10 % | 1.0 | 2.0 |"
    assert reference in lines
    assert "|  | fused kernel | needs a GPU | | | | | | | |" in lines
    assert len({line.count("|") for line in lines if "case 0" in line or line.startswith("|  |")}) == 1
    assert "| demo | 1234 (1234 to 1234) | 5 (5 to 5) | 10 % |" in lines
    assert "| large | transformers is not installed | | |" in lines
    run_on = "a CPU, 2 threads; torch 2; float32; commit cccccccccc"
    assert f"{run_on}; a copy ran at 10 to 10 GB/s; load average 0.5 to 0.5 on 2 cores." in lines
    assert "Nothing was measured on a GPU: these rows are empty." in lines


def test_operators_measured_under_other_conditions_say_so(speed):
    each = speed.speed_table.each
    dirty = entry(uncommitted_changes=True)
    text = each({"cpu": {"class_pool": entry(), "step": dirty}})["cpu"]
    assert "`class_pool`: a CPU, 2 threads; torch 2; float32; commit cccccccccc;" in text
    assert "`step`: a CPU, 2 threads; torch 2; float32; commit cccccccccc with uncommitted changes;" in text


def test_kernels_qualify_that_beat_another_contender_everywhere(speed):
    slow = (9.0, 18.0)
    wins = four(row("fused kernel", 1.0, 2.0), slow, slow, (2.0, 4.0))
    loses_forward = four(row("fused kernel", 3.0, 3.5), slow, slow, (2.0, 4.0))
    loses_both = four(row("fused kernel", 1.0, 19.0), slow, slow, (2.0, 4.0))
    missing = four(NO_KERNEL, slow, slow, (2.0, 4.0))
    entries = {
        "class_pool": entry(wins, wins, gpu="a GPU"),
        "clip_paste": entry(wins, loses_forward, gpu="a GPU"),
        "upsampled_ce": entry(wins, loses_both, gpu="a GPU"),
        "centroid_kernel": entry(missing, gpu="a GPU"),
        "step": entry(wins, gpu="a GPU"),
    }
    assert speed.speed_table.faster_than("compiled reference", entries) == ["class_pool"]
    assert speed.speed_table.faster_than("reference", entries) == ["class_pool", "clip_paste"]
    page = speed.speed_table.page({"cuda": entries})
    assert "Kernels that beat the reference in every case: `class_pool`, `clip_paste`." in page
    assert "Kernels that beat the compiled reference in every case: `class_pool`." in page
    assert "a GPU; torch 2" in page
    assert "Nothing was measured" not in page


def test_own_work_is_measured_beside_the_network(speed):
    steps, cases = importlib.import_module("speed_step"), importlib.import_module("speed_cases")
    (demo,) = speed.speed_step.shares(cases.SIZES["tiny"], 3, "cpu")
    assert demo["name"] == "demo: TinySegmenter, 2 clips of 2 frames 32x32"
    assert demo["share"] == pytest.approx(demo[steps.OWN]["median_ms"] / demo[steps.WHOLE]["median_ms"], abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--rounds", "2"), "--rounds must be at least 3: a spread needs them; got 2"),
        (("--threads", "0"), "--threads must be at least 1; got 0"),
        (("--op", "warp"), "invalid choice: 'warp'"),
        (("--device", "tpu"), "invalid choice: 'tpu'"),
        (("--size", "huge"), "invalid choice: 'huge'"),
        (("--table", "--out", "x.json"), "--table writes the docs, --out leaves them alone"),
    ],
)
def test_bad_arguments_are_refused(run, arguments, message, capsys):
    with pytest.raises(SystemExit):
        run(*arguments)
    assert message in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_missed(run, capsys):
    with pytest.raises(SystemExit):
        run("--device", "cuda")
    assert "--device cuda needs a GPU" in capsys.readouterr().err


def test_a_table_needs_results(run):
    with pytest.raises(SystemExit, match=r"there is no result in .*; run without --table first"):
        run("--table")


def test_results_can_be_written_elsewhere_and_leave_the_docs_alone(run, tmp_path):
    elsewhere = tmp_path / "mine.json"
    results, page = run("--op", "centroid_kernel", *TINY, "--out", str(elsewhere))
    assert results == {}
    assert page == PAGE
    assert list(json.loads(elsewhere.read_text())) == ["centroid_kernel"]
