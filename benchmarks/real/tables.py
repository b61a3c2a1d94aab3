"""The table of one shift and one network, in Markdown, from the files of its cells; `grid.py --table` prints it."""

import json
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # where the tables of the other suite are
from score_tables import LEVEL, by_method, error, gains, interval, paired, put, spread

__all__ = ["put", "table"]

AGAINST = "source_only"
# what else is scored: a street whose labels may help to choose settings, and source frames kept back from training
OTHERS = {"choice": "street to choose by", "kept_back": "source"}


def table(folder, order=()):
    """Return scores of each row: mean and deviation over seeds, paired difference to source only, every class.

    Seconds stay in the files: cells that shared a machine with other work took up to three times as long.
    """
    rows = read(folder, order)
    if not rows:
        return f"{folder.parent.name}/{folder.name}: no results yet."
    classes, others = list(rows[0]["per_class"]), [name for name in OTHERS if name in rows[0]]
    titles = ["row", "seeds", "mIoU", f"minus {AGAINST}", f"{LEVEL:.0%} interval", *classes,
              *(OTHERS[name] for name in others)]  # fmt: skip
    lines = [cells(rows, name, classes, others) for name in by_method(rows)]
    body = "\n".join(f"| {' | '.join(line)} |" for line in (titles, ["---"] * len(titles), *lines))
    said = "".join(f"- {line}\n" for line in decisions(rows))
    return f"Shift {rows[0]['shift']}, {rows[0]['network']}\n\n{body}\n\n{said}\n{made_with(rows)}"


def decisions(rows):
    """Return what recipes have decided for themselves, row by row and seed by seed."""
    return [
        f"{row['method']}, seed {row['seed']}: {one}."
        for row in rows if row["method"] == "dastc"
        for one in row.get("decisions", [])
    ]  # fmt: skip


def read(folder, order=()):
    """Return the results in a folder, in the order of their rows, as the tables of the other suite want them."""
    rows = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    places = {name: place for place, name in enumerate(order)}
    return sorted((row | {"method": row["row"]} for row in rows), key=lambda row: places.get(row["row"], len(places)))


def cells(rows, name, classes, others):
    own = list(by_method(rows)[name].values())
    each = " / ".join(f"{row['miou']:.1f}" for row in own)
    scores = [spread([row["per_class"][label] for row in own]) for label in classes]
    scores += [spread([row[other]["miou"] for row in own]) for other in others]
    mean = f"**{spread([row['miou'] for row in own])}** ({each})"
    return [name, str(len(own)), mean, *difference(rows, name), *scores]


def difference(rows, name):
    """Return the mean difference to source only over the seeds that both have, and its interval."""
    pair = None if name == AGAINST else paired(rows, name, AGAINST)
    return [error(gains(*pair)), interval(*pair)] if pair else ["-", "-"]


def made_with(rows):
    def all_of(key):
        return ", ".join(sorted({str(row[key]) for row in rows}))

    versions = ", ".join(f"{name} {version}" for name, version in rows[0]["versions"].items())
    commits = ", ".join(sorted({(row["commit"] or "unknown")[:10] for row in rows}))
    pace = f"lr {all_of('lr')}, {all_of('pace')} of it for the backbone"
    return f"{all_of('steps')} steps, {pace}; {all_of('hardware')}; {versions}; commit {commits}."
