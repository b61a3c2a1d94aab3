r"""Run the cells of the real suite that are missing, one process each, and print the table.

    python benchmarks/real/grid.py --carla DIR --camvid DIR                       # shift a, all rows, seeds 0 to 2
    python benchmarks/real/grid.py --shifts a b --rows dacs --seeds 3 4 --carla DIR --camvid DIR
    python benchmarks/real/grid.py --table                                        # from the results alone
    python benchmarks/real/grid.py --table --page docs/results.md                 # into the page, between its markers
    python benchmarks/real/grid.py --table --page docs/results.md --mark real_full_pace \
        --results benchmarks/results/real_full_pace

Finished cells are not run again and interrupted ones go on from their checkpoint, so the same command continues after
a crash. A cell that fails does not stop the others: it is named at the end, with its log, and the exit code is 1.
"""

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

from cell import add_common, checkpoint_path, result_path
from rows import ROWS
from shifts import SHIFTS
from tables import put, table

CELL = Path(__file__).parent / "cell.py"
COMMON = ("network", "carla", "camvid", "steps", "lr", "pace", "runs", "results")


def main(argv=None):
    args = parse(argv)
    failed = [] if args.table else run(args, missing(args))
    for shift in args.shifts:
        found = table(args.results / shift / args.network, ROWS)
        print("\n" + found)
        if args.page is not None:
            put(args.page, f"{args.mark} {shift} {args.network}", found, "real/grid.py")
    if failed:
        print("\nThese cells failed:\n" + "\n".join(f"{name(cell)}: see {log_path(cell)}" for cell in failed))
        sys.exit(1)


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shifts", nargs="+", choices=SHIFTS, default=["a"])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time, one thread each")
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--mark", default="real", help="how these markers begin")
    parser.add_argument("--page", type=Path, metavar="FILE", help="put the tables between the markers of this page")
    add_common(parser)
    return parser.parse_args(argv)


def missing(args):
    """Return the cells to run, each with the arguments of cell.py; what others start from comes first."""
    common = {key: getattr(args, key) for key in COMMON}

    def cell(shift, seed, row):
        return argparse.Namespace(shift=shift, seed=seed, row=row, **common)

    cells = []
    for shift, seed in product(args.shifts, args.seeds):
        rows = {row for row in args.rows if not result_path(cell(shift, seed, row)).exists()}
        source = cell(shift, seed, "source")
        # a committed result is no model: on another machine the source model is trained again
        there = result_path(source).exists() and checkpoint_path(source, "source").exists()
        if not there and any(ROWS[row].starts == "source" for row in rows):
            rows.add("source")
        cells += [cell(shift, seed, row) for row in ROWS if row in rows]
    return cells


def run(args, cells):
    """Run cells in order, `jobs` at a time; return those that failed."""
    running, begin = {}, time.perf_counter()

    def one(number, cell):
        for before in {"source", ROWS[cell.row].trained_as} - {cell.row}:  # its checkpoint is needed
            if (cell.shift, cell.seed, before) in running:
                running[cell.shift, cell.seed, before].result()  # submitted before this cell, so it has begun
        code = run_cell(cell)
        state = f"failed with {code}" if code else "done"
        minutes = (time.perf_counter() - begin) / 60
        print(f"[{number}/{len(cells)}, {minutes:.0f} min] {name(cell)}: {state}", flush=True)
        return code

    with ThreadPoolExecutor(args.jobs) as pool:
        for number, cell in enumerate(cells, 1):
            running[cell.shift, cell.seed, cell.row] = pool.submit(one, number, cell)
    return [cell for cell in cells if running[cell.shift, cell.seed, cell.row].result()]


def run_cell(cell):
    """Run one cell in a process of its own, one thread, its output in a log; return the exit code."""
    arguments = [(f"--{key}", str(value)) for key, value in vars(cell).items() if value is not None]
    command = [sys.executable, str(CELL), *(word for pair in arguments for word in pair)]
    # passive: a waiting thread must not take a core from the process beside it
    threads = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    log = log_path(cell)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as output:
        environment = {**os.environ, **threads}
        return subprocess.run(command, stdout=output, stderr=output, env=environment, check=False).returncode


def name(cell):
    return f"{cell.shift} {cell.network} {cell.row} {cell.seed}"


def log_path(cell):
    return cell.runs / cell.shift / cell.network / f"{cell.row}-{cell.seed}.log"


if __name__ == "__main__":
    main()
