"""Keep a teacher from naming classes more or less often than the source shows them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dastc._core.checks import check_at_least, check_between, check_dtype, check_factor, check_grid, check_shape
from dastc._core.distributed import sum_over_ranks
from dastc._core.labels import without_ignored

__all__ = ["ClassPrior"]

_FLOOR = 1e-3  # share of the pixels below which a class is too rare to be corrected strongly
_ZOOMS = 5  # factors between the extremes: with fewer, a cell would skip over others


class ClassPrior(nn.Module):
    """Shift logits by the ratio of how often the source shows a class and how often the target is said to show it.

    A teacher that was trained on one domain names some classes far too often in another, and a student that learns
    from it does so even more. This assumes that both domains show the classes about equally often; where they do not,
    use a smaller ``strength``.

    Args:
        num_classes: Number of classes K.
        strength: Exponent of the ratio, in [0, 1]; 0 changes nothing.
        decay: Share of the past in each update of both running shares, in [0, 1).
        grid: Rows and columns of cells of the picture that have shares of their own, each >= 1: where cameras look
            level and along the road, the sky is above, the road below and the walls are at the sides. The shift runs
            evenly from the middle of one cell to the next.
        zoom: Largest factor, >= 1, by which the cameras of the target may show things larger or smaller than those of
            the source: of what the source shows in each cell the mean over factors from ``1 / zoom`` to ``zoom`` is
            taken, about the middle of the picture. Cells alone assume that things stand at the same places.
        sync: Count over all ranks, if there are several.
        ignore_index: Label of the pixels that take no part.

    Shape:
        - labels of ``see``: int64, ``(..., H, W)``; of any shape if there is one cell.
        - logits: ``(B, T, K, h, w)``, float.
        - output: the same, without gradient through the shift.

    Raises:
        ValueError: If an argument is out of range or the shape does not fit.

    Source:
        Ours, after the distribution alignment of Berthelot et al. 2020 (ReMixMatch); cells after the spatial priors
        of Zou et al. 2018 (CBST-SP); the zoom is ours. Not a part of DA-STC.

    Example:
        >>> prior = ClassPrior(2)
        >>> prior.see(torch.tensor([0, 0, 0, 1]))
        >>> prior(torch.zeros(1, 1, 2, 1, 1)).softmax(dim=2).flatten().round(decimals=2)
        tensor([0.7500, 0.2500])
    """

    shown: Tensor
    said: Tensor

    def __init__(
        self,
        num_classes: int,
        *,
        strength: float = 1.0,
        decay: float = 0.99,
        grid: tuple[int, int] = (1, 1),
        zoom: float = 1.0,
        sync: bool = True,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        check_at_least("ClassPrior", "num_classes", num_classes, 1)
        check_between("ClassPrior", "strength", strength, 0, 1)
        if not 0 <= decay < 1:
            raise ValueError(f"ClassPrior: `decay` must lie in [0, 1); got {decay}.")
        check_grid("ClassPrior", "grid", grid)
        check_factor("ClassPrior", "zoom", zoom)
        self.num_classes, self.strength, self.decay = num_classes, strength, decay
        self.grid, self.zoom = (grid[0], grid[1]), zoom
        self.sync, self.ignore_index = sync, ignore_index
        # sums that fade, not means: what is compared are shares, and the start then needs no correction
        self.register_buffer("shown", torch.zeros(num_classes, *grid))
        self.register_buffer("said", torch.zeros(num_classes, *grid))

    @torch.no_grad()
    def see(self, labels: Tensor) -> None:
        """Count the classes of the source."""
        check_dtype("ClassPrior.see", "labels", labels, "int64")
        rows, columns = self.grid
        cells = rows * columns
        if cells > 1 and labels.dim() < 2:
            raise ValueError(f"ClassPrior.see: `labels` must have shape (..., H, W); got {tuple(labels.shape)}.")
        labels = without_ignored(labels, self.num_classes, self.ignore_index)
        outside = (labels < 0) | (labels >= self.num_classes)
        bin_of = labels.where(~outside, self.num_classes) * cells
        if cells > 1:
            row = _cell_of(labels.shape[-2], rows, labels.device)
            bin_of = bin_of + row.unsqueeze(1) * columns + _cell_of(labels.shape[-1], columns, labels.device)
        # without host synchronisation: what takes no part is counted in a bin of its own
        # and in integers, since float32 stops counting ones at 2^24
        counts = labels.new_zeros((self.num_classes + 1) * cells)
        counts.index_add_(0, bin_of.flatten(), torch.ones_like(labels).flatten())
        self._fade("shown", counts.view(-1, rows, columns)[:-1].to(self.shown.dtype))

    def forward(self, logits: Tensor) -> Tensor:
        """Shift logits of the target; in training mode, count what they say first."""
        check_shape("ClassPrior", "logits", logits, "B T K h w", {"K": self.num_classes})
        check_dtype("ClassPrior", "logits", logits, "float")
        if self.training:
            # one broken frame must not spoil the running share for good
            said = logits.detach().float().softmax(dim=2).nan_to_num(0).sum(dim=(0, 1))
            self._fade("said", self._summed_in_cells(said))
        shown = _zoomed(_share(self.shown), self.zoom)
        ratio = (shown + _FLOOR) / (_share(self.said) + _FLOOR)
        # nothing is known of a cell that has no pixel, or in which nothing was counted yet
        ratio = ratio.where((self.shown.sum(dim=0) > 0) & (self.said.sum(dim=0) > 0), 1)
        shift = self.strength * ratio.log()
        if self.grid != (1, 1):
            size = (logits.shape[-2], logits.shape[-1])
            shift = F.interpolate(shift.unsqueeze(0), size=size, mode="bilinear", align_corners=False)[0]
        return logits + shift.to(logits.dtype)

    def _summed_in_cells(self, values: Tensor) -> Tensor:
        # (K, h, w) to (K, rows, columns), by products: adding at indices is not deterministic on a GPU
        row, column = (
            (_cell_of(size, cells, values.device).unsqueeze(1) == torch.arange(cells, device=values.device)).to(values)
            for size, cells in zip(values.shape[-2:], self.grid, strict=True)
        )
        return torch.einsum("khw,hr,wc->krc", values, row, column)

    def _fade(self, name: str, new: Tensor) -> None:
        past: Tensor = getattr(self, name)
        total = sum_over_ranks(new) if self.sync else new
        past.mul_(self.decay).add_(_share(total).to(past.dtype))

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return (
            f"num_classes={self.num_classes}, strength={self.strength}, decay={self.decay}, grid={self.grid}, "
            f"zoom={self.zoom}, sync={self.sync}, ignore_index={self.ignore_index}"
        )


def _cell_of(size: int, cells: int, device: torch.device) -> Tensor:
    return torch.arange(size, device=device) * cells // max(size, 1)


def _zoomed(shares: Tensor, zoom: float) -> Tensor:
    """Average shares (K, rows, columns) over zooms about the middle; beyond the border is what is at the border."""
    if zoom == 1 or shares[0].numel() == 1:
        return shares
    factors = zoom ** torch.linspace(-1, 1, _ZOOMS, device=shares.device, dtype=shares.dtype)
    toward_middle = torch.diag_embed((1 / factors).unsqueeze(1).expand(-1, 2))
    places = F.affine_grid(F.pad(toward_middle, (0, 1)), [_ZOOMS, *shares.shape], align_corners=False)
    zoomed = F.grid_sample(shares.expand(_ZOOMS, -1, -1, -1), places, padding_mode="border", align_corners=False)
    return _share(zoomed.mean(dim=0))  # a cell of which nothing is known has no share to give


def _share(counts: Tensor) -> Tensor:
    return counts / counts.sum(dim=0).clamp(min=1e-12)  # of each cell
