"""From the confidence of pseudo-labels to how much they count."""

from typing import Literal

from torch import Tensor

from dastc._core.checks import check_between, check_choice, check_dtype

__all__ = ["Weighting", "confidence_weights"]

Weighting = Literal["share", "confidence", "threshold", "none"]


def confidence_weights(confidence: Tensor, weighting: Weighting = "share", *, threshold: float = 0.968) -> Tensor:
    """Decide how much each pseudo-label counts.

    Args:
        confidence: Probability of the label.
        weighting: ``"share"``: all pixels of a sample count as much as its share of confident pixels; ``"confidence"``:
            each as much as its own confidence; ``"threshold"``: the confident ones fully, the others not at all;
            ``"none"``: all fully, except those without any confidence.
        threshold: From which confidence on a pixel is confident, in [0, 1].

    Shape:
        - confidence: ``(B, ...)``, float in [0, 1].
        - output: the same, without gradient. Confidence of exactly 0 (a label that nothing supports) weighs 0.

    Raises:
        ValueError: If ``weighting`` is unknown or ``threshold`` is out of range.
        TypeError: If ``confidence`` is not float.

    Source:
        ``"share"``: Tranheden et al. 2021 (DACS); ``"none"``: the released code for videos
        (docs/method.md#pseudo-labels-across-frames).

    Example:
        >>> import torch
        >>> confidence_weights(torch.tensor([[0.99, 0.5, 0.98, 0.2]]))
        tensor([[0.5000, 0.5000, 0.5000, 0.5000]])
    """
    check_dtype("confidence_weights", "confidence", confidence, "float")
    check_choice("confidence_weights", "weighting", weighting, ("share", "confidence", "threshold", "none"))
    check_between("confidence_weights", "threshold", threshold, 0, 1)
    confidence = confidence.detach()
    if weighting == "confidence":
        return confidence
    sure = (confidence >= threshold).to(confidence.dtype)
    if weighting == "threshold":
        return sure * (confidence > 0)
    supported = (confidence > 0).to(confidence.dtype)
    if weighting == "none":
        return supported
    if confidence.numel() == 0:
        return confidence
    share = sure.reshape(len(sure), -1).mean(dim=1)
    return share.view(-1, *[1] * (confidence.dim() - 1)) * supported
