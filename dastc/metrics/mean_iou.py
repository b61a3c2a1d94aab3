"""Mean intersection over union from one confusion matrix over the whole data set."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from dastc._core.checks import check_dtype, check_same_device, check_shape, check_whole
from dastc._core.debug import debug_finite, debug_labels

__all__ = ["MeanIoU", "MeanIoUResult"]


class MeanIoUResult(NamedTuple):
    """What :meth:`MeanIoU.compute` returns; everything in percent, NaN where there is nothing to divide by.

    Args:
        miou: Mean of ``per_class`` over the classes chosen, those never seen left out.
        per_class: Intersection over union of each class; NaN for a class in neither labels nor predictions, and for
            the class that is ignored, if one is.
        pixel_accuracy: Share of the labelled pixels whose class was predicted.

    Shape:
        - miou: ``()``, float64, in [0, 100].
        - per_class: ``(K,)``, float64.
        - pixel_accuracy: ``()``, float64.

    Example:
        >>> MeanIoUResult(torch.tensor(50.0), torch.tensor([50.0]), torch.tensor(75.0)).pixel_accuracy
        tensor(75.)
    """

    miou: Tensor
    per_class: Tensor
    pixel_accuracy: Tensor


class MeanIoU(nn.Module):
    r"""Count predictions against labels; compute the mean intersection over union at the end.

    .. math:: \mathrm{IoU}_k = \frac{n_{kk}}{\sum_j n_{kj} + \sum_i n_{ik} - n_{kk}}

    with :math:`n_{ij}` the number of pixels of class i predicted as class j, over *all* updates. This is the protocol
    of segmentation benchmarks; a mean of per-image values is another number.

    Args:
        num_classes: Number of classes K.
        ignore_index: Label of the pixels that are not counted. It may be one of the K classes, such as a void class 0.
        classes: Classes that ``miou`` averages over; ``None`` means all but ``ignore_index``. Predicting a class
            outside the subset still costs the class that was there.

    Shape:
        - predictions: ``(N, H, W)``, int64 class indices; or logits ``(N, K, h, w)``, float, of any resolution,
          resized to the labels (bilinear, ``align_corners=False``) before the arg-max.
        - labels: ``(N, H, W)``, int64. Whatever lies outside [0, K) takes no part. A *prediction* outside [0, K)
          is a miss.
        - output of ``compute``: :class:`MeanIoUResult`; all NaN before the first pixel.

    Attributes:
        confusion: Counts, ``(K, K+1)``, int64, a buffer: row = label, column = prediction, last column = no class.

    Raises:
        ValueError: If ``num_classes`` < 1; if ``classes`` is empty, repeats a class or leaves [0, K); if shapes or
            devices do not agree; under :func:`dastc.debug_checks` if a label is out of range or a logit not finite.
        TypeError: If predictions are neither int64 nor float, or labels are not int64.

    Source:
        The usual protocol of segmentation benchmarks, such as that of Cityscapes.

    Example:
        >>> metric = MeanIoU(2)
        >>> metric.update(torch.tensor([[[0, 1, 1]]]), torch.tensor([[[0, 1, 0]]]))
        >>> result = metric.compute()
        >>> result.per_class
        tensor([50., 50.], dtype=torch.float64)
        >>> round(float(result.pixel_accuracy), 1)
        66.7
    """

    confusion: Tensor

    def __init__(self, num_classes: int, *, ignore_index: int = 255, classes: Sequence[int] | None = None) -> None:
        super().__init__()
        check_whole("MeanIoU", "num_classes", num_classes, 1)
        check_whole("MeanIoU", "ignore_index", ignore_index)
        # nothing labelled with the ignored class is counted, so its IoU could only be 0
        counted = [label for label in range(num_classes) if label != ignore_index]
        chosen = tuple(counted if classes is None else classes)
        if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(counted):
            ignored = f" other than the ignored {ignore_index}" if ignore_index in range(num_classes) else ""
            raise ValueError(
                f"MeanIoU: `classes` must be different class indices in [0, {num_classes}){ignored}, at least one; "
                f"got {list(chosen)}."
            )
        self.num_classes, self.ignore_index, self.classes = num_classes, ignore_index, chosen
        self.register_buffer("confusion", torch.zeros(num_classes, num_classes + 1, dtype=torch.int64))

    @torch.no_grad()
    def update(self, predictions: Tensor, labels: Tensor) -> None:
        """Count a batch; see the class for shapes. Never makes the host wait."""
        self._check(predictions, labels)
        k = self.num_classes
        counted = (labels != self.ignore_index) & (labels >= 0) & (labels < k)
        predicted = _as_labels(predictions, labels)
        predicted = predicted.where((predicted >= 0) & (predicted < k), k)
        # one spare cell takes what does not count; scatter_add and not bincount, which waits for the device on CUDA
        cell = (labels * (k + 1) + predicted).where(counted, k * (k + 1)).flatten()
        counts = cell.new_zeros(k * (k + 1) + 1).scatter_add_(0, cell, torch.ones_like(cell))
        self.confusion += counts[:-1].view(k, k + 1)

    def compute(self) -> MeanIoUResult:
        """Return the values over everything counted so far; see :class:`MeanIoUResult`."""
        n = self.confusion.double()
        hits = n.diagonal()
        # 0 / 0 is NaN, which is what a class never seen has
        per_class = 100 * hits / (n.sum(1) + n[:, :-1].sum(0) - hits)
        if 0 <= self.ignore_index < self.num_classes:
            per_class[self.ignore_index] = torch.nan
        chosen = torch.tensor(self.classes, device=n.device)
        return MeanIoUResult(per_class[chosen].nanmean(), per_class, 100 * hits.sum() / n.sum())

    def merge(self, other: "MeanIoU") -> None:
        """Add what ``other`` has counted, e.g. on another part of the data.

        Raises:
            TypeError: If ``other`` is no :class:`MeanIoU`.
            ValueError: If it counts other classes.
        """
        if not isinstance(other, MeanIoU):
            raise TypeError(f"MeanIoU.merge: `other` must be a MeanIoU; got {type(other).__name__}.")
        if other.num_classes != self.num_classes:
            raise ValueError(
                f"MeanIoU.merge: `other` must have num_classes={self.num_classes}; got {other.num_classes}."
            )
        self.confusion += other.confusion.to(self.confusion.device)

    def sync(self) -> None:
        """Add up the counts of all ranks; nothing happens without an initialised ``torch.distributed``.

        Call it once, after the last update: a second call would count every rank again.
        """
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(self.confusion)

    def reset(self) -> None:
        """Forget everything counted."""
        self.confusion.zero_()

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return f"num_classes={self.num_classes}, ignore_index={self.ignore_index}, classes={self.classes}"

    def _check(self, predictions: Tensor, labels: Tensor) -> None:
        caller = "MeanIoU.update"
        sizes = check_shape(caller, "labels", labels, "N H W")
        check_dtype(caller, "labels", labels, "int64")
        if isinstance(predictions, Tensor) and predictions.is_floating_point():
            check_shape(caller, "predictions", predictions, "N K h w", {"N": sizes["N"], "K": self.num_classes})
            debug_finite(caller, "predictions", predictions)
        else:
            check_shape(caller, "predictions", predictions, "N H W", sizes, hint="Logits must be of dtype float.")
            check_dtype(caller, "predictions", predictions, "int64")
        check_same_device(
            caller, {"predictions": predictions, "labels": labels, "confusion (the metric)": self.confusion}
        )
        debug_labels(caller, "labels", labels, self.num_classes, self.ignore_index)


def _as_labels(predictions: Tensor, labels: Tensor) -> Tensor:
    if not predictions.is_floating_point():
        return predictions
    logits = predictions.to(torch.promote_types(predictions.dtype, torch.float32))
    if logits.shape[-2:] != labels.shape[-2:]:
        logits = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
    return logits.argmax(1)
