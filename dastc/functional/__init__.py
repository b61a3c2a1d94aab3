"""The stateless surface: operators on tensors, and small pure functions of labels, flow and centroids."""

from dastc.functional.alignment import cdd, infonce, inter_class, intra_class, margin, mmd
from dastc.functional.appearance import hide_blocks, match_histograms
from dastc.functional.centroids import Centroids, centroids_from_sums
from dastc.functional.confidence import confidence_weights
from dastc.functional.flow import compose_flow, flip_flow, flow_consistency
from dastc.functional.labels import class_presence, draw_classes, resize_labels, warp_labels
from dastc.ops.centroid_kernel import centroid_kernel
from dastc.ops.class_pool import class_pool
from dastc.ops.clip_paste import clip_paste
from dastc.ops.flow_warp import flow_warp
from dastc.ops.pseudo_label import PseudoLabels, pseudo_labels
from dastc.ops.resize_flow import resize_flow
from dastc.ops.upsampled_ce import upsampled_cross_entropy

__all__ = [
    "Centroids",
    "PseudoLabels",
    "cdd",
    "centroid_kernel",
    "centroids_from_sums",
    "class_pool",
    "class_presence",
    "clip_paste",
    "compose_flow",
    "confidence_weights",
    "draw_classes",
    "flip_flow",
    "flow_consistency",
    "flow_warp",
    "hide_blocks",
    "infonce",
    "inter_class",
    "intra_class",
    "margin",
    "match_histograms",
    "mmd",
    "pseudo_labels",
    "resize_flow",
    "resize_labels",
    "upsampled_cross_entropy",
    "warp_labels",
]
