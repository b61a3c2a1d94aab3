"""A picture of what models predict: frames, truth and predictions side by side."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dastc.clip import stack_clips
from dastc.data import LabelSpace, to_rgb
from dastc.functional import pseudo_labels
from dastc.labelling.segment import segment
from dastc.viz import colourise, side_by_side

__all__ = ["draw_panel"]


@torch.no_grad()
def draw_panel(
    path: Path, models: Mapping[str, nn.Module], clips: Any, space: LabelSpace, device: torch.device, *, rows: int = 4
) -> None:
    """Draw frames, truth and what each model predicts, for clips spread evenly over a data set.

    Args:
        path: The PNG file to write.
        models: In evaluation mode, on the device, by the titles of their columns.
        clips: A data set of labelled clips.
        space: Names and colours of the classes.
        device: Where to compute.
        rows: How many clips to draw.
    """
    pictures, count = [], min(rows, len(clips))
    for row in range(count):
        clip = clips[round(row * (len(clips) - 1) / max(count - 1, 1))]
        truth, batch = clip.labels[-1], stack_clips([clip]).to(device)
        last = [segment(model, batch)[:, -1] for model in models.values()]
        predicted = [pseudo_labels(logits, tuple(truth.shape)).labels[0].cpu() for logits in last]
        hidden = [labels.where(truth != space.ignore_index, space.ignore_index) for labels in predicted]
        pictures.append([to_rgb(clip.frames[-1]), *(colourise(labels, space) for labels in (truth, *hidden))])
    side_by_side(pictures, titles=["frame", "truth", *models], path=path, space=space)
