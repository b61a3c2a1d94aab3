"""Labels and their confidence from low-resolution logits, across frames if there is flow."""

from typing import Literal, NamedTuple

from torch import Tensor

from dastc._core.checks import (
    check_choice,
    check_dtype,
    check_same_device,
    check_shape,
    check_size,
)
from dastc._core.debug import debug_finite
from dastc.ops._backend import Backend, check_backend
from dastc.ops.pseudo_label.op import pseudo_label_op

__all__ = ["PseudoLabels", "pseudo_labels"]


class PseudoLabels(NamedTuple):
    """What a teacher says of each pixel.

    Args:
        labels: The most probable class.
        confidence: Its probability, or what else was asked for.

    Shape:
        - labels: ``(N, H, W)``, int64, in [0, K).
        - confidence: ``(N, H, W)``, float32 (float64), in [0, 1].

    Example:
        >>> import torch
        >>> pseudo_labels(torch.zeros(1, 4, 2, 2), (8, 8)).confidence.unique()
        tensor([0.2500])
    """

    labels: Tensor
    confidence: Tensor


def pseudo_labels(
    logits: Tensor,
    size: tuple[int, int],
    *,
    flow: Tensor | None = None,
    previous: Tensor | None = None,
    confidence: Literal["probability", "entropy"] = "probability",
    noise: Tensor | None = None,
    backend: Backend = "auto",
) -> PseudoLabels:
    """Read off labels and confidence at full size, from this frame, the previous one along the flow, or both.

    Upsample, soft-max, warp, arg-max, in this order, band by band: no map with K channels exists at full size.

    - ``logits`` alone: the labels of the frame they belong to.
    - ``logits`` and ``flow``: the logits belong to the *earlier* frame, the labels to the later one, on whose grid
      the flow lies. Where the flow leaves the picture the confidence is 0.
    - ``logits``, ``flow`` and ``previous``: the mean of both probabilities where the flow stays inside the picture,
      this frame's own elsewhere.

    A flipped picture needs no option: flip the logits, which are small, or flip the flow and negate its dx.

    Args:
        logits: Unnormalised scores at any resolution. No gradient flows back: pseudo-labels are data.
        size: ``(height, width)`` of the labels.
        flow: Backward flow in pixels, at ``size``.
        previous: Logits of the earlier frame; needs ``flow``.
        confidence: What confidence is. ``"probability"``: that of the label; ``"entropy"``: 1 - H / log K with the
            entropy H of the same probabilities, so 1 if one class has it all and 0 if all classes are alike. Either is
            0 where the flow leaves the picture and nothing else is known.
        noise: Added to the logarithms of the probabilities before the label is chosen, alike for all pixels of a cell
            of the picture. With Gumbel noise a label is drawn with its probability. The confidence stays as it is.
        backend: ``"torch"``, ``"triton"`` (a GPU, K <= 256), or ``"auto"``; see :func:`dastc.backend_info`.

    Shape:
        - logits, previous: ``(N, K, h, w)``, any float dtype; computed in float32 (float64 if it is).
        - flow: ``(N, 2, height, width)``, float.
        - noise: ``(N, K, r, c)``, float, on a grid of r x c cells of any number.
        - labels: ``(N, height, width)``, int64. Confidence: the same shape, float32 (float64). NaN logits give NaN
          confidence, and labels that are still in [0, K).

    Raises:
        ValueError: If the shapes do not fit, logits lack classes, rows or columns, devices differ, ``previous`` comes
            without ``flow`` or ``confidence`` is unknown; under ``debug_checks()`` also for logits that are not finite.
        TypeError: If a tensor is not float.
        RuntimeError: If ``backend="triton"`` cannot be met.

    Source:
        Xing et al. 2022 (TPS), in the order of operations of docs/method.md#pseudo-labels-across-frames and with the
        corrections of docs/method.md#what-is-corrected; the mean of both frames and the confidence by entropy are ours.

    Example:
        >>> import torch
        >>> logits = torch.tensor([0.0, 5.0]).view(1, 2, 1, 1)
        >>> pseudo_labels(logits, (2, 3)).labels
        tensor([[[1, 1, 1],
                 [1, 1, 1]]])
    """
    caller = "pseudo_labels"
    sizes = check_shape(caller, "logits", logits, "N K h w")
    size = check_size(caller, "size", size)
    at_size = sizes | {"2": 2, "H": size[0], "W": size[1]}
    if flow is not None:
        check_shape(caller, "flow", flow, "N 2 H W", at_size, hint="Resize it with resize_flow.")
        check_dtype(caller, "flow", flow, "float")
    if previous is not None:
        if flow is None:
            raise ValueError(f"{caller}: `previous` must come with `flow`; got flow=None.")
        check_shape(caller, "previous", previous, "N K h w", sizes)
        check_dtype(caller, "previous", previous, "float")
    if noise is not None:
        check_shape(caller, "noise", noise, "N K r c", {axis: sizes[axis] for axis in "NK"})
        check_dtype(caller, "noise", noise, "float")
    check_dtype(caller, "logits", logits, "float")
    check_choice(caller, "confidence", confidence, ("probability", "entropy"))
    check_backend(caller, backend)
    check_same_device(caller, {"logits": logits, "flow": flow, "previous": previous, "noise": noise})
    for name, x in {"logits": logits, "previous": previous}.items():
        if x is not None:
            debug_finite(caller, name, x)
    flow, previous, noise = (None if x is None else x.detach() for x in (flow, previous, noise))
    by_entropy = confidence == "entropy"
    return PseudoLabels(*pseudo_label_op(logits.detach(), flow, previous, *size, by_entropy, backend, noise))
