"""The model and the classes of a checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from dastc.adapt import load_model, read_about
from dastc.data import LabelSpace
from dastc.models import VideoSegmenter
from dastc.models.import_path import model_from

__all__ = ["about_of", "label_space", "trained_model"]

_TINY = "dastc.models:TinySegmenter"


def about_of(checkpoint: str | Path) -> dict[str, Any]:
    """Return what a checkpoint says of itself: its model, classes and size.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no checkpoint, or does not say so.
    """
    about = read_about(checkpoint)
    if not {"classes", "model"} <= about.keys():
        raise ValueError(
            f"{checkpoint} must say which model and classes it has, as those of `dastc adapt` and the examples do."
        )
    return about


def label_space(about: Mapping[str, Any]) -> LabelSpace:
    """Return the classes that a checkpoint was trained on."""
    classes = about["classes"]
    return LabelSpace(
        tuple(classes["names"]), tuple(map(tuple, classes["colours"])), tuple(classes.get("rare", ())),
        ignore_index=classes["ignore_index"],
    )  # fmt: skip


def trained_model(
    checkpoint: str | Path,
    about: Mapping[str, Any],
    *,
    model: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    teacher: bool = False,
) -> nn.Module:
    """Return the model of a checkpoint, in evaluation mode.

    Args:
        checkpoint: The file.
        about: What :func:`about_of` returns for it.
        model: The model's import path; ``None`` means that of ``TinySegmenter``. It must be that of the training: what
            a checkpoint names is not imported unless the user names it, too, as importing runs code.
        arguments: Of the model; ``None`` means those of the training.
        teacher: Take the teacher in place of the student.
    """
    trained = about["model"]
    if (model or _TINY) != trained["path"]:
        raise ValueError(
            f"{checkpoint} holds a model of {trained['path']}; got --model {model or _TINY}. Give --model "
            f"{trained['path']} if you trust that code."
        )
    classes = len(about["classes"]["names"])
    made = model_from(trained["path"], classes, **(trained["arguments"] if arguments is None else arguments))
    made = VideoSegmenter(made, classes) if trained["video"] else made
    load_model(checkpoint, made, teacher=teacher)
    return made.eval()
