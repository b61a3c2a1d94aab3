"""The logits among what a model returns."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from dastc.models.query_logits import query_logits

__all__ = ["logits_of"]


def logits_of(output: Any) -> Tensor:
    """Find the logits in a model's output: the tensor itself, ``["out"]``, ``["logits"]`` or ``.logits``.

    This covers plain modules, torchvision's segmentation models, transformers' and segmentation-models-pytorch's. What
    answers with queries, as Mask2Former does, is brought to pixels by :func:`query_logits`.

    Shape:
        - output: ``(N, K, h, w)``.

    Raises:
        TypeError: If there is no tensor in any of these places.

    Example:
        >>> import torch
        >>> logits_of({"out": torch.zeros(1, 2, 4, 4), "aux": None}).shape
        torch.Size([1, 2, 4, 4])
    """
    classes, masks = (getattr(output, name, None) for name in ("class_queries_logits", "masks_queries_logits"))
    if isinstance(classes, Tensor) and isinstance(masks, Tensor):
        return query_logits(classes, masks)
    for name in ("out", "logits"):
        if isinstance(output, Mapping) and name in output:
            output = output[name]
    found = getattr(output, "logits", output)
    if not isinstance(found, Tensor):
        raise TypeError(
            "logits_of: the model must return a tensor, a mapping with 'out' or 'logits', or an object with "
            f"`.logits` or with the logits of queries; got {type(output).__name__}. Wrap it in a module that does."
        )
    return found
