"""Clips to train and test on: procedural streets, and real driving video."""

from dastc.data.frames import from_rgb, to_rgb
from dastc.data.label_space import CAMVID, STREET, LabelSpace

__all__ = ["CAMVID", "STREET", "LabelSpace", "from_rgb", "to_rgb"]
