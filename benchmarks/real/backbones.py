"""Two backbones of inverted residuals, with parameters named or ordered as the weights that packages ship have them."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


class Backbone(nn.Module):
    """Return maps at strides 4, 8, 16 and 32.

    The running statistics of its BatchNorms are frozen by default: batches of two images estimate them badly, and
    rows that train on images of both domains would otherwise adapt them by the way, each in its own mixture. Their
    scale and shift train in any case.

    Args:
        layers: One after the other; those of ``maps`` give what is returned.
        maps: The last layer of each stride, and its channels.
        frozen: Whether the BatchNorms keep their running statistics, and normalise by them in training, too.
    """

    def __init__(self, layers: list[nn.Module], maps: dict[int, int], *, frozen: bool = True) -> None:
        super().__init__()
        self.features, self.maps, self.frozen = nn.Sequential(*layers), maps, frozen
        self.channels = tuple(maps.values())

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return the maps, finest first."""
        maps, x = [], images
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.maps:
                maps.append(x)
        return maps

    def train(self, mode: bool = True) -> "Backbone":
        """Set the mode of every layer but the frozen ones.

        Here and not in the layers themselves: ``adapt_statistics`` must still be able to switch a layer to training.
        """
        super().train(mode)
        if self.frozen:
            for layer in batch_norms(self):
                layer.eval()
        return self


class MobileNetV2(Backbone):
    """Sandler et al. 2018, table 2; parameters are named as torchvision names them."""

    stages = ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 32, 3, 2, 3), (6, 64, 4, 2, 3), (6, 96, 3, 1, 3),
              (6, 160, 3, 2, 3), (6, 320, 1, 1, 3))  # fmt: skip

    def __init__(self, *, frozen: bool = True) -> None:
        layers = [activated(3, 32, 3, stride=2), *residuals(32, self.stages)]
        super().__init__(layers, {3: 24, 6: 32, 13: 96, 17: 320}, frozen=frozen)


class EfficientNetLite0(Backbone):
    """EfficientNet-B0 (Tan and Le 2019, table 1) without squeeze and excitation, and with ReLU6.

    It was trained in TensorFlow: where a convolution has a stride, the border below and to the right is padded first,
    and colours are divided by 128 about 127.
    """

    stages = ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5),
              (6, 192, 4, 2, 5), (6, 320, 1, 1, 3))  # fmt: skip

    def __init__(self, *, frozen: bool = True) -> None:
        layers = [Recoloured(), activated(3, 32, 3, stride=2, same=True), *residuals(32, self.stages, same=True)]
        super().__init__(layers, {4: 24, 6: 40, 12: 112, 17: 320}, frozen=frozen)
        for layer in batch_norms(self):
            layer.eps = 1e-3


class Recoloured(nn.Module):
    """Turn frames of ImageNet's mean and deviation into those that TensorFlow's models expect."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return images in [-1, 1]."""
        mean = images.new_tensor((0.485, 0.456, 0.406)).view(3, 1, 1)
        deviation = images.new_tensor((0.229, 0.224, 0.225)).view(3, 1, 1)
        return ((images * deviation + mean) * 255 - 127) / 128


class InvertedResidual(nn.Module):
    """Widen, filter each channel by itself, narrow; added to the input where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int, kernel: int, *, same: bool) -> None:
        super().__init__()
        wide = inputs * expansion
        widen = [activated(inputs, wide, 1)] if expansion > 1 else []
        narrow = (nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        filtered = activated(wide, wide, kernel, stride=stride, groups=wide, same=same)
        self.conv = nn.Sequential(*widen, filtered, *narrow)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return features."""
        return x + self.conv(x) if self.adds else self.conv(x)


class SamePadded(nn.Conv2d):
    """Pad as TensorFlow's "SAME" does: the odd pixel below and to the right."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return features, as many as the stride leaves of the input's size, rounded up."""
        stride, kernel, sides = self.stride[0], self.kernel_size[0], []
        for size in (x.shape[-1], x.shape[-2]):
            needed = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            sides += [needed // 2, needed - needed // 2]
        return super().forward(F.pad(x, sides))


def residuals(inputs, stages, *, same=False):
    """Return the blocks of stages: expansion, channels, blocks, stride of the first block, kernel."""
    blocks = []
    for expansion, outputs, count, stride, kernel in stages:
        for index in range(count):
            blocks.append(InvertedResidual(inputs, outputs, 1 if index else stride, expansion, kernel, same=same))
            inputs = outputs
    return blocks


def activated(inputs, outputs, kernel, *, stride=1, groups=1, same=False):
    make, padding = (SamePadded, 0) if same else (nn.Conv2d, kernel // 2)
    convolution = make(inputs, outputs, kernel, stride, padding=padding, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU6(inplace=True))


def batch_norms(model):
    return [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]
