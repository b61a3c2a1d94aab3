"""Clips to train and test on: procedural streets, and real driving video."""

from dastc.data.camvid import CamVid
from dastc.data.flow_cache import FilledCache, FlowCache
from dastc.data.flow_estimators import DISFlow, FlowEstimator, RAFTFlow
from dastc.data.flow_files import read_flow, write_flow
from dastc.data.frames import from_rgb, renormalise, to_rgb
from dastc.data.label_space import CAMVID, STREET, LabelSpace
from dastc.data.photometric import PhotometricJitter
from dastc.data.random_transforms import RandomCrop, RandomFlip, RandomScale
from dastc.data.rare_classes import RareClassSampler, class_counts
from dastc.data.street_clips import StreetClips
from dastc.data.transforms import OnFrames, Resize

__all__ = [
    "CAMVID",
    "STREET",
    "CamVid",
    "DISFlow",
    "FilledCache",
    "FlowCache",
    "FlowEstimator",
    "LabelSpace",
    "OnFrames",
    "PhotometricJitter",
    "RAFTFlow",
    "RandomCrop",
    "RandomFlip",
    "RandomScale",
    "RareClassSampler",
    "Resize",
    "StreetClips",
    "class_counts",
    "from_rgb",
    "read_flow",
    "renormalise",
    "to_rgb",
    "write_flow",
]
