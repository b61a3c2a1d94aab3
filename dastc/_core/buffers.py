"""Buffers whose size is known only once data has passed by."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn


def make_room(module: nn.Module, state_dict: Mapping[str, Any], prefix: str, names: Sequence[str]) -> None:
    """Give the named buffers the sizes that a checkpoint has for them, before it is loaded."""
    for name in names:
        saved, own = state_dict.get(prefix + name), module._buffers[name]
        if saved is not None and (own is None or own.shape != saved.shape):
            device = next((b.device for b in module.buffers()), saved.device)
            setattr(module, name, torch.empty_like(saved, device=device))
        elif saved is None:
            setattr(module, name, None)
