"""Kernels run in Triton's interpreter where there is no GPU; scratch memory starts as NaN; processes share tests."""

import os
import warnings
from contextlib import contextmanager

import pytest
import torch
from hypothesis import settings

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # must precede the first `import triton`
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")  # Triton 3.9 warns where it is not said

# two is what the smallest machine has, and its workers share them; the number does not change a result's meaning
torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)
settings.register_profile("dastc", max_examples=12, deadline=None, derandomize=True)
settings.load_profile("dastc")


def pytest_xdist_auto_num_workers():
    """Return how many processes test: few, since each holds PyTorch, and one on a GPU, since they would share it."""
    return 1 if torch.cuda.is_available() else min(os.cpu_count() or 1, 4)


@pytest.fixture
def no_wait():
    """Return a context in which it is an error to make the host wait for the GPU."""

    @contextmanager
    def context():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that this mode is new
            torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")

    return context


@pytest.fixture(autouse=True)
def _poison_uninitialised_memory():
    torch.use_deterministic_algorithms(True, warn_only=True)  # torch then fills torch.empty* with NaN
    torch.manual_seed(0)
    yield
    torch.use_deterministic_algorithms(False)
