"""Panels of pictures with titles and a legend, as PNG files."""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from textwrap import fill
from typing import Any

from torch import Tensor

from dastc.viz.colourise import Palette, check_rgb

__all__ = ["side_by_side"]

_COLUMN = 3.2  # inches per column
_FLAT = 0.6  # inches, the least height of a row: room for a title of a few letters
_DPI = 150
_POINTS = 10
_CHARACTER = 0.62 * _POINTS / 72  # inches, the width of a wide character
_LINE = 1.6 * _POINTS / 72  # inches, from line to line


def side_by_side(
    rows: Sequence[Sequence[Tensor]],
    *,
    titles: Sequence[str],
    path: str | Path,
    row_titles: Sequence[str] | None = None,
    space: Palette | None = None,
) -> None:
    """Write a panel of pictures, one row of the panel after the other, to a PNG file.

    The file appears complete or not at all. Long titles are broken into lines.

    Args:
        rows: Pictures, all rows of one length.
        titles: One title for each column.
        path: Where to write, ending in ``.png``, in a folder that exists.
        row_titles: One title for each row, written along its left side; ``None`` leaves them away.
        space: If given, a legend of its class names and colours stands below.

    Shape:
        - each picture: ``(H, W, 3)``, uint8; sizes may differ.

    Raises:
        ValueError: If there is no picture, the numbers of pictures and titles do not agree, a picture has the wrong
            shape, or ``path`` does not end in ``.png`` or lies in no existing folder.
        TypeError: If a picture is not uint8.
        RuntimeError: Without matplotlib.

    Source:
        Ours.

    Example:
        >>> import tempfile, torch
        >>> from dastc.data import spaces
        >>> from dastc.viz import colourise
        >>> street, labels = spaces.STREET, torch.arange(9).view(3, 3)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     side_by_side([[colourise(labels, street)]], titles=["labels"], path=f"{folder}/panel.png", space=street)
        ...     print([file.name for file in Path(folder).iterdir()])
        ['panel.png']
    """
    target = Path(path)
    _check(rows, titles, row_titles, target)
    figure = _figure(rows, titles, row_titles, space)
    # beside the target, so that the last step is a rename within one file system
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        figure.savefig(partial, format="png", dpi=_DPI, bbox_inches="tight", pad_inches=0.1)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
        figure.clear()


def _check(
    rows: Sequence[Sequence[Tensor]], titles: Sequence[str], row_titles: Sequence[str] | None, path: Path
) -> None:
    caller = "side_by_side"
    if find_spec("matplotlib") is None:
        raise RuntimeError(
            f'{caller} draws with matplotlib, which is not installed. Install it with `pip install "dastc[examples]"`.'
        )
    if not len(rows) or not len(titles):
        raise ValueError(f"{caller}: `rows` must hold at least one picture; got none.")
    for i, row in enumerate(rows):
        if len(row) != len(titles):
            raise ValueError(f"{caller}: `rows[{i}]` must hold {len(titles)} pictures, one per title; got {len(row)}.")
        for j, picture in enumerate(row):
            check_rgb(caller, f"rows[{i}][{j}]", picture)
            if picture.dim() != 3 or not picture.numel():
                raise ValueError(f"{caller}: `rows[{i}][{j}]` must have shape (H, W, 3); got {tuple(picture.shape)}.")
    if row_titles is not None and len(row_titles) != len(rows):
        raise ValueError(f"{caller}: `row_titles` must hold {len(rows)} titles, one per row; got {len(row_titles)}.")
    if path.suffix.lower() != ".png":
        raise ValueError(f"{caller}: `path` must end in .png; got {path}.")
    if not path.parent.is_dir():
        raise ValueError(f"{caller}: `path` must lie in an existing folder; got {path}. Make the folder first.")


def _figure(
    rows: Sequence[Sequence[Tensor]], titles: Sequence[str], row_titles: Sequence[str] | None, space: Palette | None
) -> Any:
    # the object-oriented interface: pyplot would keep the figure and might want a display
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width = _COLUMN * len(titles) + 0.6
    heights = [max(_FLAT, *(_COLUMN * picture.shape[0] / picture.shape[1] for picture in row)) for row in rows]
    above = [_lines(title, _COLUMN) for title in titles]
    names = [_lines(name, width - 0.8) for name in space.names] if space else []
    columns = max(1, min(len(names), int(width / (0.6 + _CHARACTER * max(map(_longest, names), default=0)))))
    text_lines = max(title.count("\n") + 1 for title in above) + sum(name.count("\n") + 1 for name in names) / columns

    size = (width, sum(heights) + 0.6 + _LINE * text_lines)
    # compressing closes gaps between rows, but lets the title of a row that is flatter than it run into the next
    layout: Any = "compressed" if min(heights) > _FLAT else "constrained"
    figure = Figure(figsize=size, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(rows), len(titles), squeeze=False, gridspec_kw={"height_ratios": heights})
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            axes = grid[i, j]
            axes.imshow(picture.cpu().numpy(), interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        if row_titles is not None:
            grid[i, 0].set_ylabel(_lines(row_titles[i], heights[i]), fontsize=_POINTS, parse_math=False)
    for axes, title in zip(grid[0], above, strict=True):
        axes.set_title(title, fontsize=_POINTS, parse_math=False)
    if space is not None:
        _add_legend(figure, names, space.colours, columns)
    return figure


def _add_legend(figure: Any, names: list[str], colours: Sequence[tuple[int, int, int]], columns: int) -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor="#{:02x}{:02x}{:02x}".format(*colour), edgecolor="0.5", label=name)
        for name, colour in zip(names, colours, strict=True)
    ]
    legend = figure.legend(
        handles=handles, loc="outside lower center", ncols=columns, fontsize=_POINTS - 1, frameon=False
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def _longest(lines: str) -> int:
    return max(map(len, lines.split("\n")))


def _lines(title: str, inches: float) -> str:
    return fill(title, max(4, int(inches / _CHARACTER)))
