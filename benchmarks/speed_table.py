"""The table of speed.py, in Markdown."""

from meters import PARTS
from speed_cases import COMPILED, FUSED, PLAIN, REFERENCE
from speed_step import OWN, WHOLE

NAMES = {"cpu": "CPU", "cuda": "GPU"}
HEAD = (
    "| | contender | forward, ms | backward, ms | both, ms | times as fast as plain | GB/s | of a copy | extra MiB "
    "| first call, s |"
)


def page(results):
    """Return what stands in the docs: a table for each device that was measured, and which was not."""
    parts = [f"### On a {NAMES[device]}\n\n{text}" for device, text in each(results).items()]
    if "cuda" not in results:
        parts.append("### On a GPU\n\nNothing was measured on a GPU: these rows are empty.")
    return "\n\n".join(parts)


def each(results):
    """Return the tables of each device."""
    texts = {}
    for device, entries in results.items():
        lines = [HEAD, "|---" * 10 + "|"]
        lines += [rows(op, entry) for op, entry in entries.items()]
        parts = ["\n".join(lines), *(shares(entry["networks"]) for entry in entries.values() if "networks" in entry)]
        if device == "cuda":
            for other, called in ((REFERENCE, "the reference"), (COMPILED, "the compiled reference")):
                names = ", ".join(f"`{name}`" for name in faster_than(other, entries)) or "none"
                parts.append(f"Kernels that beat {called} in every case: {names}.")
        texts[device] = "\n\n".join([*parts, circumstances(entries)])
    return texts


def rows(op, entry):
    lines = []
    for case, contenders in entry["cases"].items():
        plain = next((row for row in contenders if row["name"] == PLAIN), {})
        for row in contenders:
            name = f"`{op}`, {case}" if row is contenders[0] else ""
            lines.append(f"| {name} | {row['name']} | {cells(row, plain)} |")
    return "\n".join(lines)


def cells(row, plain):
    if "absent" in row:
        return f"{row['absent']} |" + " |" * 6
    whole = row.get("both", row["forward"])
    ratio = plain.get("both", plain.get("forward", whole))["median_ms"] / whole["median_ms"]
    speed = (f"{whole['gb_per_s']:.3g}", f"{100 * whole['of_copy']:.2g} %") if "gb_per_s" in whole else ("-", "-")
    times = [timing(row[part]) if part in row else "-" for part in PARTS]
    return " | ".join([*times, f"{ratio:.2g}", *speed, f"{row['peak_extra_mib']:.1f}", f"{row['first_call_s']:.1f}"])


def timing(part):
    middle, low, high = (figure(part[name]) for name in ("median_ms", "p10_ms", "p90_ms"))
    return f"{middle} ({low} to {high})"


def figure(x):
    return f"{x:.0f}" if x >= 100 else f"{x:.3g}"


def shares(networks):
    lines = ["| a training step with a network | whole step, ms | DA-STC's own work, ms | share |", "|---|---|---|---|"]
    for row in networks:
        if "absent" in row:
            lines.append(f"| {row['name']} | {row['absent']} | | |")
        else:
            lines.append(f"| {row['name']} | {timing(row[WHOLE])} | {timing(row[OWN])} | {100 * row['share']:.2g} % |")
    return "\n".join(lines)


def faster_than(other, entries):
    """Return the operators whose kernel is faster than another contender in every case.

    Those faster than the reference are for "auto": it is what a call without the kernel runs, compiled or not, since
    the compiler does not look into operators.
    """
    names = []
    for op, entry in entries.items():
        cases = [{row["name"]: row for row in contenders} for contenders in entry["cases"].values()]
        if op != "step" and all(faster(case[FUSED], case[other]) for case in cases):
            names.append(op)
    return names


def faster(one, other):
    if "absent" in one or "absent" in other:
        return False
    parts = [part for part in ("forward", "both") if part in one]
    return all(one[part]["median_ms"] < other[part]["median_ms"] for part in parts)


def circumstances(entries):
    """Say on what all this was measured; operators may have been measured at different times."""
    groups = {}
    for op, entry in entries.items():
        hardware, found = entry["hardware"], entry["versions"]
        where = hardware["gpu"] or f"{hardware['cpu']}, {entry['threads']} threads"
        changes = " with uncommitted changes" if entry["uncommitted_changes"] else ""
        text = f"{where}; {', '.join(f'{name} {version}' for name, version in found.items())}; {entry['dtype']}; "
        text += f"commit {entry['commit'][:10]}{changes}"
        groups.setdefault(text, []).append((op, entry))
    lines = []
    for text, group in groups.items():
        speeds = sorted(entry["copy_gb_per_s"] for _, entry in group)
        copy = f"a copy ran at {speeds[0]:.3g} to {speeds[-1]:.3g} GB/s"
        loads = [entry["load_average"][0] for _, entry in group if entry["load_average"]]
        if loads:
            cores = group[0][1]["hardware"]["logical_cores"]
            copy += f"; load average {min(loads):.2g} to {max(loads):.2g} on {cores} cores"
        names = "" if len(groups) == 1 else f"{', '.join(f'`{op}`' for op, _ in group)}: "
        lines.append(f"{names}{text}; {copy}.")
    return "\n\n".join(lines)
