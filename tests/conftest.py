"""Kernels run in Triton's interpreter where there is no GPU; scratch memory starts as NaN."""

import os

import pytest
import torch
from hypothesis import settings

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # must precede the first `import triton`
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")  # Triton 3.9 warns where it is not said

torch.set_num_threads(2)  # what the smallest machine has; more threads would not change a result's meaning
settings.register_profile("dastc", max_examples=25, deadline=None, derandomize=True)
settings.load_profile("dastc")


@pytest.fixture(autouse=True)
def _poison_uninitialised_memory():
    torch.use_deterministic_algorithms(True, warn_only=True)  # torch then fills torch.empty* with NaN
    torch.manual_seed(0)
    yield
    torch.use_deterministic_algorithms(False)
