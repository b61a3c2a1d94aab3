"""Bidirectional multi-level fusion: of clips, and of their shallow features."""

from dastc._core.moved import moved
from dastc.fusion.patch_bank import PatchBank
from dastc.fusion.sequence_patch_fusion import SequencePatchFusion
from dastc.fusion.shallow_feature_fusion import ShallowFeatureFusion

__all__ = ["PatchBank", "SequencePatchFusion", "ShallowFeatureFusion"]

__getattr__ = moved(
    __name__,
    {
        "dastc.fusion.sequence_patch_fusion": "FusedClip",
    },
)
