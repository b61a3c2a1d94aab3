"""Clips to train and test on: procedural streets, published data sets, and anyone's own folders."""

from dastc._core.moved import moved
from dastc.data import spaces
from dastc.data.camvid import CamVid
from dastc.data.cityscapes import Cityscapes, CityscapesSeq
from dastc.data.flow_cache import FlowCache
from dastc.data.flow_estimators import DISFlow, RAFTFlow
from dastc.data.flow_files import read_flow, write_flow
from dastc.data.folder_clips import FolderClips
from dastc.data.frames import from_rgb, to_rgb
from dastc.data.gta5 import GTA5
from dastc.data.label_space import LabelSpace
from dastc.data.rare_classes import RareClassSampler, class_counts
from dastc.data.skip_broken import SkipBroken
from dastc.data.street_clips import StreetClips
from dastc.data.synthia import SynthiaRand, SynthiaSeq
from dastc.data.video_files import VideoFrames, VideoWriter
from dastc.data.viper import Viper

__all__ = [
    "GTA5",
    "CamVid",
    "Cityscapes",
    "CityscapesSeq",
    "DISFlow",
    "FlowCache",
    "FolderClips",
    "LabelSpace",
    "RAFTFlow",
    "RareClassSampler",
    "SkipBroken",
    "StreetClips",
    "SynthiaRand",
    "SynthiaSeq",
    "VideoFrames",
    "VideoWriter",
    "Viper",
    "class_counts",
    "from_rgb",
    "read_flow",
    "spaces",
    "to_rgb",
    "write_flow",
]

__getattr__ = moved(
    __name__,
    {
        "dastc.augment": "OnFrames PhotometricJitter RandomCrop RandomFlip RandomScale Resize",
        "dastc.data.spaces": "CAMVID CITYSCAPES19 RAW_NAMES STREET SYNTHIA13 SYNTHIA16 SYNTHIA_SEQ12 VIPER15",
        "dastc.data.file_report": "FileReport",
        "dastc.data.flow_cache": "FilledCache",
        "dastc.data.flow_estimators": "FlowEstimator",
        "dastc.data.step_sampler": "StepSampler",
        "dastc.data.read_ahead": "read_ahead",
        "dastc.data.frames": "renormalise",
    },
)
