"""Which parameters learn, and how fast: groups for an optimiser, and frozen parts, by name."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from dastc._core.checks import check_at_least, check_number

__all__ = ["freeze", "parameter_groups"]


def parameter_groups(
    model: nn.Module, lr: float, *, factors: Mapping[str, float] | None = None, weight_decay: float = 0.01
) -> list[dict[str, Any]]:
    """Sort the parameters that learn into groups for an optimiser: learning rates by name, no decay for norms.

    Biases, the parameters of normalisation layers and others of one axis do not decay. Frozen parameters are left out.

    Args:
        model: Any module.
        lr: Learning rate, > 0, where no factor says otherwise.
        factors: By which to multiply it, >= 0, for the parameters under a submodule's dotted name. ``*`` stands for any
            letters, dots included. Where several patterns fit, the last one holds.
        weight_decay: For all others, >= 0.

    Returns:
        Groups with ``params``, ``lr``, ``initial_lr`` (the same, for schedules), ``weight_decay`` and ``name``.

    Raises:
        ValueError: If a number is out of range, a pattern fits no parameter (the message lists names that are near),
            or nothing learns.

    Source:
        Factor 10 for heads: the released code (docs/method.md#the-video-model).

    Example:
        >>> from dastc.models import TinySegmenter
        >>> for group in parameter_groups(TinySegmenter(3), 1e-3, factors={"head": 10}):
        ...     print(group["name"], group["lr"], group["weight_decay"], len(group["params"]))
        rest 0.001 0.01 11
        rest, no decay 0.001 0.0 22
        head 0.01 0.01 1
        head, no decay 0.01 0.0 1
    """
    check_at_least("parameter_groups", "weight_decay", weight_decay, 0)
    check_number("parameter_groups", "lr", lr)
    if not lr > 0:
        raise ValueError(f"parameter_groups: `lr` must be above 0; got {lr}.")
    factors = {} if factors is None else factors
    if not isinstance(factors, Mapping):
        raise TypeError(f"parameter_groups: `factors` must be a mapping of names to numbers; got {factors!r}.")
    names = [name for name, _ in model.named_parameters()]
    for pattern, factor in factors.items():
        check_at_least("parameter_groups", f"factors[{pattern!r}]", factor, 0)
        _check_fits("parameter_groups", "factors", pattern, names, model)
    groups: dict[tuple[str, bool], dict[str, Any]] = {}
    for label in ("rest", *factors):
        for decays in (True, False):
            rate = lr * factors.get(label, 1.0)
            groups[label, decays] = {
                "name": label if decays else f"{label}, no decay",
                "params": [],
                "lr": rate,
                "initial_lr": rate,
                "weight_decay": weight_decay if decays else 0.0,
            }
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            label = next((p for p in reversed(list(factors)) if _fits(name, p)), "rest")
            groups[label, parameter.dim() > 1]["params"].append(parameter)
    found = [group for group in groups.values() if group["params"]]
    if not found:
        raise ValueError(
            f"parameter_groups: `model` must have a parameter that learns; {type(model).__name__} has none."
        )
    return found


def freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Keep parts of a model as they are: no gradient, and evaluation mode, so that running statistics stay, too.

    ``model.train()`` undoes the evaluation mode, not the rest: call ``freeze`` again after it.

    Args:
        model: Any module.
        patterns: Dotted names of submodules or parameters; ``*`` stands for any letters, dots included.

    Raises:
        ValueError: If a pattern fits nothing; the message lists names that are near.

    Source:
        Ours.

    Example:
        >>> from dastc.models import TinySegmenter
        >>> model = TinySegmenter(3)
        >>> freeze(model, ["stem", "middle.0"])
        >>> model.stem[0][0].weight.requires_grad, model.middle[0].training, model.middle[1].training
        (False, False, True)
    """
    if isinstance(patterns, str):
        raise TypeError(f"freeze: `patterns` must be a sequence of names; got the single string {patterns!r}.")
    if not isinstance(patterns, Iterable) or not all(isinstance(pattern, str) for pattern in patterns):
        raise TypeError(f"freeze: `patterns` must be a sequence of names; got {patterns!r}.")
    parameters, modules = dict(model.named_parameters()), dict(model.named_modules())
    for pattern in patterns:
        _check_fits("freeze", "patterns", pattern, (*parameters, *modules), model)
        for name, parameter in parameters.items():
            if _fits(name, pattern):
                parameter.requires_grad_(False)
        for name, module in modules.items():
            if _fits(name, pattern):
                module.training = False


def _fits(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def _check_fits(caller: str, argument: str, pattern: str, names: Iterable[str], model: nn.Module) -> None:
    if any(_fits(name, pattern) for name in names):
        return
    known = [name for name, _ in model.named_modules() if name]
    near = get_close_matches(pattern, known, n=5, cutoff=0.4) or [name for name, _ in model.named_children()]
    raise ValueError(
        f"{caller}: `{argument}` must fit names of {type(model).__name__}; got {pattern!r}. "
        f"Near: {', '.join(map(repr, near))}."
    )
