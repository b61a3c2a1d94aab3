"""What is called: each function takes a Draw, and returns a Call with arguments drawn from it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import plain_torch as plain
import torch
from torch import nn

from dastc import Clip
from dastc import functional as fn
from dastc.adapt import (
    Agreement,
    Alignment,
    AlikeDomains,
    ClassPrior,
    Clean,
    Exchange,
    Hidden,
    MatchHistograms,
    Pass,
    Segmentation,
    Shared,
    TeacherLabels,
)
from dastc.aggregation import CategoryAggregator, CategoryMemory
from dastc.augment import OnFrames, PhotometricJitter, RandomCrop, RandomFlip, RandomScale, Resize
from dastc.clip import stack_clips
from dastc.functional import Centroids
from dastc.functional.alignment import inter_class, intra_class
from dastc.functional.appearance import hide_blocks
from dastc.functional.flow import flip_flow, flow_consistency
from dastc.functional.labels import class_presence, draw_classes, warp_labels
from dastc.fusion import PatchBank, SequencePatchFusion, ShallowFeatureFusion
from dastc.losses import (
    CategoryAlignmentLoss,
    CentroidAlignmentLoss,
    ContextConsistencyLoss,
    PixelAlignmentLoss,
    SelfTrainingLoss,
)
from dastc.metrics import MeanIoU, TemporalConsistency
from dastc.models import FeatureTap, MultiScale, TinySegmenter, VideoSegmenter, VideoStream, freeze, parameter_groups
from dastc.models.query_logits import query_logits
from dastc.models.video_segmenter import ScoreFusion
from dastc.ops.centroid_kernel import centroid_kernel


@dataclass
class Call:
    """A call, and what is known of its outcome.

    Args:
        name: What its errors begin with.
        run: What is called with the arguments.
        arguments: By name.
        plain: Called with the same arguments, in wide floating point, it returns what the call must return; where it
            returns None nothing is compared.
        check: Called with what came back; returns a complaint, or nothing.
        each: Whether each number that is finite in plain PyTorch is looked at where others are not; otherwise such an
            outcome is not compared.
    """

    name: str
    run: Callable[..., Any]
    arguments: dict[str, Any]
    plain: Callable[..., Any] | None = None
    check: Callable[[Any], str | None] = lambda _: None
    differentiable: bool = True
    callers: tuple[str, ...] = field(default=())
    each: bool = False


CALLS: dict[str, tuple[Callable[..., Call], int]] = {}


def call(weight=4):
    def named(make):
        CALLS[make.__name__] = make, weight
        return make

    return named


def of(kind, init, forward, method="__call__"):
    """Return a function that makes a module of some of its arguments, and calls it with the others."""

    def run(**given):
        module = kind(**{name: given[name] for name in init if name in given})
        return getattr(module, method)(**{name: given[name] for name in forward if name in given})

    return run


def shapes(*wanted):
    """Return a check of shapes and dtypes, None where anything goes."""

    def check(out):
        out = out if isinstance(out, tuple) else (out,)
        for x, (shape, dtype) in zip(out, wanted, strict=True):
            if tuple(x.shape) != tuple(shape) or (dtype is not None and x.dtype != dtype):
                return f"{tuple(x.shape)}, {x.dtype} in place of {tuple(shape)}, {dtype}"
        return None

    return check


def wide(*tensors):
    out = torch.float32
    for x in tensors:
        out = torch.promote_types(out, x.dtype)
    return out


# functions


@call()
def class_pool(d):
    n, width, k, grid = d.batch(), d.size(0), d.classes(), d.pick((), (7,), (3, 5), (0, 2), (2, 3, 2), d.sides())
    ignored, x = d.ignored(k), d.features(n, width, *grid)
    labels = d.labels(n, *grid, classes=k, ignore_index=ignored)
    weights = d.maybe(lambda: d.shares(n, *grid))
    given = {"features": x, "labels": labels, "num_classes": k, "weights": weights, "ignore_index": ignored}
    given["backend"] = d.pick("auto", "torch")
    check = shapes(((n, k, width), wide(x)), ((n, k), wide(x)))
    return Call("class_pool", fn.class_pool, given, plain.class_pool, check)


@call()
def flow_warp(d):
    n, c, (h, w) = d.batch(), d.size(0, 4), d.sides()
    x = d.features(n, c, h, w)
    other = d.maybe(lambda: d.features(n, c, h, w, dtype=x.dtype))
    share = None if other is None else d.maybe(lambda: d.pick(d.shares(n, h, w), d.mask(n, h, w)))
    if share is not None and share.is_floating_point():
        share = share.nan_to_num(0.5, 1, 0).clamp(0, 1)
    given = {"x": x, "flow": d.flow(n, 2, h, w), "other": other, "share": share, "backend": d.pick("auto", "torch")}
    check = shapes(((n, c, h, w), x.dtype), ((n, h, w), torch.bool))
    return Call("flow_warp", fn.flow_warp, given, plain.flow_warp, check, each=True)


@call()
def resize_flow(d):
    n, size = d.batch(), d.sides()
    flow = d.flow(n, 2, *d.sides())
    check = shapes(((n, 2, *size), flow.dtype))
    return Call("resize_flow", fn.resize_flow, {"flow": flow, "size": size}, plain.resize_flow, check)


@call()
def pseudo_labels(d):
    n, k, size, grid = d.batch(), d.classes(), d.sides(), d.sides()
    logits = d.values(n, k, *grid)
    flow = d.maybe(lambda: d.flow(n, 2, *size))
    previous = None if flow is None else d.maybe(lambda: d.values(n, k, *grid))
    given = {"logits": logits, "size": size, "flow": flow, "previous": previous}
    given["confidence"] = d.pick("probability", "probability", "entropy")

    def check(out):
        if len(out.labels.unique()) and not (out.labels.min() >= 0 and out.labels.max() < k):
            return "labels outside [0, K)"
        good = out.confidence[~out.confidence.isnan()]
        if (
            d.tame
            and len(good)
            and not (good.min() >= 0 and good.max() <= 1 + 1e-5 and len(good) == out.confidence.numel())
        ):
            return "confidence outside [0, 1]"
        return shapes(((n, *size), torch.int64), ((n, *size), wide(logits)))(out)

    def expected(**arguments):
        confidence = plain.pseudo_labels(**arguments)[1]
        # where two classes are as likely, either will do; and at the border whether it is inside turns on rounding
        return None, confidence

    return Call("pseudo_labels", fn.pseudo_labels, given, expected, check, differentiable=False, each=d.mood != "inf")


@call()
def upsampled_cross_entropy(d):
    n, k, size = d.batch(), d.classes(), d.sides()
    logits, ignored = d.features(n, k, *d.sides()), d.ignored(k)
    labels, weights = d.labels(n, *size, classes=k, ignore_index=ignored), d.maybe(lambda: d.shares(n, *size))
    reduction = d.pick("mean", "mean", "sum", "none")
    given = {"logits": logits, "labels": labels, "weights": weights, "ignore_index": ignored, "reduction": reduction}
    given["sync"] = d.chance(0.5)
    check = shapes(((n, *size) if reduction == "none" else (), wide(logits)))
    return Call("upsampled_cross_entropy", fn.upsampled_cross_entropy, given, plain.cross_entropy, check)


@call(2)
def resize_labels(d):
    labels, size = d.labels(d.batch(), *d.pick((), (2,)), *d.sides()), d.sides()
    return Call("resize_labels", fn.resize_labels, {"labels": labels, "size": size}, plain.resize_labels)


@call(2)
def warp_labels_(d):
    n, (h, w) = d.batch(), d.sides()
    given = {"labels": d.labels(n, h, w), "flow": d.flow(n, 2, h, w), "ignore_index": d.ignored(3)}
    return Call("warp_labels", warp_labels, given, plain.warp_labels)


@call(2)
def compose_flow(d):
    n, (h, w) = d.batch(), d.sides()
    first, second = d.flow(n, 2, h, w), d.flow(n, 2, h, w)
    check = shapes(((n, 2, h, w), first.dtype), ((n, h, w), torch.bool))

    def expected(**given):
        return plain.compose_flow(**given)[0], None

    return Call("compose_flow", fn.compose_flow, {"first": first, "second": second}, expected, check)


@call(2)
def flow_consistency_(d):
    n, (h, w) = d.batch(), d.sides()
    given = {"flow": d.flow(n, 2, h, w), "reverse": d.flow(n, 2, h, w)}
    given |= {"relative": d.pick(0.0, 0.01, 1.0), "absolute": d.pick(0.0, 0.5)}
    return Call("flow_consistency", flow_consistency, given, check=shapes(((n, h, w), torch.bool)))


@call(1)
def flip_flow_(d):
    flow = d.flow(d.batch(), *d.pick((), (2,)), 2, *d.sides())

    def expected(flow):
        return flow.flip(-1) * flow.new_tensor([-1.0, 1.0]).view(2, 1, 1)

    return Call("flip_flow", flip_flow, {"flow": flow}, expected)


@call(2)
def confidence_weights(d):
    given = {
        "confidence": d.shares(d.batch(), *d.pick((), (4,), (2, 3, 5), (0,))),
        "threshold": d.pick(0.0, 0.5, 0.968, 1.0),
    }
    given["weighting"] = d.pick("share", "confidence", "threshold", "none")
    return Call("confidence_weights", fn.confidence_weights, given, plain.confidence_weights if d.tame else None)


@call(2)
def match_histograms(d):
    b, c = d.batch(), d.pick(1, 3)
    frames = d.features(b, d.pick(1, 2), c, *d.sides())
    reference = d.features(b, d.pick(1, 2), c, *d.sides())
    given = {"frames": frames, "reference": reference, "grid": d.pick((1, 1), (1, 1), (3, 1), (2, 3), (20, 20))}

    def check(out):
        if out.shape != frames.shape or out.dtype != frames.dtype:
            return f"{tuple(out.shape)}, {out.dtype}"
        if not d.tame or not b:
            return None
        last = reference[:, -1].detach().to(out.dtype).double()
        slack = 0 if given["grid"] == (1, 1) else 4 * torch.finfo(out.dtype).eps * float(last.abs().max())
        low, high = (x.flatten(2).amin(2)[:, None, :, None, None] - slack for x in (last, -last))
        if not ((out.double() >= low).all() and (-out.double() >= high).all()):
            return "values that the reference does not have"
        if given["grid"] == (1, 1):
            order = frames.detach().flatten(3).argsort(dim=-1, stable=True)
            if (out.flatten(3).gather(3, order).diff(dim=-1) < 0).any():
                return "another order of pixels"
        return None

    return Call("match_histograms", fn.match_histograms, given, check=check, differentiable=False)


def _centroid_sets(d):
    k, width = d.pick(1, 2, 3, 5, 19, 40) if d.chance(0.3) else d.size(), d.size(1, 20)

    def one():
        values, kind = (
            d.features(k, width, scale=d.pick(1.0, 1.0, 100.0)),
            d.pick("bare", "some", "some", "none", "all"),
        )
        if kind == "bare":
            return values
        mass = {"some": torch.rand(k, generator=d.torch).round(), "none": torch.zeros(k), "all": torch.ones(k)}[kind]
        return Centroids(values, mass.to(d.float_dtype()))

    return one(), one()


def _objective(name, function, reference, **options):
    def make(d):
        source, target = _centroid_sets(d)
        given = {"source": source, "target": target}
        given |= {key: d.pick(*choices) for key, choices in options.items()}
        values = [x if isinstance(x, torch.Tensor) else x.values for x in (source, target)]

        def check(out):
            return shapes(((), wide(*values)))(out)

        return Call(name, function, given, reference if d.tame else None, check, callers=("centroid_kernel",))

    make.__name__ = name
    call(2)(make)


_objective("mmd", fn.mmd, plain.mmd, factor=(2.0, 1.5), count=(1, 2, 5))
_objective("cdd", fn.cdd, plain.cdd, factor=(2.0, 1.5), count=(1, 2, 5))
_objective("infonce", fn.infonce, plain.infonce, temperature=(0.1, 1.0, 0.05))
_objective("intra_class", intra_class, plain.intra_class)
_objective("inter_class", inter_class, plain.inter_class, distance=(0.0, 0.5, 1.0, 2.0))
_objective("margin", fn.margin, plain.margin, distance=(0.0, 1.0, 2.0), inter_weight=(0.0, 1.0, 3.0))


@call(2)
def centroid_kernel_(d):
    k, width = d.size(), d.size()
    given = {"source": d.features(k, width), "target": d.features(k, width), "present": d.mask(k)}
    given |= {"factor": d.pick(2.0, 1.1), "count": d.pick(1, 3, 5)}
    check = shapes(((2 * k, 2 * k), wide(given["source"])))

    def expected(source, target, present, factor, count):
        both = present.repeat(2)
        out = torch.zeros(2 * k, 2 * k, dtype=source.dtype)
        kernel = plain.kernel_of(source, target, present, factor, count)
        out[both.nonzero(), both.nonzero().T] = kernel.to(out.dtype)
        return out

    return Call("centroid_kernel", centroid_kernel, given, expected if d.tame else None, check)


@call(1)
def centroids_from_sums(d):
    k, width = d.size(), d.size(0)
    mass = d.shares(k)
    given = {"sums": d.features(k, width), "mass": mass}
    return Call("centroids_from_sums", fn.centroids_from_sums, given, plain.centroids if d.tame else None)


@call(1)
def class_presence_(d):
    k, b = d.classes(), d.batch()
    given = {"labels": d.labels(b, *d.pick((), (3,), (2, 3), (0,)), classes=k), "num_classes": k}

    def expected(labels, num_classes):
        rows = [[bool((row == c).any()) for c in range(num_classes)] for row in labels]
        return torch.tensor(rows).view(b, num_classes).bool()

    return Call("class_presence", class_presence, given, expected)


@call(1)
def draw_classes_(d):
    candidates = d.mask(d.batch(), d.classes())
    amount = d.pick(0.5, 0.1, 0.999, 1, 2, 3.0, 1000)

    def check(out):
        known = candidates.sum(dim=1)
        wanted = (known * amount).ceil() if amount < 1 else known.clamp(max=int(amount))
        ok = bool((out <= candidates).all()) and bool(((out.sum(dim=1) - wanted).abs() <= 0).all())
        return None if ok else "another number of classes"

    return Call("draw_classes", draw_classes, {"candidates": candidates, "amount": amount}, check=check)


@call(1)
def hide_blocks_(d):
    frames = d.features(d.batch(), d.pick(1, 2), 3, *d.sides())
    given = {"frames": frames, "share": d.pick(0.0, 0.5, 1.0), "block": d.pick(1, 2, 3, 50)}

    def check(out):
        return shapes((frames.shape, frames.dtype))(out) or (
            None if bool(((out == frames) | (out == 0) | out.isnan()).all()) else "other values"
        )

    return Call("hide_blocks", hide_blocks, given, check=check)


@call()
def clip_paste(d):
    k = d.classes()
    sizes = d.batch(), d.pick(1, 2, 3), *d.sides()
    flow = d.chance(0.5)
    front, back = (d.clip(sizes, classes=min(k, 19), flow=flow) for _ in range(2))
    back = Clip(
        *(None if x is None else x if y is None else x.to(y.dtype).detach() for x, y in zip(back, front, strict=True))
    )
    given = {"foreground": front, "background": back, "table": d.mask(sizes[0], k), "opacity": d.pick(1.0, 1.0, 0.5)}
    given |= {
        "key": d.maybe(lambda: d.labels(*sizes, classes=k), 0.3),
        "eligible": d.maybe(lambda: d.mask(*sizes), 0.3),
    }

    def run(**arguments):
        clip, mask = fn.clip_paste(**arguments)
        return *clip, mask

    return Call("clip_paste", run, given, plain.pasted if d.tame or given["opacity"] == 1 else None)


# modules


@call(2)
def shallow_feature_fusion(d):
    n, c, (h, w) = d.batch(), d.size(), d.sides()
    size = d.pick((h, w), d.sides())
    mask = d.pick(d.mask(n, *size), d.shares(n, *size))
    given = {
        "alpha": d.pick(0.0, 0.3, 1.0),
        "features": d.features(n, c, h, w),
        "context": d.features(n, c, h, w),
        "mask": mask,
    }

    def expected(alpha, features, context, mask):
        share = torch.nn.functional.adaptive_avg_pool2d(mask.to(features.dtype)[:, None], (h, w))
        return share * (alpha * context + (1 - alpha) * features) + (1 - share) * features

    run = of(ShallowFeatureFusion, ["alpha"], ["features", "context", "mask"])
    return Call("ShallowFeatureFusion", run, given, expected if d.tame else None)


@call(3)
def sequence_patch_fusion(d):
    k = d.pick(2, 3, 5)
    sizes, flow = (d.batch(), d.pick(1, 2), *d.sides()), d.chance(0.5)
    ignored = d.ignored(k)
    dtype = d.dtype

    def clip():
        made = d.clip(sizes, classes=k, flow=flow, ignore_index=ignored)
        return Clip(*(x if x is None or not x.is_floating_point() else x.detach().to(dtype) for x in made))

    given = {"num_classes": k, "ignore_index": ignored, "seed": d.pick(0, 1)}
    given |= {"classes": d.pick(0.5, 1, 2), "target_classes": d.pick(0.5, 2), "complementary": d.chance(0.7)}
    given |= {"threshold": d.pick(0.0, 0.9, 1.0), "opacity": d.pick(1.0, 1.0, 0.5), "bank_classes": d.pick(0, 1, 2)}
    given |= {
        "rare_classes": [c for c in d.pick([], [1], [0, 1]) if c != ignored],
        "rare_probability": d.pick(0.0, 0.5, 1.0),
    }
    given |= {"source": clip(), "target": clip()}
    if d.chance(0.4):
        given |= {"source_patches": clip()} | ({"target_patches": clip()} if d.chance(0.5) else {})
    if d.chance(0.3):
        named = [c for c in range(k) if c != ignored]
        given["bank"] = PatchBank(k, classes=named, min_pixels=d.pick(1, 4), ignore_index=ignored)
    forward = ("source", "target", "source_patches", "target_patches")
    init = [name for name in given if name not in forward]

    def check(out):
        for one in out:
            if one.clip.frames.shape != given["source"].frames.shape or one.mask.dtype != torch.bool:
                return "another shape"
            if not (one.static <= one.mask).all():
                return "static outside the mask"
        if "source_patches" in given or "bank" in given or not given["complementary"] or given["opacity"] != 1:
            return None
        first, second = (one.clip.frames for one in out)
        a, b = given["source"].frames, given["target"].frames
        whole = torch.where(out[1].mask.unsqueeze(2), a, b), torch.where(out[1].mask.unsqueeze(2), b, a)
        same = torch.equal(second.nan_to_num(7), whole[0].nan_to_num(7)) and torch.equal(
            first.nan_to_num(7), whole[1].nan_to_num(7)
        )
        return None if same else "pixels from elsewhere"

    run = of(SequencePatchFusion, init, forward)
    return Call("SequencePatchFusion", run, given, check=check, callers=("clip_paste", "PatchBank.update"))


@call(2)
def patch_bank(d):
    k = d.pick(2, 3, 5)
    ignored = d.ignored(k)
    classes = [c for c in d.pick([0], [1], [0, 1]) if c != ignored] or [1 - ignored]
    sizes = d.batch(), d.pick(1, 2), *d.sides()
    given = {"num_classes": k, "classes": classes, "capacity": d.pick(1, 2, 4), "min_pixels": d.pick(1, 3, 100)}
    given |= {"ignore_index": ignored, "clip": d.clip(sizes, classes=k, ignore_index=ignored)}
    given |= {"amount": d.pick(0, 1, 2, 5), "batch": d.pick(0, 1, 3)}

    def run(clip, amount, batch, **init):
        bank = PatchBank(**init)
        bank.update(clip)
        bank.update(clip)
        return bank.sample(amount, batch=batch)

    def check(out):
        frames, labels = out
        if labels.shape != (given["batch"], *sizes[2:]) or frames.shape != (given["batch"], 3, *sizes[2:]):
            return "another shape"
        if not torch.isin(labels, torch.tensor([*classes, ignored])).all():
            return "labels of other classes"
        return None

    return Call(
        "PatchBank",
        run,
        given,
        check=check,
        differentiable=False,
        callers=("PatchBank.update", "PatchBank.sample", "draw_classes"),
    )


@call()
def category_aggregator(d):
    k, image = d.classes(), d.chance(0.4)
    b, t, width, grid, size = d.batch(), d.pick(1, 2, 3), d.size(), d.sides(), d.sides()
    lead = (b,) if image else (b, t)
    ignored = d.ignored(k)
    given = {"num_classes": k, "ignore_index": ignored, "min_mass": d.pick(0.0, 0.0, 1.5)}
    given |= {name: d.chance(0.7) for name in ("agreement", "confidence", "temporal", "persistence")}
    init = list(given)
    given |= {
        "features": d.features(*lead, width, *grid),
        "labels": d.labels(*lead, *size, classes=k, ignore_index=ignored),
    }
    given |= {
        "logits": d.maybe(lambda: d.features(*lead, k, *d.sides())),
        "weights": d.maybe(lambda: d.shares(*lead, *size)),
    }
    given["flow"] = None if image else d.maybe(lambda: d.flow(b, t - 1, 2, *d.sides()))
    forward = [name for name in given if name not in init]
    x = given["features"]

    def expected(num_classes, features, labels, weights, logits, flow, min_mass, ignore_index, **_):
        if logits is not None or (flow is not None and given["persistence"] and t > 1 and not image):
            return None
        cells = plain.resize_labels(labels, grid)
        share = None
        if weights is not None:
            flat = weights.reshape(-1, 1, *size)
            share = torch.nn.functional.adaptive_avg_pool2d(flat, grid).view(cells.shape)
        flat = features.reshape(-1, width, *grid)
        cells = cells.reshape(-1, *grid)
        share = None if share is None else share.reshape(-1, *grid)
        sums, mass = plain.class_pool(flat, cells, num_classes, weights=share, ignore_index=ignore_index)
        mass = mass.sum(0)
        return plain.centroids(sums.sum(0), mass.where(mass >= min_mass, 0))

    def check(out):
        if not x.isfinite().all() or out.values.isfinite().all():
            return shapes(((k, width), wide(x)), ((k,), wide(x)))(out)
        # a mean of finite numbers, unless their sum is beyond the dtype
        return "not finite" if d.tame else None

    run = of(CategoryAggregator, init, forward)
    return Call("CategoryAggregator", run, given, expected if d.tame else None, check)


@call(1)
def category_memory(d):
    k, width = d.size(), d.size()
    mass = torch.rand(k, generator=d.torch).round().to(d.float_dtype())
    given = {"num_classes": k, "dim": d.pick(None, width), "momentum": d.pick(0.0, 0.9, 1.0)}
    given["centroids"] = Centroids(d.features(k, width), mass)

    def check(out):
        return None if out.values.isfinite().all() else "not finite"

    run = of(CategoryMemory, ["num_classes", "dim", "momentum"], ["centroids"])
    return Call("CategoryMemory", run, given, check=check, differentiable=False)


@call(2)
def category_alignment_loss(d):
    k, width = d.classes(), d.size()
    ignored = d.ignored(k)
    given = {"num_classes": k, "align": d.pick("infonce", "cdd", "mmd", "margin"), "ignore_index": ignored}
    for domain in ("source", "target"):
        lead = d.pick((d.batch(),), (d.batch(), 2))
        size = d.sides()
        given[f"{domain}_features"] = d.features(*lead, width, *d.sides())
        given[f"{domain}_labels"] = d.labels(*lead, *size, classes=k, ignore_index=ignored)
        if d.chance(0.4):
            given[f"{domain}_weights"] = d.shares(*lead, *size)
    init = ["num_classes", "align", "ignore_index"]
    run = of(CategoryAlignmentLoss, init, [name for name in given if name not in init])
    features = [given[f"{domain}_features"] for domain in ("source", "target")]

    def expected(**arguments):
        sets = []
        for domain in ("source", "target"):
            x, labels = arguments[f"{domain}_features"], arguments[f"{domain}_labels"]
            grid, weights = x.shape[-2:], arguments.get(f"{domain}_weights")
            cells = plain.resize_labels(labels, grid).reshape(-1, *grid)
            if weights is not None:
                weights = torch.nn.functional.adaptive_avg_pool2d(weights, tuple(grid)).reshape(-1, *grid)
            flat = x.reshape(-1, *x.shape[-3:])
            sums, mass = plain.class_pool(flat, cells, k, weights=weights, ignore_index=ignored)
            sets.append(plain.centroids(sums.sum(0), mass.sum(0)))
        return getattr(plain, given["align"])(*sets)

    check = shapes(((), wide(*features)))
    callers = ("class_pool", "CentroidAlignmentLoss")
    return Call("CategoryAlignmentLoss", run, given, expected if d.tame else None, check, callers=callers)


@call(2)
def centroid_alignment_loss(d):
    source, target = _centroid_sets(d)
    source, target = (x if isinstance(x, tuple) else Centroids(x, torch.ones(len(x))) for x in (source, target))
    align = d.pick("infonce", "cdd", "mmd", "margin")
    given = {
        "align": align,
        "temperature": d.pick(0.1, 1.0),
        "distance": d.pick(0.0, 1.0, 2.0),
        "inter_weight": d.pick(0.0, 1.0),
    }
    given |= {"factor": d.pick(2.0, 1.5), "count": d.pick(1, 5), "source": source, "target": target}

    def expected(align, source, target, **options):
        wanted = {"infonce": ["temperature"], "margin": ["distance", "inter_weight"]}.get(align, ["factor", "count"])
        return getattr(plain, align)(source, target, **{name: options[name] for name in wanted})

    run = of(CentroidAlignmentLoss, list(given)[:-2], ["source", "target"])
    callers = (align, "centroid_kernel", "intra_class")
    return Call("CentroidAlignmentLoss", run, given, expected if d.tame else None, callers=callers)


@call(2)
def context_consistency_loss(d):
    n, k, grid = d.batch(), d.classes(), d.sides()
    given = {"first": d.features(n, k, *grid), "second": d.features(n, k, *grid), "mask": d.mask(n, *d.sides())}
    run = of(ContextConsistencyLoss, [], list(given))
    check = shapes(((), wide(given["first"], given["second"])))
    return Call("ContextConsistencyLoss", run, given, plain.agreement if d.tame else None, check)


@call(2)
def pixel_alignment_loss(d):
    n, k, width, grid = d.batch(), d.classes(), d.size(), d.sides()
    size, ignored = d.pick(grid, d.sides()), d.ignored(k)
    mass = torch.rand(k, generator=d.torch).round()
    given = {"num_classes": k, "temperature": d.pick(0.1, 1.0), "ignore_index": ignored}
    given |= {"features": d.features(n, width, *grid), "labels": d.labels(n, *size, classes=k, ignore_index=ignored)}
    given |= {"centroids": Centroids(d.values(k, width), mass.to(d.float_dtype()))}
    given |= {"weights": d.maybe(lambda: d.shares(n, *size), 0.4)}

    def expected(num_classes, temperature, ignore_index, features, labels, centroids, weights):
        values, mass = centroids
        rows = torch.nn.functional.normalize(values, dim=1)
        near = torch.einsum("kd,ndhw->nkhw", rows, plain.unit(features)) / temperature
        near = near.where((mass > 0).view(1, -1, 1, 1), -1e4)
        known = plain.counted(labels, num_classes, ignore_index)
        known = known & (mass > 0)[labels.where(known, 0)]
        return plain.cross_entropy(near, labels.where(known, -1), weights=weights, ignore_index=-1)

    run = of(PixelAlignmentLoss, list(given)[:3], list(given)[3:])
    check = shapes(((), wide(given["features"])))
    callers = ("upsampled_cross_entropy",)
    return Call("PixelAlignmentLoss", run, given, expected if d.tame else None, check, callers=callers)


@call(2)
def self_training_loss(d):
    n, k, size = d.batch(), d.classes(), d.sides()
    ignored = d.ignored(k)
    given = {"weighting": d.pick("share", "confidence", "threshold", "none"), "threshold": d.pick(0.0, 0.5, 1.0)}
    given |= {"ignore_index": ignored, "logits": d.features(n, k, *d.sides())}
    given |= {
        "labels": d.labels(n, *size, classes=k, ignore_index=ignored),
        "confidence": d.maybe(lambda: d.shares(n, *size)),
    }

    def expected(weighting, threshold, ignore_index, logits, labels, confidence):
        weights = None if confidence is None else plain.confidence_weights(confidence, weighting, threshold=threshold)
        return plain.cross_entropy(logits, labels, weights=weights, ignore_index=ignore_index)

    run = of(SelfTrainingLoss, list(given)[:3], list(given)[3:])
    check = shapes(((), wide(given["logits"])))
    callers = ("upsampled_cross_entropy", "confidence_weights")
    return Call("SelfTrainingLoss", run, given, expected if d.tame else None, check, callers=callers)


@call(2)
def mean_iou(d):
    n, k, size = d.batch(), d.classes(), d.sides()
    ignored = d.ignored(k)
    if k == 1 and ignored == 0:
        ignored = 255
    said = d.pick(d.labels(n, *size, classes=k), d.values(n, k, *d.sides()))
    given = {"num_classes": k, "ignore_index": ignored, "predictions": said}
    given["labels"] = d.labels(n, *size, classes=k, ignore_index=ignored)

    def run(predictions, labels, **init):
        metric = MeanIoU(**init)
        metric.update(predictions, labels)
        result = metric.compute()
        good = result.per_class[~result.per_class.isnan()]
        if len(good) and not 0 <= float(result.miou) <= 100:
            raise AssertionError("miou is outside [0, 100]")
        return metric.confusion

    def expected(num_classes, ignore_index, predictions, labels):
        return plain.confusion(predictions, labels, num_classes, ignore_index)

    # where two logits are as large after resizing, either class will do
    compare = not said.is_floating_point() or (d.mood == "tame" and said.shape[-2:] == size)
    return Call("MeanIoU", run, given, expected if compare else None, differentiable=False, callers=("MeanIoU.update",))


@call(2)
def temporal_consistency(d):
    sizes = d.batch(), d.pick(1, 2, 3), *d.sides()
    pairs = sizes[0], sizes[1] - 1
    given = {"predictions": d.labels(*sizes), "flow": d.maybe(lambda: d.flow(*pairs, 2, *sizes[2:]))}
    given["valid"] = d.maybe(lambda: d.mask(*pairs, *sizes[2:]))

    def run(**arguments):
        metric = TemporalConsistency()
        metric.update(**arguments)
        metric.compute()
        return metric.counts

    def expected(predictions, flow, valid):
        return plain.steady(predictions, flow, valid)

    compare = given["flow"] is None or given["flow"].dtype in (torch.float32, torch.float64)
    name = "TemporalConsistency.update"
    return Call(name, run, given, expected if compare else None, differentiable=False)


@call(2)
def photometric_jitter(d):
    given = {"brightness": d.pick(0.0, 0.5, 3), "contrast": d.pick(0.0, 0.4), "saturation": d.pick(0.0, 1.0)}
    given |= {"hue": d.pick(0.0, 0.5), "balance": d.pick(0.0, 0.15), "blur": d.pick(0.0, 0.5, 1.0)}
    frames = d.features(d.batch(), d.pick(1, 2), 3, *d.sides())
    run = of(PhotometricJitter, list(given), ["frames"])

    def check(out):
        if out.shape != frames.shape or out.dtype != frames.dtype:
            return "another shape or dtype"
        return None if not d.tame or out.isfinite().all() else "not finite"

    return Call("PhotometricJitter", run, given | {"frames": frames}, check=check)


def _transform(name, kind, options, size_of=lambda clip, _: clip.frames.shape[-2:], weight=2):
    def make(d):
        given = {key: choose(d) for key, choose in options.items()}
        clip = d.clip()
        if d.chance(0.3) and len(clip.frames):
            clip = Clip(*(None if x is None else x[0] for x in clip))
        init = list(given)

        def check(out):
            size = size_of(clip, given)
            if size is not None and tuple(out.frames.shape) != (*clip.frames.shape[:-2], *size):
                return f"frames of {tuple(out.frames.shape)}"
            for before, after in zip(clip, out, strict=True):
                if (before is None) != (after is None) or (before is not None and before.dtype != after.dtype):
                    return "another field or dtype"
                if after is not None and after.shape[-2:] != out.frames.shape[-2:]:
                    return "fields of two sizes"
            return None

        return Call(
            kind.__name__, of(kind, init, ["clip"]), given | {"clip": clip}, check=check, callers=("stack_clips",)
        )

    make.__name__ = name
    call(weight)(make)


_transform("resize", Resize, {"size": lambda d: d.sides()}, lambda _, given: given["size"])
_transform("random_flip", RandomFlip, {"probability": lambda d: d.pick(0.0, 0.5, 1.0)})
_transform(
    "random_scale", RandomScale,
    {"low": lambda d: d.pick(0.1, 0.5), "high": lambda d: d.pick(0.5, 2.0), "smallest": lambda d: d.maybe(d.sides)},
    lambda *_: None,
)  # fmt: skip
_transform(
    "random_crop", RandomCrop,
    {"size": lambda d: d.pick((1, 1), (1, 2), (2, 3)), "largest_share": lambda d: d.pick(1, 0.5), "seed": lambda _: 3},
    lambda _, given: given["size"],
)  # fmt: skip
_transform("on_frames", OnFrames, {"change": lambda d: d.pick(torch.neg, torch.abs, torch.nn.Identity())}, weight=1)


@call(1)
def stacked_clips(d):
    sizes = d.pick(1, 2), *d.sides()
    flow, weights = d.chance(0.5), d.chance(0.5)
    clips = [
        Clip(*(None if x is None else x[0] for x in d.clip((1, *sizes), flow=flow, weights=weights)))
        for _ in range(d.pick(0, 1, 2))
    ]
    return Call("stack_clips", stack_clips, {"clips": clips}, differentiable=False)


@call(1)
def last_frames(d):
    clip = d.clip()
    given = {"clip_frames": clip.frames, "frames": d.pick(1, 1, 2, 3)}

    def run(clip_frames, frames):
        return clip._replace(frames=clip_frames).last(frames)

    return Call("Clip.last", run, given, differentiable=False)


@call(1)
def queries(d):
    n, q, k, grid = d.batch(), d.size(), d.size(), d.sides()
    given = {"class_logits": d.features(n, q, k + 1), "mask_logits": d.features(n, q, *grid)}

    def expected(class_logits, mask_logits):
        return torch.einsum("nqk,nqhw->nkhw", class_logits.softmax(-1)[..., :-1], mask_logits.sigmoid()).log()

    check = shapes(((n, k, *grid), wide(*given.values())))
    return Call("query_logits", query_logits, given, expected if d.mood == "tame" else None, check)


@call(1)
def multi_scale(d):
    images = d.features(d.pick(1, 2), 3, *d.pick((8, 8), (9, 13), (1, 1), (5, 2)), dtype=torch.float32)
    given = {"scales": d.pick((1.0,), (1.0, 0.5), (2.0, 0.1)), "images": images}

    def run(scales, images):
        return MultiScale(nn.Conv2d(3, 2, 1), scales)(images)

    return Call("MultiScale", run, given)


@call(1)
def score_fusion(d):
    n, k, grid = d.batch(), d.size(), d.sides()
    given = {"num_classes": k, "current": d.features(n, k, *grid, dtype=torch.float32)}
    given["previous"] = d.values(n, k, *grid, dtype=torch.float32)

    def expected(current, **_):
        return current

    run = of(ScoreFusion, ["num_classes"], ["current", "previous"])
    return Call("ScoreFusion", run, given, expected if d.tame else None)


class _Means(nn.Module):
    """A network that takes any number of channels and any dtype: what is wrong with them is for dastc to say."""

    def forward(self, images):
        mean = images.mean(dim=1, keepdim=True)
        return torch.cat((mean, -mean), dim=1)


@call(1)
def video_segmenter(d):
    sizes = d.pick(1, 2), d.pick(1, 2, 3), *d.sides()
    frames = d.features(*sizes[:2], 3, *sizes[2:], dtype=torch.float32)
    flow = d.maybe(lambda: d.flow(sizes[0], sizes[1] - 1, 2, *sizes[2:]))
    streamed = d.chance(0.3)

    def run(frames, flow):
        video = VideoSegmenter(_Means(), 2)
        if not streamed or not isinstance(frames, torch.Tensor):
            return video(frames, flow)
        stream = VideoStream(video)
        return torch.stack(
            [stream(x, None if flow is None or not t else flow[:, t - 1]) for t, x in enumerate(frames.unbind(1))], 1
        )

    check = shapes(((*sizes[:2], 2, *sizes[2:]), torch.float32))
    callers = ("VideoStream", "ScoreFusion", "flow_warp", "resize_flow")
    return Call("VideoSegmenter", run, {"frames": frames, "flow": flow}, check=check, callers=callers)


@call(1)
def tiny_segmenter(d):
    n, size = d.pick(0, 1, 2), d.pick((4, 4), (5, 7), (8, 16), (3, 3), (1, 9))
    given = {"num_classes": d.pick(1, 3), "width": d.pick(16, 32), "norm": "group"}
    given["images"] = d.features(n, 3, *size, dtype=torch.float32)
    run = of(TinySegmenter, list(given)[:3], ["images"])
    check = shapes(((n, given["num_classes"], *(-(-side // 4) for side in size)), torch.float32))
    return Call("TinySegmenter", run, given, check=check)


@call(1)
def named_parts(d):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    kind = d.pick("freeze", "parameter_groups", "FeatureTap")
    if kind == "freeze":
        given = {"patterns": d.pick(["0"], ["0", "1.*"], ["9"], ["*"], [])}
        return Call(kind, lambda patterns: freeze(model, patterns), given, differentiable=False)
    if kind == "FeatureTap":
        return Call(kind, lambda name: FeatureTap(model, name).name, {"name": d.pick("0", "2", "", "7", "0.weight")})
    given = {
        "lr": d.pick(0.1, 1e-4),
        "factors": d.pick(None, {"0": 10.0}, {"9": 1}, {"2": 0}),
        "weight_decay": d.pick(0.0, 0.01),
    }
    return Call(kind, lambda **more: len(parameter_groups(model, **more)), given, differentiable=False)


@call(2)
def class_prior(d):
    k, lead = d.pick(2, 3, 5), (d.pick(0, 1, 2), d.pick(1, 2))
    given = {
        "num_classes": k,
        "strength": d.pick(0.0, 0.5, 1.0),
        "decay": d.pick(0.0, 0.99),
        "grid": d.pick((1, 1), (2, 3), (8, 8)),
    }
    given |= {"zoom": d.pick(1.0, 1.5), "shift": d.pick(0.0, 0.1), "ignore_index": d.ignored(k)}
    init = list(given)
    given |= {"labels": d.labels(*lead, *d.sides(), classes=k), "logits": d.features(*lead, k, *d.sides())}
    logits = given["logits"]

    def run(labels, logits, **options):
        prior = ClassPrior(**{name: options[name] for name in init})
        prior.see(labels)
        out = prior(logits)
        prior.see(labels)
        return out + 0 * prior(logits) if d.tame else out

    def check(out):
        if out.shape != logits.shape or out.dtype != logits.dtype:
            return "another shape or dtype"
        return None if not d.tame or out.isfinite().all() else "not finite"

    return Call("ClassPrior", run, given, check=check, callers=("ClassPrior.see",))


@call(1)
def alike_domains(d):
    k, lead = d.pick(2, 3, 5), (d.pick(0, 1, 2), d.pick(1, 2))
    given = {
        "num_classes": k,
        "looks": d.pick(1, 2),
        "most": d.pick(1.0, 3.0),
        "apart": d.pick(0.0, 0.2, 1.0),
        "bands": d.pick(1, 4),
    }
    given |= {"names": d.pick((), [f"{c}" for c in range(k)]), "ignore_index": d.ignored(k)}
    init = list(given)
    given |= {"labels": d.labels(*lead, *d.sides(), classes=k), "logits": d.values(*lead, k, *d.sides())}

    def run(labels, logits, **options):
        domains = AlikeDomains(**{name: options[name] for name in init})
        domains.see(labels)
        domains.hear(logits)
        domains.hear(logits)
        if domains.alike not in (True, False) or (domains.decided and not domains.why):
            raise AssertionError("no decision")

    callers = ("AlikeDomains.see", "AlikeDomains.hear", "ClassPrior.see", "ClassPrior")
    return Call("AlikeDomains", run, given, differentiable=False, callers=callers)


@call(2)
def views(d):
    k = d.pick(2, 3)
    sizes, flow = (d.batch(), d.pick(1, 2), *d.sides()), d.chance(0.5)

    def clip():
        made = d.clip(sizes, classes=k, flow=flow, weights=True)
        return Clip(*(x if x is None or not x.is_floating_point() else x.detach().to(d.dtype) for x in made))

    kind = d.pick("clean", "hidden", "exchange", "shared", "histograms")
    given = {"source": clip(), "target": clip()}

    def run(source, target):
        fusion = SequencePatchFusion(k)
        if kind == "histograms":
            return MatchHistograms(grid=d.pick((1, 1), (3, 1)))(source, target)
        part = {
            "clean": lambda: Clean("target"),
            "hidden": lambda: Hidden(0.5),
            "exchange": lambda: Exchange(fusion),
            "shared": lambda: Shared(fusion, target_patches=True),
        }[kind]()
        part(source, target)
        return [view.clip for view in part(source, target)]

    callers = (
        "Clean",
        "Hidden",
        "Shared",
        "MatchHistograms",
        "SequencePatchFusion",
        "match_histograms",
        "clip_paste",
        "hide_blocks",
    )
    return Call("views", run, given, callers=callers, differentiable=False)


@call(2)
def terms(d):
    k = d.pick(2, 3, 5)
    sizes, grid = (d.pick(1, 2), d.pick(1, 2), *d.sides()), d.sides()
    weights = d.chance(0.5)
    flow = d.chance(0.3)
    given = {f"logits_{i}": d.features(*sizes[:2], k, *grid, dtype=d.dtype) for i in range(2)}
    clips = [d.clip(sizes, classes=k, flow=flow, weights=weights) for _ in range(2)]
    mask = d.mask(*sizes)
    term = d.pick(Segmentation(), Alignment(k), Alignment(k, memory=0.9), Agreement())

    def run(logits_0, logits_1):
        passes = {
            name: Pass(name, clip, mask, logits, {}, alike=mask)
            for name, clip, logits in zip(("in_source", "in_target"), clips, (logits_0, logits_1), strict=True)
        }
        return tuple(term(passes).values())

    callers = ("Segmentation", "Alignment", "Agreement", "upsampled_cross_entropy", "ContextConsistencyLoss")
    return Call("terms", run, given, callers=callers)


@call(1)
def target_labels(d):
    from dastc.adapt import Teacher

    k = d.pick(2, 3)
    sizes = d.pick(1, 2), d.pick(1, 2), *d.sides()
    target = d.clip(sizes, classes=k, labelled=False, weights=False)
    target = target._replace(frames=target.frames.detach().float())
    given = {"weighting": d.pick("share", "none"), "threshold": d.pick(0.0, 0.8), "target": target}
    given |= {"cross_frame": d.pick("none", "warped", "averaged", "agreeing"), "choice": d.pick("likeliest", "drawn")}
    given["known"] = d.maybe(lambda: d.labels(*sizes, classes=k), 0.3)

    def run(target, known, **options):
        return TeacherLabels(Teacher(nn.Conv2d(3, k, 1)), **options)(target, known)

    def check(out):
        clip, _ = out
        if clip.labels.shape != sizes or (
            given["known"] is None and not 0 <= int(clip.labels.min()) <= int(clip.labels.max()) < k
        ):
            return "labels of another shape or range"
        return None if not d.tame or clip.weights.isfinite().all() else "weights not finite"

    callers = ("labelled_by", "pseudo_labels", "confidence_weights")
    return Call("TeacherLabels", run, given, check=check, differentiable=False, callers=callers)


@call(1)
def recipes(d):
    from dastc.adapt import DACS, DASTC, SourceOnly

    k = d.pick(2, 3)
    sizes, flow = (d.pick(1, 2), d.pick(1, 2), *d.sides()), d.chance(0.5)

    def clip():
        made = d.clip(sizes, classes=k, flow=flow, weights=False)
        return Clip(*(x if x is None or not x.is_floating_point() else x.detach().float() for x in made))

    kind = d.pick("SourceOnly", "DACS", "DASTC", "DASTC")

    def run(source, target):
        network = nn.Conv2d(3, k, 1)
        recipe = (
            {"SourceOnly": SourceOnly, "DACS": DACS}[kind](network, k)
            if kind != "DASTC"
            else DASTC(network, k, warmup=0, ramp=0)
        )
        for _ in range(2):
            losses = recipe(source, target)
            losses["total"].backward()
        if d.tame and not all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters()):
            raise AssertionError("a gradient is not finite")
        return losses["total"].detach()

    def check(out):
        return None if not d.tame or out.isfinite() else "not finite"

    return Call(f"{kind}.step", run, {"source": clip(), "target": clip()}, check=check, differentiable=False)
