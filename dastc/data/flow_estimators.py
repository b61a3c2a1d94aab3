"""Backward flow between two frames, for data that comes without it."""

import hashlib
from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import get_worker_info

from dastc._core.checks import check_between, check_choice, check_dtype, check_shape
from dastc.data.flow_files import need_opencv
from dastc.data.frames import Convention, from_rgb, to_rgb

__all__ = ["DISFlow", "FlowEstimator", "RAFTFlow"]

Preset = Literal["ultrafast", "fast", "medium"]

_PRESETS = ("ultrafast", "fast", "medium")  # in the order of OpenCV's numbers
_PATCH, _SMALLEST = 8, 12  # pixels; DIS matches patches, and OpenCV wants 12 in one direction at least
_RAFT_STRIDE, _RAFT_SMALLEST = 8, 128


class FlowEstimator(Protocol):
    """Whatever tells the backward flow of two frames: on the later frame's grid, to where the earlier one has it.

    Its ``repr`` should say how the flow is made: :class:`FlowCache` keeps it with the flow.

    Shape:
        - previous, current: ``(3, H, W)``, float, normalised frames.
        - output: ``(2, H, W)``, float, pixels, dx first; NaN where it is unknown.

    Example:
        >>> def still(previous, current):
        ...     return torch.zeros(2, *current.shape[1:])
        >>> estimator: FlowEstimator = still
    """

    def __call__(self, previous: Tensor, current: Tensor) -> Tensor:
        """Return the flow."""
        ...


class DISFlow:
    """Estimate flow by dense inverse search: classical, without weights, on the CPU. Needs OpenCV.

    Args:
        preset: How thoroughly OpenCV searches; see the table in :doc:`/flow`.
        finest_scale: Where the search stops: 0 is full resolution, each step halves it. OpenCV's presets stop at 2, 2
            and 1, which is several times faster and misses what is small.
        convention: How the frames are normalised, see :func:`from_rgb`.

    Raises:
        RuntimeError: Without OpenCV.
        ValueError: If an argument is out of range; when called, if the frames are smaller than ``8 * 2**finest_scale``
            or 12 pixels, or differ in shape.
        TypeError: When called, if a frame is not float.

    Source:
        Kroeger et al. 2016, in OpenCV's implementation.

    Example:
        >>> estimator = DISFlow()
        >>> current = torch.rand(3, 6, 8).repeat_interleave(8, 1).repeat_interleave(8, 2)
        >>> flow = estimator(current.roll(-2, dims=2), current)  # what is at x now was at x - 2
        >>> flow.shape, flow[0].median().round()
        (torch.Size([2, 48, 64]), tensor(-2.))
    """

    def __init__(
        self, preset: Preset = "medium", *, finest_scale: int = 0, convention: Convention = "imagenet"
    ) -> None:
        need_opencv("DISFlow")
        check_choice("DISFlow", "preset", preset, _PRESETS)
        check_between("DISFlow", "finest_scale", finest_scale, 0, 5)
        self.preset, self.finest_scale, self.convention = preset, finest_scale, convention

    def __call__(self, previous: Tensor, current: Tensor) -> Tensor:
        """Return the flow on the grid of ``current``, ``(2, H, W)``, float32, on the CPU."""
        import cv2

        height, width = _check_frames("DISFlow", previous, current)
        smallest = max(_PATCH << self.finest_scale, _SMALLEST)
        if min(height, width) < smallest:  # OpenCV would read foreign memory
            raise ValueError(
                f"DISFlow: frames must be at least {smallest} pixels high and wide at "
                f"finest_scale={self.finest_scale}; got (H={height}, W={width})."
            )
        if get_worker_info() is not None:
            # workers share the cores already, and in some builds a pool of threads does not survive their fork
            cv2.setNumThreads(0)
        search = cv2.DISOpticalFlow.create(_PRESETS.index(self.preset))
        search.setFinestScale(self.finest_scale)
        grey = [
            cv2.cvtColor(to_rgb(frame, self.convention).cpu().numpy(), cv2.COLOR_RGB2GRAY)
            for frame in (current, previous)
        ]
        # from the first picture to the second, on the grid of the first
        found = np.ascontiguousarray(np.moveaxis(search.calc(*grey, None), 2, 0))
        return torch.from_numpy(found)

    def __repr__(self) -> str:
        return f"DISFlow({self.preset!r}, finest_scale={self.finest_scale}, convention={self.convention!r})"


class RAFTFlow:
    """Estimate flow with torchvision's RAFT, or a model that is called alike. The model comes from the caller.

    With torchvision: ``RAFTFlow(raft_large(weights=Raft_Large_Weights.DEFAULT).cuda())``, both names from
    ``torchvision.models.optical_flow``. The model is put into evaluation mode and works on its own device.

    Args:
        model: Called with two batches of pictures ``(1, 3, H, W)`` in [-1, 1], whose sides are multiples of 8 and at
            least 128; returns the flow from the first to the second, ``(1, 2, H, W)`` in pixels, or a list of ever
            better ones. Without trained weights the flow is meaningless, and nothing can tell.
        convention: How the frames are normalised, see :func:`from_rgb`.

    Raises:
        ValueError: When called, if the frames differ in shape, or the model returns another shape.
        TypeError: When called, if a frame is not float.

    Source:
        Teed and Deng 2020; the interface of torchvision. Frames are padded at the right and below, by their border.

    Example:
        >>> class Still(nn.Module):
        ...     def forward(self, first, second):
        ...         return [torch.zeros_like(first[:, :2])]
        >>> RAFTFlow(Still())(torch.zeros(3, 20, 30), torch.zeros(3, 20, 30)).shape
        torch.Size([2, 20, 30])
    """

    def __init__(self, model: nn.Module, *, convention: Convention = "imagenet") -> None:
        self.model, self.convention = model.eval(), convention

    @torch.no_grad()
    def __call__(self, previous: Tensor, current: Tensor) -> Tensor:
        """Return the flow on the grid of ``current``, ``(2, H, W)``, float32, on the device of the frames."""
        height, width = _check_frames("RAFTFlow", previous, current)
        device = next((x.device for x in self.model.parameters()), current.device)
        pad = [0, _to_fit(width), 0, _to_fit(height)]
        # by way of 8 bits: what the model has seen in training, whatever the convention of the frames
        first, second = (
            F.pad(from_rgb(to_rgb(frame[None], self.convention), "half"), pad, mode="replicate").to(device)
            for frame in (current, previous)
        )
        found = self.model(first, second)
        flow: Tensor = found[-1] if isinstance(found, Sequence) else found
        check_shape("RAFTFlow", "model(first, second)", flow, "1 2 H W", _sizes(first))
        return flow[0, :, :height, :width].to(current.device, torch.float32)

    def __repr__(self) -> str:
        digest = hashlib.blake2b(digest_size=8)
        for name, x in self.model.state_dict().items():
            digest.update(name.encode() + x.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return f"RAFTFlow({type(self.model).__name__} {digest.hexdigest()}, convention={self.convention!r})"


def _to_fit(pixels: int) -> int:
    return max(-pixels % _RAFT_STRIDE, _RAFT_SMALLEST - pixels)


def _sizes(picture: Tensor) -> dict[str, int]:
    return {"1": 1, "2": 2, "H": picture.shape[2], "W": picture.shape[3]}


def _check_frames(caller: str, previous: Tensor, current: Tensor) -> tuple[int, int]:
    sizes = check_shape(caller, "current", current, "3 H W", {"3": 3})
    check_shape(caller, "previous", previous, "3 H W", sizes)
    check_dtype(caller, "current", current, "float")
    check_dtype(caller, "previous", previous, "float")
    return sizes["H"], sizes["W"]
