"""The loop around a recipe: batches by the step, several processes, checkpoints, and stopping in time."""

from dastc.training.fit import Trained, fit
from dastc.training.ranks import ranks, together
from dastc.training.run_folder import claim
from dastc.training.schedules import polynomial
from dastc.training.step_batches import StepBatches, in_order

__all__ = ["StepBatches", "Trained", "claim", "fit", "in_order", "polynomial", "ranks", "together"]
