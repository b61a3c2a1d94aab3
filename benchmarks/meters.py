"""Time, memory and agreement of several implementations of one thing, on a CPU or on a GPU."""

import platform
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

MIB = 2**20
PARTS = ("forward", "backward", "both")
LEAST_ROUNDS = 3


class Case(NamedTuple):
    """One problem and all that solve it.

    A contender is a function without arguments that returns a tuple of tensors, or the reason why it is not there.
    Gradients are taken with respect to the leaves. The floor is what must be moved, forward and backward, in bytes.
    """

    name: str
    contenders: dict[str, Callable[[], tuple[Tensor, ...]] | str]
    leaves: tuple[Tensor, ...] = ()
    floor: tuple[int, int] | None = None


def one_pass(
    case: Case, name: str, ups: list[Tensor] | None = None, clock: Callable[[], Any] = time.perf_counter
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], list[Any]]:
    """Run a contender forward and, if there are leaves, backward; return outputs, gradients and when each part ended.

    Without ``ups`` the gradients of the outputs are random, the same for every contender.
    """
    marks = [clock()]
    outputs = case.contenders[name]()  # type: ignore[operator]  # those that are present are functions
    marks.append(clock())
    if not case.leaves:
        return outputs, (), marks
    wanted = [x for x in outputs if x.requires_grad]
    gradients = torch.autograd.grad(wanted, case.leaves, ups or random_ups(wanted))
    marks.append(clock())
    return outputs, gradients, marks


def random_ups(outputs: Iterable[Tensor]) -> list[Tensor]:
    generators: dict[torch.device, torch.Generator] = {}
    ups = []
    for x in outputs:
        rng = generators.setdefault(x.device, torch.Generator(x.device).manual_seed(1))
        ups.append(torch.randn(x.shape, generator=rng, device=x.device, dtype=x.dtype))
    return ups


def check_agreement(case: Case, against: str) -> tuple[dict[str, float], list[Tensor]]:
    """Refuse contenders whose outputs or gradients differ from those of one.

    One that needs too much memory, or that the compiler cannot take, is absent from then on.

    Returns the seconds of each first call, and random gradients of the outputs, to go on with.
    """
    seconds: dict[str, float] = {}
    expected: list[Tensor] = []
    ups: list[Tensor] = []
    for name in sorted(present(case), key=lambda name: name != against):
        start = time.perf_counter()
        try:
            outputs, gradients, _ = one_pass(case, name)
        except (torch.OutOfMemoryError, torch._dynamo.exc.InternalTorchDynamoError) as error:
            if name == against:
                raise
            case.contenders[name] = "out of memory" if isinstance(error, torch.OutOfMemoryError) else "compiler fails"
            continue
        if outputs[0].is_cuda:
            torch.cuda.synchronize()
        seconds[name] = time.perf_counter() - start
        found = [x.detach() for x in (*outputs, *gradients)]
        if name == against:
            expected, ups = found, random_ups(x for x in outputs if x.requires_grad)
        if len(found) != len(expected):
            raise RuntimeError(f"{case.name}: {name} returns {len(found)} tensors, {against} {len(expected)}.")
        for index, (one, other) in enumerate(zip(found, expected, strict=True)):
            wrong = differing(one, other)
            # a few may: where two classes are equally probable, or a point lies on a border, the last bit decides
            if wrong > 1e-3:
                of = f"output {index}" if index < len(outputs) else f"gradient {index - len(outputs)}"
                raise RuntimeError(f"{case.name}: {name} and {against} differ in {wrong:.1%} of {of}.")
    return seconds, ups


def differing(one: Tensor, other: Tensor) -> float:
    """Return which share of the elements differs by more than rounding."""
    if one.shape != other.shape:
        return 1.0
    if not one.is_floating_point():
        return (one != other).double().mean().item()
    tolerance = 1e-3 * other.abs() + 1e-4 * other.abs().max().clamp(min=1e-12)
    return (~((one - other).abs() <= tolerance)).double().mean().item()


def present(case: Case) -> list[str]:
    return [name for name, call in case.contenders.items() if callable(call)]


def warm_up(case: Case, ups: list[Tensor], rounds: int = 2) -> None:
    """Run what is timed: a step that keeps a state is compiled again when it first meets one."""
    for _ in range(rounds):
        for name in present(case):
            one_pass(case, name, ups)


def time_rounds(
    case: Case, ups: list[Tensor], rounds: int, device: str, seconds: float = float("inf")
) -> dict[str, dict[str, list[float]]]:
    """Return milliseconds of each part: in every round each contender runs once, so a busy moment hits all alike.

    Slow cases have fewer rounds, at least ``LEAST_ROUNDS``, once they have taken so many seconds.
    """
    times: dict[str, dict[str, list[float]]] = {name: {part: [] for part in PARTS} for name in present(case)}
    clock = time.perf_counter if device == "cpu" else event
    cache = None if device == "cpu" else torch.empty(2**28, dtype=torch.int8, device=device)  # more than any L2
    start = time.perf_counter()
    for done in range(rounds):
        if done >= LEAST_ROUNDS and time.perf_counter() - start > seconds:
            break
        for name, parts in times.items():
            if cache is not None:
                cache.zero_()
            _, _, marks = one_pass(case, name, ups, clock)
            if device != "cpu":
                torch.cuda.synchronize()
            for part, first, last in (("forward", 0, 1), ("backward", 1, 2), ("both", 0, 2)):
                if last < len(marks):
                    parts[part].append(milliseconds(marks[first], marks[last]))
    return times


def event():
    mark = torch.cuda.Event(enable_timing=True)
    mark.record()
    return mark


def milliseconds(start, end) -> float:
    return (end - start) * 1e3 if isinstance(start, float) else start.elapsed_time(end)


def summary(times: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(times, n=10, method="inclusive")
    named = {"median_ms": statistics.median(times), "p10_ms": cuts[0], "p90_ms": cuts[-1]}
    return {name: round(value, 4) for name, value in named.items()}


def measure(case: Case, against: str, rounds: int, seconds: float, device: str, copy: float) -> list[dict[str, Any]]:
    """Check that all contenders agree, then return one row for each, those that are not there included."""
    first_calls, ups = check_agreement(case, against)
    warm_up(case, ups)
    times = time_rounds(case, ups, rounds, device, seconds)
    rows = []
    for name, call in case.contenders.items():
        if not callable(call):
            rows.append({"name": name, "absent": call})
            continue
        row: dict[str, Any] = {"name": name, "first_call_s": round(first_calls[name], 2)}
        row["rounds"] = len(times[name]["forward"])
        floor = (0, 0) if case.floor is None else case.floor
        for part, moved in zip(PARTS, (*floor, sum(floor)), strict=True):
            if times[name][part]:
                row[part] = summary(times[name][part])
                if moved:
                    speed = moved / row[part]["median_ms"] / 1e6
                    row[part] |= {"gb_per_s": round(speed, 2), "of_copy": round(speed / copy, 4)}
        row["peak_extra_mib"] = round(peak_bytes(lambda name=name: one_pass(case, name, ups), device) / MIB, 3)
        rows.append(row)
    return rows


def copy_bandwidth(device: str, rounds: int = 15) -> float:
    """Return GB/s of a copy of more than the caches hold, each byte counted when read and when written."""
    source = torch.ones((64 if device == "cpu" else 512) * MIB // 4, device=device)
    target = torch.empty_like(source)
    case = Case("copy", {"copy": lambda: (target.copy_(source),)})
    one_pass(case, "copy")
    times = time_rounds(case, [], rounds, device)["copy"]["forward"]
    return 2 * source.numel() * 4 / statistics.median(times) / 1e6


def peak_bytes(call: Callable[[], Any], device: str) -> int:
    """Return the most that is held beyond what was there before, while ``call`` runs, its results included.

    On a GPU the allocator says so. On the CPU torch.profiler reports every allocation and release of PyTorch's
    allocator with its size; the largest running sum is the peak. Scratch that MKL or oneDNN take past it is not seen.
    """
    if device != "cpu":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = call()
    del result
    held = peak = 0
    results = profiler.profiler.kineto_results
    for one in sorted((e for e in results.events() if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        held += one.nbytes()
        peak = max(peak, held)
    return peak


def check_meter(device: str) -> None:
    """Measure a call whose peak is known."""

    def known() -> Tensor:
        first = torch.ones(MIB, device=device)  # 4 MiB
        second = first + 1  # 8 MiB held
        del first  # 4 MiB
        return second[: MIB // 2] + second[MIB // 2 :]  # 6 MiB

    found = peak_bytes(known, device)
    if not 8 * MIB <= found < 8.1 * MIB:
        raise RuntimeError(f"The memory meter is off: a call that holds 8 MiB measured {found / MIB:.2f} MiB.")


def cpu_name():
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
