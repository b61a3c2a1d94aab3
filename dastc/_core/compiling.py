"""What torch.compile leaves alone in code that puts others' networks together.

Importing this imports the compiler, which takes a second or two: only recipes do.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch._dynamo.eval_frame import skip_code

__all__ = ["left_eager", "left_out", "orchestrates"]

Function = TypeVar("Function", bound=Callable[..., Any])


def left_eager(function: Function) -> Function:
    """Keep the compiler out of a function and of all that it calls: bookkeeping, and draws on the host."""
    eager: Function = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
    return eager


def orchestrates(function: Function) -> Function:
    """Keep the compiler out of a function, but not out of what it calls.

    Such a function sees other clips and other lists of parts from step to step, and would be compiled again for each.
    """
    outside: Function = torch.compiler.disable(function, recursive=False)  # type: ignore[no-untyped-call]
    return outside


def left_out(function: Function) -> None:
    """Keep the compiler out of a function of another module, wherever that is called from."""
    skip_code(function.__code__)
