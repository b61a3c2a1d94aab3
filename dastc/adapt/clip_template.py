"""The clip of the step before, kept to be pasted from."""

from typing import Any

import torch
from torch import Tensor, nn

from dastc._core.buffers import make_room
from dastc.clip import Clip

__all__ = ["ClipTemplate"]


class ClipTemplate(nn.Module):
    """Hand out the clip of the step before, and keep this step's for the next; part of ``state_dict``.

    Example:
        >>> template = ClipTemplate()
        >>> template.swap(Clip(torch.zeros(1, 1, 3, 4, 4))) is None
        True
        >>> template.swap(Clip(torch.ones(1, 1, 3, 4, 4))).frames.sum()
        tensor(0.)
    """

    def __init__(self) -> None:
        super().__init__()
        for name in Clip._fields:
            self.register_buffer(name, None)

    @torch.no_grad()
    def swap(self, clip: Clip) -> Clip | None:
        """Return what was kept, and keep ``clip``; a clip of another size than before finds nothing kept."""
        before: dict[str, Tensor | None] = {name: self._buffers[name] for name in Clip._fields}
        for name, value in zip(Clip._fields, clip, strict=True):
            setattr(self, name, None if value is None else value.detach().clone())
        frames = before.pop("frames")
        return None if frames is None or frames.shape != clip.frames.shape else Clip(frames, **before)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        make_room(self, state_dict, prefix, Clip._fields)
        super()._load_from_state_dict(state_dict, prefix, *args)
