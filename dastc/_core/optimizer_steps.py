"""Who hears of it when an optimiser has changed weights."""

from typing import Any
from weakref import WeakSet

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from dastc._core.compiling import left_eager

__all__ = ["hear_of_steps", "heard_of_step"]

_HEARING: "WeakSet[nn.Module]" = WeakSet()
_HEARD: "WeakSet[nn.Module]" = WeakSet()


def hear_of_steps(recipe: nn.Module) -> None:
    """From now on, note when an optimiser steps on any of the weights of ``recipe.model``.

    The version counters of the weights tell of most changes, but not of those by a fused optimiser, nor by one that
    writes to ``.data``.
    """
    _HEARING.add(recipe)
    _HEARD.discard(recipe)


def heard_of_step(recipe: nn.Module) -> bool:
    """Say whether an optimiser has stepped on the weights of ``recipe.model`` since :func:`hear_of_steps`."""
    return recipe in _HEARD


@left_eager
def _note(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    changed = {id(p) for group in optimizer.param_groups for p in group["params"] if p.grad is not None}
    for recipe in list(_HEARING):
        model: Any = recipe.model
        if not changed.isdisjoint(map(id, model.parameters())):
            _HEARD.add(recipe)


register_optimizer_step_post_hook(_note)
