"""Recipes: one training step that turns two clips into named losses, and the parts to put one together from."""

from dastc._core.moved import moved
from dastc.adapt.checkpoint import load_checkpoint, load_model, read_about, save_checkpoint
from dastc.adapt.evaluate import evaluate
from dastc.adapt.label_free import evaluate_without_labels
from dastc.adapt.passes import Pass
from dastc.adapt.preparing import MatchHistograms
from dastc.adapt.recipe import Recipe
from dastc.adapt.recipes import DACS, DASTC, TPS, Oracle, SourceOnly
from dastc.adapt.recipes.dastc import dastc_parts
from dastc.adapt.statistics import adapt_statistics
from dastc.adapt.terms import Agreement, Alignment, Segmentation
from dastc.adapt.views import Clean, Exchange, Hidden, Shared, View
from dastc.labelling.alike import AlikeDomains, OnlyIfAlike
from dastc.labelling.class_prior import ClassPrior
from dastc.labelling.target_labels import TeacherLabels
from dastc.labelling.teacher import Teacher

__all__ = [
    "DACS",
    "DASTC",
    "TPS",
    "Agreement",
    "Alignment",
    "AlikeDomains",
    "ClassPrior",
    "Clean",
    "Exchange",
    "Hidden",
    "MatchHistograms",
    "OnlyIfAlike",
    "Oracle",
    "Pass",
    "Recipe",
    "Segmentation",
    "Shared",
    "SourceOnly",
    "Teacher",
    "TeacherLabels",
    "View",
    "adapt_statistics",
    "dastc_parts",
    "evaluate",
    "evaluate_without_labels",
    "load_checkpoint",
    "load_model",
    "read_about",
    "save_checkpoint",
]

__getattr__ = moved(
    __name__,
    {
        "dastc.diagnosis": "class_geometry disagreement label_quality loss_gradients pasted_shares",
        "dastc.adapt.evaluate": "Scores",
        "dastc.adapt.label_free": "LabelFreeScores",
        "dastc.labelling.target_labels": "labelled_by",
    },
)
