"""Parts of other published methods, as parts of one's own: what dastc's recipes are compared with."""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dastc.adapt import Pass


class Entropy(nn.Module):
    """Make the network sure of the target: the mean entropy of what it says there (Vu et al. 2019, MinEnt)."""

    def __init__(self, num_classes: int, *, weight: float = 0.001) -> None:
        super().__init__()
        self.largest = math.log(num_classes)
        self.weight = weight

    def forward(self, passes: Mapping[str, Pass]) -> dict[str, Tensor]:
        """Return the loss over the view of the target."""
        logs = passes["target"].logits.float().log_softmax(dim=2)
        entropy = -(logs.exp() * logs).sum(dim=2).mean() / self.largest
        return {"entropy": self.weight * entropy}


class FeatureDistance(nn.Module):
    """Keep features of things near those of ImageNet (Hoyer et al. 2022, DAFormer), on the source.

    Args:
        pretrained: The backbone as it was; it stays.
        features: Dotted name of the student's submodule whose output is kept near its last map.
        things: Labels of what has instances; other pixels are free.
        weight: Of the loss, dimensionless.
        share: Of the pixels of a feature's cell that must be of one thing, in [0, 1].
    """

    def __init__(
        self, pretrained: nn.Module, features: str, things: tuple[int, ...], *, weight: float, share: float = 0.75
    ) -> None:
        super().__init__()
        self.pretrained = pretrained.eval().requires_grad_(False)
        self.features, self.weight, self.share = features, weight, share
        self.register_buffer("things", torch.tensor(things), persistent=False)

    def train(self, mode: bool = True) -> "FeatureDistance":  # noqa: ARG002
        """Change nothing: the pretrained backbone stays in evaluation mode."""
        return super().train(False)

    def forward(self, passes: Mapping[str, Pass]) -> dict[str, Tensor]:
        """Return the loss over the source; 0 where it shows no thing."""
        one = passes["source"]
        features = one.features[self.features].flatten(0, 1)
        with torch.no_grad():
            known = self.pretrained(one.clip.frames.flatten(0, 1))[-1]
        labels = one.clip.labels.flatten(0, 1)
        shares = [F.adaptive_avg_pool2d((labels == thing).float(), known.shape[-2:]) for thing in self.things]
        here = (torch.stack(shares).amax(dim=0) >= self.share).float()
        distance = (features - known).norm(dim=1)
        return {"distance": self.weight * (distance * here).sum() / here.sum().clamp(min=1)}
