"""What is measured: mean intersection over union, and steadiness along the motion of a clip."""

from dastc._core.moved import moved
from dastc.metrics.mean_iou import MeanIoU
from dastc.metrics.temporal_consistency import TemporalConsistency

__all__ = ["MeanIoU", "TemporalConsistency"]

__getattr__ = moved(
    __name__,
    {
        "dastc.metrics.mean_iou": "MeanIoUResult",
    },
)
