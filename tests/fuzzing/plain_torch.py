"""What the functions of dastc mean, in plain PyTorch: as short as can be, and of no code of dastc's."""

import torch
import torch.nn.functional as F

INF = float("inf")


def counted(labels, classes, ignore_index):
    return (labels >= 0) & (labels < classes) & (labels != ignore_index)


def class_pool(features, labels, num_classes, *, weights=None, ignore_index=255, **_):
    n, d = features.shape[:2]
    pixels = labels.numel() // max(n, 1)
    flat, labels = features.reshape(n, d, pixels), labels.reshape(n, pixels)
    counts = counted(labels, num_classes, ignore_index)
    share = counts.to(flat.dtype) if weights is None else weights.reshape(n, pixels).where(counts, 0)
    one_hot = F.one_hot(labels.where(counts, 0), num_classes).to(flat.dtype) * share.unsqueeze(-1)
    seen = counts if flat.isfinite().all() else counts & (share != 0)
    sums = torch.einsum("ndp,npk->nkd", flat.where(seen.unsqueeze(1), 0), one_hot)
    return sums, one_hot.sum(dim=1)


def points(flow):
    """Return column and row that flow (N, 2, H, W) names."""
    height, width = flow.shape[-2:]
    x = flow[:, 0] + torch.arange(width, dtype=flow.dtype)
    return x, flow[:, 1] + torch.arange(height, dtype=flow.dtype)[:, None]


def inside(flow):
    (x, y), (height, width) = points(flow), flow.shape[-2:]
    return (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def bilinear(x, flow):
    """Read x (N, C, H, W) at the points that flow names, by the four pixels around each."""
    height, width = x.shape[-2:]
    column, row = points(flow)
    column, row = column.nan_to_num(0, INF, -INF).clamp(0, width - 1), row.nan_to_num(0, INF, -INF).clamp(0, height - 1)
    left, top = column.floor().detach(), row.floor().detach()
    out = 0
    for down in (0, 1):
        for across in (0, 1):
            i, j = (top + down).clamp(max=height - 1).long(), (left + across).clamp(max=width - 1).long()
            share = (1 - (row - top - down).abs()) * (1 - (column - left - across).abs())
            value = x.flatten(2).gather(2, (i * width + j).flatten(1).unsqueeze(1).expand(-1, x.shape[1], -1))
            out = out + value.view_as(x) * share.unsqueeze(1)
    return out


def flow_warp(x, flow, *, other=None, share=None, **_):
    warped, valid = bilinear(x, flow), inside(flow)
    if not x.isfinite().all():
        # on the border grid_sample reads a neighbour within it, of which it takes a rounding: NaN is NaN then
        column, row = (
            p.nan_to_num(0).clamp(0, n - 1) for p, n in zip(points(flow), (x.shape[-1], x.shape[-2]), strict=True)
        )
        grid = torch.stack((column * 2 / max(x.shape[-1] - 1, 1) - 1, row * 2 / max(x.shape[-2] - 1, 1) - 1), dim=-1)
        warped = warped + 0 * F.grid_sample(x, grid, padding_mode="border", align_corners=True)
    if other is None:
        return warped, valid
    share = (~valid if share is None else share).to(x.dtype).unsqueeze(1)
    mixed = warped * (1 - share) + other * share
    return torch.where(share == 0, warped, torch.where(share == 1, other, mixed)), valid


def resize_flow(flow, size):
    resized = F.interpolate(flow, size=size, mode="bilinear", align_corners=False)
    return resized * flow.new_tensor([size[1] / flow.shape[-1], size[0] / flow.shape[-2]]).view(1, 2, 1, 1)


def upsampled(x, size):
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def pseudo_labels(logits, size, *, flow=None, previous=None, confidence="probability", **_):
    probability = upsampled(logits, size).softmax(dim=1)
    if flow is not None:
        before = probability if previous is None else upsampled(previous, size).softmax(dim=1)
        valid, warped = inside(flow).unsqueeze(1), bilinear(before, flow)
        probability = (
            warped * valid if previous is None else torch.where(valid, (warped + probability) / 2, probability)
        )
    top, labels = probability.max(dim=1)
    if confidence == "entropy":
        most = torch.tensor(float(max(probability.shape[1], 2)), dtype=probability.dtype).log()
        certain = 1 + torch.special.xlogy(probability, probability).sum(dim=1) / most
        top = certain.clamp(0, 1) * (top > 0)
    return labels, top


def cross_entropy(logits, labels, *, weights=None, ignore_index=255, reduction="mean", **_):
    counts = counted(labels, logits.shape[1], ignore_index)
    each = F.cross_entropy(upsampled(logits, labels.shape[-2:]), labels.where(counts, -100), reduction="none")
    each = each.where(counts, 0) if weights is None else (each * weights).where(counts, 0)
    if reduction == "none":
        return each
    return each.sum() if reduction == "sum" else each.sum() / counts.sum().clamp(min=1)


def resize_labels(labels, size):
    height, width = labels.shape[-2:]
    rows = [min((2 * i + 1) * height // (2 * size[0]), height - 1) for i in range(size[0])]
    columns = [min((2 * j + 1) * width // (2 * size[1]), width - 1) for j in range(size[1])]
    return labels[..., rows, :][..., columns]


def warp_labels(labels, flow, *, ignore_index=255):
    height, width = labels.shape[-2:]
    x, y = points(flow)
    column, row = (
        x.nan_to_num(0).round().clamp(0, width - 1).long(),
        y.nan_to_num(0).round().clamp(0, height - 1).long(),
    )
    batch = torch.arange(len(labels)).view(-1, 1, 1)
    return labels[batch, row, column].where(inside(flow), ignore_index)


def compose_flow(first, second):
    flow = first + bilinear(second, first)
    return flow, inside(first) & flow.isfinite().all(dim=1)


def confidence_weights(confidence, weighting="share", *, threshold=0.968):
    if weighting == "confidence":
        return confidence
    if weighting == "threshold":
        return ((confidence >= threshold) & (confidence > 0)).to(confidence.dtype)
    some = (confidence > 0).to(confidence.dtype)
    if weighting == "none":
        return some
    sure = [(row >= threshold).double().mean() for row in confidence]
    return torch.stack([s * row for s, row in zip(sure, some, strict=True)]) if sure else some


def unit(rows, dim=1):
    """Return rows of length 1; what is 0 stays 0, and has no gradient."""
    return F.normalize(rows.where((rows != 0).any(dim=dim, keepdim=True), 0), dim=dim)


def shared_rows(source, target):
    (s, sm), (t, tm) = ((x if isinstance(x, tuple) else (x, torch.ones(len(x)))) for x in (source, target))
    return s, t, sm > 0, tm > 0


def kernel_of(source, target, present, factor, count):
    rows = torch.cat((source[present], target[present]))
    distance = (rows[:, None] - rows[None]).square().sum(dim=-1)
    n = len(rows)
    mean = distance.detach().sum() / max(n * (n - 1), 1)
    widths = [(mean * factor ** (m - count // 2)).clamp(min=1e-300) for m in range(count)]
    return sum((torch.exp(-distance / width) for width in widths), torch.zeros_like(distance))


def mmd(source, target, *, factor=2.0, count=5):
    s, t, here, there = shared_rows(source, target)
    both = here & there
    if not both.any():
        return 0 * (s.sum() + t.sum())
    k, n = kernel_of(s, t, both, factor, count), int(both.sum())
    return k[:n, :n].mean() + k[n:, n:].mean() - 2 * k[:n, n:].mean()


def cdd(source, target, *, factor=2.0, count=5):
    s, t, here, there = shared_rows(source, target)
    both = here & there
    if not both.any():
        return 0 * (s.sum() + t.sum())
    k, n = kernel_of(s, t, both, factor, count), int(both.sum())
    d = k.diagonal()[:n, None] + k.diagonal()[None, n:] - 2 * k[:n, n:]
    together, different = d.diagonal().mean(), ~torch.eye(n, dtype=torch.bool)
    return together - d[different].mean() if n > 1 else together


def infonce(source, target, *, temperature=0.1):
    s, t, here, there = shared_rows(source, target)
    both = (here & there).nonzero().flatten().tolist()
    s, t = unit(s), unit(t)
    cosines = s @ t.T / temperature
    losses = [cosines[k][there].logsumexp(0) + cosines[:, k][here].logsumexp(0) - 2 * cosines[k, k] for k in both]
    return torch.stack(losses).mean() / 2 if losses else 0 * cosines.sum()


def intra_class(source, target):
    s, t, here, there = shared_rows(source, target)
    gaps = (unit(s) - unit(t)).square().sum(dim=1)[here & there]
    return gaps.mean() if len(gaps) else 0 * (s.sum() + t.sum())


def inter_class(source, target, *, distance=1.0):
    s, t, here, there = shared_rows(source, target)
    zero = torch.zeros(())
    s = unit(s).where(here[:, None], zero.to(s.dtype))
    t = unit(t).where(there[:, None], zero.to(t.dtype))
    centres = unit(s + t)[here | there]
    n = len(centres)
    above = torch.triu_indices(n, n, 1)
    gaps = (2 - 2 * centres @ centres.T).clamp(min=1e-12).sqrt()[above[0], above[1]]
    return F.relu(distance - gaps).square().mean() if len(gaps) else 0 * (s.sum() + t.sum())


def margin(source, target, *, distance=1.0, inter_weight=1.0):
    return intra_class(source, target) + inter_weight * inter_class(source, target, distance=distance)


def centroids(sums, mass):
    present = mass > 0
    return (sums / mass.where(present, 1)[:, None]).where(present[:, None], 0), mass


def agreement(first, second, mask, **_):
    shared = F.interpolate(mask[:, None].double(), size=first.shape[-2:], mode="nearest-exact")[:, 0] > 0
    rows = [x.where(shared[:, None], 0).softmax(dim=1) for x in (first, second)]
    mean = (rows[0] + rows[1]) / 2
    gap = sum((p * (p.clamp(min=1e-300).log() - mean.clamp(min=1e-300).log())).sum(dim=1) / 2 for p in rows)
    return gap.where(shared, 0).sum() / shared.sum().clamp(min=1)


def pasted(foreground, background, table, *, key=None, eligible=None, opacity=1.0, **_):
    key = foreground.labels if key is None else key
    mask = torch.zeros_like(key, dtype=torch.bool)
    for b, row in enumerate(table):
        for k in row.nonzero().flatten():
            mask[b] |= key[b] == k
    mask = mask if eligible is None else mask & eligible
    front = foreground.frames
    front = front if opacity == 1 else background.frames + opacity * (front - background.frames)
    weights = [clip.weights for clip in (foreground, background)]
    if weights != [None, None]:
        given = next(w for w in weights if w is not None)
        weights = torch.where(mask, *(torch.ones_like(given) if w is None else w for w in weights))
    else:
        weights = None
    flow = None
    if foreground.flow is not None:
        flow = torch.where(mask[:, 1:, None], foreground.flow, background.flow)
    return (
        torch.where(mask[:, :, None], front, background.frames),
        torch.where(mask, foreground.labels, background.labels),
        flow, weights, mask,
    )  # fmt: skip


def confusion(predictions, labels, classes, ignore_index):
    if predictions.is_floating_point():
        predictions = (
            predictions if predictions.shape[-2:] == labels.shape[-2:] else upsampled(predictions, labels.shape[-2:])
        ).argmax(dim=1)
    out = torch.zeros(classes, classes + 1, dtype=torch.int64)
    for said, true in zip(predictions.flatten().tolist(), labels.flatten().tolist(), strict=True):
        if 0 <= true < classes and true != ignore_index:
            out[true, said if 0 <= said < classes else classes] += 1
    return out


def steady(predictions, flow, valid):
    kept = seen = 0
    for t in range(predictions.shape[1] - 1):
        earlier, counts = predictions[:, t], torch.ones_like(predictions[:, t], dtype=torch.bool)
        if flow is not None:
            counts = inside(flow[:, t])
            earlier = warp_labels(earlier, flow[:, t])
        counts = counts if valid is None else counts & valid[:, t]
        kept += int(((earlier == predictions[:, t + 1]) & counts).sum())
        seen += int(counts.sum())
    return torch.tensor([kept, seen])
