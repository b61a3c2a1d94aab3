"""Bilinear backward warp with validity."""

from torch import Tensor

from dastc._core.checks import check_dtype, check_same_device, check_shape
from dastc.ops._backend import Backend, check_backend
from dastc.ops.flow_warp.op import flow_warp_op

__all__ = ["flow_warp"]


def flow_warp(x: Tensor, flow: Tensor, *, backend: Backend = "auto") -> tuple[Tensor, Tensor]:
    """Bring an earlier frame onto the grid of a later one along backward flow.

    ``warped(x, y) = input(x + dx, y + dy)``, bilinear, in pixel coordinates whose centres are integers; beyond the
    border the border is repeated. It means what ``grid_sample(padding_mode="border", align_corners=True)`` means.

    Args:
        x: What lies on the grid of the earlier frame: frames, features, logits or probabilities.
        flow: Backward flow in pixels of this grid; channel 0 is dx, channel 1 is dy.
        backend: ``"torch"``, ``"triton"`` (a GPU), or ``"auto"``; see :func:`dastc.backend_info`.

    Shape:
        - x: ``(N, C, H, W)``, any float dtype; computed in float32 (float64 if it is).
        - flow: ``(N, 2, H, W)``, float.
        - warped: ``(N, C, H, W)`` with the dtype of ``x``, differentiable in ``x`` and ``flow``, once.
        - valid: ``(N, H, W)``, bool: the sample point lay inside the picture. NaN flow is not valid.

    Raises:
        ValueError: If the shapes do not fit or the devices differ.
        TypeError: If a tensor is not float.
        RuntimeError: If ``backend="triton"`` cannot be met.

    Source:
        The warp of METHOD 2.2 (Resample2d) with a validity that the released code lacks.

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
    check_same_device("flow_warp", {"x": x, "flow": flow})
    check_backend("flow_warp", backend)
    warped, valid = flow_warp_op(x, flow, backend)
    return warped, valid
