"""Flow for clips that come without it: by DIS or RAFT, computed once."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Subset

from dastc.data import DISFlow, FlowCache, RAFTFlow
from dastc.training.progress import say
from dastc.training.ranks import rank, together, world

__all__ = ["FLOWS", "raft_flow", "with_flow"]

FLOWS = ("none", "folder", "dis", "raft")


def with_flow(clips: Any, kind: str, folder: Path, device: torch.device) -> Any:
    """Return clips with flow between their frames, estimated once and kept in a folder.

    Args:
        clips: A data set of clips.
        kind: ``"dis"`` or ``"raft"``; anything else leaves the clips as they are.
        folder: Where flow is kept.
        device: Where RAFT computes.
    """
    if kind not in ("dis", "raft"):
        return clips
    estimator = DISFlow() if kind == "dis" else raft_flow(device)
    share = Subset(clips, range(rank(), len(clips), world()))
    with together():
        say(f"flow: {FlowCache(share, estimator, folder).fill(progress=rank() == 0)}")
    if isinstance(estimator, RAFTFlow):
        estimator.model.cpu()  # it has done its work, and processes that read cannot take it along on a GPU
    return FlowCache(clips, estimator, folder)


def raft_flow(device: torch.device) -> RAFTFlow:
    """Return torchvision's RAFT, with its published weights, which torchvision fetches once."""
    if find_spec("torchvision") is None:
        raise RuntimeError(
            "--flow raft needs torchvision, which is not installed. Install it with `pip install torchvision`, or take "
            "--flow dis."
        )
    from torchvision.models.optical_flow import Raft_Large_Weights, raft_large

    try:
        return RAFTFlow(raft_large(weights=Raft_Large_Weights.DEFAULT).to(device))
    except OSError as error:
        raise ValueError(
            f"--flow raft needs its weights, which cannot be fetched ({error}). Take --flow dis."
        ) from error
