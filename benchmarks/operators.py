"""Time and memory of the operators on the CPU, each beside what one would write without it.

    python benchmarks/operators.py [--out FILE] [--rounds N] [--threads N]

Time is the median over rounds; in every round each contender of a group runs once, one after the other, so that a
busy moment of the machine hits all of them alike. The 10th and 90th percentiles are given beside it.

Memory is the peak of what PyTorch's CPU allocator holds beyond the inputs while the call runs, its outputs included.
torch.profiler(profile_memory=True) reports every allocation and every release with its size; summed in their order,
the largest running sum is the peak. It is exact and the same in every run, and is checked against a call whose peak
is known before anything is measured. Scratch that MKL or oneDNN take past the allocator is not seen.

The contenders of a group are checked to agree before they are timed.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

import dastc
from dastc.functional import class_pool, pseudo_labels, upsampled_cross_entropy

CLASSES, IGNORE = 19, 255
COARSE, FULL = (65, 129), (512, 1024)
MIB = 2**20

Contenders = dict[str, Callable[[], Any]]  # ours first


def random_labels(size: tuple[int, int], rng: torch.Generator) -> Tensor:
    """Regions of one class, and about a tenth ignored."""
    small = torch.randint(0, CLASSES, (1, 1, size[0] // 16, size[1] // 16), generator=rng)
    labels = F.interpolate(small.float(), size=size, mode="nearest")[:, 0].long()
    return labels.where(torch.rand(labels.shape, generator=rng) >= 0.1, IGNORE)


def pooling(rng: torch.Generator) -> Contenders:
    features = torch.randn(1, 256, 128, 256, generator=rng)
    labels = random_labels((128, 256), rng)

    def ours() -> Tensor:
        sums, mass = class_pool(features, labels, CLASSES)
        return sums / mass.clamp(min=1).unsqueeze(-1)

    def class_by_class() -> Tensor:
        rows = []
        for k in range(CLASSES):
            mask = (labels == k).unsqueeze(1)
            rows.append((features * mask).sum((2, 3)) / mask.sum((2, 3)).clamp(min=1))
        return torch.stack(rows, dim=1)

    def one_hot() -> Tensor:
        own = F.one_hot(labels.where(labels < CLASSES, CLASSES), CLASSES + 1)[..., :CLASSES].to(features.dtype)
        return torch.einsum("ndhw,nhwk->nkd", features, own) / own.sum((1, 2)).clamp(min=1).unsqueeze(-1)

    agree(ours(), class_by_class())
    agree(ours(), one_hot())
    return {
        "dastc.class_pool": ours,
        "class by class with masks": class_by_class,
        "one_hot + einsum": one_hot,
        "reading the features once (sum)": features.sum,
    }


def labelling(rng: torch.Generator, form: str) -> Contenders:
    logits, previous = (torch.randn(1, CLASSES, *COARSE, generator=rng) * 4 for _ in range(2))
    flow = torch.randn(1, 2, 32, 64, generator=rng) * 8
    flow = F.interpolate(flow, size=FULL, mode="bilinear", align_corners=False)
    arguments = {"own": {}, "flow": {"flow": flow}, "both": {"flow": flow, "previous": previous}}[form]

    def up(x: Tensor) -> Tensor:
        return F.interpolate(x, size=FULL, mode="bilinear", align_corners=False).softmax(1)

    def warp(x: Tensor) -> tuple[Tensor, Tensor]:
        height, width = FULL
        px = flow[:, 0] + torch.arange(width)
        py = flow[:, 1] + torch.arange(height)[:, None]
        inside = (px >= 0) & (px <= width - 1) & (py >= 0) & (py <= height - 1)
        grid = torch.stack((2 * px / (width - 1) - 1, 2 * py / (height - 1) - 1), dim=-1)
        return F.grid_sample(x, grid, padding_mode="border", align_corners=True), inside.unsqueeze(1)

    def plain() -> tuple[Tensor, Tensor]:
        if form == "own":
            probability = up(logits)
        elif form == "flow":
            warped, inside = warp(up(logits))
            probability = warped * inside
        else:
            own, (warped, inside) = up(logits), warp(up(previous))
            probability = torch.where(inside, (own + warped) / 2, own)
        confidence, labels = probability.max(1)
        return labels, confidence

    def ours() -> tuple[Tensor, Tensor]:
        return tuple(pseudo_labels(logits, FULL, **arguments))

    agree(ours()[1], plain()[1])
    return {"dastc.pseudo_labels": ours, "interpolate, softmax, grid_sample, max": plain}


def comparing(rng: torch.Generator, backward: bool) -> Contenders:
    logits = (torch.randn(1, CLASSES, *COARSE, generator=rng) * 4).requires_grad_(backward)
    labels = random_labels(FULL, rng)

    def gradient(loss: Tensor) -> tuple[Tensor, ...]:
        return (loss.detach(), *torch.autograd.grad(loss, logits)) if backward else (loss,)

    def ours() -> tuple[Tensor, ...]:
        return gradient(upsampled_cross_entropy(logits, labels))

    def plain() -> tuple[Tensor, ...]:
        full = F.interpolate(logits, size=FULL, mode="bilinear", align_corners=False)
        return gradient(F.cross_entropy(full, labels, ignore_index=IGNORE))

    for one, other in zip(ours(), plain(), strict=True):
        agree(one, other)
    return {"dastc.upsampled_cross_entropy": ours, "interpolate + cross_entropy": plain}


def agree(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def peak_bytes(call: Callable[[], Any]) -> int:
    """Return the largest running sum of allocations and releases while ``call`` runs."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = call()
    del result
    held = peak = 0
    results = profiler.profiler.kineto_results
    for event in sorted((e for e in results.events() if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def check_meter() -> None:
    def known() -> Tensor:
        first = torch.ones(MIB)  # 4 MiB
        second = first + 1  # 8 MiB held
        del first  # 4 MiB
        return second[: MIB // 2] + second[MIB // 2 :]  # 6 MiB

    found = peak_bytes(known)
    if not 8 * MIB <= found < 8.1 * MIB:
        raise RuntimeError(f"The memory meter is off: a call that holds 8 MiB measured {found / MIB:.2f} MiB.")


def measure(contenders: Contenders, rounds: int) -> list[dict[str, Any]]:
    for call in contenders.values():  # first calls build caches
        call()
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            start = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - start) * 1e3)
    rows = []
    for name, call in contenders.items():
        cuts = statistics.quantiles(times[name], n=10)
        rows.append(
            {
                "name": name,
                "median_ms": round(statistics.median(times[name]), 3),
                "p10_ms": round(cuts[0], 3),
                "p90_ms": round(cuts[-1], 3),
                "peak_extra_mib": round(peak_bytes(call) / MIB, 3),
            }
        )
    ours = rows[0]
    for row in rows:
        row["time_over_ours"] = round(row["median_ms"] / ours["median_ms"], 3)
        row["memory_over_ours"] = round(row["peak_extra_mib"] / ours["peak_extra_mib"], 3)
    return rows


def show(title: str, rows: list[dict[str, Any]]) -> None:
    print(f"\n{title}")
    print(f"  {'':40} {'median':>10} {'10%..90%':>19} {'/ ours':>7} {'peak extra':>12} {'/ ours':>7}")
    for row in rows:
        spread = f"{row['p10_ms']:.1f}..{row['p90_ms']:.1f}"
        print(
            f"  {row['name']:40} {row['median_ms']:>7.1f} ms {spread:>16} ms {row['time_over_ours']:>7.2f}"
            f" {row['peak_extra_mib']:>8.1f} MiB {row['memory_over_ours']:>7.2f}"
        )


def conditions(threads: int, rounds: int) -> dict[str, Any]:
    def git(*command: str) -> str:
        answer = subprocess.run(
            ["git", *command], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
        return answer.stdout.strip() if answer.returncode == 0 else "unknown"

    return {
        "commit": git("rev-parse", "HEAD"),
        "uncommitted_changes": git("status", "--porcelain", "--", "../dastc", "operators.py") not in ("", "unknown"),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "command": "python benchmarks/operators.py",
        "hardware": {"cpu": cpu_name(), "logical_cores": os.cpu_count(), "machine": platform.machine()},
        "load_average_at_start": [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "versions": {
            "dastc": dastc.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "system": platform.system(),
        },
        "threads": threads,
        "rounds": rounds,
        "dtype": "float32",
        "seed": 0,
    }


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="where to write the results as JSON")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    if arguments.rounds < 2:
        sys.exit("--rounds must be at least 2: percentiles need two measurements.")
    torch.set_num_threads(arguments.threads)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler otherwise reports each start and stop
    check_meter()
    report: dict[str, Any] = conditions(arguments.threads, arguments.rounds) | {"results": {}}
    print(json.dumps({key: value for key, value in report.items() if key != "results"}, indent=2))

    coarse, full = "x".join(map(str, COARSE)), "x".join(map(str, FULL))
    groups: dict[str, Callable[[torch.Generator], Contenders]] = {
        f"class_pool: K={CLASSES}, D=256, 128x256": pooling,
        f"pseudo_labels: K={CLASSES}, {coarse} to {full}": lambda rng: labelling(rng, "own"),
        f"pseudo_labels with flow: K={CLASSES}, {coarse} to {full}": lambda rng: labelling(rng, "flow"),
        f"pseudo_labels with flow and previous: K={CLASSES}, {coarse} to {full}": lambda rng: labelling(rng, "both"),
        f"upsampled_cross_entropy, forward: K={CLASSES}, {coarse} to {full}": lambda rng: comparing(rng, False),
        f"upsampled_cross_entropy, forward and backward: K={CLASSES}, {coarse} to {full}": (
            lambda rng: comparing(rng, True)
        ),
    }
    for title, build in groups.items():
        rows = measure(build(torch.Generator().manual_seed(0)), arguments.rounds)
        report["results"][title] = rows
        show(title, rows)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
