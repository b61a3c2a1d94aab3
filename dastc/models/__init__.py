"""Models and what opens them up: feature taps, score fusion, a tiny segmenter."""

from dastc.models.tiny_segmenter import TinySegmenter

__all__ = ["TinySegmenter"]
