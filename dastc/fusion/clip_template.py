"""The clip of the step before, kept to be pasted from."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dastc._core.compiling import left_eager
from dastc.clip import Clip, map_clip

__all__ = ["ClipTemplate"]


class ClipTemplate(nn.Module):
    """Hand out the clip of the step before, and keep this step's for the next; part of ``state_dict``.

    No buffer: each rank has clips of its own, and DistributedDataParallel would hand the first one's to all.

    Example:
        >>> template = ClipTemplate()
        >>> template.swap(Clip(torch.zeros(1, 1, 3, 4, 4))) is None
        True
        >>> template.swap(Clip(torch.ones(1, 1, 3, 4, 4))).frames.sum()
        tensor(0.)
    """

    def __init__(self) -> None:
        super().__init__()
        self._kept: Clip | None = None

    @left_eager
    @torch.no_grad()
    def swap(self, clip: Clip) -> Clip | None:
        """Return what was kept, and keep ``clip``; a clip of another size than before finds nothing kept."""
        before = self._kept
        if self.training:
            self._kept = map_clip(clip, lambda x: x.detach().clone())
        if before is None or before.frames.shape != clip.frames.shape:
            return None
        return before.to(clip.frames.device)

    def get_extra_state(self) -> dict[str, Tensor | None]:
        """Return what is kept, field by field."""
        return {} if self._kept is None else self._kept._asdict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Keep what another template kept."""
        self._kept = Clip(**state) if state else None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "ClipTemplate":
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._kept = None if self._kept is None else map_clip(self._kept, fn)
        return self
