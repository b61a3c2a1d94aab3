"""Bilinear backward warp with validity, and a blend with what else is known."""

from collections.abc import Mapping

import torch
from torch import Tensor

from dastc._core.checks import check_dtype, check_same_device, check_shape
from dastc.ops._backend import Backend, check_backend
from dastc.ops.flow_warp.op import flow_warp_op

__all__ = ["flow_warp"]


def flow_warp(
    x: Tensor,
    flow: Tensor,
    *,
    other: Tensor | None = None,
    share: Tensor | None = None,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor]:
    """Bring an earlier frame onto the grid of a later one along backward flow.

    ``warped(x, y) = input(x + dx, y + dy)``, bilinear, in pixel coordinates whose centres are integers; beyond the
    border the border is repeated. It means what ``grid_sample(padding_mode="border", align_corners=True)`` means.

    With ``other`` the result is ``warped * (1 - share) + other * share``, in the same pass: the later frame's own
    values where the flow leads out of the picture, or where nothing is known to move. What has no share at all is not
    looked at, so that NaN there stays where it is.

    Args:
        x: What lies on the grid of the earlier frame: frames, features, logits or probabilities.
        flow: Backward flow in pixels of this grid; channel 0 is dx, channel 1 is dy.
        other: What to blend in, on the grid of the later frame.
        share: How much of it, in [0, 1]; a constant for the gradient. ``None``: all of it where the sample point lies
            outside the picture, nothing elsewhere. Needs ``other``.
        backend: ``"torch"``, ``"triton"`` (a GPU), or ``"auto"``; see :func:`dastc.backend_info`.

    Shape:
        - x: ``(N, C, H, W)``, any float dtype; computed in float32 (float64 if it is).
        - flow: ``(N, 2, H, W)``, float.
        - other: ``(N, C, H, W)`` with the dtype of ``x``.
        - share: ``(N, H, W)``, float or bool.
        - warped: ``(N, C, H, W)`` with the dtype of ``x``, differentiable in ``x``, ``flow`` and ``other``, once.
        - valid: ``(N, H, W)``, bool: the sample point lay inside the picture. NaN flow is not valid.

    Raises:
        ValueError: If the shapes do not fit, the devices differ or ``share`` comes without ``other``.
        TypeError: If a tensor has the wrong kind of dtype.
        RuntimeError: If ``backend="triton"`` cannot be met.

    Source:
        The warp of the released code (docs/method.md#the-video-model), with a validity that it lacks; the blend is that
        of its fused clips, where still patches have no flow.

    Example:
        >>> import torch
        >>> x = torch.arange(3.0).view(1, 1, 1, 3)
        >>> flow = torch.tensor([-1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 1, 3)
        >>> warped, valid = flow_warp(x, flow)
        >>> warped.flatten(), valid.flatten()
        (tensor([0., 0., 1.]), tensor([False,  True,  True]))
    """
    sizes = check_shape("flow_warp", "x", x, "N C H W")
    check_shape("flow_warp", "flow", flow, "N 2 H W", sizes | {"2": 2}, hint="Resize it with resize_flow.")
    check_dtype("flow_warp", "x", x, "float")
    check_dtype("flow_warp", "flow", flow, "float")
    _check_blend(x, other, share, sizes)
    check_same_device("flow_warp", {"x": x, "flow": flow, "other": other, "share": share})
    check_backend("flow_warp", backend)
    warped, valid = flow_warp_op(x, flow, other, None if share is None else share.detach(), backend)
    return warped, valid


def _check_blend(x: Tensor, other: Tensor | None, share: Tensor | None, sizes: Mapping[str, int]) -> None:
    if other is not None:
        check_shape("flow_warp", "other", other, "N C H W", sizes)
        if other.dtype != x.dtype:
            raise TypeError(f"flow_warp: `other` must have the dtype of `x`, {x.dtype}; got {other.dtype}.")
    if share is not None:
        if other is None:
            raise ValueError("flow_warp: `share` must come with `other`; got other=None.")
        check_shape("flow_warp", "share", share, "N H W", sizes)
        if share.dtype != torch.bool:
            check_dtype("flow_warp", "share", share, "float")
