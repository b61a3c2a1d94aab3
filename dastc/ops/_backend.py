"""Which implementation runs: the reference in PyTorch, or a fused kernel in Triton."""

import importlib.util
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from dastc._core.checks import check_choice

Backend = Literal["auto", "torch", "triton"]

OPERATORS = (
    "flow_warp",
    "resize_flow",
    "class_pool",
    "pseudo_label",
    "clip_paste",
    "upsampled_ce",
    "centroid_kernel",
)

# The operators that have a fused kernel, and the largest sizes that it takes.
_LIMITS: dict[str, dict[str, int]] = {
    "flow_warp": {},
    "class_pool": {"K": 256, "D": 4096},
    "pseudo_label": {"K": 256},
    "clip_paste": {},
    "upsampled_ce": {"K": 256},
    "centroid_kernel": {"K": 256, "D": 4096},
}

# The operators whose kernel "auto" takes: those that beat the reference, which would run in their place, in every case
# of benchmarks/results/speed/cuda.json.
_CHOSEN = frozenset({"class_pool", "pseudo_label", "clip_paste", "upsampled_ce", "centroid_kernel"})

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_ADVICE = "Or use backend='auto', which takes the reference."


def check_backend(caller: str, backend: str) -> None:
    """Check that an implementation is one of those there are."""
    check_choice(caller, "backend", backend, ("auto", "torch", "triton"))


def use_triton(caller: str, operator: str, backend: str, x: Tensor, sizes: Mapping[str, int] | None = None) -> bool:
    """Say whether the fused kernel runs; an explicit request that it cannot meet is an error, never the reference.

    Args:
        caller: The public function, for the error.
        operator: One of the names in ``OPERATORS``.
        backend: ``"auto"``, ``"torch"`` or ``"triton"``.
        x: The tensor whose device and dtype the computation has.
        sizes: The axes that the kernel has limits for.
    """
    if backend == "torch" or (backend == "auto" and (operator not in _CHOSEN or x.device.type != "cuda")):
        return False
    obstacle = _obstacle(operator, x, sizes or {})
    if obstacle and backend == "triton":
        raise RuntimeError(f"{caller}: backend='triton' needs {obstacle} {_ADVICE}")
    return not obstacle


def _obstacle(operator: str, x: Tensor, sizes: Mapping[str, int]) -> str:
    """Return what is missing for the fused kernel, what is there instead, and what to do; empty if nothing is."""
    if not _triton_installed():
        return "Triton; got an environment without it. Install it with `pip install triton`."
    if x.device.type != "cuda" and not (x.device.type == "cpu" and _interpreted()):
        return f"tensors on a GPU; got {x.device.type}. Move them there, or set TRITON_INTERPRET=1 to debug on the CPU."
    if x.dtype not in _DTYPES:
        return f"float32, bfloat16 or float16; got {x.dtype}. Convert the tensors."
    limits = _LIMITS[operator]
    return next(
        (
            f"{axis} of at most {limits[axis]}; got {size}. Split the tensors."
            for axis, size in sizes.items()
            if axis in limits and size > limits[axis]
        ),
        "",
    )


def current_device_of(x: Tensor) -> AbstractContextManager[object]:
    """Return a context in which the GPU of ``x`` is the current one: Triton launches there, wherever tensors lie."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


@cache
def _triton_installed() -> bool:
    return importlib.util.find_spec("triton") is not None


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "on", "yes", "y")


def backend_info(device: torch.device | str = "cpu") -> dict[str, str]:
    """Say which implementation each operator takes on a device with ``backend="auto"``, and why.

    Args:
        device: Where the tensors will lie, e.g. ``"cuda"``.

    Example:
        >>> backend_info("cpu")["class_pool"]
        'torch: fused kernels run on GPUs only'
    """
    kind = torch.device(device).type  # an unknown device is an error here, not a wrong answer
    return {operator: _choice(operator, kind) for operator in OPERATORS}


def _choice(operator: str, kind: str) -> str:
    if operator not in _LIMITS:
        return "torch: there is no fused kernel"
    if kind != "cuda":
        return "torch: fused kernels run on GPUs only"
    if operator not in _CHOSEN:
        return "torch: measured faster than the fused kernel, or as fast; backend='triton' takes it"
    if not _triton_installed():
        return "torch: Triton is not installed"
    return "triton: measured faster than the reference, which float64 takes"
