"""Small trees in the layouts of the real data sets, which the examples write, too."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def miniature():
    path = Path(__file__).parents[2] / "examples" / "reproduce" / "miniature.py"
    spec = importlib.util.spec_from_file_location("miniature", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
