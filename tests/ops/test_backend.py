import importlib
import json
import re
from pathlib import Path

import pytest
import torch

from dastc import Clip, backend_info, functional
from dastc.ops import _backend
from dastc.ops._backend import OPERATORS, check_backend, use_triton
from dastc.ops.centroid_kernel import centroid_kernel

X = torch.zeros(2, 3)
ADVICE = "Or use backend='auto', which takes the reference."


class _Gpu:
    """What the choice looks at of a tensor on a GPU."""

    device = torch.device("cuda")
    dtype = torch.float32


@pytest.fixture
def _compiled(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(_backend, "_triton_installed", lambda: True)


def _refused(text):
    return pytest.raises(RuntimeError, match=f"^{re.escape(text)} {re.escape(ADVICE)}$")


def test_an_unknown_backend_is_named():
    with pytest.raises(ValueError, match=r"^f: `backend` must be one of 'auto', 'torch', 'triton'; got 'cuda'\.$"):
        check_backend("f", "cuda")


@pytest.mark.usefixtures("_compiled")
def test_a_request_on_the_cpu_is_refused():
    text = "f: backend='triton' needs tensors on a GPU; got cpu. Move them there, or set TRITON_INTERPRET=1"
    with _refused(f"{text} to debug on the CPU."):
        use_triton("f", "class_pool", "triton", X)


@pytest.mark.usefixtures("_compiled")
@pytest.mark.parametrize("value", ["1", "true", "on"])
def test_the_interpreter_takes_tensors_on_the_cpu(value, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", value)
    assert use_triton("f", "class_pool", "triton", X)
    assert not use_triton("f", "class_pool", "auto", X)
    assert not use_triton("f", "class_pool", "torch", X)


@pytest.mark.usefixtures("_compiled")
def test_other_devices_are_refused_even_by_the_interpreter(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(RuntimeError, match="needs tensors on a GPU; got meta"):
        use_triton("f", "class_pool", "triton", X.to("meta"))


def test_without_triton_a_request_is_refused(monkeypatch):
    monkeypatch.setattr(_backend, "_triton_installed", lambda: False)
    with _refused(
        "f: backend='triton' needs Triton; got an environment without it. Install it with `pip install triton`."
    ):
        use_triton("f", "class_pool", "triton", X)
    monkeypatch.setattr(_backend, "_CHOSEN", frozenset(_backend._LIMITS))
    assert not use_triton("f", "class_pool", "auto", _Gpu())


def _calls():
    labels = torch.zeros(1, 1, 2, dtype=torch.int64)
    clip = Clip(torch.zeros(1, 1, 3, 1, 2), labels.unsqueeze(0))
    return {
        "flow_warp": lambda **k: functional.flow_warp(torch.zeros(1, 1, 1, 2), torch.zeros(1, 2, 1, 2), **k),
        "class_pool": lambda **k: functional.class_pool(torch.zeros(1, 2, 1, 2), labels, 2, **k),
        "pseudo_labels": lambda **k: functional.pseudo_labels(torch.zeros(1, 2, 1, 1), (1, 2), **k),
        "clip_paste": lambda **k: functional.clip_paste(clip, clip, torch.zeros(1, 2, dtype=torch.bool), **k),
        "upsampled_cross_entropy": lambda **k: functional.upsampled_cross_entropy(torch.zeros(1, 2, 1, 1), labels, **k),
        "centroid_kernel": lambda **k: centroid_kernel(X, X, torch.ones(2, dtype=torch.bool), **k),
    }


@pytest.mark.usefixtures("_compiled")
@pytest.mark.parametrize("name", list(_calls()))
def test_every_operator_passes_the_request_on(name):
    call = _calls()[name]
    call(backend="torch")
    call()
    with pytest.raises(ValueError, match=rf"^{name}: `backend` must be one of"):
        call(backend="cuda")
    with pytest.raises(RuntimeError, match=rf"^{name}: backend='triton' needs tensors on a GPU"):
        call(backend="triton")


@pytest.mark.usefixtures("_compiled")
def test_float64_goes_to_the_reference_or_is_refused(monkeypatch):
    wide = _Gpu()
    wide.dtype = torch.float64
    with _refused("f: backend='triton' needs float32, bfloat16 or float16; got torch.float64. Convert the tensors."):
        use_triton("f", "class_pool", "triton", wide)
    monkeypatch.setattr(_backend, "_CHOSEN", frozenset(_backend._LIMITS))
    assert not use_triton("f", "class_pool", "auto", wide)
    assert use_triton("f", "class_pool", "auto", _Gpu())


@pytest.mark.usefixtures("_compiled")
def test_sizes_beyond_the_kernel_go_to_the_reference_or_are_refused(monkeypatch):
    with _refused("f: backend='triton' needs K of at most 256; got 257. Split the tensors."):
        use_triton("f", "class_pool", "triton", _Gpu(), {"K": 257})
    assert use_triton("f", "class_pool", "triton", _Gpu(), {"K": 256})
    monkeypatch.setattr(_backend, "_CHOSEN", frozenset(_backend._LIMITS))
    assert not use_triton("f", "class_pool", "auto", _Gpu(), {"K": 257})


@pytest.mark.usefixtures("_compiled")
def test_the_automatic_choice_takes_kernels_that_were_measured_and_no_others(monkeypatch):
    for operator in _backend._LIMITS:
        assert use_triton("f", operator, "triton", _Gpu())
        assert use_triton("f", operator, "auto", _Gpu()) == (operator in _backend._CHOSEN)
    monkeypatch.setattr(_backend, "_CHOSEN", frozenset({"class_pool"}))
    assert use_triton("f", "class_pool", "auto", _Gpu())
    assert not use_triton("f", "flow_warp", "auto", _Gpu())


def test_the_kernels_that_are_chosen_are_those_that_a_committed_measurement_shows_to_be_faster(monkeypatch):
    benchmarks = Path(__file__).parents[2] / "benchmarks"
    monkeypatch.syspath_prepend(str(benchmarks))
    table, cases = (importlib.import_module(name) for name in ("speed_table", "speed_cases"))
    measured = json.loads((benchmarks / "results/speed/cuda.json").read_text())
    assert set(measured) == {*_backend._LIMITS, "step"}
    assert set(table.faster_than(cases.REFERENCE, measured)) == _backend._CHOSEN


@pytest.mark.usefixtures("_compiled")
def test_the_report_says_what_the_automatic_choice_takes(monkeypatch):
    monkeypatch.setattr(_backend, "_CHOSEN", frozenset({"class_pool"}))
    report = backend_info("cuda")
    assert tuple(report) == OPERATORS
    for operator in OPERATORS:
        assert report[operator].startswith("triton: ") == use_triton("f", operator, "auto", _Gpu())
    assert set(backend_info("cpu").values()) <= {
        "torch: fused kernels run on GPUs only",
        "torch: there is no fused kernel",
    }
    monkeypatch.setattr(_backend, "_triton_installed", lambda: False)
    assert backend_info("cuda")["class_pool"] == "torch: Triton is not installed"


def test_the_report_knows_no_unknown_device():
    with pytest.raises(RuntimeError, match="gpu"):
        backend_info("gpu")
