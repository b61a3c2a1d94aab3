"""One small model with random weights for each kind in KNOWN_TAPS; nothing is downloaded."""

import pytest
from torch import nn

from dastc.models import BackboneSegmenter, TinySegmenter

CLASSES = 9


def segformer():
    transformers = pytest.importorskip("transformers", reason="transformers is in the extra `models`")
    return transformers.SegformerForSemanticSegmentation(
        transformers.SegformerConfig(
            num_labels=CLASSES, depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 24, 32], num_attention_heads=[1, 1, 2, 2],
            decoder_hidden_size=32,
        )
    )  # fmt: skip


def mask2former():
    transformers = pytest.importorskip("transformers", reason="transformers is in the extra `models`")
    pytest.importorskip("scipy", reason="transformers' Mask2Former makes its loss, which needs SciPy")
    backbone = transformers.SwinConfig(
        image_size=32, patch_size=4, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    return transformers.Mask2FormerForUniversalSegmentation(
        transformers.Mask2FormerConfig(
            backbone_config=backbone, num_labels=CLASSES, hidden_dim=32, feature_size=32, mask_feature_size=32,
            encoder_layers=1, decoder_layers=2, num_attention_heads=2, dim_feedforward=32, encoder_feedforward_dim=32,
            num_queries=12,
        )
    )  # fmt: skip


def dinov2():
    """Tokens that transformers returns as maps."""
    transformers = pytest.importorskip("transformers", reason="transformers is in the extra `models`")
    config = transformers.Dinov2Config(
        image_size=32, patch_size=8, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        out_features=["stage1", "stage2"],
    )  # fmt: skip
    return BackboneSegmenter(transformers.AutoBackbone.from_config(config), CLASSES, width=16)


def timm_backbone(name):
    timm = importable("timm")
    return BackboneSegmenter(timm.create_model(name, features_only=True, pretrained=False), CLASSES, width=16)


def torchvision_model(name):
    importable("torchvision")
    from torchvision.models import segmentation

    return getattr(segmentation, name)(weights=None, weights_backbone=None, num_classes=CLASSES)


def smp_model(name, encoder):
    smp = importable("segmentation_models_pytorch")
    return getattr(smp, name)(encoder, encoder_weights=None, classes=CLASSES)


def importable(name):
    # torchvision's ordinary wheel raises RuntimeError beside a CPU build of torch; timm and smp import it
    try:
        return pytest.importorskip(name, reason=f"{name} is in no extra; it needs torchvision")
    except RuntimeError as error:
        return pytest.skip(f"{name} does not import beside this torch: {error}")


# name: (how it is made, its kind in KNOWN_TAPS, parameters that the logits do not depend on)
MODELS = {
    "tiny": (lambda: TinySegmenter(CLASSES), "dastc TinySegmenter", ()),
    "segformer": (segformer, "transformers SegFormer", ()),
    "mask2former": (mask2former, "transformers Mask2Former", ("swin.layernorm.",)),
    "dinov2": (dinov2, "dastc BackboneSegmenter", ("mask_token",)),
    "timm resnet18": (lambda: timm_backbone("resnet18"), "dastc BackboneSegmenter", ()),
    "timm convnext": (lambda: timm_backbone("convnext_atto"), "dastc BackboneSegmenter", ()),
    "torchvision deeplabv3": (
        lambda: torchvision_model("deeplabv3_resnet50"), "torchvision DeepLabV3, ResNet", (),
    ),
    "torchvision fcn": (lambda: torchvision_model("fcn_resnet50"), "torchvision FCN, ResNet", ()),
    "smp unet": (lambda: smp_model("Unet", "resnet18"), "segmentation-models-pytorch, ResNet", ()),
    "smp deeplabv3plus": (
        lambda: smp_model("DeepLabV3Plus", "resnet18"), "segmentation-models-pytorch, ResNet", (),
    ),
    "smp fpn, mobilenet": (
        lambda: smp_model("FPN", "mobilenet_v2"),
        "segmentation-models-pytorch, other encoders", (),
    ),
}  # fmt: skip


def make(name) -> tuple[nn.Module, str, tuple[str, ...]]:
    build, kind, silent = MODELS[name]
    return build(), kind, silent
