"""Losses: tensors in, scalar out."""

from dastc.losses.category_alignment import CategoryAlignmentLoss
from dastc.losses.centroid_alignment import CentroidAlignmentLoss, InterClassLoss, IntraClassLoss
from dastc.losses.self_training import SelfTrainingLoss

__all__ = [
    "CategoryAlignmentLoss",
    "CentroidAlignmentLoss",
    "InterClassLoss",
    "IntraClassLoss",
    "SelfTrainingLoss",
]
