"""Results as files, and what they were made with."""

import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import torch

import dastc
from dastc.data import LabelSpace

__all__ = ["append_row", "classes_of", "commit", "device_name", "read_rows", "versions", "write_json"]


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, whole or not at all."""
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(value, indent=1) + "\n")
    partial.replace(path)


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Add a line of JSON to a file."""
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the lines of JSON of a file, none if it does not exist."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def classes_of(space: LabelSpace) -> dict[str, Any]:
    """Return the classes as plain values, to keep beside a checkpoint."""
    return {
        "names": list(space.names), "colours": [list(colour) for colour in space.colours],
        "rare": list(space.rare), "ignore_index": space.ignore_index,
    }  # fmt: skip


def device_name(device: torch.device) -> str:
    """Return what a device is called, to stand beside results."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"


def versions() -> dict[str, str]:
    """Return the versions that results depend on."""
    return {
        "dastc": dastc.__version__, "torch": str(torch.__version__), "numpy": np.__version__,
        "python": platform.python_version(),
    }  # fmt: skip


def commit() -> str | None:
    """Return the commit of the checkout that dastc is imported from, or None where it is installed."""
    folder = Path(dastc.__file__).parent
    try:
        # an environment may lie within the checkout of another project: that one does not know this file
        _git(folder, "ls-files", "--error-unmatch", "__init__.py")
        return _git(folder, "rev-parse", "HEAD")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *command: str) -> str:
    asked = ["git", "-C", str(folder), *command]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
