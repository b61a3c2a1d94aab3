"""What a step does to the source before anything else."""

from torch import nn

from dastc._core.checks import check_grid
from dastc.clip import Clip, check_clip
from dastc.functional import match_histograms

__all__ = ["MatchHistograms"]


class MatchHistograms(nn.Module):
    """Give the source's frames the histograms of the target's current frame.

    Args:
        grid: Rows and columns of windows that are matched each by itself; see
            :func:`dastc.functional.match_histograms`.

    Shape:
        - source, target: clips.
        - output: the source with other frames.

    Raises:
        ValueError: If ``grid`` is no pair of numbers from 1 on.

    Source:
        The released code (docs/method.md#what-is-not-da-stc); the grid is ours.

    Example:
        >>> MatchHistograms(grid=(3, 1))
        MatchHistograms(grid=(3, 1))
    """

    def __init__(self, *, grid: tuple[int, int] = (1, 1)) -> None:
        super().__init__()
        check_grid("MatchHistograms", "grid", grid)
        self.grid = grid

    def forward(self, source: Clip, target: Clip) -> Clip:
        """Return the source, matched."""
        for name, clip in {"source": source, "target": target}.items():
            check_clip("MatchHistograms", name, clip)
        return source._replace(frames=match_histograms(source.frames, target.frames, grid=self.grid))

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return f"grid={self.grid}"
