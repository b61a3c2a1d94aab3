"""The stateless surface: operators on tensors, and small pure functions of labels, flow and centroids."""

from dastc._core.moved import moved
from dastc.functional.alignment import cdd, infonce, margin, mmd
from dastc.functional.appearance import match_histograms
from dastc.functional.centroids import Centroids, centroids_from_sums
from dastc.functional.confidence import confidence_weights
from dastc.functional.flow import compose_flow
from dastc.functional.labels import resize_labels
from dastc.ops.class_pool import class_pool
from dastc.ops.clip_paste import clip_paste
from dastc.ops.flow_warp import flow_warp
from dastc.ops.pseudo_label import pseudo_labels
from dastc.ops.resize_flow import resize_flow
from dastc.ops.upsampled_ce import upsampled_cross_entropy

__all__ = [
    "Centroids",
    "cdd",
    "centroids_from_sums",
    "class_pool",
    "clip_paste",
    "compose_flow",
    "confidence_weights",
    "flow_warp",
    "infonce",
    "margin",
    "match_histograms",
    "mmd",
    "pseudo_labels",
    "resize_flow",
    "resize_labels",
    "upsampled_cross_entropy",
]

__getattr__ = moved(
    __name__,
    {
        "dastc.functional.labels": "class_presence draw_classes warp_labels",
        "dastc.functional.flow": "flip_flow flow_consistency",
        "dastc.functional.appearance": "hide_blocks",
        "dastc.functional.alignment": "intra_class inter_class",
        "dastc.ops.centroid_kernel": "centroid_kernel",
        "dastc.ops.pseudo_label": "PseudoLabels",
    },
)
