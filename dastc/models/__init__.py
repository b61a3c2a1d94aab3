"""Models and what opens them up: feature taps, score fusion, several scales, a tiny segmenter."""

from dastc._core.moved import moved
from dastc.models.backbone_segmenter import BackboneSegmenter
from dastc.models.feature_tap import FeatureTap
from dastc.models.multi_scale import MultiScale
from dastc.models.outputs import logits_of
from dastc.models.parameter_groups import freeze, parameter_groups
from dastc.models.taps import taps_of
from dastc.models.tiny_segmenter import TinySegmenter
from dastc.models.video_segmenter import VideoSegmenter, VideoStream

__all__ = [
    "BackboneSegmenter",
    "FeatureTap",
    "MultiScale",
    "TinySegmenter",
    "VideoSegmenter",
    "VideoStream",
    "freeze",
    "logits_of",
    "parameter_groups",
    "taps_of",
]

__getattr__ = moved(
    __name__,
    {
        "dastc.models.taps": "KNOWN_TAPS KnownTaps Taps",
        "dastc.models.video_segmenter": "ScoreFusion",
        "dastc.models.import_path": "model_from",
        "dastc.models.query_logits": "query_logits",
    },
)
