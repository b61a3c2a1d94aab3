"""Figures of scores over seeds: where people would rather look than read a table."""

import statistics

import matplotlib.pyplot as plt
from score_tables import LEVEL, bounds, by_method, gains, paired


def draw_scores(rows, path):
    """Draw each method's mIoU as one dot for each seed and a stroke at their mean; methods from the top, as given."""
    methods = by_method(rows)
    figure, axis = lines(methods)
    for at, own in enumerate(methods.values()):
        values = [row["miou"] for row in own.values()]
        axis.plot(values, [at] * len(values), "o", color="C0", markersize=4, alpha=0.6)
        axis.plot([statistics.mean(values)] * 2, [at - 0.3, at + 0.3], color="C3", linewidth=2)
    axis.set_xlabel("mIoU in percent: each seed, and the mean")
    save(figure, path)


def draw_differences(rows, against, path):
    """Draw how each variant of a recipe differs from it, best on top: each seed, mean and interval."""
    variants = [name for name in by_method(rows) if name != against and name.startswith(against)]
    pairs = {name: pair for name in variants if (pair := paired(rows, name, against))}
    gaps = {name: gains(*pair) for name, pair in pairs.items()}
    ordered = sorted(gaps, key=lambda name: -statistics.mean(gaps[name]))
    figure, axis = lines(ordered)
    axis.axvline(0, color="0.7", linewidth=1)
    for at, name in enumerate(ordered):
        axis.plot(gaps[name], [at] * len(gaps[name]), "o", color="0.7", markersize=3)
        between = bounds(*pairs[name])
        colour = "0.3" if between is None or between[0] <= 0 <= between[1] else "C2" if between[0] > 0 else "C3"
        if between is not None:
            axis.plot(between, [at, at], color=colour, linewidth=2)
        axis.plot(statistics.mean(gaps[name]), at, "D", color=colour, markersize=5)
    axis.set_xlabel(f"mIoU minus that of {against}: each seed, mean and {LEVEL:.0%} interval")
    save(figure, path)


def lines(names):
    """Return an axis with one line of text for each name, the first on top."""
    figure, axis = plt.subplots(figsize=(9, 0.9 + 0.27 * len(names)), layout="constrained")
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.grid(axis="x", color="0.9")
    axis.set_axisbelow(True)
    return figure, axis


def save(figure, path):
    # without a date and with fixed ids, the same numbers give the same file
    path.parent.mkdir(parents=True, exist_ok=True)
    with plt.rc_context({"svg.hashsalt": "dastc"}):
        figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
