"""What dastc's operators do, composed as the released code does it: whole maps, loops over classes, masks by hand.

Written from what docs/method.md says of that code, with its defects corrected as in dastc, so that both mean the same
and can be compared. Its round trips of pictures to the host and back are left out, in its favour.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from dastc import Clip

IGNORE = 255


def upsample(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def sample_points(flow: Tensor) -> tuple[Tensor, Tensor]:
    height, width = flow.shape[-2:]
    x = flow[:, 0] + torch.arange(width, device=flow.device)
    y = flow[:, 1] + torch.arange(height, device=flow.device)[:, None]
    return x, y


def inside(flow: Tensor) -> Tensor:
    (height, width), (x, y) = flow.shape[-2:], sample_points(flow)
    return (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def flow_warp(x: Tensor, flow: Tensor) -> Tensor:
    (height, width), (px, py) = flow.shape[-2:], sample_points(flow)
    grid = torch.stack((2 * px / (width - 1) - 1, 2 * py / (height - 1) - 1), dim=-1)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=True)


def pseudo_labels(
    logits: Tensor, size: tuple[int, int], flow: Tensor | None = None, previous: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    if flow is None:
        probability = upsample(logits, size).softmax(dim=1)
    else:
        warped = flow_warp(upsample(logits if previous is None else previous, size).softmax(dim=1), flow)
        known = inside(flow).unsqueeze(1)
        if previous is None:
            probability = warped * known
        else:
            own = upsample(logits, size).softmax(dim=1)
            probability = torch.where(known, (own + warped) / 2, own)
    confidence, labels = probability.max(dim=1)
    return labels, confidence


def class_pool(
    features: Tensor, labels: Tensor, num_classes: int, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    sums = features.new_zeros((len(features), num_classes, features.shape[1]))
    mass = features.new_zeros((len(features), num_classes))
    for n, own in enumerate(features.unbind()):
        for k in range(num_classes):
            mask = (labels[n] == k).to(own.dtype)
            if mask.sum().item() == 0:
                continue
            if weights is not None:
                mask = mask * weights[n]
            sums[n, k] = (own * mask).sum(dim=(1, 2))
            mass[n, k] = mask.sum()
    return sums, mass


def class_mask(labels: Tensor, classes: list[int]) -> Tensor:
    mask = torch.zeros_like(labels)
    for k in classes:
        mask = mask + (labels == k).long()
    return mask


def clip_paste(front: Clip, back: Clip, classes: list[list[int]], key: Tensor | None = None) -> tuple[Clip, Tensor]:
    key = front.labels if key is None else key
    frames, labels, weights, flow, masks = [], [], [], [], []
    for b in range(len(key)):
        for t in range(key.shape[1]):
            mask = class_mask(key[b, t], classes[b])
            soft = mask.to(front.frames.dtype)
            frames.append(soft * front.frames[b, t] + (1 - soft) * back.frames[b, t])
            labels.append(mask * front.labels[b, t] + (1 - mask) * back.labels[b, t])
            weights.append(soft * front.weights[b, t] + (1 - soft) * back.weights[b, t])
            if t > 0:
                flow.append(soft * front.flow[b, t - 1] + (1 - soft) * back.flow[b, t - 1])
            masks.append(mask > 0)

    def stacked(x, like):
        return torch.stack(x).view(like.shape)

    clip = Clip(
        stacked(frames, front.frames),
        stacked(labels, front.labels),
        stacked(flow, front.flow) if flow else None,
        stacked(weights, front.weights),
    )
    return clip, stacked(masks, key)


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    full = upsample(logits, (labels.shape[-2], labels.shape[-1])).permute(0, 2, 3, 1)
    counts = (labels >= 0) & (labels != IGNORE)
    chosen, wanted = full[counts], labels[counts]  # the host waits to know how many
    if len(wanted) == 0:
        return logits.sum() * 0
    loss = F.cross_entropy(chosen, wanted, reduction="none")
    if weights is not None:
        loss = loss * weights[counts]
    return loss.mean()


def centroid_kernel(source: Tensor, target: Tensor, factor: float = 2.0, count: int = 5) -> Tensor:
    rows = torch.cat((source, target))
    n = len(rows)
    one = rows.unsqueeze(0).expand(n, n, -1)
    other = rows.unsqueeze(1).expand(n, n, -1)
    distance = ((one - other) ** 2).sum(dim=2)
    width = distance.detach().sum() / (n * n - n) / factor ** (count // 2)
    kernels = [torch.exp(-distance / (width * factor**m)) for m in range(count)]
    return torch.stack(kernels).sum(dim=0)
