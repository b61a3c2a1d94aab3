"""Compare the methods at equal steps over several seeds, and write the tables of the docs.

    python benchmarks/accuracy.py                  # run what is missing, then write the table
    python benchmarks/accuracy.py --table          # write the table from the committed results alone

Every cell (method, seed) is one run of examples/adapt_video.py; finished cells are not run again, interrupted ones go
on. Results: benchmarks/results/accuracy/NAME.json; table: docs/results.md, between the marks of NAME.
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import score_tables
from tqdm import tqdm

ROOT = Path(__file__).parents[1]
AGAINST = ("source_only", "dacs")
METHODS = ("source_only", "dacs", "tps", "dastc", "oracle")


def main(argv=None):
    args = parse(argv)
    store = args.results / f"{args.name}.json"
    done = json.loads(store.read_text()) if store.exists() else []
    if not args.table:
        finished = {(row["method"], row["seed"]) for row in done}
        missing = [(m, s) for s in args.seeds for m in args.methods if (m, s) not in finished]
        with ThreadPoolExecutor(args.jobs) as pool:
            for row in tqdm(pool.map(lambda cell: run(args, *cell), missing), total=len(missing), desc="runs"):
                done.append(row)
                store.parent.mkdir(parents=True, exist_ok=True)
                score_tables.write(store, json.dumps(done, indent=1) + "\n")
    if not done:
        sys.exit(f"accuracy.py: there is no result in {store}; run without --table first.")
    known = {row["method"] for row in done}
    text = [score_tables.scores(done), *(score_tables.differences(done, name) for name in AGAINST if name in known)]
    text = "\n\n".join(text)
    score_tables.put(args.docs, args.name, text)
    print(text)


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="street", help="of the results and of the table's marks")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each on a CPU")
    parser.add_argument("--settings", nargs=argparse.REMAINDER, default=[], help="further arguments of adapt_video.py")
    parser.add_argument("--runs", type=Path, default=Path("runs/accuracy"), help="where checkpoints go")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results/accuracy")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs/results.md")
    parser.add_argument("--table", action="store_true", help="run nothing")
    return parser.parse_args(argv)


def run(args, method, seed):
    out = args.runs / f"{args.name}-{method}-{seed}"
    out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(ROOT / "examples/adapt_video.py"), "--method", method, "--seed", str(seed)]
    command += ["--out", str(out), "--resume", *args.settings]
    # passive: a waiting thread must not take a core from the run beside it
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // args.jobs)), "OMP_WAIT_POLICY": "PASSIVE"}
    with (out / "log").open("w") as log:
        code = subprocess.run(command, stdout=log, stderr=log, env={**os.environ, **threads}, check=False).returncode
    if code:
        raise RuntimeError(f"accuracy.py: {method} with seed {seed} ended with {code}; see {out / 'log'}.")
    (row,) = json.loads((out / "result.json").read_text())
    return row


if __name__ == "__main__":
    main()
