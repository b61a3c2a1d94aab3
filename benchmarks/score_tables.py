"""Tables of scores over seeds, in Markdown, and where they go in a page."""

import statistics
import sys

from scipy.stats import ttest_rel

LEVEL = 0.95


def scores(rows):
    """Return mean and standard deviation over seeds of each method: overall, without one class, and of each class."""
    classes = list(rows[0]["per_class"])
    odd = most_variable(rows)
    lines = [
        f"| method | seeds | mIoU | without {odd} | {' | '.join(classes)} | seconds |",
        "|---" * (len(classes) + 5) + "|",
    ]
    for own in by_method(rows).values():
        each = " / ".join(f"{row['miou']:.1f}" for row in own.values())
        mean = f"**{spread([row['miou'] for row in own.values()])}** ({each})"
        rest = spread([mean_without(row, odd) for row in own.values()])
        cells = [spread([row["per_class"][name] for row in own.values()]) for name in classes]
        seconds = statistics.mean(row["seconds"] for row in own.values())
        (method,) = {row["method"] for row in own.values()}
        lines.append(f"| {method} | {len(own)} | {mean} | {rest} | {' | '.join(cells)} | {seconds:.0f} |")
    first = rows[0]
    versions = ", ".join(f"{name} {version}" for name, version in first["versions"].items())
    commits = ", ".join(sorted({(row["commit"] or "unknown")[:10] for row in rows}))
    lines += ["", f"Data `{first['data']}`, {first['steps']} steps, {first['device']}; {versions}; commit {commits}."]
    return "\n".join(lines)


def differences(rows, against):
    """Return each method's mIoU minus that of another with the same seed: mean, standard error, interval, each seed."""
    odd = most_variable(rows)
    lines = [
        f"| minus {against} | mean ± standard error | {LEVEL:.0%} interval | each seed | without {odd} |",
        "|---|---|---|---|---|",
    ]
    for name in by_method(rows):
        pair = paired(rows, name, against)
        if name == against or not pair:
            continue
        ones, others = pair
        gaps = gains(ones, others)
        rest = [mean_without(one, odd) - mean_without(other, odd) for one, other in zip(ones, others, strict=True)]
        each = " / ".join(f"{gap:+.1f}" for gap in gaps)
        lines.append(f"| {name} | {error(gaps)} | {interval(ones, others)} | {each} | {error(rest)} |")
    return "\n".join(lines)


def paired(rows, name, against):
    """Return the rows of two methods with the seeds that both have, or nothing if there are none."""
    own, other = (by_method(rows).get(method, {}) for method in (name, against))
    seeds = sorted(own.keys() & other.keys())
    return ([own[seed] for seed in seeds], [other[seed] for seed in seeds]) if seeds else None


def gains(ones, others):
    return [one["miou"] - other["miou"] for one, other in zip(ones, others, strict=True)]


def by_method(rows):
    """Return {method: {seed: row}}, methods in the order in which they came, seeds sorted."""
    names = dict.fromkeys(row["method"] for row in rows)
    ordered = sorted(rows, key=lambda row: row["seed"])
    return {name: {row["seed"]: row for row in ordered if row["method"] == name} for name in names}


def most_variable(rows):
    """Return the class that differs most between seeds, over all methods: a mean over classes may hang on it."""

    def variance(name):
        groups = [known([row["per_class"][name] for row in own.values()]) for own in by_method(rows).values()]
        return statistics.mean([statistics.variance(group) if len(group) > 1 else 0.0 for group in groups])

    return max(rows[0]["per_class"], key=variance)


def mean_without(row, name):
    return statistics.mean(known([value for key, value in row["per_class"].items() if key != name]))


def spread(values):
    values = known(values)
    if not values:
        return "-"
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values) if len(values) > 1 else 0:.1f}"


def error(gaps):
    if len(gaps) < 2:
        return f"{gaps[0]:+.1f}"
    return f"{statistics.mean(gaps):+.1f} ± {statistics.stdev(gaps) / len(gaps) ** 0.5:.1f}"


def interval(ones, others):
    between = bounds(ones, others)
    return "-" if between is None else f"{between[0]:+.1f} to {between[1]:+.1f}"


def bounds(ones, others):
    """Return Student's interval of a paired difference; it has no sense for one pair, or where all are equal."""
    if len({round(gain, 9) for gain in gains(ones, others)}) < 2:
        return None
    low, high = ttest_rel(*([row["miou"] for row in rows] for rows in (ones, others))).confidence_interval(LEVEL)
    return low, high


def known(values):
    return [value for value in values if value is not None]


def put(path, name, text, script="accuracy.py"):
    """Replace what stands between the marks of a table."""
    begin, end = f"<!-- {name}: made by benchmarks/{script} -->", f"<!-- end of {name} -->"
    page = path.read_text()
    if begin not in page or end not in page:
        sys.exit(f"{script}: {path} must hold the lines {begin!r} and {end!r}; they say where the table goes.")
    before, after = page.split(begin)[0], page.split(end)[1]
    write(path, f"{before}{begin}\n\n{text}\n\n{end}{after}")


def write(path, text):
    partial = path.with_suffix(".part")
    partial.write_text(text)
    partial.replace(path)
