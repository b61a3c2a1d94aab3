"""The model of the transformer columns: SegFormer with MiT-B5, pretrained on ImageNet."""

from transformers import SegformerForSemanticSegmentation


def mit_b5(num_classes):
    # the weights are NVIDIA's, under a licence of their own: no commercial use
    return SegformerForSemanticSegmentation.from_pretrained("nvidia/mit-b5", num_labels=num_classes)
