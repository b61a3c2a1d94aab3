"""Learning from pseudo-labels."""

from torch import Tensor, nn

from dastc._core.checks import check_between, check_choice, check_whole
from dastc.functional import confidence_weights, upsampled_cross_entropy
from dastc.functional.confidence import Weighting

__all__ = ["SelfTrainingLoss"]


class SelfTrainingLoss(nn.Module):
    """Cross entropy against pseudo-labels that count as much as they can be trusted.

    Args:
        weighting: How confidence becomes weight; see :func:`dastc.functional.confidence_weights`.
        threshold: From which confidence on a pixel is confident, in [0, 1].
        sync: Divide by the mean count over ranks, when torch.distributed runs, so that N ranks equal one process.
        ignore_index: Label of the pixels that take no part.

    Shape:
        - logits: ``(N, K, h, w)``, at any resolution.
        - labels: ``(N, H, W)``, int64.
        - confidence: ``(N, H, W)``, float in [0, 1]; ``None`` counts every label fully.
        - output: ``()``; exactly 0, and connected to the graph, if nothing counts.

    Raises:
        ValueError: If an argument is out of range or the shapes do not fit.
        TypeError: If a tensor has the wrong kind of dtype.

    Source:
        Tranheden et al. 2021 (DACS); the weights divide nothing, so that unsure pictures teach less.

    Example:
        >>> import torch
        >>> from dastc.functional import pseudo_labels
        >>> teacher, student = torch.randn(1, 3, 4, 4), torch.randn(1, 3, 4, 4, requires_grad=True)
        >>> SelfTrainingLoss()(student, *pseudo_labels(teacher, (16, 16))).shape
        torch.Size([])
    """

    def __init__(
        self, *, weighting: Weighting = "share", threshold: float = 0.968, sync: bool = True, ignore_index: int = 255
    ) -> None:
        super().__init__()
        check_choice("SelfTrainingLoss", "weighting", weighting, ("share", "confidence", "threshold", "none"))
        check_between("SelfTrainingLoss", "threshold", threshold, 0, 1)
        check_whole("SelfTrainingLoss", "ignore_index", ignore_index)
        self.weighting, self.threshold, self.sync, self.ignore_index = weighting, threshold, sync, ignore_index

    def forward(self, logits: Tensor, labels: Tensor, confidence: Tensor | None = None) -> Tensor:
        """Return the loss."""
        weights = None
        if confidence is not None:
            weights = confidence_weights(confidence, self.weighting, threshold=self.threshold)
        return upsampled_cross_entropy(logits, labels, weights=weights, ignore_index=self.ignore_index, sync=self.sync)

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return (
            f"weighting={self.weighting!r}, threshold={self.threshold}, sync={self.sync}, "
            f"ignore_index={self.ignore_index}"
        )
