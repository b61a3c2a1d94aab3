"""Composition of two clips by a table of classes."""

from typing import cast

import torch
from torch import Tensor

from dastc._core.checks import check_dtype, check_number, check_same_device, check_shape
from dastc.clip import Clip, check_clip
from dastc.ops._backend import Backend, check_backend
from dastc.ops.clip_paste.op import clip_paste_op

__all__ = ["clip_paste"]


def clip_paste(
    foreground: Clip,
    background: Clip,
    table: Tensor,
    *,
    key: Tensor | None = None,
    eligible: Tensor | None = None,
    opacity: float = 1.0,
    backend: Backend = "auto",
) -> tuple[Clip, Tensor]:
    """Paste the pixels of chosen classes from one clip into another, frame by frame.

    A pixel is pasted where ``table`` holds the class that ``key`` gives it. Frames, labels, flow and weights of a
    pixel come from one and the same clip; the flow between frames t and t+1 follows the mask of frame t+1, on whose
    grid it lies. Each frame is cut by its own labels, so a patch moves as its object does.

    Args:
        foreground: The clip to paste from, labelled.
        background: The clip to paste into, labelled.
        table: The classes to paste, for each sample.
        key: The labels that decide; ``None`` means the foreground's. The other clip's labels cut its complement.
        eligible: Pixels that may be pasted at all, such as the confident ones; ``None`` means all.
        opacity: Share of the foreground in the pasted frames, in (0, 1]; below 1 is a soft paste. Labels, flow and
            weights are always the foreground's there.
        backend: ``"torch"``, ``"triton"`` (a GPU), or ``"auto"``; see :func:`dastc.backend_info`.

    Shape:
        - table: ``(B, K)``, bool.
        - key: ``(B, T, H, W)``, int64; labels outside [0, K) are never pasted.
        - eligible: ``(B, T, H, W)``, bool.
        - mask: ``(B, T, H, W)``, bool: what was pasted. Gradients reach frames, flow and weights of both clips.

    Raises:
        ValueError: If a clip is not labelled, the shapes do not fit, the devices differ, only one of the clips has
            flow, or ``opacity`` is not in (0, 1]. Weights missing in one clip are taken as 1.
        TypeError: If a tensor has the wrong kind of dtype, or the two clips differ in one.
        RuntimeError: If ``backend="triton"`` cannot be met.

    Source:
        The released code (docs/method.md#fusion-of-clips), with the flow cut by the mask of its own grid
        (docs/method.md#what-is-corrected).

    Example:
        >>> red = Clip(torch.ones(1, 1, 3, 1, 2), torch.tensor([[[[0, 1]]]]))
        >>> black = Clip(torch.zeros(1, 1, 3, 1, 2), torch.tensor([[[[2, 2]]]]))
        >>> clip, mask = clip_paste(red, black, torch.tensor([[False, True, False]]))
        >>> clip.labels.flatten(), clip.frames[0, 0, 0].flatten()
        (tensor([2, 1]), tensor([0., 1.]))
    """
    caller = "clip_paste"
    sizes = check_clip(caller, "foreground", foreground, labelled=True)
    check_clip(caller, "background", background, labelled=True)
    known = sizes | {"C": foreground.frames.shape[2]}
    check_shape(caller, "background.frames", background.frames, "B T C H W", known)
    _check_same_dtypes(caller, foreground, background)
    sizes = check_shape(caller, "table", table, "B K", sizes)
    check_dtype(caller, "table", table, "bool")
    key = cast(Tensor, foreground.labels) if key is None else key
    check_shape(caller, "key", key, "B T H W", sizes)
    check_dtype(caller, "key", key, "int64")
    if eligible is not None:
        check_shape(caller, "eligible", eligible, "B T H W", sizes)
        check_dtype(caller, "eligible", eligible, "bool")
    check_number(caller, "opacity", opacity)
    if not 0 < opacity <= 1:
        raise ValueError(f"{caller}: `opacity` must lie in (0, 1]; got {opacity}.")
    if (foreground.flow is None) != (background.flow is None):
        has, lacks = ("background", "foreground") if foreground.flow is None else ("foreground", "background")
        raise ValueError(
            f"{caller}: `{lacks}.flow` must be given, as `{has}` has flow; got None. Drop it or give both."
        )
    check_backend(caller, backend)
    clips = {"foreground": foreground.frames, "background": background.frames}
    check_same_device(caller, clips | {"table": table, "key": key, "eligible": eligible})
    weights, back_weights = _both_weights(foreground, background)
    frames, labels, flow, new_weights, mask = clip_paste_op(
        foreground.frames, background.frames, foreground.labels, background.labels,
        foreground.flow, background.flow, weights, back_weights, key, table, eligible, opacity, backend,
    )  # fmt: skip
    return Clip(
        frames, labels, None if foreground.flow is None else flow, None if weights is None else new_weights
    ), mask


def _check_same_dtypes(caller: str, foreground: Clip, background: Clip) -> None:
    for field, front, back in zip(Clip._fields, foreground, background, strict=True):
        if front is not None and back is not None and front.dtype != back.dtype:
            rule = f"be of dtype {front.dtype}, as the foreground's are"
            raise TypeError(f"{caller}: `background.{field}` must {rule}; got {back.dtype}.")


def _both_weights(foreground: Clip, background: Clip) -> tuple[Tensor | None, Tensor | None]:
    given = foreground.weights if foreground.weights is not None else background.weights
    if given is None:
        return None, None
    front, back = (
        torch.ones_like(given) if clip.weights is None else clip.weights for clip in (foreground, background)
    )
    return front, back
