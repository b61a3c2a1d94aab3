"""How far several ranks are from one process on the whole batch: block by block, in float64.

    python benchmarks/ranks.py            # some minutes: 2 ranks, then 4, all blocks and patterns in each
    python benchmarks/ranks.py --table    # the table of docs/recipes.md from the committed results alone

Each block computes a loss, and the gradient to the weights of one layer, on the rank's own part of a batch. Means over
ranks, which DistributedDataParallel takes, are held against the same block on the whole batch; so is what a block
remembers or counts, which must be the same on every rank. Whole recipes train for some steps, and their weights are
compared. What the ranks are given follows patterns: classes that are everywhere, on one rank, in one domain or nowhere.
"""

import argparse
import copy
import json
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dastc import Clip
from dastc.adapt import DACS, DASTC, Agreement, AlikeDomains, ClassPrior, Pass, Segmentation, SourceOnly
from dastc.aggregation import CategoryAggregator, CategoryMemory
from dastc.functional import upsampled_cross_entropy
from dastc.losses import CentroidAlignmentLoss, ContextConsistencyLoss, PixelAlignmentLoss, SelfTrainingLoss
from dastc.metrics import MeanIoU, TemporalConsistency
from dastc.models import TinySegmenter
from dastc.training.records import commit, versions, write_json

K, STEPS, GRID, SIZE = 4, 3, (4, 6), (16, 24)
BATCHES = {
    ("equal", 2): (2, 2), ("unequal", 2): (1, 3), ("equal", 4): (2, 2, 2, 2), ("unequal", 4): (1, 3, 2, 1),
}  # fmt: skip
PATTERNS = (
    "all classes everywhere", "a class on one rank only", "a class in one domain only", "10 % ignored",
    "one rank wholly ignored", "a rank without a class of the target", "one class only", "all ignored",
)  # fmt: skip
LIMIT = 1e-10


def labels_of(pattern, parts, draw):
    """Return labels of source and target, (N, 2, H, W), parts[r] clips of them rank r's."""
    source, target = (torch.randint(K, (sum(parts), 2, *SIZE), generator=draw) for _ in range(2))
    first, last = slice(0, parts[0]), slice(sum(parts) - parts[-1], None)
    if pattern == "a class on one rank only":
        for labels in (source, target):
            labels[: last.start][labels[: last.start] == 3] = 0
    elif pattern == "a class in one domain only":
        target[target == 2] = 0
    elif pattern == "10 % ignored":
        for labels in (source, target):
            labels[torch.rand(labels.shape, generator=draw) < 0.1] = 255
    elif pattern == "one rank wholly ignored":
        source[first], target[first] = 255, 255
    elif pattern == "a rank without a class of the target":
        target[first][target[first] == 1] = 2
    elif pattern == "one class only":
        source[:], target[:] = 2, 2
    elif pattern == "all ignored":
        source[:], target[:] = 255, 255
    return source, target


def batch_of(pattern, parts, seed=0):
    """Return the whole batch that ranks share, field by field."""
    draw = torch.Generator().manual_seed(seed)
    n = sum(parts)
    source, target = labels_of(pattern, parts, draw)
    return {
        "source": source, "target": target, "weights": torch.rand(n, 2, *SIZE, generator=draw).double(),
        "inputs": torch.randn(n, 2, 5, *GRID, generator=draw).double(),
        "others": torch.randn(n, 2, 5, *GRID, generator=draw).double(),
        "frames": torch.randn(n, 2, 3, *SIZE, generator=draw).double(),
        "target_frames": torch.randn(n, 2, 3, *SIZE, generator=draw).double(),
        "flow": torch.randn(n, 1, 2, *SIZE, generator=draw).double(),
        "shared": torch.rand(n, 2, *SIZE, generator=draw) < 0.5,
    }  # fmt: skip


# each block returns a loss and what must be the same on every rank


def _centroids(layer, given):
    aggregator = CategoryAggregator(K, min_mass=0.5)
    of_source = aggregator(
        _through(layer, given["inputs"]), given["source"], weights=given["weights"], flow=given["flow"],
        logits=_through(layer, given["inputs"])[:, :, :K],
    )  # fmt: skip
    return of_source, aggregator(_through(layer, given["others"]), given["target"])


def _through(layer, x):
    return layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def alignment(layer, given):
    source, target = _centroids(layer, given)
    losses = [CentroidAlignmentLoss(align)(source, target) for align in ("infonce", "cdd", "mmd", "margin")]
    return torch.stack(losses).sum(), [*source, *target]


def memory(layer, given):
    source, target = _centroids(layer, given)
    remembered = CategoryMemory(K).double()
    remembered(target)
    kept = remembered(source)
    return CentroidAlignmentLoss()(source, kept), list(kept)


def pixels(layer, given):
    source, _ = _centroids(layer, given)
    features = _through(layer, given["others"]).flatten(0, 1)
    labels, weights = given["target"].flatten(0, 1), given["weights"].flatten(0, 1)
    return PixelAlignmentLoss(K)(features, labels, source, weights=weights), []


def context(layer, given):
    first, second = (_through(layer, given[name]) for name in ("inputs", "others"))
    mask = given["shared"] & (given["source"] != 255)
    loss = ContextConsistencyLoss()(first.flatten(0, 1), second.flatten(0, 1), mask.flatten(0, 1))
    passes = [
        Pass(name, Clip(given["frames"]), mask, x, {}, alike=mask)
        for name, x in (("in_source", first), ("in_target", second))
    ]
    return loss + Agreement()({one.name: one for one in passes})["agreement"], []


def self_training(layer, given):
    logits = _through(layer, given["inputs"])[:, :, :K]
    labels, weights = given["target"].flatten(0, 1), given["weights"].flatten(0, 1)
    clip = Clip(given["frames"], given["target"], weights=given["weights"])
    term = Segmentation()({"one": Pass("one", clip, given["shared"], logits, {})})["one"]
    flat = logits.flatten(0, 1)
    weighted = SelfTrainingLoss(threshold=0.5)(flat, labels, weights)
    return term + weighted + upsampled_cross_entropy(flat, labels, sync=True), []


def prior(layer, given):
    part = ClassPrior(K, grid=(2, 3), zoom=1.5, shift=0.1).double()
    part.see(given["source"])
    shifted = part(_through(layer, given["others"])[:, :, :K])
    loss = upsampled_cross_entropy(shifted.flatten(0, 1), given["target"].flatten(0, 1), sync=True)
    return loss, [part.shown, part.said]


def alike(layer, given):
    domains = AlikeDomains(K, looks=1).double()
    domains.see(given["source"])
    domains.hear(_through(layer, given["others"])[:, :, :K])
    found = [domains.alike, domains.found["ratio"], domains.found["apart"], domains.found["class"]]
    return None, [torch.tensor(found, dtype=torch.float64)]


def metrics(layer, given):
    miou, steady = MeanIoU(K), TemporalConsistency()
    logits = _through(layer, given["inputs"])[:, :, :K]
    miou.update(logits.flatten(0, 1), given["source"].flatten(0, 1))
    steady.update(given["source"], given["flow"])
    miou.sync()
    steady.sync()
    return None, [miou.confusion.double(), steady.counts.double()]


BLOCKS = {
    "CentroidAlignmentLoss over CategoryAggregator": alignment,
    "CategoryMemory": memory,
    "PixelAlignmentLoss": pixels,
    "ContextConsistencyLoss, Agreement": context,
    "SelfTrainingLoss, Segmentation": self_training,
    "ClassPrior": prior,
    "AlikeDomains": alike,
    "MeanIoU, TemporalConsistency": metrics,
}
# what draws for the whole batch needs equal parts of it; without a draw, parts may differ
RECIPES = {
    "DASTC, default": ("equal", lambda model: DASTC(model, K, features="neck", warmup=1, ramp=1)),
    "DASTC, paper": ("equal", lambda model: DASTC(model, K, preset="paper", features="neck", shallow="stem", warmup=0)),
    "DACS": ("equal", lambda model: DACS(model, K, threshold=0.27)),
    "SourceOnly": ("unequal", lambda model: SourceOnly(model, K, augment=nn.Identity())),
}


def found_by(block, given):
    """Return loss, gradients and what is remembered, as plain tensors."""
    torch.manual_seed(0)
    layer = nn.Conv2d(5, K + 3, 1).double()
    loss, same = block(layer, given)
    mean = (
        [] if loss is None else [loss.detach(), *torch.autograd.grad(loss, layer.parameters(), materialize_grads=True)]
    )
    return mean, [x.detach() for x in same]


def trained(make, parts, pattern):
    """Return the weights after some steps on this process's part of each batch."""
    torch.manual_seed(0)
    recipe = make(TinySegmenter(K, width=16)).double()
    wrapped = DistributedDataParallel(recipe) if dist.is_initialized() else recipe
    optimizer = torch.optim.SGD(recipe.model.parameters(), lr=0.05, momentum=0.9)
    for step in range(STEPS):
        given = mine(batch_of(pattern, parts, seed=step), parts)
        source = Clip(given["frames"], given["source"], given["flow"])
        losses = wrapped(source, Clip(given["target_frames"], flow=given["flow"]))
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
    return [], [torch.cat([p.detach().flatten() for p in recipe.model.parameters()])]


def mine(given, parts):
    """Return this rank's part, or all."""
    if not dist.is_initialized():
        return given
    first = sum(parts[: dist.get_rank()])
    return {name: x[first : first + parts[dist.get_rank()]] for name, x in given.items()}


def cases(patterns, recipes):
    """Return block, batches and pattern of all that is compared."""
    both = ("equal", "unequal")
    kinds = {name: both for name in BLOCKS} | {name: both[: 1 + both.index(RECIPES[name][0])] for name in recipes}
    return [(name, batches, pattern) for name in kinds for batches in kinds[name] for pattern in patterns]


def outcomes(world, patterns, recipes):
    """Return what each case gives here: on this rank, or on the whole batch."""
    found = []
    for name, batches, pattern in cases(patterns, recipes):
        parts = BATCHES[batches, world]
        if name in BLOCKS:
            found.append(found_by(BLOCKS[name], mine(batch_of(pattern, parts), parts)))
        else:
            found.append(trained(RECIPES[name][1], parts, pattern))
    return found


def _rank(rank, world, folder, patterns, recipes):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    torch.save(copy.deepcopy(outcomes(world, patterns, recipes)), f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def differences(world, patterns=PATTERNS, recipes=tuple(RECIPES)):
    """Return a row for each block, batches and pattern: the largest difference from one process on the whole batch."""
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_rank, (world, folder, patterns, recipes), nprocs=world)
        ranks = [torch.load(f"{folder}/{rank}.pt", weights_only=True) for rank in range(world)]
    rows = []
    for case, whole, *own in zip(cases(patterns, recipes), outcomes(world, patterns, recipes), *ranks, strict=True):
        means = [torch.stack(x).mean(dim=0) for x in zip(*(mean for mean, _ in own), strict=True)]
        pairs = list(zip(means, whole[0], strict=True))
        pairs += [pair for _, same in own for pair in zip(same, whole[1], strict=True)]
        gap = max(float((x - y).abs().max()) for x, y in pairs)
        size = max(float(y.abs().max()) for _, y in pairs)
        keys = ("block", "batches", "pattern")
        rows.append({"ranks": world, **dict(zip(keys, case, strict=True)), "difference": gap, "largest_value": size})
    return rows


def table(rows):
    """Return the largest difference of each block, over all patterns, for each number of ranks."""
    worlds = sorted({row["ranks"] for row in rows})
    lines = [
        "| block | batches | " + " | ".join(f"{world} ranks" for world in worlds) + " |",
        "|---" * (2 + len(worlds)) + "|",
    ]
    for name in dict.fromkeys(row["block"] for row in rows):
        own = [row for row in rows if row["block"] == name]
        kinds = " and ".join(dict.fromkeys(row["batches"] for row in own))
        worst = [max(row["difference"] for row in own if row["ranks"] == world) for world in worlds]
        lines.append(f"| {name} | {kinds} | " + " | ".join(f"{gap:.0e}" if gap else "0" for gap in worst) + " |")
    return "\n".join(lines)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/ranks/ranks.json"))
    parser.add_argument("--table", action="store_true", help="print the table of what is there, and measure nothing")
    args = parser.parse_args(argv)
    if not args.table:
        torch.set_num_threads(1)
        rows = [row for world in (2, 4) for row in differences(world)]
        about = {"command": "python benchmarks/ranks.py", "commit": commit(), "versions": versions(), "limit": LIMIT}
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(args.out, about | {"dtype": "float64", "steps": STEPS, "rows": rows})
    rows = json.loads(args.out.read_text())["rows"]
    print(table(rows))
    beyond = [row for row in rows if not row["difference"] <= LIMIT]
    for row in beyond:
        print("beyond the limit:", row)
    if beyond:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
