"""Scores of models as rows, and the rows as a table of text."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dastc.adapt.evaluate import Scores
from dastc.data import LabelSpace

__all__ = ["scores_of", "table"]

_WIDEST = 110  # characters of a line


def scores_of(scores: Scores, space: LabelSpace) -> dict[str, Any]:
    """Return scores as plain values: ``miou``, ``per_class`` by name and ``consistency``, ``None`` where unknown."""
    per_class = dict(zip(space.names, scores.iou.per_class.tolist(), strict=True))
    return {
        "miou": round(float(scores.iou.miou), 2),
        "per_class": {name: _rounded(value) for name, value in per_class.items()},
        "consistency": _rounded(scores.consistency),
    }


def table(results: Sequence[Mapping[str, Any]], title: str = "method") -> str:
    """Return a table of models and classes: a line for each model, or for each class where lines would be too long.

    Args:
        results: Rows with ``method``, ``miou``, ``per_class`` and, if it is to be shown, ``seconds``.
        title: What the models are called.

    Example:
        >>> print(table([{"method": "a", "miou": 50.0, "per_class": {"road": 50.0, "car": None}}]))
        method           mIoU    road    car
        a                50.0    50.0      -
    """
    names = list(results[0]["per_class"])
    width = max(15, *(len(row["method"]) + 1 for row in results))
    if width + 16 + 7 * len(names) > _WIDEST:
        return _tall(results, names)
    timed = "seconds" in results[0]
    head = f"{title:<{width}}{'mIoU':>6} " + "".join(f"{name[:6]:>7}" for name in names)
    lines = [head + (f"{'seconds':>9}" if timed else "")]
    for row in results:
        values = "".join(f"{_shown(value):>7}" for value in row["per_class"].values())
        seconds = f"{row['seconds']:>9.0f}" if timed else ""
        lines.append(f"{row['method']:<{width}}{row['miou']:>6.1f} {values}{seconds}")
    return "\n".join(lines)


def _tall(results: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    widths = [max(8, len(row["method"]) + 2) for row in results]
    first = max(map(len, names))

    def line(name: str, values: Sequence[str]) -> str:
        return f"{name:<{first}}" + "".join(f"{value:>{width}}" for value, width in zip(values, widths, strict=True))

    lines = [line("", [row["method"] for row in results]), line("mIoU", [_shown(row["miou"]) for row in results])]
    return "\n".join([*lines, *(line(name, [_shown(row["per_class"][name]) for row in results]) for name in names)])


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 2)
