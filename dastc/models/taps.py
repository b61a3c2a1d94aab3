"""Which submodules of well-known models hold the features that adaptation works on."""

from typing import NamedTuple

from torch import nn

from dastc.models.video_segmenter import VideoSegmenter

__all__ = ["KNOWN_TAPS", "KnownTaps", "Taps", "taps_of"]


class Taps(NamedTuple):
    """Names of two submodules, as arguments of :class:`~dastc.adapt.DASTC`.

    Args:
        features: The deep features, just before the classifier: what is aligned.
        shallow: Early features, a map of the picture's layout: what feature fusion mixes. ``None`` if not known.

    Example:
        >>> Taps("neck", "stem")._asdict()
        {'features': 'neck', 'shallow': 'stem'}
    """

    features: str
    shallow: str | None


class KnownTaps(NamedTuple):
    """A kind of model, told by names of its submodules, and its taps.

    Args:
        kind: Whose model it is, for people.
        taps: The taps; a model is of this kind if it has submodules of these names,
        marker: and one of this name, where that is needed to tell it from others.

    Example:
        >>> KNOWN_TAPS[0].kind
        'dastc TinySegmenter'
    """

    kind: str
    taps: Taps
    marker: str = ""


_PIXELS = "model.pixel_level_module.decoder"

# the first that fits holds
KNOWN_TAPS = (
    KnownTaps("dastc TinySegmenter", Taps("neck", "stem")),
    KnownTaps("dastc BackboneSegmenter (timm, transformers AutoBackbone)", Taps("neck", "shallow"), "backbone"),
    KnownTaps("transformers SegFormer", Taps("decode_head.activation", "segformer.stages.0.patch_embeddings.proj")),
    KnownTaps(
        "transformers SegFormer, version 4", Taps("decode_head.activation", "segformer.encoder.patch_embeddings.0.proj")
    ),
    KnownTaps("transformers Mask2Former", Taps(f"{_PIXELS}.mask_projection", f"{_PIXELS}.adapter_1")),
    KnownTaps("torchvision DeepLabV3, ResNet", Taps("classifier.3", "backbone.layer1"), "classifier.0.convs"),
    KnownTaps("torchvision FCN, ResNet", Taps("classifier.2", "backbone.layer1"), "classifier.4"),
    KnownTaps("segmentation-models-pytorch, ResNet", Taps("decoder", "encoder.layer1"), "segmentation_head"),
    KnownTaps("segmentation-models-pytorch, other encoders", Taps("decoder", None), "segmentation_head"),
)


def taps_of(model: nn.Module) -> Taps:
    """Return the tap names of a well-known model, told by the names of its submodules.

    Args:
        model: An image model, or a :class:`VideoSegmenter` around one.

    Returns:
        Names for ``DASTC(model, K, features=..., shallow=...)``. What they hold is tabled in docs/models.md.

    Raises:
        ValueError: If the model is of no known kind.

    Source:
        Ours.

    Example:
        >>> from dastc.models import TinySegmenter
        >>> taps_of(VideoSegmenter(TinySegmenter(3), 3))
        Taps(features='image_model.neck', shallow='image_model.stem')
    """
    if isinstance(model, VideoSegmenter):
        features, shallow = taps_of(model.image_model)
        return Taps(f"image_model.{features}", None if shallow is None else f"image_model.{shallow}")
    names = {name for name, _ in model.named_modules()}
    for known in KNOWN_TAPS:
        if {name for name in (*known.taps, known.marker) if name is not None} <= names:
            return known.taps
    raise ValueError(
        f"taps_of: `model` must be of a known kind ({'; '.join(known.kind for known in KNOWN_TAPS)}); "
        f"got {type(model).__name__}. Name the submodules yourself, from model.named_modules()."
    )
