import sys
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from dastc.viz import side_by_side
from dastc.viz.side_by_side import _figure

SPACE = SimpleNamespace(names=("road", "sky"), colours=((200, 10, 40), (30, 90, 220)), ignore_index=255)


def _solid(*colour, size=(30, 40)):
    return torch.tensor(colour, dtype=torch.uint8).expand(*size, 3)


RED, GREEN, BLUE = _solid(255, 0, 0), _solid(0, 255, 0), _solid(0, 0, 255)


def _centre(pixels, colour):
    rows, columns = np.nonzero((pixels == colour).all(-1))
    return rows.mean(), columns.mean(), len(rows)


def test_pictures_stand_where_they_were_put_in_their_exact_colours(tmp_path):
    path = tmp_path / "panel.png"
    side_by_side([[RED, GREEN], [BLUE, _solid(0, 0, 0)]], titles=["one", "two"], path=path)
    with Image.open(path) as picture:
        pixels = np.array(picture.convert("RGB"))
    red, green, blue = (_centre(pixels, colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255)))
    assert red[0] == pytest.approx(green[0], abs=2)
    assert red[1] == pytest.approx(blue[1], abs=2)
    assert red[0] < blue[0]
    assert red[1] < green[1]
    assert min(red[2], green[2], blue[2]) > 300 * 400  # large enough to look at
    assert [file.name for file in tmp_path.iterdir()] == ["panel.png"]


def test_the_legend_shows_the_colours_only_if_asked(tmp_path):
    counts = []
    for name, space in (("with.png", SPACE), ("without.png", None)):
        side_by_side([[RED]], titles=["one"], path=tmp_path / name, space=space)
        with Image.open(tmp_path / name) as picture:
            pixels = np.array(picture.convert("RGB"))
        counts.append([int((pixels == colour).all(-1).sum()) for colour in SPACE.colours])
    assert min(counts[0]) > 50
    assert counts[1] == [0, 0]


LONG = "what a teacher that is kept fixed sees in the second half of the drive, $\\at$ dusk"
MANY = SimpleNamespace(
    names=tuple(f"class number {i} $_{{$" for i in range(30)),
    colours=tuple((i, i, i) for i in range(30)),
    ignore_index=255,
)


@pytest.mark.parametrize("size", [(30, 40), (5, 90), (90, 30)])
@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("space", [None, MANY])
def test_no_text_overlaps_and_none_is_clipped(tmp_path, size, columns, space):
    picture = torch.zeros(*size, 3, dtype=torch.uint8)
    content = {"titles": [LONG] * columns, "row_titles": [LONG[:30]] * 2, "space": space}
    figure = _figure([[picture] * columns] * 2, *content.values())
    figure.canvas.draw()
    renderer, axes = figure.canvas.get_renderer(), figure.axes
    texts = [text for a in axes for text in (a.title, a.yaxis.label)]
    texts += [text for legend in figure.legends for text in legend.get_texts()]
    boxes = [text.get_window_extent(renderer) for text in texts if text.get_text()]
    boxes += [a.get_window_extent(renderer) for a in axes]
    assert len(boxes) == columns + 2 + (len(space.names) if space else 0) + 2 * columns
    for one, other in combinations(boxes, 2):
        overlap = min(one.x1, other.x1) - max(one.x0, other.x0), min(one.y1, other.y1) - max(one.y0, other.y0)
        assert min(overlap) <= 1, (one, other)
    figure.clear()

    side_by_side([[picture] * columns] * 2, path=tmp_path / "panel.png", **content)
    with Image.open(tmp_path / "panel.png") as panel:
        pixels = np.array(panel.convert("RGB"))
    border = pixels.copy()
    border[4:-4, 4:-4] = 255
    assert (border == 255).all()
    assert (pixels[:, :, 0] < 100).any()


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "panel.png"
    path.write_bytes(b"old")

    def fail(_figure, partial, **_):
        partial.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        side_by_side([[RED]], titles=["one"], path=path)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["panel.png"]


def test_pyplot_stays_out(tmp_path):
    before = "matplotlib.pyplot" in sys.modules
    side_by_side([[RED]], titles=["one"], path=str(tmp_path / "panel.png"))
    assert before or "matplotlib.pyplot" not in sys.modules


@pytest.mark.parametrize(
    ("rows", "options", "kind", "message"),
    [
        ([], {}, ValueError, r"^side_by_side: `rows` must hold at least one picture; got none\.$"),
        ([[]], {"titles": []}, ValueError, r"^side_by_side: `rows` must hold at least one picture; got none\.$"),
        ([[RED], [RED, RED]], {}, ValueError, r"`rows\[1\]` must hold 1 pictures, one per title; got 2\.$"),
        (
            [[RED.float()]],
            {},
            TypeError,
            r"^side_by_side: `rows\[0\]\[0\]` must be of dtype uint8; got torch.float32\.$",
        ),
        ([[RED[None]]], {}, ValueError, r"`rows\[0\]\[0\]` must have shape \(H, W, 3\); got \(1, 30, 40, 3\)\.$"),
        ([[RED.mT]], {}, ValueError, r"`rows\[0\]\[0\]` must have shape \(..., H, W, 3\); got \(30, 3, 40\)\.$"),
        ([[RED[:0]]], {}, ValueError, r"`rows\[0\]\[0\]` must have shape \(H, W, 3\); got \(0, 40, 3\)\.$"),
        ([[RED]], {"row_titles": ["a", "b"]}, ValueError, r"`row_titles` must hold 1 titles, one per row; got 2\.$"),
        ([[RED]], {"path": "panel.jpg"}, ValueError, r"^side_by_side: `path` must end in .png; got panel.jpg\.$"),
        (
            [[RED]],
            {"path": "no/panel.png"},
            ValueError,
            r"`path` must lie in an existing folder; got no/panel.png\. Make",
        ),
    ],
)
def test_bad_arguments_are_named(tmp_path, rows, options, kind, message):
    with pytest.raises(kind, match=message):
        side_by_side(rows, **{"titles": ["one"], "path": tmp_path / "panel.png"} | options)
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(
        RuntimeError, match=r'which is not installed\. Install it with `pip install "dastc\[examples\]"`'
    ):
        side_by_side([[RED]], titles=["one"], path=tmp_path / "panel.png")
