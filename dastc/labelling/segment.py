"""What a network says of a clip, be it one for images or for video."""

from torch import Tensor, nn

from dastc._core.compiling import orchestrates
from dastc._core.wrappers import unwrapped
from dastc.clip import Clip
from dastc.labelling.teacher import Teacher
from dastc.models import VideoSegmenter, logits_of

__all__ = ["is_video", "segment"]


def is_video(model: nn.Module) -> bool:
    """Say whether a model takes whole clips; a teacher is what it teaches with."""
    return isinstance(unwrapped(model.model if isinstance(model, Teacher) else model), VideoSegmenter)


@orchestrates
def segment(model: nn.Module, clip: Clip, num_classes: int | None = None) -> Tensor:
    """Run an image model on every frame, or a video model on the clip; return logits (B, T, K, h, w)."""
    if is_video(model):
        logits: Tensor = model(clip.frames, clip.flow)
    else:
        flat = logits_of(model(clip.frames.flatten(0, 1)))
        logits = flat.view(*clip.frames.shape[:2], *flat.shape[1:])
    if num_classes is not None and logits.shape[2] != num_classes:
        raise ValueError(
            f"segment: `model` must return logits of {num_classes} classes, as `num_classes` says; got "
            f"{logits.shape[2]}. Models of transformers take num_labels={num_classes}."
        )
    return logits
