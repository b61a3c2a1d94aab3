"""Watch recipes while they train, and draw what is seen: labels, weights, features and gradients.

    python benchmarks/diagnosis.py            # train, record and draw; a finished recipe is not run again
    python benchmarks/diagnosis.py --draw     # draw from the committed records alone

Trains as examples/adapt_video.py does and looks at the `val` split of StreetClips, true labels of the target included:
for understanding, never for training. Records: benchmarks/results/diagnosis/street.json; figures: docs/figures/.
"""

import argparse
import json
import re
import statistics
from functools import partial
from math import nan
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from example import load_example
from score_figures import save
from tqdm import tqdm

from dastc.adapt import TeacherLabels
from dastc.diagnosis import class_geometry, disagreement, label_quality, loss_gradients, pasted_shares
from dastc.training.records import commit, device_name, versions, write_json
from dastc.training.step_batches import in_order
from dastc.training.train_step import TrainStep

ROOT = Path(__file__).parents[1]
METHODS = ("dacs", "dastc")  # the records hold two more, of recipes that are gone: what led to the warm-up
WATCHED = ("dacs", "dastc", "dastc_paper", "dastc_released")
RULES = ("none", "warped", "averaged")


def main(argv=None):
    args = parse(argv)
    records = json.loads(args.records.read_text()) if args.records.exists() else {}
    if not args.draw:
        example = load_example()
        for method in args.methods:
            if method not in records:
                records[method] = watch(example, method, args)
                args.records.parent.mkdir(parents=True, exist_ok=True)
                write_json(args.records, records)
    args.figures.mkdir(parents=True, exist_ok=True)
    draw_labels(records, args.figures / "labels.svg")
    draw_rules(records, args.figures / "rules.svg")
    draw_classes(records, args.figures / "classes.svg")
    draw_pasted(records, args.figures / "pasted.svg")
    draw_features(records, args.figures / "features.svg")
    draw_gradients(records, args.figures / "gradients.svg")


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--every", type=int, default=60, help="steps between two looks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--settings", nargs=argparse.REMAINDER, default=["--shift", "1"], help="of adapt_video.py")
    parser.add_argument("--records", type=Path, default=ROOT / "benchmarks/results/diagnosis/street.json")
    parser.add_argument("--figures", type=Path, default=ROOT / "docs/figures")
    parser.add_argument("--draw", action="store_true", help="train nothing")
    args = parser.parse_args(argv)
    for method in args.methods:
        if re.split(r"\W", method)[0] not in WATCHED:
            parser.error(
                f"--methods: {method!r} cannot be watched, only {', '.join(WATCHED)}: those fuse and label clips"
            )
    return args


def watch(example, method, ours):
    """Train one recipe and look at it before the first step and then every so often."""
    given = ["--method", method, "--split", "val", "--eval-clips", "24", "--steps", str(ours.steps)]
    args = example.parse([*given, "--seed", str(ours.seed), *ours.settings])
    source, target, scored = example.datasets(args)
    seen = {"source": list(in_order(source, 4, most=24)), "target": list(in_order(scored, 4))}
    recipe, optimizer = example.prepare(method, args, source.clips.label_space)
    batches = example.batches(method, args, source, target)
    step = TrainStep(recipe, optimizer, schedule=example.schedule(args))
    looks = []
    for number in tqdm(range(args.steps), desc=method):
        clips = [domain[number] for domain in batches]
        if number % ours.every == 0 or number == args.steps - 1:
            looks.append({"step": number, **look(recipe, seen, clips)})
        step(number, *clips)
    return {
        "looks": looks, "names": list(source.clips.label_space.names), "seed": args.seed, "steps": args.steps,
        "command": f"python benchmarks/diagnosis.py --methods '{method}'", "versions": versions(),
        "device": device_name(torch.device("cpu")), "commit": commit(),
    }  # fmt: skip


def look(recipe, seen, clips):
    """Measure everything on clips that are not trained on; gradients and pasted shares on the step's own."""
    was, classes, labels = recipe.training, recipe.num_classes, recipe.labels
    recipe.eval()  # looking must not be counted by the class prior
    with torch.no_grad():
        weights = [labels(clip._replace(labels=None)).clip.weights.mean() for clip in seen["target"]]
    quality = partial(label_quality, labels.teacher, seen["target"], classes, threshold=labels.threshold)
    of_rules = {rule: quality(cross_frame=rule)._asdict() for rule in RULES}
    used = quality(cross_frame=labels.cross_frame, adjust=labels.adjust)
    geometry = class_geometry(recipe.model, "neck", seen["source"], seen["target"], classes)
    differs = disagreement(labels.teacher, seen["target"], classes)
    recipe.train(was)
    source, target = clips
    fusion = next(view.fusion for view in recipe.views if hasattr(view, "fusion"))
    pulls = loss_gradients(recipe, source, target)
    pasted = pasted_shares(fusion, source, own_labels(labels.teacher, target), classes)
    return {
        "labels": of_rules, "used": used._asdict(), "disagreement": differs._asdict(),
        "weight": float(torch.stack(weights).mean()), "geometry": geometry._asdict(),
        "gradients": {term: pull._asdict() for term, pull in pulls.items()}, "pasted": pasted._asdict(),
    }  # fmt: skip


def own_labels(teacher, clip):
    return TeacherLabels(teacher)(clip).clip


def curve(axis, records, value, **style):
    for number, (method, record) in enumerate(records.items()):
        steps = [one["step"] for one in record["looks"]]
        axis.plot(steps, [value(one) for one in record["looks"]], color=f"C{number}", label=broken(method), **style)
    axis.set_xlabel("step")


def broken(method):
    return re.sub(r",(?=[a-z])", ",\n  ", method)  # before each name: a legend is narrow


def draw_labels(records, path):
    figure, axes = plt.subplots(2, 3, figsize=(12, 6.5), layout="constrained")
    shown = {
        "accuracy of the labels that are learnt": lambda one: one["used"]["accuracy"],
        "calibration error": lambda one: one["used"]["calibration_error"],
        "mean weight of target pixels": lambda one: one["weight"],
        "share of confident pixels": lambda one: one["used"]["confident"],
        "accuracy where frames disagree: own (line), warped (dots)": lambda one: one["disagreement"]["own"],
        "gain by the previous frame: averaged - own": (
            lambda one: one["labels"]["averaged"]["accuracy"] - one["labels"]["none"]["accuracy"]
        ),
    }
    for axis, (title, value) in zip(axes.flat, shown.items(), strict=True):
        curve(axis, records, value)
        axis.set_title(title, fontsize=9)
    curve(axes[1, 1], records, lambda one: one["disagreement"]["warped"], linestyle=":")
    axes[0, 0].legend(fontsize=8)
    save(figure, path)


def draw_rules(records, path):
    """Draw, for the last recipe, what a frame's labels are worth by where they come from, without the class prior."""
    method, record = list(records.items())[-1]
    looks = record["looks"][1:] or record["looks"]  # an untrained net squeezes the rest
    steps = [one["step"] for one in looks]
    figure, axes = plt.subplots(1, 4, figsize=(13, 3.4), layout="constrained")
    shown = ("accuracy", "calibration_error", "accuracy_of_moving", "accuracy_of_still")
    for axis, name in zip(axes, shown, strict=True):
        for rule, label in zip(RULES, ("current", "previous, along the flow", "mean of both"), strict=True):
            axis.plot(steps, [one["labels"][rule][name] for one in looks], label=label)
        axis.set_title(f"{name}, {method}".replace("_", " "), fontsize=9)
        axis.set_xlabel("step")
    axes[0].legend(fontsize=8)
    save(figure, path)


def bars(axis, records, heights):
    """Draw a bar of each recipe for each class."""
    for number, (method, record) in enumerate(records.items()):
        at = [i + 0.8 * (number + 0.5) / len(records) - 0.4 for i in range(len(record["names"]))]
        axis.bar(at, heights(record["looks"]), 0.8 / len(records), label=broken(method))
        axis.set_xticks(range(len(record["names"])), record["names"])


def pasted_percent(context, looks):
    return [100 * statistics.mean(shares) for shares in zip(*(one["pasted"][context] for one in looks), strict=True)]


def draw_pasted(records, path):
    """Draw the share of the picture that each class takes among what is pasted, as a mean over all looks."""
    figure, axes = plt.subplots(2, 1, figsize=(10, 6), layout="constrained", sharex=True, sharey=True)
    for axis, context in zip(axes, ("in_source", "in_target"), strict=True):
        bars(axis, records, partial(pasted_percent, context))
        axis.set_yscale("log")
        axis.set_ylabel(f"pasted {context.replace('_', ' ')} context,\n% of the picture", fontsize=9)
    axes[0].legend(fontsize=7, ncols=2)
    save(figure, path)


def draw_classes(records, path):
    figure, axes = plt.subplots(2, 1, figsize=(10, 6), layout="constrained", sharex=True)
    for axis, measure in zip(axes, ("recall", "precision"), strict=True):
        bars(axis, records, lambda looks, measure=measure: looks[-1]["used"][measure])
        axis.set_ylabel(f"{measure} of the labels, last look", fontsize=9)
    axes[0].legend(fontsize=8, ncols=2)
    save(figure, path)


def draw_features(records, path):
    figure, axes = plt.subplots(1, 4, figsize=(13, 3.4), layout="constrained")
    shown = ("within_source", "within_target", "between_target", "across")
    for axis, name in zip(axes, shown, strict=True):
        curve(axis, records, lambda one, name=name: one["geometry"][name])
        axis.set_title(f"{name} (1 - cosine)".replace("_", " "), fontsize=9)
    axes[0].legend(fontsize=7)
    save(figure, path)


def draw_gradients(records, path):
    figure, axes = plt.subplots(2, len(records), figsize=(3.4 * len(records), 5.5), layout="constrained", squeeze=False)
    for column, (method, record) in zip(axes.T, records.items(), strict=True):
        steps = [one["step"] for one in record["looks"]]
        for axis, measure in zip(column, ("norm", "cosine"), strict=True):
            for term in record["looks"][-1]["gradients"]:
                values = [one["gradients"].get(term, {}).get(measure, nan) for one in record["looks"]]  # warm-up
                axis.plot(steps, values, label=term)
            axis.set_ylabel(f"{measure} of the gradient", fontsize=9)
            axis.set_xlabel("step")
        column[0].set_yscale("log")
        column[0].set_title(broken(method), fontsize=8)
        column[0].legend(fontsize=8)
        column[1].axhline(0, color="0.8")
    save(figure, path)


if __name__ == "__main__":
    main()
