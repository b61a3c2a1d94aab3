"""What the tests of the fused kernels share: dtypes, layouts, and when a kernel agrees with its reference."""

import os
from functools import cache

import pytest
import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LAYOUTS = ["contiguous", "channels_last", "sliced"]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
IGNORED = [0.0, 0.25, 1.0]

pytest.importorskip("triton")
assert DEVICE == "cuda" or os.environ.get("TRITON_INTERPRET") == "1", "without a GPU the kernels are interpreted"

on_a_gpu = pytest.mark.skipif(DEVICE == "cpu", reason="no GPU")
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
every_layout = pytest.mark.parametrize("layout", LAYOUTS)
every_ignored = pytest.mark.parametrize("ignored", IGNORED)
# each two of the three meet: a third of all combinations, for kernels that are slow to interpret
every_pair = pytest.mark.parametrize(
    ("dtype", "layout", "ignored"),
    [(DTYPES[i], LAYOUTS[j], IGNORED[(i + j) % 3]) for i in range(3) for j in range(3)],
    ids=str,
)


def lay(x, layout):
    """Return the same values with other strides; in a slice the neighbours in memory are NaN, or labels that count."""
    x = x.to(DEVICE)
    if layout == "channels_last" and x.dim() > 2:
        return x.movedim(1, -1).contiguous().movedim(-1, 1)
    if layout == "channels_last" and x.dim() == 2:
        return x.mT.contiguous().mT
    if layout == "sliced" and x.dim() == 1:
        return lay(x.unsqueeze(1), layout).squeeze(1)
    if layout == "sliced":
        around = x.new_full([n + 3 for n in x.shape], float("nan") if x.is_floating_point() else 1)
        middle = around[tuple(slice(1, n + 1) for n in x.shape)]
        return middle.copy_(x)
    return x.contiguous()


def another(layout):
    """Return a layout with other strides, so that no tensor's can stand in for a second one's unnoticed."""
    return LAYOUTS[LAYOUTS.index(layout) - 1]


def ignore(labels, share, seed=5):
    """Take a share of the labels out: below the range, above it, and far beyond what a table could hold."""
    out = torch.tensor([255, -1, 2**62, -(2**62)])
    rng = torch.Generator().manual_seed(seed)
    picked = out[torch.randint(0, 4, labels.shape, generator=rng)].to(labels.device)
    return labels.where(torch.rand(labels.shape, generator=rng).to(labels.device) >= share, picked)


def run(function, backend, inputs, up, **arguments):
    """Return outputs and gradients of one implementation."""
    leaves = {
        name: x.detach().requires_grad_() if torch.is_tensor(x) and x.is_floating_point() else x
        for name, x in inputs.items()
    }
    outputs = function(**leaves, **arguments, backend=backend)
    outputs = (outputs,) if torch.is_tensor(outputs) else tuple(outputs)
    differentiable = [x for x in outputs if x.requires_grad]
    wanted = [x for x in leaves.values() if torch.is_tensor(x) and x.requires_grad]
    grads = torch.autograd.grad(differentiable, wanted, up[: len(differentiable)], materialize_grads=True)
    return (*outputs, *grads)


def assert_agree(found, want, *, rtol=1e-5, atol=1e-5):
    """Compare implementations: to the rounding of a result in half precision, else to float32's."""
    assert len(found) == len(want)
    for one, other in zip(found, want, strict=True):
        assert one.dtype == other.dtype
        half = other.dtype in (torch.bfloat16, torch.float16)
        bound = torch.finfo(other.dtype).eps if half else rtol
        torch.testing.assert_close(one, other, rtol=bound, atol=atol, equal_nan=True)


def far_apart(*shape, dtype=torch.float16):
    """Return a (1, A, B) whose last row lies beyond what int32 addresses; between the rows no memory is touched."""
    rows, columns = shape
    step = (2**31 + 64) // (rows - 1)
    filled = torch.utils.deterministic.fill_uninitialized_memory
    torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        memory = torch.empty((rows - 1) * step + columns, dtype=dtype, device=DEVICE)
    finally:
        torch.utils.deterministic.fill_uninitialized_memory = filled
    return memory.as_strided((1, rows, columns), (0, step, 1))


def _search_once():
    """Let the interpreter look only once through Triton's names for what it replaces, not at every nested call."""
    from triton.runtime import interpreter

    search = getattr(interpreter, "_patch_builtin", None)
    if search is None:
        return

    @cache
    def names(package):
        return [name for name in dir(package) if interpreter.tl.core.is_builtin(getattr(package, name))]

    def patch(package, *rest):
        if any(interpreter.tl.core.is_builtin(getattr(package, name)) for name in names(package)[:1]):
            search(package, *rest)

    interpreter._patch_builtin = patch


if DEVICE == "cpu":
    _search_once()
