"""The main example as a module: benchmarks train and look at what a user does."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[1]


def load_example():
    spec = importlib.util.spec_from_file_location("adapt_video", ROOT / "examples/adapt_video.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
