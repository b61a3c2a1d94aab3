"""Recipes put together from parts: DA-STC in its presets, and the honest baselines."""

from dastc.adapt.recipes.baselines import DACS, TPS, Oracle, SourceOnly
from dastc.adapt.recipes.dastc import DASTC

__all__ = ["DACS", "DASTC", "TPS", "Oracle", "SourceOnly"]
