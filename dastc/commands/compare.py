"""``dastc compare``: score models on labelled frames, and draw what they predict."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dastc.adapt import evaluate
from dastc.commands.arguments import Parser, add_clips, add_model, add_reading
from dastc.commands.clip_sources import clips_of
from dastc.commands.extras import need
from dastc.commands.flows import FLOWS, with_flow
from dastc.commands.panel import draw_panel
from dastc.commands.score_table import scores_of, table
from dastc.commands.trained_model import about_of, label_space, trained_model
from dastc.data import LabelSpace, StreetClips
from dastc.data.spaces import STREET
from dastc.training.command_line import positive, reported
from dastc.training.progress import say
from dastc.training.ranks import device_of
from dastc.training.records import device_name, versions, write_json
from dastc.training.run_folder import make_writable
from dastc.training.step_batches import in_order

__all__ = ["main"]

_STREET_CLIPS = 60


def main(argv: Sequence[str], program: str) -> None:
    """Run the command."""
    args = _parse(argv, program)
    with reported(program, RuntimeError):  # of files and libraries
        need("examples", program)
        device = device_of(args.device)
        abouts = {path: about_of(path) for path in args.checkpoints}
        space = _space(abouts, args.classes)
        make_writable(args.out)
        clips = _clips(args, space, next(iter(abouts.values())), device)
        models = _models(args, abouts, device)
    _compare(args, models, clips, space, device)


def _parse(argv: Sequence[str], program: str) -> argparse.Namespace:
    parser = Parser(
        program, usage="CHECKPOINT ... --data PATH ... [options]", argv=argv,
        about="Score models on labelled frames: a table, DIR/compare.json, and DIR/compare.png\n"
        "with what they predict. Classes are those of the checkpoints.",
        example="runs/a/last.pt runs/b/last.pt --data drive --data-labels ids",
    )  # fmt: skip
    parser.add_argument(
        "checkpoints", nargs="+", type=Path, metavar="CHECKPOINT", help="of `dastc adapt` or `dastc demo`"
    )
    add_clips(parser, parser, "data", "folders, patterns or videos; street: StreetClips", required=True, labelled=True)
    add_reading(parser, parser, classes=False)
    parser.add_argument(
        "--flow", choices=FLOWS, default="none", metavar="KIND", help=parser.rare("for models that fuse frames")
    )
    add_model(parser, parser)
    parser.add_argument("--rows", type=positive, default=4, metavar="N", help="of the picture; 4")
    parser.add_argument("--out", type=Path, default=Path("runs/compare"), metavar="DIR", help="runs/compare")
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda ...; auto: the GPU if any")
    return parser.parse(argv)


def _space(abouts: Mapping[Path, Mapping[str, Any]], named: Sequence[str] | None) -> LabelSpace:
    """Return the classes of the checkpoints, which must be the same."""
    spaces = {path: label_space(about) for path, about in abouts.items()}
    first, space = next(iter(spaces.items()))
    for what, names in [*((path, other.names) for path, other in spaces.items()), ("--classes", named or space.names)]:
        if tuple(names) != space.names:
            raise ValueError(
                f"{what} must have the classes of {first}, {','.join(space.names)}; got {','.join(names)}. "
                "Compare models of the same classes."
            )
    return space


def _clips(args: argparse.Namespace, space: LabelSpace, about: Mapping[str, Any], device: torch.device) -> Any:
    args.size = args.size or about.get("size")
    if args.data == ["street"]:
        if space.names != STREET.names:
            raise ValueError(f"--data street has the classes {','.join(STREET.names)}; got {','.join(space.names)}.")
        return StreetClips(
            "target", split="test", length=_STREET_CLIPS, size=args.size or (96, 160), frames=args.frames
        )
    clips = clips_of(args, "data", classes=space)
    return with_flow(clips, args.flow if args.frames > 1 else "none", args.out / "flow", device)


def _models(
    args: argparse.Namespace, abouts: Mapping[Path, Mapping[str, Any]], device: torch.device
) -> dict[str, nn.Module]:
    given = {"model": args.model, "arguments": args.model_args, "teacher": args.teacher}
    names = _names(list(abouts))
    return {name: trained_model(path, abouts[path], **given).to(device) for name, path in names.items()}


def _names(paths: Sequence[Path]) -> dict[str, Path]:
    """Return the shortest ends of paths that tell them apart, without what all checkpoints are called."""
    for parts in range(1, max(len(path.parts) for path in paths) + 1):
        names = {"/".join(path.with_suffix("").parts[-parts:]): path for path in paths}
        if len(names) == len(paths):
            break
    last = all(path.name == "last.pt" for path in paths)
    return {name.removesuffix("/last") if last else name: path for name, path in names.items()}


def _compare(
    args: argparse.Namespace, models: Mapping[str, nn.Module], clips: Any, space: LabelSpace, device: torch.device
) -> None:
    rows = []
    for name, model in models.items():
        loader = in_order(clips, 1)
        scores = evaluate(
            model, loader, len(space.names), ignore_index=space.ignore_index, classes=space.scored, device=device
        )
        rows.append({"method": name, **scores_of(scores, space)})
    made = {"device": device_name(device), "versions": versions(), "clips": len(clips)}
    write_json(args.out / "compare.json", [row | made for row in rows])
    draw_panel(args.out / "compare.png", models, clips, space, device, rows=args.rows)
    say(f"\n{table(rows, 'model')}\n\n{len(clips)} clips; written to {args.out}: compare.json and compare.png")
