"""Compare the methods at equal steps over several seeds, and write the table of the docs.

    python benchmarks/accuracy.py                  # run what is missing, then write the table
    python benchmarks/accuracy.py --table          # write the table from the committed results alone

Every cell (method, seed) is one run of examples/adapt_video.py; finished cells are not run again, interrupted ones go
on. Results: benchmarks/results/accuracy/NAME.json; table: docs/results.md, between the marks of NAME.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

ROOT = Path(__file__).parents[1]
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
                write(store, json.dumps(done, indent=1) + "\n")
    if not done:
        sys.exit(f"accuracy.py: there is no result in {store}; run without --table first.")
    put_table(args.docs, args.name, table(done))
    print(table(done))


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


def table(rows):
    """Return mean and standard deviation over seeds of each method, overall and for each class, in Markdown."""
    classes = list(rows[0]["per_class"])
    lines = [f"| method | seeds | mIoU | {' | '.join(classes)} | seconds |", "|---" * (len(classes) + 4) + "|"]
    for method in dict.fromkeys(row["method"] for row in rows):
        own = sorted((row for row in rows if row["method"] == method), key=lambda row: row["seed"])
        each = " / ".join(f"{row['miou']:.1f}" for row in own)
        cells = [spread([row["per_class"][name] for row in own]) for name in classes]
        seconds = statistics.mean(row["seconds"] for row in own)
        mean = f"**{spread([row['miou'] for row in own])}** ({each})"
        lines.append(f"| {method} | {len(own)} | {mean} | {' | '.join(cells)} | {seconds:.0f} |")
    first = rows[0]
    versions = ", ".join(f"{name} {version}" for name, version in first["versions"].items())
    commits = ", ".join(sorted({(row["commit"] or "unknown")[:10] for row in rows}))
    lines += ["", f"Data `{first['data']}`, {first['steps']} steps, {first['device']}; {versions}; commit {commits}."]
    return "\n".join(lines)


def spread(values):
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    return f"{statistics.mean(known):.1f} ± {statistics.stdev(known) if len(known) > 1 else 0:.1f}"


def put_table(path, name, text):
    """Replace what stands between the marks of a table."""
    begin, end = f"<!-- {name}: made by benchmarks/accuracy.py -->", f"<!-- end of {name} -->"
    page = path.read_text()
    if begin not in page or end not in page:
        sys.exit(f"accuracy.py: {path} must hold the lines {begin!r} and {end!r}; they say where the table goes.")
    before, after = page.split(begin)[0], page.split(end)[1]
    write(path, f"{before}{begin}\n\n{text}\n\n{end}{after}")


def write(path, text):
    partial = path.with_suffix(".part")
    partial.write_text(text)
    partial.replace(path)


if __name__ == "__main__":
    main()
