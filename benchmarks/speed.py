"""Time and memory of the operators and of DA-STC's own work in a step, beside everything else that computes the same.

    python benchmarks/speed.py --device cpu       # in some minutes; a batch of one, and one grid for each width
    python benchmarks/speed.py --device cuda      # the full sizes
    python benchmarks/speed.py --op class_pool    # one operator, or several
    python benchmarks/speed.py --table            # write the table of the docs from the committed results alone

The tests of an operator run first; if they fail, nothing is measured. Contenders are checked to agree before they are
timed, outputs and gradients. In every round each of them runs once, so that a busy moment of the machine hits all of
them; on a GPU between events, after the caches were overwritten. What is finished is on disk before the next begins,
and is not measured again unless the commit or the sizes differ. Results: benchmarks/results/speed/DEVICE.json; table:
docs/numerics.md, between the marks of speed.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path

import meters
import score_tables
import speed_cases
import speed_step
import speed_table
import torch
from tqdm import tqdm

import dastc

ROOT = Path(__file__).parents[1]
STEP = "step"
BUILDERS = {**speed_cases.OPERATORS, STEP: speed_step.steps}
# what must pass before a figure of it is believed; the kernels' own tests are added on a GPU
TESTS = {
    "pseudo_label": ("tests/ops/test_pseudo_labels.py",),
    "upsampled_ce": ("tests/ops/test_upsampled_cross_entropy.py",),
    STEP: (
        "tests/fusion/test_sequence_patch_fusion.py",
        "tests/aggregation/test_category_aggregator.py",
        "tests/losses/test_centroid_alignment.py",
    ),
}


def main(argv=None):
    args = parse(argv)
    if not args.table:
        fill(args)
    stores = {device: args.results / f"{device}.json" for device in ("cpu", "cuda")}
    results = {device: json.loads(store.read_text()) for device, store in stores.items() if store.exists()}
    if args.out is None and results:
        score_tables.put(args.docs, "speed", speed_table.page(results), script="speed.py")
    elif args.table:
        sys.exit(f"speed.py: there is no result in {args.results}; run without --table first.")
    for device, text in speed_table.each(results).items():
        print(f"{device}\n\n{text}\n")


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--op", nargs="+", choices=BUILDERS, default=list(BUILDERS), metavar="OP",
                        help=f"any of {', '.join(BUILDERS)}; all if none is given")  # fmt: skip
    parser.add_argument("--size", choices=speed_cases.SIZES, help="paper on a GPU, short on a CPU; tiny is for tests")
    parser.add_argument("--rounds", type=int, default=11, help="at most, for each case")
    parser.add_argument("--seconds", type=float, default=12.0, help="after which a case ends, with 3 rounds at least")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--again", action="store_true", help="measure what is finished, too")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write there, and leave the docs alone")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results/speed")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs/numerics.md")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    args = parser.parse_args(argv)
    if args.rounds < meters.LEAST_ROUNDS:
        parser.error(f"--rounds must be at least {meters.LEAST_ROUNDS}: a spread needs them; got {args.rounds}")
    if args.threads < 1:
        parser.error(f"--threads must be at least 1; got {args.threads}")
    if args.table and args.out:
        parser.error("--table writes the docs, --out leaves them alone: give one of them")
    if args.device == "cuda" and not (args.table or torch.cuda.is_available()):
        parser.error("--device cuda needs a GPU that torch can use; torch.cuda.is_available() is False")
    args.size = args.size or ("short" if args.device == "cpu" else "paper")
    return args


def fill(args):
    """Measure what is missing of one device's results."""
    store = args.out or args.results / f"{args.device}.json"
    results = json.loads(store.read_text()) if store.exists() else {}
    missing = [op for op in args.op if args.again or not finished(results.get(op), args)]
    if not missing:
        return
    prepare(args)
    store.parent.mkdir(parents=True, exist_ok=True)
    for op in missing:
        check_tests(op, args.device)
        results[op] = measured(op, args)
        score_tables.write(store, json.dumps(results, indent=1) + "\n")
        print(speed_table.rows(op, results[op]))
    if args.device == "cuda":
        better = speed_table.faster_than(speed_cases.REFERENCE, results)
        print(f"faster than the reference in every case: {', '.join(better) or 'none'}")


def finished(entry, args):
    if entry is None or entry["uncommitted_changes"] or changed():
        return False
    return (entry["commit"], entry["size"]) == (commit(), args.size)


def prepare(args):
    torch.set_num_threads(args.threads)
    os.environ["KINETO_LOG_LEVEL"] = "99"  # the profiler otherwise reports each start and stop
    # first calls are to compile, not to find what an earlier run compiled
    folder = tempfile.mkdtemp(prefix="speed")
    os.environ |= {"TORCHINDUCTOR_CACHE_DIR": f"{folder}/inductor", "TRITON_CACHE_DIR": f"{folder}/triton"}
    meters.check_meter(args.device)


def check_tests(op, device):
    """Run the tests of an operator, in a process of their own; without them no figure."""
    names = TESTS.get(op, (f"tests/ops/test_{op}.py",))
    kernels = f"tests/ops/test_triton_{op}.py"
    if device == "cuda" and (ROOT / kernels).exists():
        names = (*names, kernels)
    run = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", *names]
    answer = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)
    if answer.returncode:
        sys.exit(f"{answer.stdout}{answer.stderr}\nspeed.py: the tests of {op} fail, so nothing of it was measured.")


def measured(op, args):
    sizes = speed_cases.SIZES[args.size]
    entry = conditions(args)
    copy = meters.copy_bandwidth(args.device)
    entry["copy_gb_per_s"] = round(copy, 2)
    entry["cases"] = {}
    for batch in sizes.batches:
        for case in tqdm(BUILDERS[op](sizes, batch, args.device), desc=op, unit="case"):
            entry["cases"][case.name] = meters.measure(
                case, speed_cases.REFERENCE, args.rounds, args.seconds, args.device, copy
            )
    if op == STEP:
        entry["networks"] = speed_step.shares(sizes, args.rounds, args.device)
    return entry


def conditions(args):
    return {
        "commit": commit(),
        "uncommitted_changes": changed(),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "size": args.size,
        "threads": args.threads,
        "load_average": [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "hardware": {
            "cpu": meters.cpu_name(),
            "logical_cores": os.cpu_count(),
            "gpu": torch.cuda.get_device_name() if args.device == "cuda" else None,
        },
        "versions": versions(),
        "dtype": "float32",
    }


def versions():
    found = {"dastc": dastc.__version__, "torch": torch.__version__, "python": platform.python_version()}
    try:
        import triton
    except ImportError:
        return found
    return found | {"triton": triton.__version__}


def commit():
    return git("rev-parse", "HEAD") or "unknown"


def changed():
    """Say whether what is measured, or what measures, is other than in the commit."""
    return bool(git("status", "--porcelain", "--", "dastc", "benchmarks/*.py"))


def git(*command):
    answer = subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    return answer.stdout.strip() if answer.returncode == 0 else ""


if __name__ == "__main__":
    main()
