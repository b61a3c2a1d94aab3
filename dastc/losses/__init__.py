"""Losses: tensors in, scalar out."""

from dastc.losses.category_alignment import CategoryAlignmentLoss
from dastc.losses.centroid_alignment import CentroidAlignmentLoss
from dastc.losses.context_consistency import ContextConsistencyLoss
from dastc.losses.pixel_alignment import PixelAlignmentLoss
from dastc.losses.self_training import SelfTrainingLoss

__all__ = [
    "CategoryAlignmentLoss",
    "CentroidAlignmentLoss",
    "ContextConsistencyLoss",
    "PixelAlignmentLoss",
    "SelfTrainingLoss",
]
