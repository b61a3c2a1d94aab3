"""The loop around a recipe: batches by the step, several processes, checkpoints, and stopping in time."""

from dastc.training.fit import fit
from dastc.training.ranks import ranks
from dastc.training.schedules import polynomial
from dastc.training.step_batches import StepBatches

__all__ = ["StepBatches", "fit", "polynomial", "ranks"]
