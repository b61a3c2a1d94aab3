"""A miniature of what people have: labelled pictures, a video without labels, and labels of a few of its frames."""

import numpy as np
import pytest
import torch
from PIL import Image

from dastc.commands import main

ROAD = 7  # the id in the files


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    from dastc.data import VideoWriter

    root, rng = tmp_path_factory.mktemp("tree"), np.random.default_rng(0)
    for part in ("sim/rgb/a", "sim/ids/a", "ids"):
        (root / part).mkdir(parents=True)
    with VideoWriter(root / "drive.mp4", rate=10) as video:
        for number in range(6):
            ids = np.zeros((32, 48), np.uint8)
            ids[16:, number * 2 :] = ROAD
            for light in (60, 120):
                rgb = (rng.integers(0, 60, (32, 48, 3)) + light * (ids[..., None] == ROAD)).astype(np.uint8)
                if light == 120:
                    video.write(torch.from_numpy(rgb))
                else:
                    Image.fromarray(rgb).save(root / "sim/rgb/a" / f"{number}.jpg")
            Image.fromarray(ids).save(root / "sim/ids/a" / f"{number}.png")
            if number in (2, 5):
                Image.fromarray(ids).save(root / "ids" / f"{number:06}.png")
    return root


@pytest.fixture
def there(tree, monkeypatch):
    """Go where the miniature is."""
    monkeypatch.chdir(tree)
    return tree


@pytest.fixture
def refused(capsys):
    """Return what a command says of bad input: a line, and exit code 2."""

    def run(*words):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main(list(map(str, words)))
        assert stopped.value.code == 2
        *usage, line = capsys.readouterr().err.splitlines()
        assert all(one.startswith(("usage:", " ")) or "%|" in one or not one for one in usage), usage
        assert line.startswith(f"dastc {words[0]}: ")
        return line

    return run


@pytest.fixture
def adapted(there):  # noqa: ARG001
    """Return the words of a small adaptation from the pictures to the video."""

    def words(out, *more):
        given = ["adapt", "--source", "sim/rgb", "--source-labels", "sim/ids", "--target", "drive.mp4"]
        given += [
            "--classes",
            "sky,road",
            "--label-map",
            f"{{0: 0, {ROAD}: 1}}",
            "--steps",
            "4",
            "--save-every",
            "2",
            "--batch",
            "1",
        ]
        return [*given, "--workers", "0", "--warmup", "1", "--device", "cpu", "--out", str(out), *map(str, more)]

    return words
