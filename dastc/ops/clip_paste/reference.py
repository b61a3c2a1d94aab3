"""Ground truth for ``clip_paste``: plain PyTorch, any device."""

import torch
from torch import Tensor


def clip_paste_reference(
    frames: tuple[Tensor, Tensor],
    labels: tuple[Tensor, Tensor],
    flow: tuple[Tensor, Tensor] | None,
    weights: tuple[Tensor, Tensor] | None,
    key: Tensor,
    table: Tensor,
    eligible: Tensor | None,
    opacity: float,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor]:
    """Compose foreground and background, in this order in each pair; see :func:`dastc.functional.clip_paste`."""
    mask = look_up(key, table)
    if eligible is not None:
        mask = mask & eligible
    front, back = frames
    if opacity != 1:
        front = torch.lerp(back, front, opacity)
    return (
        torch.where(mask.unsqueeze(2), front, back),
        torch.where(mask, *labels),
        None if flow is None else torch.where(mask[:, 1:].unsqueeze(2), *flow),
        None if weights is None else torch.where(mask, *weights),
        mask,
    )


def look_up(key: Tensor, table: Tensor) -> Tensor:
    """Return whether the class of each pixel is in its sample's row of ``table``; other labels are in none."""
    samples, classes = table.shape
    padded = torch.cat((table, table.new_zeros((samples, 1))), dim=1)
    column = key.where((key >= 0) & (key < classes), classes).flatten(1)
    return padded.gather(1, column).view(key.shape)
