"""Bidirectional multi-level fusion: of clips, and of their shallow features."""

from dastc.fusion.patch_bank import PatchBank
from dastc.fusion.sequence_patch_fusion import SequencePatchFusion
from dastc.fusion.shallow_feature_fusion import ShallowFeatureFusion

__all__ = ["PatchBank", "SequencePatchFusion", "ShallowFeatureFusion"]
