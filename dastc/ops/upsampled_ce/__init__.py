"""Cross entropy of low-resolution logits against full-resolution labels."""

from typing import Literal

from torch import Tensor

from dastc._core.checks import check_choice, check_dtype, check_same_device, check_shape, check_whole
from dastc._core.debug import debug_finite, debug_labels
from dastc._core.distributed import shared_count
from dastc.ops._backend import Backend, check_backend
from dastc.ops.upsampled_ce.op import upsampled_ce_op, upsampled_ce_sum_op

__all__ = ["upsampled_cross_entropy"]


def upsampled_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    weights: Tensor | None = None,
    ignore_index: int = 255,
    reduction: Literal["mean", "sum", "none"] = "mean",
    sync: bool = False,
    backend: Backend = "auto",
) -> Tensor:
    r"""Compare low-resolution logits with full-resolution labels, never materialising the upsampled logits.

    .. math:: L = \frac{1}{|V|} \sum_{i \in V} w_i \, \mathrm{CE}(\mathrm{up}(z)_i, y_i), \quad
              V = \{i : y_i \in [0, K)\}

    The mean divides by the number of labelled pixels, not by the sum of the weights: halving all weights halves the
    loss, as self-training wants of unsure labels.

    Args:
        logits: Unnormalised scores at any resolution; upsampled bilinearly with ``align_corners=False``.
        labels: The class of each pixel. A label outside [0, K) takes no part.
        weights: How much each pixel counts, dimensionless; ``None`` counts each as 1.
        ignore_index: A label that takes no part even if it lies in [0, K).
        reduction: ``"mean"`` as above, ``"sum"`` without the division, ``"none"`` for the weighted loss per pixel.
        sync: Of ``"mean"``: divide by the mean number of labelled pixels over the ranks of torch.distributed, so that
            N ranks, whose gradients are averaged, equal one process on the whole batch. Every rank must call it.
        backend: ``"torch"``, ``"triton"`` (a GPU, K <= 256), or ``"auto"``; see :func:`dastc.backend_info`.

    Shape:
        - logits: ``(N, K, h, w)``, any float dtype; computed in float32 (float64 if it is).
        - labels: ``(N, H, W)``, int64.
        - weights: ``(N, H, W)``, float.
        - output: ``()``, or ``(N, H, W)`` for ``"none"``; float32 (float64), differentiable once in logits and
          weights. With no pixel to count it is exactly 0 and connected to the graph.

    Raises:
        ValueError: If the shapes do not fit, logits lack classes, rows or columns, devices differ or ``reduction`` is
            unknown; under ``debug_checks()`` also for labels out of range and logits that are not finite.
        TypeError: If a tensor has the wrong kind of dtype.
        RuntimeError: If ``backend="triton"`` cannot be met.

    Source:
        The cross entropies of the released code (docs/method.md#the-total); Tranheden et al. 2021 (DACS) weight pixels
        in the same way.

    Example:
        >>> import torch
        >>> upsampled_cross_entropy(torch.zeros(1, 2, 2, 2), torch.zeros(1, 8, 8, dtype=torch.long))
        tensor(0.6931)
    """
    caller = "upsampled_cross_entropy"
    sizes = check_shape(caller, "logits", logits, "N K h w")
    full = check_shape(caller, "labels", labels, "N H W", sizes)
    check_dtype(caller, "logits", logits, "float")
    check_dtype(caller, "labels", labels, "int64")
    if weights is not None:
        check_shape(caller, "weights", weights, "N H W", full)
        check_dtype(caller, "weights", weights, "float")
    check_whole(caller, "ignore_index", ignore_index)
    check_choice(caller, "reduction", reduction, ("mean", "sum", "none"))
    check_backend(caller, backend)
    check_same_device(caller, {"logits": logits, "labels": labels, "weights": weights})
    debug_labels(caller, "labels", labels, sizes["K"], ignore_index)
    debug_finite(caller, "logits", logits)
    arguments = (logits, labels, weights, ignore_index, backend)
    if reduction == "none":
        each: Tensor = upsampled_ce_op(*arguments)
        return each
    total, count = upsampled_ce_sum_op(*arguments)
    loss: Tensor = total if reduction == "sum" else total / shared_count(count, sync=sync)
    return loss
