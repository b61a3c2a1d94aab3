"""Every fused kernel becomes machine code for GPUs that are not there, and keeps its values in registers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dastc.ops._backend import _LIMITS

triton = pytest.importorskip("triton")
SCRIPT = Path(__file__).with_name("ahead_of_time.py")
# all that users have take a minute and a half of a core: DASTC_ARCHITECTURES="80 90 100" before a kernel is changed
ARCHITECTURES = [int(name) for name in os.environ.get("DASTC_ARCHITECTURES", "90").split()]
# bytes a thread; the compiler that comes with older Triton runs out of registers in two kernels, by a dozen
SPILLED = 0 if tuple(map(int, triton.__version__.split(".")[:2])) >= (3, 9) else 64


@pytest.mark.parametrize("operator", sorted(_LIMITS))
def test_kernels_compile_without_spilling(operator, tmp_path, record_property):
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(SCRIPT), operator, *map(str, ARCHITECTURES)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout)
    assert {row["architecture"] for row in found} == set(ARCHITECTURES)
    for row in found:
        record_property(f"{row['kernel']}, sm_{row['architecture']}", json.dumps(row))
        assert row["stack"] <= SPILLED, f"spills: {row}"
        assert row["local"] == 0, f"spills: {row}"
        assert row["registers"] <= 255
        assert row["shared"] <= 99 * 1024, f"more shared memory than the smallest of these GPUs gives a block: {row}"
