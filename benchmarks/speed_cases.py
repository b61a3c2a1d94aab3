"""The operators of dastc at the sizes of the paper, each with everything that computes the same."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import plain
import torch
import torch.nn.functional as F
from meters import Case
from torch import Tensor

from dastc import Clip
from dastc.functional import class_pool, clip_paste, flow_warp, pseudo_labels, upsampled_cross_entropy
from dastc.ops._backend import _obstacle
from dastc.ops.centroid_kernel import centroid_kernel
from dastc.ops.centroid_kernel.reference import centroid_kernel_reference
from dastc.ops.class_pool.reference import class_pool_reference
from dastc.ops.clip_paste.reference import clip_paste_reference
from dastc.ops.flow_warp.reference import flow_warp_reference

CLASSES, IGNORE = 19, 255
PLAIN, REFERENCE, COMPILED, FUSED = "plain composition", "reference", "compiled reference", "fused kernel"


class Sizes(NamedTuple):
    """What is measured; features are (height, width, D), logits lie on the same grids."""

    frames: tuple[int, int]
    features: tuple[tuple[int, int, int], ...]
    steps: tuple[tuple[int, int, int], ...]
    batches: tuple[int, ...]
    demo: tuple[int, int, int] = (4, 96, 160)  # clips, height and width of examples/adapt_video.py

    @property
    def grids(self) -> list[tuple[int, int]]:
        """Sizes of the logits."""
        return list(dict.fromkeys((h, w) for h, w, _ in self.features))


COARSE, FINE = (65, 129), (128, 256)  # strides of 8, as the CNN's, and of 4, as the ViT's
PAPER = (512, 1024)
ALL = tuple((*grid, d) for grid in (COARSE, FINE) for d in (256, 2048))
SIZES = {
    "paper": Sizes(PAPER, ALL, ALL, (1, 8)),
    # the plain step at D = 2048 alone would take minutes
    "short": Sizes(PAPER, ((*COARSE, 2048), (*FINE, 256)), ((*COARSE, 256), (*FINE, 256)), (1,)),
    "tiny": Sizes((32, 48), ((5, 7, 4),), ((5, 7, 4),), (2,), demo=(2, 32, 32)),
}

Cases = Iterator[Case]


def bytes_of(*tensors: Tensor) -> int:
    return sum(x.numel() * x.element_size() for x in tensors)


def x_of(*size: int) -> str:
    return "x".join(map(str, size))


def seeded(device: str) -> torch.Generator:
    return torch.Generator(device).manual_seed(0)


def normal(shape: Sequence[int], rng: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=rng, device=rng.device)


def uniform(shape: Sequence[int], rng: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=rng, device=rng.device)


def random_labels(shape: tuple[int, ...], rng: torch.Generator, classes: int = CLASSES) -> Tensor:
    """Regions of one class, and about a tenth ignored."""
    *outer, height, width = shape
    small = uniform((*outer, max(1, height // 16), max(1, width // 16)), rng) * classes
    labels = F.interpolate(small.flatten(0, -3).unsqueeze(1), size=(height, width), mode="nearest")
    labels = labels.long().clamp(max=classes - 1).view(shape)
    return labels.where(uniform(shape, rng) >= 0.1, IGNORE)


def random_flow(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """Smooth motion of some pixels."""
    *outer, height, width = shape
    small = normal((*outer, max(2, height // 16), max(2, width // 16)), rng) * height / 64
    return F.interpolate(small.flatten(0, -4), size=(height, width), mode="bilinear").view(shape)


def random_clip(batch: int, size: tuple[int, int], rng: torch.Generator, classes: int = CLASSES) -> Clip:
    frames = normal((batch, 2, 3, *size), rng)
    labels = random_labels((batch, 2, *size), rng, classes)
    return Clip(frames, labels, random_flow((batch, 1, 2, *size), rng), uniform((batch, 2, *size), rng))


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    torch._dynamo.reset()  # each case is the first of its kind: nothing becomes dynamic
    return torch.compile(function, dynamic=False)


def fused(operator: str, x: Tensor, call: Callable[[], tuple[Tensor, ...]], **sizes: int):
    """Return the call, or why the kernel cannot be taken for it."""
    why = _obstacle(operator, x, sizes) if x.is_cuda else "needs a GPU"
    return why or call


def flow_warps(sizes: Sizes, batch: int, device: str) -> Cases:
    for height, width, channels in dict.fromkeys([*sizes.features, (*sizes.frames, CLASSES)]):
        rng = seeded(device)
        x = normal((batch, channels, height, width), rng).requires_grad_()
        flow = random_flow((batch, 2, height, width), rng).requires_grad_()
        once = compiled(flow_warp_reference)
        yield Case(
            f"{x_of(channels, height, width)}, batch {batch}",
            {
                PLAIN: lambda x=x, flow=flow: (plain.flow_warp(x, flow), plain.inside(flow)),
                REFERENCE: lambda x=x, flow=flow: flow_warp(x, flow, backend="torch"),
                COMPILED: lambda x=x, flow=flow, once=once: once(x, flow),
                FUSED: fused("flow_warp", x, lambda x=x, flow=flow: flow_warp(x, flow, backend="triton")),
            },
            (x, flow),
            (2 * bytes_of(x) + bytes_of(flow) + batch * height * width, 3 * bytes_of(x) + 2 * bytes_of(flow)),
        )


def class_pools(sizes: Sizes, batch: int, device: str) -> Cases:
    for height, width, channels in sizes.features:
        rng = seeded(device)
        x = normal((batch, channels, height, width), rng).requires_grad_()
        labels = random_labels((batch, height, width), rng)
        weights = uniform(labels.shape, rng)
        once = compiled(class_pool_reference)

        def pool(x, labels, weights, backend):
            return class_pool(x, labels, CLASSES, weights=weights, backend=backend)

        here = (x, labels, weights)
        yield Case(
            f"{x_of(channels, height, width)}, batch {batch}",
            {
                PLAIN: lambda here=here: plain.class_pool(here[0], here[1], CLASSES, here[2]),
                REFERENCE: lambda here=here, pool=pool: pool(*here, "torch"),
                COMPILED: lambda here=here, once=once: once(*(a.flatten(-2) for a in here), CLASSES),
                FUSED: fused(
                    "class_pool", x, lambda here=here, pool=pool: pool(*here, "triton"), K=CLASSES, D=channels
                ),
            },
            (x,),
            (bytes_of(x, labels, weights), bytes_of(x, labels, weights)),
        )


def label_readings(sizes: Sizes, batch: int, device: str) -> Cases:
    for grid in sizes.grids:
        for form in ("own", "flow", "flow and previous"):
            rng = seeded(device)
            logits, previous = ((normal((batch, CLASSES, *grid), rng) * 4) for _ in range(2))
            given = {"flow": random_flow((batch, 2, *sizes.frames), rng), "previous": previous}
            given = {name: x for name, x in given.items() if name in form}
            once = compiled(plain.pseudo_labels)  # the reference in one piece: Inductor makes pieces of its own

            def read(backend, logits=logits, given=given):
                return tuple(pseudo_labels(logits, sizes.frames, **given, backend=backend))

            yield Case(
                f"{form}, {x_of(*grid)} to {x_of(*sizes.frames)}, batch {batch}",
                {
                    PLAIN: lambda logits=logits, given=given: plain.pseudo_labels(logits, sizes.frames, **given),
                    REFERENCE: lambda read=read: read("torch"),
                    COMPILED: lambda logits=logits, given=given, once=once: once(logits, sizes.frames, **given),
                    FUSED: fused("pseudo_label", logits, lambda read=read: read("triton"), K=CLASSES),
                },
                floor=(bytes_of(logits, *given.values()) + batch * sizes.frames[0] * sizes.frames[1] * (8 + 4), 0),
            )


def pastings(sizes: Sizes, batch: int, device: str) -> Cases:
    rng = seeded(device)
    front, back = (random_clip(batch, sizes.frames, rng) for _ in range(2))
    leaves = front.frames.requires_grad_(), back.frames.requires_grad_()
    table = uniform((batch, CLASSES), rng) < 0.5
    once = compiled(clip_paste_reference)

    def by_hand():
        classes = [[k for k in range(CLASSES) if row[k].item()] for row in table]
        clip, mask = plain.clip_paste(front, back, classes)
        return *clip, mask

    def by_reference():
        return once(*zip(front, back, strict=True), front.labels, table, None, 1.0)

    def ours(backend):
        clip, mask = clip_paste(front, back, table, backend=backend)
        return *clip, mask

    mask = ours("torch")[-1]
    yield Case(
        f"2 frames of {x_of(*sizes.frames)}, batch {batch}",
        {
            PLAIN: by_hand,
            REFERENCE: lambda: ours("torch"),
            COMPILED: by_reference,
            FUSED: fused("clip_paste", front.frames, lambda: ours("triton")),
        },
        leaves,
        # labels that decide are read even where nothing is pasted
        (2 * bytes_of(*front) + bytes_of(mask) + 8 * int((~mask).sum()), 3 * bytes_of(front.frames) + bytes_of(mask)),
    )


def comparisons(sizes: Sizes, batch: int, device: str) -> Cases:
    for grid in sizes.grids:
        rng = seeded(device)
        logits = (normal((batch, CLASSES, *grid), rng) * 4).requires_grad_()
        labels = random_labels((batch, *sizes.frames), rng)
        weights = uniform(labels.shape, rng)
        once = compiled(_whole_cross_entropy)
        here = (logits, labels, weights)

        def ours(backend, here=here):
            return (upsampled_cross_entropy(here[0], here[1], weights=here[2], backend=backend),)

        yield Case(
            f"{x_of(*grid)} to {x_of(*sizes.frames)}, batch {batch}",
            {
                PLAIN: lambda here=here: (plain.cross_entropy(*here),),
                REFERENCE: lambda ours=ours: ours("torch"),
                COMPILED: lambda here=here, once=once: (once(*here),),
                FUSED: fused("upsampled_ce", logits, lambda ours=ours: ours("triton"), K=CLASSES),
            },
            (logits,),
            (bytes_of(logits, labels, weights), bytes_of(logits, labels, weights) + bytes_of(logits)),
        )


def _whole_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    # the reference in one piece: Inductor makes pieces of its own
    full = plain.upsample(logits, (labels.shape[-2], labels.shape[-1]))
    loss = F.cross_entropy(full, labels, ignore_index=IGNORE, reduction="none") * weights
    return loss.sum() / (labels != IGNORE).sum().clamp(min=1)


def kernels(sizes: Sizes, batch: int, device: str) -> Cases:
    if batch != sizes.batches[0]:
        return  # centroids are of the whole batch
    for width in dict.fromkeys(d for _, _, d in sizes.features):
        rng = seeded(device)
        source, target = (normal((CLASSES, width), rng).requires_grad_() for _ in range(2))
        there = torch.ones(CLASSES, dtype=torch.bool, device=device)
        once = compiled(centroid_kernel_reference)
        here = (source, target)

        def ours(backend, here=here, there=there):
            return (centroid_kernel(*here, there, backend=backend),)

        matrix = 4 * (2 * CLASSES) ** 2
        yield Case(
            f"K={CLASSES}, D={width}",
            {
                PLAIN: lambda here=here: (plain.centroid_kernel(*here),),
                REFERENCE: lambda ours=ours: ours("torch"),
                COMPILED: lambda here=here, there=there, once=once: (once(*here, there, 2.0, 5),),
                FUSED: fused("centroid_kernel", source, lambda ours=ours: ours("triton")),
            },
            here,
            (bytes_of(*here) + matrix, 2 * bytes_of(*here) + matrix),
        )


OPERATORS: dict[str, Callable[[Sizes, int, str], Cases]] = {
    "flow_warp": flow_warps,
    "class_pool": class_pools,
    "pseudo_label": label_readings,
    "clip_paste": pastings,
    "upsampled_ce": comparisons,
    "centroid_kernel": kernels,
}
