"""Sums and masses per class."""

from torch import Tensor

from dastc._core.checks import check_dtype, check_same_device, check_tensor, check_whole
from dastc._core.debug import debug_finite, debug_labels
from dastc._core.labels import without_ignored
from dastc.ops._backend import Backend, check_backend
from dastc.ops.class_pool.op import class_pool_op

__all__ = ["class_pool"]


def class_pool(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    *,
    weights: Tensor | None = None,
    ignore_index: int = 255,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor]:
    """Sum features over the pixels of each class, and count those pixels, sample by sample.

    ``sums / mass`` are the class centroids; keeping the two apart lets them be added over frames, samples and ranks.

    Args:
        features: What is averaged: deep features, or logits.
        labels: The class of each position. A label outside [0, K) takes no part.
        num_classes: K.
        weights: How much each position counts, dimensionless, >= 0; ``None`` counts each as 1.
        ignore_index: A label that takes no part even if it lies in [0, K).
        backend: ``"torch"``, ``"triton"`` (a GPU, K <= 256, D <= 4096), or ``"auto"``; see
            :func:`dastc.backend_info`.

    Shape:
        - features: ``(N, D, *S)``, any float dtype and any number of axes S; summed in float32 (float64 if it is).
        - labels: ``(N, *S)``, int64.
        - weights: ``(N, *S)``, float.
        - sums: ``(N, K, D)``, float32 (float64), differentiable in features and weights to any order.
        - mass: ``(N, K)``, likewise. Both are 0 for an absent class.

    Raises:
        ValueError: If the shapes do not fit, the devices differ or ``num_classes`` < 1; under ``debug_checks()``
            also for labels out of range and for features that are not finite (one such value, ignored or not,
            makes its channel non-finite for every class of that sample).
        TypeError: If a tensor has the wrong kind of dtype.
        RuntimeError: If ``backend="triton"`` cannot be met.

    Source:
        The averages of the released code (docs/method.md#aggregation-of-classes), without its loop over classes.

    Example:
        >>> import torch
        >>> sums, mass = class_pool(torch.tensor([[[1.0, 2.0, 4.0]]]), torch.tensor([[0, 1, 1]]), num_classes=2)
        >>> sums.flatten(), mass
        (tensor([1., 6.]), tensor([[1., 2.]]))
    """
    check_tensor("class_pool", "features", features)
    if features.dim() < 2:
        raise ValueError(f"class_pool: `features` must have shape (N, D, *S); got {tuple(features.shape)}.")
    grid = (features.shape[0], *features.shape[2:])
    for name, x in {"labels": labels, "weights": weights}.items():
        if name == "labels" or x is not None:
            check_tensor("class_pool", name, x)
        if x is not None and tuple(x.shape) != grid:
            hint = "Resize labels to this grid with resize_labels."
            raise ValueError(f"class_pool: `{name}` must have shape {grid}; got {tuple(x.shape)}. {hint}")
    check_dtype("class_pool", "features", features, "float")
    check_dtype("class_pool", "labels", labels, "int64")
    if weights is not None:
        check_dtype("class_pool", "weights", weights, "float")
    check_whole("class_pool", "num_classes", num_classes, 1)
    check_whole("class_pool", "ignore_index", ignore_index)
    check_backend("class_pool", backend)
    check_same_device("class_pool", {"features": features, "labels": labels, "weights": weights})
    debug_labels("class_pool", "labels", labels, num_classes, ignore_index)
    debug_finite("class_pool", "features", features)
    labels = without_ignored(labels, num_classes, ignore_index)
    pixels = labels.numel() // max(len(labels), 1)
    flat_weights = None if weights is None else weights.reshape(len(weights), pixels)
    flat = features.reshape(*features.shape[:2], pixels)
    sums, mass = class_pool_op(flat, labels.reshape(len(labels), pixels), flat_weights, num_classes, backend)
    return sums, mass
