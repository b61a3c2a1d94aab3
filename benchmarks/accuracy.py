"""Compare methods at equal settings over several seeds, and write the tables of the docs.

    python benchmarks/accuracy.py                       # run what is missing of every table, then write the tables
    python benchmarks/accuracy.py street --seeds 10 11  # of one table, with fewer seeds
    python benchmarks/accuracy.py parts --methods dastc # some of its rows
    python benchmarks/accuracy.py --camvid DIR          # the tables on real video, too
    python benchmarks/accuracy.py --table               # write the tables from the committed results alone

Every cell (method, seed) is one run of examples/adapt_video.py; finished cells are not run again, interrupted ones go
on. Results: benchmarks/results/accuracy/NAME.json; tables: docs/results.md (camvid_flow: docs/flow.md), between
the marks of NAME.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import score_tables
from tqdm import tqdm

ROOT = Path(__file__).parents[1]


class Table(NamedTuple):
    """What stands in one table: a method may be followed by settings of its own, as on the command line."""

    methods: tuple[str, ...]
    settings: tuple[str, ...] = ()
    against: tuple[str, ...] = ("source_only", "dacs")
    seeds: tuple[int, ...] = (10, 11, 12, 13, 14)
    camvid: bool = False
    page: str = ""  # beside that of the others, if it has one of its own


# what the default was: at first; with the warm-up and bands of the class prior; with cells of it (OWN alone); with the
# target's histograms, matched over the whole picture; with those in bands (ALIGNED); without alignment (ONE_VIEW
# alone); with views of the cells (TWO_FRAMES alone); with alignment again and the loss on the current frame alone; with
# the clean source beside the fused clips
BOTH, UNALIGNED = "both_frames=True", "align='none'"
TWO_FRAMES = f"{BOTH},{UNALIGNED}"
VIEW = "class_prior_views=(1.0,0.0)"
ONE_VIEW = f"{TWO_FRAMES},{VIEW}"
INFONCE = "align='infonce'"
ALIGNED = f"{BOTH},{VIEW},{INFONCE}"
WHOLE = f"{ALIGNED},histogram_grid=(1,1)"
OWN = f"{ALIGNED},match_histograms=False"
FLAT = "warmup=0,class_prior_grid=(1,1)"  # one cell looks alike in any view
BEFORE = f"{BOTH},{INFONCE},match_histograms=False,{FLAT}"
BANDS = f"{OWN},class_prior_grid=(8,1)"
NO_PRIOR = f"{BOTH},{INFONCE},match_histograms=False,warmup=0,class_prior=0.0"
# DACS with the settings of DA-STC, and DACS made of DA-STC's parts, so that it can have the warm-up and the prior, too
DACS_ALIKE = "dacs(threshold=0.8,decay=0.98)"
ONE_WAY = "source_context=False,clean_source=True,cross_frame='none'"
LONGER = f"{DACS_ALIKE} --steps 750"  # took at least as long as 600 steps of DA-STC without the warm-up


def old(parts):
    """Return a row of before the default trained on the clean source, too."""
    return f"dastc({parts})" if "clean_source" in parts else f"dastc({parts},clean_source=False)"


# the parts of DA-STC away from the default: sequence fusion off, labels over two frames off, alignment off
WITHOUT = ("fusion='none',clean_source=True,clean_target=True", "cross_frame='none'")
PARTS_OFF = (old(UNALIGNED), *(f"dastc({part})" for part in (UNALIGNED, *WITHOUT)))
AS_LONG = "dacs --steps 800"  # takes as long as 600 steps of DA-STC, or a little longer
STREET = (
    "source_only",
    "dacs",
    AS_LONG,
    "tps",
    "dastc",
    "dastc(clean_source=False)",
    *PARTS_OFF,
    old(TWO_FRAMES),
    *(old(f"{TWO_FRAMES},{part}") for part in WITHOUT),
    old(ONE_VIEW),
    old(f"{BOTH},{VIEW},align='cdd'"),
    old(ALIGNED),
    *(old(f"{ALIGNED},{part}") for part in WITHOUT),
    old(WHOLE),
    old(OWN),
    old(BANDS),
    old(f"{BOTH},{INFONCE},match_histograms=False,class_prior=0.0"),
    old(BEFORE),
    old(NO_PRIOR),
    "oracle",
)
FAR = ("source_only", "dacs", "tps", "dastc", old(ONE_VIEW), old(BEFORE), old(NO_PRIOR), "oracle")
MILD = (
    "source_only",
    "dacs",
    DACS_ALIKE,
    LONGER,
    "tps",
    "dastc",
    old(TWO_FRAMES),
    old(ONE_VIEW),
    old(ALIGNED),
    old(BEFORE),
    old(NO_PRIOR),
    old(f"{TWO_FRAMES},match_histograms=False,{FLAT},{ONE_WAY}"),
    "oracle",
)
# thin things are not learnt in 600 steps, even of the day: three times as many were chosen on a day held back
LONG = " --steps 1800"
CAMVID_LONG = tuple(f"{method}{LONG}" for method in ("source_only", "dacs", "dastc", old(TWO_FRAMES)))
CAMVID = (
    *CAMVID_LONG,
    "source_only",
    "dacs",
    DACS_ALIKE,
    "dastc",
    "dastc(clean_source=False)",
    old(TWO_FRAMES),
    old(ONE_VIEW),
    old(ALIGNED),
    old(WHOLE),
    old(OWN),
    old(BEFORE),
)
CAMVID_AGAINST = (*CAMVID_LONG[:2], "source_only", "dacs")
# a day held back in place of dusk: other streets, hardly another light
HELD_BACK = ("--source-seqs", "0016E5,Seq05VD", "--target-seqs", "0006R0")
CAREFUL = "class_prior=0.0,match_histograms=False"
HELD = (
    "source_only",
    "dacs",
    "dastc",
    "dastc(match_histograms=False)",
    "dastc(class_prior=0.0)",
    f"dastc({CAREFUL})",
    "dastc(clean_source=False)",
)
# what the defaults were chosen by: DASTC's first defaults, then with other weights, then with the class prior
PLAIN = "match_histograms=False,warmup=0"
FIRST, SURER = (f"{PLAIN},threshold={threshold},class_prior=0.0,decay=0.99" for threshold in (0.968, 0.9))
PRIOR = f"match_histograms=False,{FLAT},threshold=0.9,class_prior=1.0,decay=0.99"
CHOICES = (
    "dacs",
    "dacs(threshold=0.9)",
    old(f"{BOTH},{INFONCE},{FIRST}"),
    old(f"{TWO_FRAMES},{FIRST}"),
    old(f"{BOTH},{INFONCE},{FIRST},clean_source=True"),
    old(f"{BOTH},{INFONCE},{FIRST},weighting='confidence'"),
    old(f"{BOTH},{INFONCE},{SURER}"),
    old(f"{TWO_FRAMES},{SURER}"),
    old(f"{BOTH},{INFONCE},{SURER},clean_source=True"),
    old(f"{BOTH},{INFONCE},{SURER},cross_frame='agreeing'"),
    old(f"{BOTH},{INFONCE},{SURER},cross_frame='none'"),
    old(f"{BOTH},{INFONCE},warmup=0,threshold=0.9,class_prior=0.0,decay=0.99,histogram_grid=(1,1)"),
    old(f"{BOTH},{INFONCE},{PLAIN},threshold=0.8,class_prior=0.0,decay=0.99"),
    old(f"{BOTH},{INFONCE},{PLAIN},threshold=0.9,class_prior=0.0,decay=0.98"),
    old(f"{BEFORE},threshold=0.968,class_prior=1.0,decay=0.99"),
    old(f"{BOTH},{INFONCE},{PRIOR}"),
    old(f"{BOTH},align='cdd',{PRIOR}"),
    old(f"{TWO_FRAMES},{PRIOR}"),
    old(f"{BOTH},{INFONCE},{PRIOR},align_weight=1.0"),
    old(f"{BOTH},{INFONCE},{PRIOR},clean_source=True"),
    old(f"{BOTH},{INFONCE},{PRIOR},cross_frame='none'"),
    old(f"{TWO_FRAMES},{PRIOR},{ONE_WAY}"),
    old(f"{BEFORE},threshold=0.8,class_prior=1.0,decay=0.98"),
)
# one part at a time, away from the defaults; what is not a part of DA-STC, too
SHARED = "fusion='shared',clean_source=True,clean_target=True"
PARTS = (
    "source_only",
    "dacs",
    "dastc",
    "dastc(match_histograms=False)",
    "dastc(histogram_grid=(1,1))",
    "dastc(warmup=0)",
    "dastc(warmup=300)",
    "dastc(class_prior=0.0)",
    "dastc(class_prior_grid=(1,1))",
    f"dastc({VIEW})",
    f"dastc({WITHOUT[0]})",
    "dastc(complementary=False)",
    "dastc(complementary=False,context_consistency=1.0)",
    f"dastc({SHARED})",
    f"dastc({SHARED},feature_fusion=0.3)",
    f"dastc({SHARED},target_patches=True)",  # the four paths of QuadMix
    "dastc(clean_source=False)",
    "dastc(source_context=False)",
    f"dastc({WITHOUT[1]})",
    "dastc(cross_frame='warped')",
    "dastc(cross_frame='agreeing')",
    f"dastc({BOTH})",
    f"dastc({UNALIGNED})",
    old(BOTH),
    old(UNALIGNED),
    f"dastc({INFONCE})",
    "dastc(align='mmd')",
    "dastc(align='margin')",
    "dastc(align='pixel')",
    "dastc(features=None)",
    "dastc(memory=False)",
    "dastc(align_weight=0.3)",
    "dastc(rare_probability=0.5)",
    "dastc(bank=True)",
    "dastc(masked_target=0.5)",
    "dastc(decay=0.99)",
    "dastc --rare 0.05",
    "dastc --scales 1 0.5",
    "dastc --frames 3",
    # away from the default before: the loss on both frames, neither a clean source nor alignment
    *(
        old(f"{TWO_FRAMES}{part}")
        for part in (
            "",
            ",class_prior=0.0",
            ",class_prior_grid=(1,1)",
            ",clean_source=True",
            ",cross_frame='warped'",
            ",cross_frame='agreeing'",
            ",masked_target=0.5",
            ",decay=0.99",
        )
    ),
    # away from the default before the views
    old(ONE_VIEW),
    *(
        old(f"{ONE_VIEW},{part}")
        for part in (
            "match_histograms=False",
            "histogram_grid=(1,1)",
            "warmup=0",
            "warmup=300",
            WITHOUT[0],
            "complementary=False",
            SHARED,
            f"{SHARED},feature_fusion=0.3",
            WITHOUT[1],
        )
    ),
    *(
        old(f"{BOTH},{VIEW},{part}")
        for part in (
            INFONCE,
            "align='cdd'",
            "align='mmd'",
            "align='margin'",
            "align='pixel'",
            f"{INFONCE},align_weight=1.0",
            "align='cdd',align_weight=0.3",
            "align='cdd',align_weight=1.0",
        )
    ),
    old(BANDS),
    old(f"{BANDS},warmup=0"),
    old(BEFORE),
)
# under BatchNorm, its statistics alone adapt: no method is judged without that row
BATCH = tuple(
    f"{method} --norm batch{more}"
    for method, more in (
        ("source_only", ""),
        ("source_only", " --adapt-statistics"),
        ("dacs", ""),
        ("dastc", ""),
        (old(ONE_VIEW), ""),
    )
)
IMAGES = (
    "source_only",
    "dacs",
    DACS_ALIKE,
    "dastc",
    old(TWO_FRAMES),
    old(ONE_VIEW),
    old(ALIGNED),
    "oracle",
)
TABLES = {
    "choices": Table(
        CHOICES, ("--split", "val", "--shift", "1"), against=(old(f"{BOTH},{INFONCE},{FIRST}"),), seeds=(0, 1)
    ),
    "street": Table(STREET, against=("source_only", "dacs", "dastc"), seeds=(15, 16, 17, 18, 19)),
    "far": Table(FAR, ("--shift", "1.2"), against=("source_only", "dacs")),
    "mild": Table(MILD, ("--shift", "1"), against=("source_only", DACS_ALIKE, "dastc")),
    "parts": Table(
        PARTS,
        ("--split", "val"),
        against=("dastc", old(TWO_FRAMES), old(ONE_VIEW)),
        seeds=(20, 21, 22, 23, 24),
    ),
    "batch": Table(BATCH, against=BATCH[:2]),
    "images": Table(IMAGES, ("--frames", "1"), against=("source_only", "dacs")),
    "camvid": Table(CAMVID, against=CAMVID_AGAINST, seeds=(10, 11, 12), camvid=True),
    "camvid_flow": Table(
        ("source_only", old(WHOLE), old(WHOLE) + " --flow dis"),
        against=("source_only", old(WHOLE)),
        seeds=(10, 11, 12),
        camvid=True,
        page="flow.md",
    ),
    "held": Table(HELD, HELD_BACK, against=("source_only",), seeds=(20, 21, 22), camvid=True),
    "camvid_images": Table(CAMVID, ("--frames", "1"), against=CAMVID_AGAINST, seeds=(10, 11, 12), camvid=True),
}


def main(argv=None):
    args = parse(argv)
    names = args.names or [name for name, table in TABLES.items() if args.table or not table.camvid or args.camvid]
    for name in names:
        table = TABLES[name]
        store = args.results / f"{name}.json"
        done = json.loads(store.read_text()) if store.exists() else []
        if not args.table:
            done = fill(args, name, table, done, store)
        elif not done and not args.names:
            continue  # nothing was measured yet
        if not done:
            sys.exit(f"accuracy.py: there is no result in {store}; run without --table first.")
        rows = [row for method in table.methods for row in done if row["method"] == method]
        there = {row["method"] for row in rows}
        against = [other for other in table.against if other in there]
        text = [score_tables.scores(rows), *(score_tables.differences(rows, other) for other in against)]
        score_tables.put(args.docs.with_name(table.page or args.docs.name), name, "\n\n".join(text))
        print(f"{name}\n\n" + "\n\n".join(text) + "\n")


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
            if method not in TABLES[name].methods:
                parser.error(f"{name} has no row {method!r}; it has {', '.join(map(repr, TABLES[name].methods))}")
    if args.methods and not args.names:
        parser.error("--methods needs the name of a table")
    return args


def fill(args, name, table, done, store):
    """Run the cells that are missing; every finished one is on disk before the next begins."""
    finished = {(row["method"], row["seed"]) for row in done}
    cells = [(method, seed) for seed in args.seeds or table.seeds for method in args.methods or table.methods]
    missing = [cell for cell in cells if cell not in finished]
    settings = [*table.settings, *(("--data", f"camvid:{args.camvid}") if table.camvid else ())]
    with ThreadPoolExecutor(args.jobs) as pool:
        rows = pool.map(lambda cell: run(args, name, *cell, settings), missing)
        for row in tqdm(rows, total=len(missing), desc=name):
            done.append(row)
            store.parent.mkdir(parents=True, exist_ok=True)
            score_tables.write(store, json.dumps(done, indent=1) + "\n")
    return done


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
