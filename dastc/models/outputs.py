"""The logits among what a model returns."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

__all__ = ["logits_of"]


def logits_of(output: Any) -> Tensor:
    """Find the logits in a model's output: the tensor itself, ``["out"]``, ``["logits"]`` or ``.logits``.

    This covers plain modules, torchvision's segmentation models, transformers' and segmentation-models-pytorch's.

    Shape:
        - output: ``(N, K, h, w)``.

    Raises:
        TypeError: If there is no tensor in any of these places.

    Example:
        >>> import torch
        >>> logits_of({"out": torch.zeros(1, 2, 4, 4), "aux": None}).shape
        torch.Size([1, 2, 4, 4])
    """
    for name in ("out", "logits"):
        if isinstance(output, Mapping) and name in output:
            output = output[name]
    found = getattr(output, "logits", output)
    if not isinstance(found, Tensor):
        raise TypeError(
            "logits_of: the model must return a tensor, a mapping with 'out' or 'logits', or an object with "
            f"`.logits`; got {type(output).__name__}. Wrap it in a module that does."
        )
    return found
