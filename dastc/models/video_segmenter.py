"""Two-frame score fusion around any image model."""

import torch
from torch import Tensor, nn

from dastc._core.checks import check_dtype, check_fits_weights, check_same_device, check_shape, check_whole
from dastc._core.wrappers import unwrapped
from dastc.functional import flow_warp, resize_flow
from dastc.models.outputs import logits_of

__all__ = ["ScoreFusion", "VideoSegmenter", "VideoStream"]


class ScoreFusion(nn.Module):
    """Mix the logits of the current frame with those of the previous one by a learnt 1x1 convolution.

    Starts as the identity on the current frame, so that wrapping a trained image model changes nothing at first.

    Args:
        num_classes: Number of classes K.

    Shape:
        - current, previous: ``(N, K, h, w)``, float, both on the grid of the current frame.
        - output: ``(N, K, h, w)``.

    Raises:
        ValueError: If ``num_classes`` < 1 or the shapes do not fit.

    Source:
        METHOD 2.1.

    Example:
        >>> x = torch.randn(1, 3, 4, 4)
        >>> torch.equal(ScoreFusion(3)(x, torch.randn(1, 3, 4, 4)), x)
        True
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        check_whole("ScoreFusion", "num_classes", num_classes, 1)
        self.num_classes = num_classes
        self.mix = nn.Conv2d(2 * num_classes, num_classes, kernel_size=1, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Return to the identity on the current frame."""
        with torch.no_grad():
            self.mix.weight.zero_()
            self.mix.weight[:, : self.num_classes, 0, 0] = torch.eye(self.num_classes)

    def forward(self, current: Tensor, previous: Tensor) -> Tensor:
        """Return the fused logits."""
        sizes = check_shape("ScoreFusion", "current", current, "N K h w", {"K": self.num_classes})
        check_shape("ScoreFusion", "previous", previous, "N K h w", sizes)
        for name, x in {"current": current, "previous": previous}.items():
            check_fits_weights("ScoreFusion", name, x, self.mix.weight)
        fused: Tensor = self.mix(torch.cat((current, previous), dim=1))
        return fused

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return f"num_classes={self.num_classes}"


class VideoSegmenter(nn.Module):
    """Make a video model of an image model: each frame's logits are fused with the previous frame's, along the flow.

    At the start the video model equals the image model. The previous frame passes without gradient. A point that the
    flow takes out of the picture, and the first frame, have no past: there the frame's own logits stand in for it.

    Args:
        image_model: Any model that :func:`logits_of` understands, for images ``(N, C, H, W)``.
        num_classes: Number of classes K.

    Shape:
        - frames: ``(B, T, C, H, W)``, float.
        - flow: ``(B, T-1, 2, H, W)``, backward, in pixels; ``None`` treats frames as aligned, which blurs whatever
          moves once the fusion has learnt to use the past.
        - output: logits ``(B, T, K, h, w)`` at the image model's resolution.

    Raises:
        ValueError: If the shapes do not fit.
        TypeError: If a tensor is not float, or the image model returns something without logits.

    Source:
        METHOD 2.1; frames without a past see themselves twice (ours).

    Example:
        >>> from dastc.models import TinySegmenter
        >>> VideoSegmenter(TinySegmenter(3), 3)(torch.zeros(1, 2, 3, 16, 24)).shape
        torch.Size([1, 2, 3, 4, 6])
    """

    def __init__(self, image_model: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.num_classes, self.image_model = num_classes, image_model
        self.fusion = ScoreFusion(num_classes)

    def forward(self, frames: Tensor, flow: Tensor | None = None) -> Tensor:
        """Return logits for every frame."""
        sizes = check_shape("VideoSegmenter", "frames", frames, "B T C H W")
        check_dtype("VideoSegmenter", "frames", frames, "float")
        batch, time = sizes["B"], sizes["T"]
        own = logits_of(self.image_model(frames.flatten(0, 1)))  # (B T, K, h, w)
        own = own.view(batch, time, *own.shape[1:])
        past = torch.cat((own[:, :1], own[:, :-1]), dim=1).detach()
        if flow is not None:
            known = sizes | {"T-1": time - 1, "2": 2}
            check_shape("VideoSegmenter", "flow", flow, "B T-1 2 H W", known)
            check_dtype("VideoSegmenter", "flow", flow, "float")
            check_same_device("VideoSegmenter", {"frames": frames, "flow": flow})
            past = torch.cat((past[:, :1], _along(flow, past[:, 1:], own[:, 1:].detach())), dim=1)
        fused: Tensor = self.fusion(own.flatten(0, 1), past.flatten(0, 1))
        return fused.view(own.shape)

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return f"num_classes={self.num_classes}"


class VideoStream:
    """Run a model on a video frame by frame, with constant memory.

    An image model sees each frame on its own. Of a :class:`VideoSegmenter` each frame passes through the image model
    once, and the logits of the frame before are kept: the answers are those for the whole video at once.

    Args:
        model: An image model that :func:`logits_of` understands, or a :class:`VideoSegmenter`. Its mode, training or
            evaluation, is left as it is.

    Shape:
        - frame: ``(1, C, H, W)``, float, or several videos abreast, ``(B, C, H, W)``.
        - flow: ``(B, 2, H, W)``, backward, in pixels, from this frame to the one before; ``None`` for the first frame,
          or where frames are treated as aligned. An image model does not look at it.
        - output: logits ``(B, K, h, w)``, without gradient.

    Raises:
        ValueError: If a shape does not fit, or the size changes within the video.

    Source:
        METHOD 2.1.

    Example:
        >>> from dastc.models import TinySegmenter
        >>> stream = VideoStream(VideoSegmenter(TinySegmenter(3), 3))
        >>> [stream(frame).shape for frame in torch.zeros(2, 1, 3, 16, 24)]
        [torch.Size([1, 3, 4, 6]), torch.Size([1, 3, 4, 6])]
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._past: Tensor | None = None

    @torch.no_grad()
    def __call__(self, frame: Tensor, flow: Tensor | None = None) -> Tensor:
        """Return the logits of the next frame."""
        sizes = check_shape("VideoStream", "frame", frame, "B C H W")
        check_dtype("VideoStream", "frame", frame, "float")
        if flow is not None:
            check_shape("VideoStream", "flow", flow, "B 2 H W", sizes | {"2": 2})
            check_dtype("VideoStream", "flow", flow, "float")
            check_same_device("VideoStream", {"frame": frame, "flow": flow})
        network = unwrapped(self.model)  # one frame at a time is not what a wrapper was made for
        if not isinstance(network, VideoSegmenter):
            return logits_of(self.model(frame))
        own = logits_of(network.image_model(frame))
        past, self._past = own if self._past is None else self._past, own
        if past.shape != own.shape:
            raise ValueError(
                f"VideoStream: `frame` must keep its size within a video: logits of {tuple(past.shape)} came before; "
                f"got {tuple(own.shape)}. Call reset() before another video."
            )
        if flow is not None and past is not own:
            past = _along(flow.unsqueeze(1), past.unsqueeze(1), own.unsqueeze(1)).squeeze(1)
        fused: Tensor = network.fusion(own, past)
        return fused

    def reset(self) -> None:
        """Forget the frame before: the next one opens another video."""
        self._past = None


def _along(flow: Tensor, past: Tensor, own: Tensor) -> Tensor:
    if flow.shape[1] == 0:
        return past
    small = resize_flow(flow.flatten(0, 1), (past.shape[-2], past.shape[-1]))
    warped, _ = flow_warp(past.flatten(0, 1), small, other=own.flatten(0, 1))
    return warped.view(past.shape)
