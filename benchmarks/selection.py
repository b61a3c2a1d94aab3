"""Choose between models without labels: how well do scores that need none rank what accuracy.py trained?

    python benchmarks/selection.py street --runs runs/accuracy   # scores the checkpoints that are there
    python benchmarks/selection.py street --table                # write the table from the committed scores alone

The scores are taken on clips of the target's `val` split whose labels are dropped first; beside them stands the mIoU of
the same model in benchmarks/results/accuracy/NAME.json. Results: benchmarks/results/selection/NAME.json; table:
docs/results.md, between the marks of selection_NAME.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

import score_tables
from accuracy import ROOT, TABLES, folder
from example import load_example
from scipy.stats import spearmanr
from tqdm import tqdm

from dastc.adapt import evaluate_without_labels, load_model
from dastc.adapt.label_free import LabelFreeScores
from dastc.training.step_batches import in_order

# a good model has little entropy, much of the others
BETTER = {"entropy": -1, "diversity": 1, "consistency": 1, "density": 1}


def main(argv=None):
    args = parse(argv)
    store = args.results / "selection" / f"{args.name}.json"
    rows = json.loads(store.read_text()) if store.exists() else []
    if not args.table:
        rows = fill(args, rows)
        store.parent.mkdir(parents=True, exist_ok=True)
        score_tables.write(store, json.dumps(rows, indent=1) + "\n")
    if not rows:
        sys.exit(f"selection.py: there is no score in {store}; run without --table first.")
    text = f"{means(rows)}\n\n{ranks(rows)}"
    score_tables.put(args.docs, f"selection_{args.name}", text, script="selection.py")
    print(text)


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    streets = [name for name, table in TABLES.items() if not (table.camvid or table.of)]
    parser.add_argument("name", choices=streets, help="the table of accuracy.py whose models are scored")
    parser.add_argument("--runs", type=Path, default=Path("runs/accuracy"), help="where accuracy.py left checkpoints")
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs/results.md")
    parser.add_argument("--table", action="store_true", help="score nothing")
    return parser.parse_args(argv)


def fill(args, rows):
    """Score what has a result and a checkpoint and no score yet."""
    results = args.results / "accuracy" / f"{args.name}.json"
    if not results.exists():
        sys.exit(f"selection.py: there is no {results}; run accuracy.py {args.name} first.")
    finished = {(row["method"], row["seed"]) for row in rows}
    missing = [row for row in json.loads(results.read_text()) if (row["method"], row["seed"]) not in finished]
    example, batches = load_example(), {}
    for row in tqdm(missing, desc=args.name):
        recipe, *own = row["method"].split(" ")
        path = folder(args.runs, args.name, row["method"], row["seed"]) / f"{example.file_name(recipe)}.pt"
        if not path.exists():
            continue
        settings = (*TABLES[args.name].settings, *own)
        given = example.parse([*settings, "--split", "val", "--eval-clips", str(args.clips)])
        if settings not in batches:
            clips = example.datasets(given)[2]
            batches[settings] = [clip._replace(labels=None) for clip in in_order(clips, 4)]
        classes = len(row["per_class"])
        model = example.make_model(given, classes)
        load_model(path, model)
        scores = evaluate_without_labels(model, batches[settings], classes)
        # a collapsed model may have no score: JSON knows no NaN
        named = {name: None if value != value else round(value, 4) for name, value in scores._asdict().items()}
        rows.append({"method": row["method"], "seed": row["seed"], "miou": row["miou"], **named})
    return rows


def means(rows):
    lines = [f"| method | seeds | mIoU | {' | '.join(LabelFreeScores._fields)} |", "|---" * 7 + "|"]
    for method, own in score_tables.by_method(rows).items():
        cells = [f"{statistics.mean(row['miou'] for row in own.values()):.1f}"]
        for name in LabelFreeScores._fields:
            values = [row[name] for row in own.values() if row[name] is not None]
            cells.append(f"{statistics.mean(values):.3g}" if values else "-")
        lines.append(f"| {method} | {len(own)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def ranks(rows):
    """Return how well each score orders all models, and how often its favourite of one seed is the best there is."""
    lines = ["| score | rank correlation with mIoU | mIoU lost by its choice |", "|---|---|---|"]
    seeds = sorted({row["seed"] for row in rows})
    for name, sign in BETTER.items():
        known = [row for row in rows if row[name] is not None]
        lost = []
        for seed in seeds:
            own = [row for row in known if row["seed"] == seed]
            if own:
                chosen = max(own, key=lambda row: sign * row[name])
                lost.append(max(row["miou"] for row in own) - chosen["miou"])
        lines.append(f"| {name} | {order(known, name, sign)} | {score_tables.spread(lost)} |")
    return "\n".join(lines)


def order(rows, name, sign):
    ones, others = [sign * row[name] for row in rows], [row["miou"] for row in rows]
    if len(set(ones)) < 2 or len(set(others)) < 2:
        return "-"  # what is all alike has no order
    return f"{spearmanr(ones, others).statistic:+.2f}"


if __name__ == "__main__":
    main()
