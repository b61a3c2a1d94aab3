"""Recipes: one training step that turns two clips into named losses, and the parts to put one together from."""

from dastc.adapt.checkpoint import load_checkpoint, load_model, read_about, save_checkpoint
from dastc.adapt.class_prior import ClassPrior
from dastc.adapt.evaluate import Scores, evaluate
from dastc.adapt.label_free import LabelFreeScores, evaluate_without_labels
from dastc.adapt.labelling import TeacherLabels, labelled_by
from dastc.adapt.passes import Pass
from dastc.adapt.preparing import MatchHistograms
from dastc.adapt.recipe import Recipe
from dastc.adapt.recipes import DACS, DASTC, TPS, Oracle, SourceOnly
from dastc.adapt.recipes.dastc import dastc_parts
from dastc.adapt.statistics import adapt_statistics
from dastc.adapt.teacher import Teacher
from dastc.adapt.terms import Agreement, Alignment, Segmentation
from dastc.adapt.views import Clean, Exchange, Hidden, Shared, View

__all__ = [
    "DACS",
    "DASTC",
    "TPS",
    "Agreement",
    "Alignment",
    "ClassPrior",
    "Clean",
    "Exchange",
    "Hidden",
    "LabelFreeScores",
    "MatchHistograms",
    "Oracle",
    "Pass",
    "Recipe",
    "Scores",
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
    "labelled_by",
    "load_checkpoint",
    "load_model",
    "read_about",
    "save_checkpoint",
]
