import importlib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av", reason="PyAV is in the extra `video`")
pytest.importorskip("matplotlib", reason="matplotlib is in the extra `examples`")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_folders_are_written_trained_on_segmented_and_drawn(monkeypatch, tmp_path):
    from PIL import Image

    monkeypatch.syspath_prepend(str(BENCHMARKS))
    pictures = importlib.import_module("pictures")
    monkeypatch.setattr(pictures, "SIZE", (32, 48))
    pictures.main(["--steps", "4", "--clips", "4", "--figures", str(tmp_path)])
    drawn = {path.name: np.asarray(Image.open(path).convert("RGB")) for path in tmp_path.iterdir()}
    assert set(drawn) == {"data.png", "models.png", "your_data.png"}
    for name, rgb in drawn.items():
        assert len(np.unique(rgb.reshape(-1, 3), axis=0)) > 50, f"{name} shows next to nothing"


def test_components_hold_what_differs_most(monkeypatch):
    import torch

    monkeypatch.syspath_prepend(str(BENCHMARKS))
    pictures = importlib.import_module("pictures")
    maps = torch.zeros(2, 5, 4, 6)
    maps[0, 1], maps[0, 3, :, ::2] = 10, 1  # the two maps differ, and the columns of the first
    rgb = pictures.components(maps).int()
    assert rgb.shape == (2, 4, 6, 3)
    first, second = rgb[0, ..., 0], rgb[1, ..., 0]
    assert (first - second).abs().min() > 200
    assert (rgb[0, :, 0] != rgb[0, :, 1]).any()
