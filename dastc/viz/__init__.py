"""Pictures for people: labels as colours, overlays, panels."""

from dastc._core.moved import moved
from dastc.viz.colourise import colourise, overlay
from dastc.viz.side_by_side import side_by_side

__all__ = ["colourise", "overlay", "side_by_side"]

__getattr__ = moved(
    __name__,
    {
        "dastc.viz.colourise": "Palette",
    },
)
