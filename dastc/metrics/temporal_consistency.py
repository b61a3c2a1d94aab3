"""How steady predictions are along the motion of a clip."""

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dastc._core.checks import check_dtype, check_same_device, check_shape
from dastc._core.debug import debug_finite

__all__ = ["TemporalConsistency"]


class TemporalConsistency(nn.Module):
    r"""Measure the share of pixels that keep their predicted label along the motion, in percent.

    .. math:: 100 \cdot \overline{[\, \hat y_{t+1}(x) = \hat y_t(\mathrm{round}(x + F_t(x))) \,]}

    The mean runs over all updates, over every pair of neighbouring frames and every pixel whose sample point lies
    inside the picture. It says nothing about being right: a model that predicts one class everywhere reaches 100.

    Shape:
        - predictions: ``(B, T, H, W)``, int64, oldest frame first. T = 1 has no pair and adds nothing.
        - flow: ``(B, T-1, 2, H, W)``, float, pixels (dx, dy): ``flow[:, t]`` lies on the grid of frame t+1 and says
          where to sample frame t. ``None`` treats the frames as aligned. A point that is not finite does not count.
        - valid: ``(B, T-1, H, W)``, bool: which pixels of frame t+1 count. ``None`` means all.
        - output of ``compute``: ``()``, float64, in [0, 100]; NaN before the first pixel.

    Attributes:
        counts: Pixels that kept their label, and pixels that counted, ``(2,)``, int64, a buffer.

    Raises:
        ValueError: If shapes or devices do not agree; under :func:`dastc.debug_checks` if the flow is not finite.
        TypeError: If predictions are not int64, flow not float or ``valid`` not bool.

    Source:
        Ours, after the warping consistency that work on video segmentation reports; labels are compared as they are,
        sampled at the nearest pixel (halves round to even).

    Example:
        >>> metric = TemporalConsistency()
        >>> metric.update(torch.tensor([[[[0, 1, 1, 1]], [[0, 0, 1, 1]]]]))
        >>> metric.compute()
        tensor(75., dtype=torch.float64)
        >>> moved = torch.tensor([-1.0, 0.0]).view(1, 1, 2, 1, 1).expand(1, 1, 2, 1, 4)
        >>> metric.reset()
        >>> metric.update(torch.tensor([[[[0, 1, 1, 1]], [[0, 0, 1, 1]]]]), moved)
        >>> metric.compute()
        tensor(100., dtype=torch.float64)
    """

    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(2, dtype=torch.int64))

    @torch.no_grad()
    def update(self, predictions: Tensor, flow: Tensor | None = None, valid: Tensor | None = None) -> None:
        """Count the clips of a batch; see the class for shapes. Never makes the host wait."""
        self._check(predictions, flow, valid)
        later, earlier = predictions[:, 1:], predictions[:, :-1]
        counted = torch.ones_like(later, dtype=torch.bool) if valid is None else valid
        if flow is not None:
            earlier, inside = _sample_nearest(earlier, flow)
            counted = counted & inside
        self.counts += torch.stack([((later == earlier) & counted).sum(), counted.sum()])

    def compute(self) -> Tensor:
        """Return the share over everything counted so far, in percent."""
        counts = self.counts.double()
        return 100 * counts[0] / counts[1]

    def merge(self, other: "TemporalConsistency") -> None:
        """Add what ``other`` has counted, e.g. on another part of the data.

        Raises:
            TypeError: If ``other`` is no :class:`TemporalConsistency`.
        """
        if not isinstance(other, TemporalConsistency):
            raise TypeError(
                f"TemporalConsistency.merge: `other` must be a TemporalConsistency; got {type(other).__name__}."
            )
        self.counts += other.counts.to(self.counts.device)

    def sync(self) -> None:
        """Add up the counts of all ranks; nothing happens without an initialised ``torch.distributed``.

        Call it once, after the last update: a second call would count every rank again.
        """
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(self.counts)

    def reset(self) -> None:
        """Forget everything counted."""
        self.counts.zero_()

    def _check(self, predictions: Tensor, flow: Tensor | None, valid: Tensor | None) -> None:
        caller = "TemporalConsistency.update"
        sizes = check_shape(caller, "predictions", predictions, "B T H W")
        check_dtype(caller, "predictions", predictions, "int64")
        sizes = sizes | {"T-1": sizes["T"] - 1, "2": 2}
        if flow is not None:
            check_shape(caller, "flow", flow, "B T-1 2 H W", sizes, hint="One flow field between two frames.")
            check_dtype(caller, "flow", flow, "float")
            debug_finite(caller, "flow", flow)
        if valid is not None:
            check_shape(caller, "valid", valid, "B T-1 H W", sizes, hint="One mask for each pair of frames.")
            check_dtype(caller, "valid", valid, "bool")
        tensors = {"predictions": predictions, "flow": flow, "valid": valid, "counts (the metric)": self.counts}
        check_same_device(caller, tensors)


def _sample_nearest(labels: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    # (B, T, H, W) sampled along (B, T, 2, H, W); float32 at least, so that large pictures keep whole coordinates
    height, width = labels.shape[-2:]
    flow = flow.to(torch.promote_types(flow.dtype, torch.float32))
    x = flow[:, :, 0] + torch.arange(width, device=flow.device)
    y = flow[:, :, 1] + torch.arange(height, device=flow.device).unsqueeze(1)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)  # false for NaN
    column, row = (v.where(inside, 0).round().long() for v in (x, y))
    return labels.flatten(-2).gather(-1, (row * width + column).flatten(-2)).view_as(labels), inside
