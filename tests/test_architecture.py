"""Imports point down the layers only; packages of one layer do not see each other."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "dastc"
LAYER = {
    "_core": 0, "clip": 0, "ops": 1, "functional": 2, "fusion": 3, "aggregation": 3, "losses": 3,
    "models": 3, "metrics": 3, "augment": 3, "data": 3, "viz": 3, "labelling": 4, "adapt": 5,
    "diagnosis": 6, "training": 6, "commands": 7,
}  # fmt: skip
FILES = [path for path in ROOT.rglob("*.py") if path.parent != ROOT]


def _imported(source: str) -> set[str]:
    dotted: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            dotted += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            dotted += [f"{node.module}.{alias.name}" for alias in node.names]
    return {name.split(".")[1] for name in dotted if name.startswith("dastc.")}


def _too_high(here: str, source: str) -> set[str]:
    return {other for other in _imported(source) - {here} if LAYER.get(other, -1) >= LAYER[here]} - (
        {"clip"} if LAYER[here] else set()
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    here = path.relative_to(ROOT).parts[0]
    bad = _too_high(here, path.read_text())
    assert not bad, f"{path.relative_to(ROOT)} (layer {LAYER[here]}) may not import {sorted(bad)}"


@pytest.mark.parametrize(
    "line", ["import dastc.losses.x", "from dastc.losses import X", "from dastc import losses as l"]
)
def test_an_upward_import_is_seen(line):
    assert _too_high("ops", line) == {"losses"}
