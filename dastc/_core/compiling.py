"""What torch.compile leaves alone in code that puts others' networks together.

The compiler is not imported before somebody compiles: that takes longer than importing all of dastc.
"""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import torch

__all__ = ["any_batch", "left_eager", "left_out", "orchestrates"]

Function = TypeVar("Function", bound=Callable[..., Any])


def left_eager(function: Function) -> Function:
    """Keep the compiler out of a function and of all that it calls: bookkeeping, and draws on the host."""
    return _outside(function, recursive=True)


def orchestrates(function: Function) -> Function:
    """Keep the compiler out of a function, but not out of what it calls.

    Such a function sees other clips and other lists of parts from step to step, and would be compiled again for each.
    """
    return _outside(function, recursive=False)


def left_out(function: Callable[..., Any]) -> None:
    """Keep the compiler out of a function of another module, wherever that is called from."""
    _LEFT_OUT.append(function)


_LEFT_OUT: list[Callable[..., Any]] = []


def _outside(function: Function, *, recursive: bool) -> Function:
    disabled: list[Callable[..., Any]] = []

    @wraps(function)
    def outside(*args: Any, **kwargs: Any) -> Any:
        if "torch._dynamo" not in sys.modules:
            return function(*args, **kwargs)
        if not disabled:
            disabled.append(_disabled(function, recursive))
        return disabled[0](*args, **kwargs)

    if not _LEFT_OUT:
        left_out(outside)  # one code for all of them
    outside._torchdynamo_disable = True  # type: ignore[attr-defined]  # as torch.compiler.disable marks what it makes
    return cast(Function, outside)


def _disabled(function: Callable[..., Any], recursive: bool) -> Callable[..., Any]:
    from torch._dynamo.eval_frame import skip_code

    for other in _LEFT_OUT:
        skip_code(other.__code__)
    disabled: Callable[..., Any] = torch.compiler.disable(function, recursive=recursive)  # type: ignore[no-untyped-call]
    return disabled


@left_eager
def any_batch(x: torch.Tensor) -> None:
    """Let what is compiled for a tensor hold for batches of any size: others will follow."""
    if "torch._dynamo" in sys.modules:
        torch._dynamo.maybe_mark_dynamic(x, 0)
