"""What is shipped, and what importing it costs."""

import email
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import hatchling.build
import pytest

import dastc

ROOT = Path(__file__).parents[1]
OPTIONAL = {"triton", "PIL", "cv2", "matplotlib", "tqdm", "hypothesis", "pytest"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder, before = tmp_path_factory.mktemp("dist"), Path.cwd()
    os.chdir(ROOT)  # the build hooks of PEP 517 know no other way
    try:
        name = hatchling.build.build_wheel(str(folder))
    finally:
        os.chdir(before)
    with zipfile.ZipFile(folder / name) as archive:
        yield archive


def _metadata(wheel):
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return email.message_from_bytes(wheel.read(name))


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "dastc").rglob("*.py")}
    assert names == files | {"dastc/py.typed"}


def test_the_wheel_carries_the_licence_and_what_it_needs(wheel):
    metadata = _metadata(wheel)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel.namelist())
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.10"
    needed = {line.split(";")[0].strip() for line in metadata.get_all("Requires-Dist") if "extra ==" not in line}
    assert {line.split(">=")[0] for line in needed} == {"torch", "einops", "numpy", "typing-extensions"}
    assert not [line for line in needed if "==" in line or "<" in line], (
        "only lower bounds: pins cannot be co-installed"
    )


def test_the_version_stands_in_one_place(wheel):
    assert _metadata(wheel)["Version"] == dastc.__version__
    line = f'"{dastc.__version__}"'
    files = [*(ROOT / "dastc").rglob("*.py"), ROOT / "pyproject.toml", ROOT / "CITATION.cff", ROOT / "docs" / "conf.py"]
    assert [path.name for path in files if line in path.read_text(encoding="utf-8")] == ["__init__.py"]
    assert "\nversion:" not in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


IMPORT = """
import sys, time, warnings
import torch, numpy
before = set(sys.modules)
warnings.simplefilter("error")
start = time.perf_counter()
{statements}
print(time.perf_counter() - start)
print(*sorted({{name.partition(".")[0] for name in set(sys.modules) - before}}))
"""


def _import(statements):
    done = subprocess.run(
        [sys.executable, "-c", IMPORT.format(statements=statements)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seconds, modules = done.stdout.splitlines()
    return float(seconds), set(modules.split())


def test_importing_is_quick_and_quiet_and_needs_no_extra():
    seconds, modules = _import("import dastc")
    assert "dastc" in modules
    assert not modules & OPTIONAL
    assert seconds < 2


def test_no_package_needs_an_extra_to_be_imported():
    packages = sorted(path.parent.name for path in (ROOT / "dastc").glob("[a-z]*/__init__.py"))
    _, modules = _import("\n".join(f"import dastc.{package}" for package in packages))
    assert not modules & OPTIONAL
