"""Building blocks for domain-adaptive semantic segmentation of video and images."""

from dastc._core.debug import debug_checks
from dastc.clip import Clip, stack_clips
from dastc.ops._backend import backend_info

__all__ = ["Clip", "backend_info", "debug_checks", "stack_clips"]
__version__ = "0.1.0"
