"""Clips to train and test on: procedural streets, published data sets, and anyone's own folders."""

from dastc.data.camvid import CamVid
from dastc.data.cityscapes import Cityscapes, CityscapesSeq
from dastc.data.colour_labels import ids_from_colours
from dastc.data.driving_spaces import CITYSCAPES19, RAW_NAMES, SYNTHIA13, SYNTHIA16, SYNTHIA_SEQ12, VIPER15
from dastc.data.file_report import FileReport
from dastc.data.flow_cache import FilledCache, FlowCache
from dastc.data.flow_estimators import DISFlow, FlowEstimator, RAFTFlow
from dastc.data.flow_files import read_flow, write_flow
from dastc.data.folder_clips import FolderClips
from dastc.data.frames import from_rgb, renormalise, to_rgb
from dastc.data.gta5 import GTA5
from dastc.data.label_space import CAMVID, STREET, LabelSpace
from dastc.data.rare_classes import RareClassSampler, class_counts
from dastc.data.read_ahead import read_ahead
from dastc.data.skip_broken import SkipBroken
from dastc.data.step_sampler import StepSampler
from dastc.data.street_clips import StreetClips
from dastc.data.synthia import SynthiaRand, SynthiaSeq
from dastc.data.video_files import VideoFrames, VideoWriter
from dastc.data.viper import Viper

__all__ = [
    "CAMVID",
    "CITYSCAPES19",
    "GTA5",
    "RAW_NAMES",
    "STREET",
    "SYNTHIA13",
    "SYNTHIA16",
    "SYNTHIA_SEQ12",
    "VIPER15",
    "CamVid",
    "Cityscapes",
    "CityscapesSeq",
    "DISFlow",
    "FileReport",
    "FilledCache",
    "FlowCache",
    "FlowEstimator",
    "FolderClips",
    "LabelSpace",
    "RAFTFlow",
    "RareClassSampler",
    "SkipBroken",
    "StepSampler",
    "StreetClips",
    "SynthiaRand",
    "SynthiaSeq",
    "VideoFrames",
    "VideoWriter",
    "Viper",
    "class_counts",
    "from_rgb",
    "ids_from_colours",
    "read_ahead",
    "read_flow",
    "renormalise",
    "to_rgb",
    "write_flow",
]
