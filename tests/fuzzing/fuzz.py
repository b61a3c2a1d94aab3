# ruff: noqa: T201 - a script
"""Call dastc with random arguments, and look for what must not happen: a crash, a hang, a wrong value, a foreign error.

    python tests/fuzzing/fuzz.py --calls 100000 --seed 0
    python tests/fuzzing/fuzz.py --seed 0 --case 4711      # one call again, with all that it was given

A call succeeds, and then it is held against plain PyTorch (plain_torch.py), forward and backward; or it is refused by
an error of the house: a ValueError or TypeError that begins with the name of what was called, and names an argument.
Calls run in a process of their own, which is started again after a crash or a hang.
"""

import argparse
import multiprocessing
import re
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from calls import CALLS
from draws import Draw

SECONDS = 60  # after which a call counts as hanging
_HOUSE = re.compile(r"(?P<caller>[A-Za-z_][\w.]*): .*`[^`]+`", re.DOTALL)
_NO_KERNEL = re.compile(r"\w+: backend='triton' needs ")
NAMES, WEIGHTS = list(CALLS), [weight for _, weight in CALLS.values()]


def outcome(seed, case):
    """Return the name of what was called, ``"ok"`` or ``"refused"`` or a finding, and what there is to say of it."""
    draw = Draw(seed, case)
    name = draw.random.choices(NAMES, WEIGHTS)[0]
    call = CALLS[name][0](draw)
    spoilt = draw.chance(0.25)
    arguments = draw.spoilt(call.arguments) if spoilt else call.arguments
    try:
        # an expanded tensor must not be changed in place, so what was given must come out as it went in
        before = [x.detach().clone() for x in tensors(arguments) if x.device.type != "meta"]
        out = call.run(**arguments)
        gradients = backward(out, arguments, draw) if call.differentiable else []
    except (ValueError, TypeError) as error:
        return call.name, "refused" if of_the_house(call, error) else "foreign error", error
    except RuntimeError as error:
        return call.name, "refused" if _NO_KERNEL.match(str(error)) else "foreign error", error
    except Exception as error:
        return call.name, "foreign error", error
    after = [x for x in tensors(arguments) if x.device.type != "meta"]
    if not all(torch.equal(x.nan_to_num(7.0), y.nan_to_num(7.0)) for x, y in zip(before, after, strict=True)):
        return call.name, "wrong value", "an argument was changed in place"
    complaint = None if spoilt else judged(call, arguments, out, gradients, draw)
    return call.name, "wrong value" if complaint else "ok", complaint


def of_the_house(call, error):
    found = _HOUSE.match(str(error))
    return bool(found) and any(
        found["caller"] == name or found["caller"].startswith(f"{name}.") for name in (call.name, *call.callers)
    )


def tensors(x):
    """Return all tensors in what was given or came back, in order."""
    if isinstance(x, torch.Tensor):
        return [x]
    if isinstance(x, dict):
        x = x.values()
    elif not isinstance(x, (tuple, list)):
        return []
    return [tensor for part in x for tensor in tensors(part)]


def leaves(arguments):
    return [x for x in tensors(arguments) if x.requires_grad]


def backward(out, arguments, draw):
    """Return a gradient for each tensor that asks for one, None where nothing reaches it."""
    ends = [x for x in tensors(out) if x.requires_grad]
    given = leaves(arguments)
    if not ends or not given:
        return [None] * len(given)
    draw.upstream = [torch.randn(x.shape, generator=draw.torch, dtype=torch.float64) for x in ends]
    upstream = [g.to(x.dtype) for g, x in zip(draw.upstream, ends, strict=True)]
    return torch.autograd.grad(ends, given, upstream, allow_unused=True)


def judged(call, arguments, out, gradients, draw):
    """Return what is wrong with an outcome."""
    given = leaves(arguments)
    for x, gradient in zip(given, gradients, strict=False):
        if gradient is not None and (gradient.shape != x.shape or gradient.dtype != x.dtype):
            return f"a gradient of {tuple(gradient.shape)}, {gradient.dtype} to {tuple(x.shape)}, {x.dtype}"
    complaint = call.check(out)
    if complaint:
        return complaint
    if draw.tame and any(x.isnan().any() for x in tensors(out) if x.is_floating_point()):
        return "NaN from finite numbers"
    if draw.tame and any(x.isnan().any() for x in gradients if x is not None):
        return "NaN in a gradient where all was finite"
    return compared(call, arguments, out, gradients, draw) if call.plain else None


def widened(x, dtype):
    """Return arguments in another floating dtype, tensors that ask for a gradient as leaves of their own."""
    if isinstance(x, torch.Tensor):
        wide = x.detach().clone().to(dtype) if x.is_floating_point() else x
        return wide.requires_grad_(x.requires_grad)
    if isinstance(x, dict):
        return {name: widened(part, dtype) for name, part in x.items()}
    if isinstance(x, (tuple, list)):
        parts = [widened(part, dtype) for part in x]
        return type(x)(*parts) if hasattr(x, "_fields") else type(x)(parts)
    return x


def compared(call, arguments, out, gradients, draw):
    """Hold an outcome and its gradients against plain PyTorch."""
    floats = [x.dtype for x in tensors(arguments) if x.is_floating_point()]
    least = min(floats, key=lambda dtype: torch.finfo(dtype).bits, default=torch.float32)
    # without wild values in float64; with them in the dtype that dastc computes in, which overflows where that does
    dtype = torch.float64 if draw.tame else max((torch.float32, *floats), key=lambda x: torch.finfo(x).bits)
    wide = widened(arguments, dtype)
    expected = call.plain(**wide)
    if expected is None:
        return None
    wanted = expected if isinstance(expected, tuple) else (expected,)
    found = out if isinstance(out, tuple) else (out,)
    pairs = [(x, y) for x, y in zip(found, wanted, strict=True) if x is not None and y is not None]
    for x, y in pairs:
        if complaint := differs(x, y, least, draw.tame, "the outcome", each=call.each):
            return complaint
    if not draw.tame and not all(x.isfinite().all() for x, _ in pairs if x.is_floating_point()):
        return None  # of what has overflowed, nothing is known
    if len(pairs) < len(found) or not any(x is not None for x in gradients):
        return None
    upstream = zip([y for x, y in pairs if x.requires_grad], draw.upstream, strict=True)
    ends = [(y, g.to(dtype)) for y, g in upstream if y.requires_grad]  # an operator's outputs ask for one together
    mine = (
        torch.autograd.grad([y for y, _ in ends], leaves(wide), [g for _, g in ends], allow_unused=True)
        if ends
        else [None] * len(gradients)
    )
    for x, gradient, y in zip(leaves(arguments), gradients, mine, strict=True):
        if gradient is None or kinked(call, arguments, x, draw.mood):
            continue
        y = torch.zeros_like(x, dtype=dtype) if y is None else y
        if complaint := differs(gradient, y, least, draw.tame, f"the gradient to {tuple(x.shape)}"):
            return complaint
    return None


def kinked(call, arguments, x, mood):
    """Say whether the derivative to this argument jumps where rounding decides.

    That is so of flow at whole pixels and borders, and of the distance of class centres that are the same.
    """
    if call.name in ("inter_class", "margin", "CentroidAlignmentLoss", "CategoryAlignmentLoss"):
        return mood == "constant" or x.shape[1 if x.dim() == 2 else -3] == 1
    return (
        call.name in ("flow_warp", "compose_flow") and x is not arguments.get("x") and x is not arguments.get("other")
    )


def differs(found, wanted, least, tame, what, *, each=False):
    if found.shape != wanted.shape:
        return f"{what} has the shape {tuple(found.shape)} in place of {tuple(wanted.shape)}"
    if not found.is_floating_point():
        bad = found != wanted
        return f"{what} is {found[bad][:3].tolist()} in place of {wanted[bad][:3].tolist()}" if bad.any() else None
    if not found.numel():
        return None
    if not tame:
        # beyond the edge either may overflow first; but what is a number in plain PyTorch must be one here
        wanted = wanted.to(found.dtype)
        if not wanted.isfinite().all() and not each:
            return None
        bad = found.isnan() & wanted.isfinite()
        return f"{what} is NaN in place of {wanted[bad][:3].tolist()}" if bad.any() else None
    rounding = {torch.float64: 1e-7, torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}
    if float(wanted.detach().abs().max()) > torch.finfo(found.dtype).max / 2:
        return None  # beyond what half precision can hold
    allowed = rounding[min(found.dtype, least, key=lambda dtype: (torch.finfo(dtype).bits, dtype == torch.float16))]
    gap = (found.detach().double() - wanted.detach().double()).abs()
    limit = allowed * (1 + float(wanted.detach().double().abs().max()))
    if not bool((gap <= limit).all()):
        return f"{what} is {float(gap.nan_to_num(torch.inf).max()):.2g} off, {limit:.2g} allowed"
    return None


# processes


def _work(pipe, seed):
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    while True:
        case = pipe.recv()
        if case is None:
            return
        name, kind, said = outcome(seed, case)
        pipe.send((name, kind, "" if kind in ("ok", "refused") else f"{type(said).__name__}: {said}"))


class Worker:
    """A process that makes one call after another."""

    def __init__(self, seed):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, seed), daemon=True)
        self.process.start()
        theirs.close()

    def outcome(self, case):
        """Return what became of a call; None after a crash or a hang, when the process is of no more use."""
        self.pipe.send(case)
        if not self.pipe.poll(SECONDS):
            self.process.kill()
            self.process.join()
            return "?", "hang", f"no answer in {SECONDS} seconds"
        try:
            return self.pipe.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            return "?", "crash", f"the process ended with code {self.process.exitcode}"

    def end(self):
        self.pipe.send(None)
        self.process.join()


def fuzz(seed, cases, report=print):
    """Make calls in a process of their own; return how many of each function ended how, and the findings."""
    counts, findings = Counter(), []
    worker, start = Worker(seed), time.monotonic()
    for done, case in enumerate(cases, 1):
        name, kind, said = worker.outcome(case)
        if name == "?":
            name, worker = named(seed, case), Worker(seed)
        counts[name, kind if kind in ("ok", "refused") else "findings"] += 1
        if kind not in ("ok", "refused"):
            findings.append((case, name, kind, said))
            report(f"{kind} of {name}: {said[:300]}\n    python tests/fuzzing/fuzz.py --seed {seed} --case {case}")
        if done % 5000 == 0:
            report(f"{done} calls, {len(findings)} findings, {time.monotonic() - start:.0f} s")
    worker.end()
    return counts, findings


def named(seed, case):
    draw = Draw(seed, case)
    return CALLS[draw.random.choices(NAMES, WEIGHTS)[0]][0](draw).name


def table(counts):
    names = sorted({name for name, _ in counts})
    kinds = ("ok", "refused", "findings")
    rows = [(name, *(counts[name, kind] for kind in kinds)) for name in names]
    rows.append(("total", *(sum(row[i] for row in rows) for i in (1, 2, 3))))
    lines = ["| function | calls | succeeded | refused | findings |", "|---|---|---|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {sum(n)} | {n[0]} | {n[1]} | {n[2]} |" for name, *n in rows)])


def again(seed, case):
    """Make one call here, and show all of it."""
    draw = Draw(seed, case)
    call = CALLS[draw.random.choices(NAMES, WEIGHTS)[0]][0](draw)
    arguments = draw.spoilt(call.arguments) if draw.chance(0.25) else call.arguments
    print(f"{call.name}, mood {draw.mood}")
    for name, value in arguments.items():
        print(f"  {name} = {value!r}"[:3000])
    name, kind, said = outcome(seed, case)
    print(f"{name}: {kind}")
    if isinstance(said, Exception):
        traceback.print_exception(said)
    elif said:
        print(said)
    return kind in ("ok", "refused")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=1000, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn")
    parser.add_argument("--first", type=int, default=0, help="number of the first call, to go on from there")
    parser.add_argument("--case", type=int, help="make this one call, and show it")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.case is not None:
        sys.exit(0 if again(options.seed, options.case) else 1)
    counts, findings = fuzz(
        options.seed, range(options.first, options.first + options.calls), lambda x: print(x, flush=True)
    )
    print(table(counts))
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
