"""Keep a teacher from naming classes more or less often than the source shows them."""

from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dastc._core.checks import (
    check_between,
    check_dtype,
    check_grid,
    check_number,
    check_shape,
    check_views,
    check_whole,
)
from dastc._core.distributed import sum_over_ranks
from dastc._core.labels import without_ignored
from dastc._core.precision import without_autocast

__all__ = ["ClassPrior"]

_FLOOR = 1e-3  # share of the pixels below which a class is too rare to be corrected strongly
_ZOOMS, _SHIFT_STEP = 5, 0.05  # with fewer views, or farther from one to the next, a cell would skip over others
_LOOKS = 30  # that all cells of a picture together are worth, as they are not independent: neighbours tell the same


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
        zoom: Largest factor, >= 1, by which a camera of the target may show things larger or smaller than those of the
            source. Cells alone assume that things stand at the same places; with views, each clip is held against what
            the source shows when it is zoomed, by factors from ``1 / zoom`` to ``zoom`` about the middle of the
            picture, and shifted, and the views count by how well they fit what is said of the clip.
        shift: Largest part of the picture's height, in [0, 1), by which things may stand higher or lower.
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
        of Zou et al. 2018 (CBST-SP); views of them are ours. Not a part of DA-STC.

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
        shift: float = 0.0,
        sync: bool = True,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        check_whole("ClassPrior", "num_classes", num_classes, 1)
        check_whole("ClassPrior", "ignore_index", ignore_index)
        check_between("ClassPrior", "strength", strength, 0, 1)
        check_number("ClassPrior", "decay", decay)
        if not 0 <= decay < 1:
            raise ValueError(f"ClassPrior: `decay` must lie in [0, 1); got {decay}.")
        check_grid("ClassPrior", "grid", grid)
        check_views("ClassPrior", "`zoom` and `shift`", (zoom, shift))
        self.num_classes, self.strength, self.decay = num_classes, strength, decay
        self.grid, self.zoom, self.shift = (grid[0], grid[1]), zoom, shift
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
        with without_autocast(logits):  # shares are sums of many pixels
            return logits + self._shift_of(logits.detach()).to(logits.dtype)

    def _shift_of(self, logits: Tensor) -> Tensor:
        if self.training:
            said = self._shares(logits).sum(dim=(0, 1))
            self._fade("said", self._summed_in_cells(said))
        views = _views(_share(self.shown.to(self._wide)), self.zoom, self.shift)
        shift = self._shift(views.mean(dim=0, keepdim=True), logits)
        if len(views) > 1:
            weights = self._fit(views, logits + shift)
            shift = self._shift(torch.einsum("bv,vkrc->bkrc", weights, views), logits)
        return shift

    def _shift(self, shown: Tensor, logits: Tensor) -> Tensor:
        """Return what the shares (N, K, rows, columns) add to logits, (N, 1, K, h, w), or 1 for a size."""
        ratio = (shown + _FLOOR) / (_share(self.said.to(self._wide)) + _FLOOR)
        # nothing is known of a cell that has no pixel, or in which nothing was counted yet
        ratio = ratio.where((self.shown.sum(dim=0) > 0) & (self.said.sum(dim=0) > 0), 1)
        shift = self.strength * ratio.log()
        if self.grid != (1, 1):
            size = (logits.shape[-2], logits.shape[-1])
            shift = F.interpolate(shift, size=size, mode="bilinear", align_corners=False)
        return shift.unsqueeze(1)

    def _fit(self, views: Tensor, logits: Tensor) -> Tensor:
        """Return the weight of each view for each clip, (B, V): its probability, given what is said of the clip."""
        said = self._summed_in_cells(self._shares(logits).sum(dim=1))
        likelihood = torch.einsum("bkrc,vkrc->bv", _share(said, dim=1), (views + _FLOOR).log())
        return (_LOOKS / views[0, 0].numel() * likelihood).softmax(dim=1)

    @property
    def _wide(self) -> torch.dtype:
        return torch.promote_types(self.said.dtype, torch.float32)

    def _shares(self, logits: Tensor) -> Tensor:
        # one broken frame must not spoil the running share for good
        return logits.to(self._wide).softmax(dim=2).nan_to_num(0)

    def _summed_in_cells(self, values: Tensor) -> Tensor:
        # (..., K, h, w) to (..., K, rows, columns), by products: adding at indices is not deterministic on a GPU
        row, column = (
            (_cell_of(size, cells, values.device).unsqueeze(1) == torch.arange(cells, device=values.device)).to(values)
            for size, cells in zip(values.shape[-2:], self.grid, strict=True)
        )
        return torch.einsum("...khw,hr,wc->...krc", values, row, column)

    def _fade(self, name: str, new: Tensor) -> None:
        past: Tensor = getattr(self, name)
        total = sum_over_ranks(new) if self.sync else new
        past.mul_(self.decay).add_(_share(total).to(past.dtype))

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return (
            f"num_classes={self.num_classes}, strength={self.strength}, decay={self.decay}, grid={self.grid}, "
            f"zoom={self.zoom}, shift={self.shift}, sync={self.sync}, ignore_index={self.ignore_index}"
        )


def _cell_of(size: int, cells: int, device: torch.device) -> Tensor:
    return torch.arange(size, device=device) * cells // max(size, 1)


def _views(shares: Tensor, zoom: float, shift: float) -> Tensor:
    """Zoom shares (K, rows, columns) about the middle and shift them; beyond the border is what is at the border."""
    if (zoom == 1 and shift == 0) or shares[0].numel() == 1:
        return shares.unsqueeze(0)
    device, dtype = shares.device, shares.dtype
    factors = zoom ** torch.linspace(-1, 1, _ZOOMS if zoom > 1 else 1, device=device, dtype=dtype)
    each_way = ceil(round(shift / _SHIFT_STEP, 6))  # 0.15 / 0.05 is a little more than 3
    shifts = 2 * shift * torch.linspace(-1, 1, 2 * each_way + 1, device=device, dtype=dtype)
    factor, down = (x.flatten() for x in torch.meshgrid(factors, shifts, indexing="ij"))
    zero = torch.zeros_like(factor)
    # where a view's place lies in the shares, from -1 to 1 in both axes
    places = torch.stack((1 / factor, zero, zero, zero, 1 / factor, -down / factor), dim=1).view(-1, 2, 3)
    places = F.affine_grid(places, [len(factor), *shares.shape], align_corners=False)
    seen = F.grid_sample(shares.expand(len(factor), -1, -1, -1), places, padding_mode="border", align_corners=False)
    return _share(seen, dim=1)  # a cell of which nothing is known has no share to give


def _share(counts: Tensor, dim: int = 0) -> Tensor:
    return counts / counts.sum(dim=dim, keepdim=True).clamp(min=1e-12)  # of each cell
