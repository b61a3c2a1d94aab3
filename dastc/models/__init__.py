"""Models and what opens them up: feature taps, score fusion, several scales, a tiny segmenter."""

from dastc.models.backbone_segmenter import BackboneSegmenter
from dastc.models.feature_tap import FeatureTap
from dastc.models.import_path import model_from
from dastc.models.multi_scale import MultiScale
from dastc.models.outputs import logits_of
from dastc.models.parameter_groups import freeze, parameter_groups
from dastc.models.query_logits import query_logits
from dastc.models.taps import KNOWN_TAPS, KnownTaps, Taps, taps_of
from dastc.models.tiny_segmenter import TinySegmenter
from dastc.models.video_segmenter import ScoreFusion, VideoSegmenter, VideoStream

__all__ = [
    "KNOWN_TAPS",
    "BackboneSegmenter",
    "FeatureTap",
    "KnownTaps",
    "MultiScale",
    "ScoreFusion",
    "Taps",
    "TinySegmenter",
    "VideoSegmenter",
    "VideoStream",
    "freeze",
    "logits_of",
    "model_from",
    "parameter_groups",
    "query_logits",
    "taps_of",
]
