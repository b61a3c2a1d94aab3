"""Changes of clips for training, which keep frames, labels, flow and weights true to each other."""

from dastc.augment.photometric import PhotometricJitter
from dastc.augment.random_transforms import RandomCrop, RandomFlip, RandomScale
from dastc.augment.transforms import OnFrames, Resize

__all__ = ["OnFrames", "PhotometricJitter", "RandomCrop", "RandomFlip", "RandomScale", "Resize"]
