"""Recipes: DA-STC and its baselines, each one step that turns two clips into named losses."""

from dastc.adapt.arrangement import ARRANGEMENTS, Arrangement
from dastc.adapt.baselines import DACS, TPS, Oracle, SourceOnly
from dastc.adapt.checkpoint import load_checkpoint, load_model, read_about, save_checkpoint
from dastc.adapt.class_prior import ClassPrior
from dastc.adapt.dastc import DASTC
from dastc.adapt.diagnosis import (
    class_geometry,
    disagreement,
    label_quality,
    loss_gradients,
    pasted_shares,
)
from dastc.adapt.evaluate import Scores, evaluate
from dastc.adapt.label_free import LabelFreeScores, evaluate_without_labels
from dastc.adapt.statistics import adapt_statistics
from dastc.adapt.steps import labelled_by
from dastc.adapt.teacher import Teacher

__all__ = [
    "ARRANGEMENTS",
    "DACS",
    "DASTC",
    "TPS",
    "Arrangement",
    "ClassPrior",
    "LabelFreeScores",
    "Oracle",
    "Scores",
    "SourceOnly",
    "Teacher",
    "adapt_statistics",
    "class_geometry",
    "disagreement",
    "evaluate",
    "evaluate_without_labels",
    "label_quality",
    "labelled_by",
    "load_checkpoint",
    "load_model",
    "loss_gradients",
    "pasted_shares",
    "read_about",
    "save_checkpoint",
]
