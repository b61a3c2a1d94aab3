"""Compare methods at equal settings over several seeds, and write the tables of the docs.

    python benchmarks/accuracy.py                       # run what is missing of every table, then write the tables
    python benchmarks/accuracy.py street --seeds 10 11  # of one table, with fewer seeds
    python benchmarks/accuracy.py parts --methods dastc # some of its rows
    python benchmarks/accuracy.py --camvid DIR          # the tables on real video, too
    python benchmarks/accuracy.py --table               # write the tables from the committed results alone

Every cell (method, seed) is one run of examples/adapt_video.py; finished cells are not run again, interrupted ones go
on. Rows of earlier recipes of DA-STC are kept as they are. Results: benchmarks/results/accuracy/NAME.json; tables:
docs/results.md (of flow: docs/flow.md, of what the default was before: docs/earlier.md), between the marks of NAME;
figures: docs/figures/NAME.svg.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import score_figures
import score_tables
from accuracy_tables import TABLES
from tqdm import tqdm

ROOT = Path(__file__).parents[1]


def main(argv=None):
    args = parse(argv)
    names = args.names or [name for name, table in TABLES.items() if args.table or not table.camvid or args.camvid]
    for name in names:
        table = TABLES[name]
        store = args.results / f"{table.of or name}.json"
        done = json.loads(store.read_text()) if store.exists() else []
        if not args.table:
            done = fill(args, name, table, done, store)
        rows = [row for method in table.methods for row in done if row["method"] == method]
        if not rows and not args.names:
            continue  # nothing was measured yet
        if not rows:
            sys.exit(f"accuracy.py: there is no result of {name} in {store}; run without --table first.")
        there = {row["method"] for row in rows}
        against = [other for other in table.against if other in there]
        text = [score_tables.scores(rows), *(score_tables.differences(rows, other) for other in against)]
        score_tables.put(args.docs.with_name(table.page or args.docs.name), name, "\n\n".join(text))
        draw(rows, table.figure, against, args.docs.parent / "figures" / f"{name}.svg")
        print(f"{name}\n\n" + "\n\n".join(text) + "\n")


def draw(rows, figure, against, path):
    if figure == "scores":
        score_figures.draw_scores(rows, path)
    elif figure and against:
        score_figures.draw_differences(rows, against[0], path)


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(TABLES)}; all if none is given")
    parser.add_argument("--seeds", nargs="+", type=int, help="instead of the table's own")
    parser.add_argument("--methods", nargs="+", metavar="METHOD", help="rows to run, as in the table; all if not given")
    parser.add_argument("--camvid", type=Path, metavar="DIR", help="where the tables on real video find it")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each on a CPU")
    parser.add_argument("--runs", type=Path, default=Path("runs/accuracy"), help="where checkpoints go")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results/accuracy")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs/results.md")
    parser.add_argument("--table", action="store_true", help="run nothing")
    args = parser.parse_args(argv)
    for name in args.names:
        if name not in TABLES:
            parser.error(f"there is no table {name!r}; there are {', '.join(TABLES)}")
        if TABLES[name].camvid and not (args.camvid or args.table):
            parser.error(f"{name} needs --camvid DIR")
        for method in args.methods or ():
            if TABLES[name].kept and method.startswith(TABLES[name].kept):
                parser.error(
                    f"{method!r} of {name} is of an earlier recipe: check out the commit that its results name"
                )
            if method not in TABLES[name].methods:
                parser.error(f"{name} has no row {method!r}; it has {', '.join(map(repr, TABLES[name].methods))}")
    if args.methods and not args.names:
        parser.error("--methods needs the name of a table")
    return args


def fill(args, name, table, done, store):
    """Run the cells that are missing; every finished one is on disk before the next begins."""
    finished = {(row["method"], row["seed"]) for row in done}
    cells = [(method, seed) for seed in args.seeds or table.seeds for method in args.methods or to_run(table)]
    missing = [cell for cell in cells if cell not in finished]
    settings = [*table.settings, *(("--data", f"camvid:{args.camvid}") if table.camvid else ())]
    with ThreadPoolExecutor(args.jobs) as pool:
        rows = pool.map(lambda cell: run(args, table.of or name, *cell, settings), missing)
        for row in tqdm(rows, total=len(missing), desc=name):
            done.append(row)
            store.parent.mkdir(parents=True, exist_ok=True)
            score_tables.write(store, json.dumps(done, indent=1) + "\n")
    return done


def to_run(table):
    """Return the rows that today's recipes can make; the others stay as they are in the results."""
    return [method for method in table.methods if not (table.kept and method.startswith(table.kept))]


def folder(runs, name, method, seed):
    return runs / name / re.sub(r"[^\w.=-]+", "_", f"{method}-{seed}")


def run(args, name, method, seed, settings):
    out = folder(args.runs, name, method, seed)
    out.mkdir(parents=True, exist_ok=True)
    recipe, *own = method.split(" ")
    if "--flow" in own:
        own += ["--flow-cache", str(args.runs / "flow")]  # the same for all seeds
    command = [sys.executable, str(ROOT / "examples/adapt_video.py"), "--method", recipe, "--seed", str(seed)]
    command += ["--out", str(out), "--resume", *settings, *own]
    # passive: a waiting thread must not take a core from the run beside it
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // args.jobs)), "OMP_WAIT_POLICY": "PASSIVE"}
    with (out / "log").open("w") as log:
        code = subprocess.run(command, stdout=log, stderr=log, env={**os.environ, **threads}, check=False).returncode
    if code:
        raise RuntimeError(f"accuracy.py: {method} with seed {seed} ended with {code}; see {out / 'log'}.")
    (row,) = json.loads((out / "result.json").read_text())
    return row | {"method": method}


if __name__ == "__main__":
    main()
