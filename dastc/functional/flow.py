"""Small pure functions of backward flow."""

import torch
from torch import Tensor

from dastc._core.checks import check_at_least, check_dtype, check_same_device, check_shape
from dastc._core.precision import compute_dtype
from dastc.ops.flow_warp import flow_warp

__all__ = ["compose_flow", "flip_flow", "flow_consistency"]


def compose_flow(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    r"""Join two steps back in time to one: from frame d to c and from c to b gives from d to b.

    .. math:: F_{d \to b}(x) = F_{d \to c}(x) + F_{c \to b}(x + F_{d \to c}(x))

    The second step is read bilinearly. Where the middle point lies outside frame c, nobody knows how it went on: the
    flow of the nearest pixel is used, and the result is not valid.

    Args:
        first: Backward flow of the later step, on the grid of frame d, in pixels.
        second: Backward flow of the earlier step, on the grid of frame c.

    Shape:
        - first, second: ``(N, 2, H, W)``, float.
        - flow: ``(N, 2, H, W)``, dtype of ``first``, on the grid of frame d.
        - valid: ``(N, H, W)``, bool: the middle point lies inside, and the flow is known. NaN is unknown, and reaches
          points less than a pixel away. Whether the last point lies inside too, the warp along the result tells.

    Raises:
        ValueError: If the shapes do not fit or the devices differ.
        TypeError: If a tensor is not float.

    Source:
        Ours; DA-STC needs flow over two steps, which the released scripts do not make (docs/method.md#flow-files).

    Example:
        >>> import torch
        >>> step = torch.tensor([-1.0, 0.5]).view(1, 2, 1, 1).expand(1, 2, 3, 4)
        >>> flow, valid = compose_flow(step, step)
        >>> flow[0, :, 0, 0], valid[0, 0]
        (tensor([-2.,  1.]), tensor([False,  True,  True,  True]))
    """
    _check_pair("compose_flow", {"first": first, "second": second})
    going_on, valid = flow_warp(second.to(compute_dtype(second)), first.to(compute_dtype(first)))
    flow = (first + going_on).to(first.dtype)
    return flow, valid & flow.isfinite().all(dim=1)


def flow_consistency(flow: Tensor, reverse: Tensor, *, relative: float = 0.01, absolute: float = 0.5) -> Tensor:
    r"""Tell where going along a flow and back along the reverse one ends near the start.

    Where it does not, the point is hidden in the other frame, or one of the flows is wrong there. A pixel passes if

    .. math:: |F(x) + R(x + F(x))|^2 \le \mathrm{relative} \cdot (|F(x)|^2 + |R(x + F(x))|^2) + \mathrm{absolute}.

    Args:
        flow: Backward flow: from the later frame to the earlier, on the later one's grid, in pixels.
        reverse: From the earlier frame to the later, on the earlier one's grid. The result is for the grid of ``flow``;
            exchange the two for the other.
        relative: Error that is allowed per squared length of the flow, dimensionless, >= 0.
        absolute: Squared error that is always allowed, in squared pixels, >= 0. The default lets 0.7 pixels pass; for
            small pictures it may be too much.

    Shape:
        - flow, reverse: ``(N, 2, H, W)``, float.
        - output: ``(N, H, W)``, bool; false where ``flow`` points out of the picture or one of the two is NaN.

    Raises:
        ValueError: If the shapes do not fit, the devices differ or a threshold is negative.
        TypeError: If a tensor is not float.

    Source:
        Sundaram et al. 2010, section 3, with its two constants.

    Example:
        >>> import torch
        >>> step = torch.tensor([-1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 1, 4)
        >>> flow_consistency(step, -step), flow_consistency(step, 2 * step)
        (tensor([[[False,  True,  True,  True]]]), tensor([[[False, False, False, False]]]))
    """
    _check_pair("flow_consistency", {"flow": flow, "reverse": reverse})
    check_at_least("flow_consistency", "relative", relative, 0)
    check_at_least("flow_consistency", "absolute", absolute, 0)
    flow = flow.to(compute_dtype(flow))
    back, valid = flow_warp(reverse.to(compute_dtype(reverse)), flow)
    error, length = (x.square().sum(dim=1) for x in (flow + back, torch.cat((flow, back), dim=1)))
    return valid & (error <= relative * length + absolute)  # NaN passes no comparison


def flip_flow(flow: Tensor) -> Tensor:
    """Mirror flow from left to right, as its pictures are mirrored: pixels move, and dx changes its sign.

    Shape:
        - flow: ``(..., 2, H, W)``, float.
        - output: the same.

    Raises:
        ValueError: If ``flow`` has another shape.
        TypeError: If ``flow`` is not float.

    Source:
        Ours; turning the sign is what a plain flip forgets.

    Example:
        >>> import torch
        >>> flip_flow(torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]]))
        tensor([[[-2., -1.]],
        <BLANKLINE>
                [[ 4.,  3.]]])
    """
    check_dtype("flip_flow", "flow", flow, "float")
    if flow.dim() < 3 or flow.shape[-3] != 2:
        raise ValueError(f"flip_flow: `flow` must have shape (..., 2, H, W); got {tuple(flow.shape)}.")
    dx, dy = flow.flip(-1).unbind(dim=-3)
    return torch.stack((-dx, dy), dim=-3)


def _check_pair(caller: str, flows: dict[str, Tensor]) -> None:
    sizes = {"2": 2}
    for name, flow in flows.items():
        sizes |= check_shape(caller, name, flow, "N 2 H W", sizes)
        check_dtype(caller, name, flow, "float")
    check_same_device(caller, flows)
