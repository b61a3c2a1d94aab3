"""Models named on a command line."""

import pytest
import torch

from dastc.models import TinySegmenter
from dastc.models.import_path import model_from


def test_a_module_and_a_file_are_found(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("from torch import nn\ndef make(num_classes, bias=True):\n"
                    "    return nn.Conv2d(3, num_classes, 1, bias=bias)\n")  # fmt: skip
    assert isinstance(model_from("dastc.models:TinySegmenter", 5, width=16), TinySegmenter)
    model = model_from(f"{file}:make", 4, bias=False)
    assert model.bias is None
    assert model(torch.zeros(1, 3, 2, 2)).shape == (1, 4, 2, 2)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("dastc.models", r"must be 'package\.module:callable' or 'file\.py:callable'; got 'dastc\.models'"),
        (":make", r"must be 'package\.module:callable'"),
        ("dastc.modles:X", r"must name a module that Python finds; got 'dastc\.modles:X'.*PYTHONPATH"),
        ("nowhere.models:X", r"must name a module that Python finds"),
        ("nowhere/mine.py:X", r"must name an existing file; got 'nowhere/mine\.py:X'"),
        (
            "dastc.models:TinySegmentr",
            r"must name a callable of dastc\.models; got 'TinySegmentr'. Near: TinySegmenter",
        ),
        ("dastc.models.taps:KNOWN_TAPS", r"must name a callable of dastc\.models\.taps; got 'KNOWN_TAPS'"),
        ("builtins:str", r"builtins:str must return an nn\.Module; got str"),
        ("dastc.models:TinySegmenter", r"TinySegmenter must take \(3, widht=16\); .*widht"),
    ],
)
def test_what_is_wrong_with_a_path_is_said(path, message):
    more = {"widht": 16} if path.endswith("TinySegmenter") else {}
    with pytest.raises(ValueError, match=message):
        model_from(path, 3, **more)


def test_an_import_that_fails_inside_the_module_is_not_taken_for_a_wrong_path(tmp_path, monkeypatch):
    (tmp_path / "needs_more.py").write_text("import a_package_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_not_there"):
        model_from("needs_more:make", 3)
