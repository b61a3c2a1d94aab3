"""Resizing of flow fields, vectors included."""

from torch import Tensor

from dastc._core.checks import check_dtype, check_shape, check_size
from dastc.ops.resize_flow.op import resize_flow_op

__all__ = ["resize_flow"]


def resize_flow(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a flow field, and rescale its vectors to pixels of the new grid.

    Bilinear with ``align_corners=False``; dx is multiplied by ``W_out / W_in`` and dy by ``H_out / H_in``.

    Args:
        flow: Flow in pixels of its own grid; channel 0 is dx, channel 1 is dy.
        size: ``(height, width)`` of the new grid.

    Shape:
        - flow: ``(N, 2, H, W)``, float.
        - output: ``(N, 2, height, width)``, same dtype, differentiable to any order.

    Raises:
        ValueError: If ``flow`` has another shape or ``size`` is not positive.
        TypeError: If ``flow`` is not float.

    Source:
        Ours; the released code scales both channels by the height's ratio (docs/method.md#flow-files).

    Example:
        >>> import torch
        >>> resize_flow(torch.ones(1, 2, 4, 4), (8, 4))[0, :, 0, 0]
        tensor([1., 2.])
    """
    check_shape("resize_flow", "flow", flow, "N 2 H W", {"2": 2})
    check_dtype("resize_flow", "flow", flow, "float")
    size = check_size("resize_flow", "size", size)
    resized: Tensor = resize_flow_op(flow, *size)
    return resized
