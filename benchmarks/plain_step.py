"""DA-STC's default step without its network, composed as the released code composes its own; see plain.py."""

import math

import plain
import torch
import torch.nn.functional as F
from torch import Tensor

from dastc import Clip
from dastc.functional.labels import class_presence, draw_classes

FLOOR = 1e-3  # of ClassPrior
THRESHOLD, ALIGN_WEIGHT, MOMENTUM, TEMPERATURE = 0.8, 0.1, 0.9, 0.1  # of DASTC and its parts


class PlainStep:
    """Losses of one step from clips and from what the network says of them; a state as the recipe's is kept."""

    def __init__(self, num_classes: int, seed: int = 0) -> None:
        self.num_classes, self.rng = num_classes, torch.Generator().manual_seed(seed)
        self.shown = self.said = None
        self.memory: dict[str, tuple[Tensor, Tensor]] = {}

    def __call__(
        self, source: Clip, target: Clip, of_target: Tensor, outputs: list[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, ...]:
        """Take logits (B T, K, h, w) of the target, and (features, logits) of both fused clips; return all losses."""
        source = source._replace(weights=torch.ones_like(source.frames[:, :, 0]))
        target = self._labelled(target, self._with_prior(source, of_target))
        classes = self._drawn(source.labels[:, -1])
        in_source, swapped = plain.clip_paste(target, source, classes, key=source.labels)
        in_target, pasted = plain.clip_paste(source, target, classes)
        losses = [
            plain.cross_entropy(logits, clip.labels.flatten(0, 1), clip.weights.flatten(0, 1))
            for clip, (_, logits) in zip((in_source, in_target), outputs, strict=True)
        ]
        align = ALIGN_WEIGHT * self._aligned((in_source, in_target), (~swapped, pasted), outputs)
        return *losses, align, sum(losses) + align

    def _with_prior(self, source: Clip, logits: Tensor) -> Tensor:
        counts = torch.tensor([float((source.labels == k).sum().item()) for k in range(self.num_classes)])
        shown = (counts / counts.sum()).to(logits.device)
        said = logits.softmax(dim=1).sum(dim=(0, 2, 3))
        said = said / said.sum()
        self.shown = shown if self.shown is None else 0.99 * self.shown + shown
        self.said = said if self.said is None else 0.99 * self.said + said
        ratio = (self.shown / self.shown.sum() + FLOOR) / (self.said / self.said.sum() + FLOOR)
        return logits + ratio.log().view(1, -1, 1, 1)

    def _labelled(self, clip: Clip, logits: Tensor) -> Clip:
        (batch, time), size = clip.frames.shape[:2], tuple(clip.frames.shape[-2:])
        logits = logits.view(batch, time, *logits.shape[1:])
        frames = [plain.pseudo_labels(logits[:, 0], size)]
        frames += [
            plain.pseudo_labels(logits[:, t], size, clip.flow[:, t - 1], logits[:, t - 1]) for t in range(1, time)
        ]
        labels, confidence = (torch.stack(x, dim=1) for x in zip(*frames, strict=True))
        weights = torch.zeros_like(confidence)
        for b in range(batch):
            share = (confidence[b] >= THRESHOLD).sum().item() / confidence[b].numel()
            weights[b] = share * (confidence[b] > 0)
        return clip._replace(labels=labels, weights=weights)

    def _drawn(self, labels: Tensor) -> list[list[int]]:
        table = draw_classes(class_presence(labels, self.num_classes), 0.5, generator=self.rng)
        torch.rand(len(table), 1, generator=self.rng)  # the draw of rare classes, which the default has none of
        return [[k for k in range(self.num_classes) if row[k].item()] for row in table]

    def _aligned(self, clips, from_source, outputs) -> Tensor:
        features, logits = (torch.cat(x) for x in zip(*outputs, strict=True))
        labels, weights, flow = (torch.cat([getattr(clip, n) for clip in clips]) for n in ("labels", "weights", "flow"))
        mine = torch.cat(from_source)
        own = {
            name: self._centroids(features, logits, labels.where(mask, plain.IGNORE), weights, flow)
            for name, mask in (("source", mine), ("target", ~mine))
        }
        kept = {name: self._remembered(name, *centroids) for name, centroids in own.items()}
        return (infonce(kept["source"], own["target"]) + infonce(own["source"], kept["target"])) / 2

    def _centroids(self, features: Tensor, logits: Tensor, labels: Tensor, weights: Tensor, flow: Tensor):
        (batch, time), grid = labels.shape[:2], tuple(features.shape[-2:])
        cells = F.interpolate(labels.to(features.dtype), size=grid, mode="nearest-exact").long()  # (B, T, h, w)
        probability = logits.detach().softmax(dim=1).view(batch, time, self.num_classes, *grid)
        entropy = -(probability * probability.clamp(min=1e-8).log()).sum(dim=2)
        confidence, prediction = probability.max(dim=2)
        space = F.adaptive_avg_pool2d(weights, grid) * confidence * (prediction == cells)
        if time > 1:
            space = torch.cat((space[:, :1], space[:, 1:] * persisting(cells, flow)), dim=1)
        per_frame = torch.zeros((batch, time, self.num_classes), device=features.device)
        for b in range(batch):
            for k in range(self.num_classes):
                shown = [t for t in range(time) if (cells[b, t] == k).sum().item() > 0]
                for t in shown:
                    mean = entropy[b, t][cells[b, t] == k].mean()
                    per_frame[b, t, k] = torch.exp(-mean / math.log(self.num_classes))
                if shown:
                    per_frame[b, :, k] *= len(shown) / per_frame[b, :, k].sum()
        sums, mass = plain.class_pool(features, cells.flatten(0, 1), self.num_classes, space.flatten(0, 1))
        per_frame = per_frame.flatten(0, 1)
        mass = (mass * per_frame).sum(dim=0)
        sums = (sums * per_frame.unsqueeze(-1)).sum(dim=0)
        rows = [sums[k] / mass[k] if mass[k].item() > 0 else torch.zeros_like(sums[k]) for k in range(self.num_classes)]
        return torch.stack(rows), mass.detach() > 0

    def _remembered(self, name: str, values: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        values = values.detach()
        if name in self.memory:
            past, known = self.memory[name]
            blended = torch.where(known.unsqueeze(1), MOMENTUM * past + (1 - MOMENTUM) * values, values)
            values, there = torch.where(there.unsqueeze(1), blended, past), there | known
        self.memory[name] = values, there
        return values, there


def persisting(cells: Tensor, flow: Tensor) -> Tensor:
    """Say where a label is that of the frame before, brought along the flow, (B, T-1, h, w)."""
    height, width = cells.shape[-2:]
    ratios = torch.tensor([width / flow.shape[-1], height / flow.shape[-2]], device=flow.device).view(2, 1, 1)
    small = plain.upsample(flow.flatten(0, 1), (height, width)) * ratios
    x, y = plain.sample_points(small)
    index = y.round().clamp(0, height - 1).long() * width + x.round().clamp(0, width - 1).long()
    before = cells[:, :-1].flatten(0, 1).flatten(1).gather(1, index.flatten(1)).view(index.shape)
    before = before.where(plain.inside(small), plain.IGNORE).view(cells[:, 1:].shape)
    return (before == cells[:, 1:]) | (before == plain.IGNORE)


def infonce(source: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor]) -> Tensor:
    (one, in_one), (other, in_other) = source, target
    cosines = F.normalize(one, dim=1) @ F.normalize(other, dim=1).T / TEMPERATURE
    losses = []
    for k in range(len(one)):
        if in_one[k].item() and in_other[k].item():
            forth = cosines[k][in_other].logsumexp(dim=0) - cosines[k, k]
            back = cosines[:, k][in_one].logsumexp(dim=0) - cosines[k, k]
            losses.append((forth + back) / 2)
    return torch.stack(losses).mean() if losses else one.sum() * 0
