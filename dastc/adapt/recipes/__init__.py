"""Recipes put together from parts: DA-STC in its presets, and the honest baselines."""

from dastc.adapt.recipes.dacs import DACS
from dastc.adapt.recipes.dastc import DASTC
from dastc.adapt.recipes.oracle import Oracle
from dastc.adapt.recipes.source_only import SourceOnly
from dastc.adapt.recipes.tps import TPS

__all__ = ["DACS", "DASTC", "TPS", "Oracle", "SourceOnly"]
