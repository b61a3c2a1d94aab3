"""Models and what opens them up: feature taps, score fusion, several scales, a tiny segmenter."""

from dastc.models.feature_tap import FeatureTap
from dastc.models.multi_scale import MultiScale
from dastc.models.outputs import logits_of
from dastc.models.tiny_segmenter import TinySegmenter
from dastc.models.video_segmenter import ScoreFusion, VideoSegmenter

__all__ = ["FeatureTap", "MultiScale", "ScoreFusion", "TinySegmenter", "VideoSegmenter", "logits_of"]
