"""What the parsers of all commands have in common: a help that fits a screen, and the arguments that name data."""

import argparse
from collections.abc import Sequence
from typing import Any

from dastc.training.command_line import mapping, names, positive

__all__ = ["Parser", "add_clips", "add_model", "add_reading"]


class Parser(argparse.ArgumentParser):
    """A parser whose ``--help`` shows what is needed most, and ``--help-all`` the rest, too.

    Args:
        prog: The name of the program.
        usage: What stands after it.
        about: What it does.
        example: A command line to copy, without the program.
        argv: The words that will be parsed.
    """

    def __init__(self, prog: str, *, usage: str, about: str, example: str, argv: Sequence[str]) -> None:
        self.everything, self._hides = "--help-all" in argv, False
        super().__init__(
            prog=prog, usage=f"{prog} {usage}".strip(), description=about,
            epilog=f"example:\n  {prog} {example}".rstrip(), formatter_class=_Help, add_help=False,
        )  # fmt: skip
        self.add_argument("-h", "--help", action="help", help=argparse.SUPPRESS)
        self.add_argument("--help-all", action="help", help=argparse.SUPPRESS)

    def rare(self, text: str) -> str:
        """Return the help of an argument that few need: shown by ``--help-all`` alone."""
        self._hides = not self.everything
        return text if self.everything else argparse.SUPPRESS

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parse the words, and note the program's name for messages."""
        self.epilog = f"{self.epilog}\n--help-all shows further options." if self._hides else self.epilog
        args = self.parse_args(argv)
        args.program = self.prog
        return args


class _Help(argparse.RawDescriptionHelpFormatter):
    """Says ``PATH ...`` where argparse would say ``PATH [PATH ...]``, and has room for it."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30)

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        if action.nargs == "+" and isinstance(action.metavar, str):
            return f"{action.metavar} ..."
        return super()._format_args(action, default_metavar)


def add_clips(parser: Parser, group: Any, name: str, help: str, *, required: bool, labelled: bool) -> None:
    """Add the arguments ``--NAME``, ``--NAME-labels``, ``--NAME-images`` and ``--NAME-flow``."""
    group.add_argument(f"--{name}", nargs="+", required=required, metavar="PATH", help=help)
    shown = "folder or pattern of its labels" if labelled else parser.rare("if some of it is labelled")
    group.add_argument(f"--{name}-labels", nargs="+", metavar="PATH", help=shown)
    group.add_argument(f"--{name}-images", metavar="PATTERN", help=parser.rare("of pictures, in a folder"))
    group.add_argument(f"--{name}-flow", metavar="PATTERN", help=parser.rare("of flow files, for --flow folder"))


def add_reading(parser: Parser, group: Any, *, classes: bool) -> None:
    """Add the arguments that say how files become clips."""
    group.add_argument(
        "--classes", type=names, required=classes, metavar="A,B,...", help="or a text file with a name a line"
    )
    group.add_argument(
        "--label-map",
        type=mapping(int, int, "'{7: 0, 26: 1}'"),
        metavar="DICT",
        help="ids in files to classes: '{7: 0}'",
    )
    group.add_argument(
        "--other-ids", choices=("error", "ignore"), default="error", help=parser.rare("what the map does not name")
    )
    group.add_argument("--size", type=positive, nargs=2, metavar=("H", "W"), help="to resize to")
    group.add_argument(
        "--frames", type=positive, default=2, metavar="T", help=parser.rare("of a clip; 1 for single images")
    )
    group.add_argument(
        "--interval", type=positive, default=1, metavar="N", help=parser.rare("from one frame of a clip to the next")
    )


def add_model(parser: Parser, group: Any) -> None:
    """Add the arguments that name the model of a checkpoint."""
    group.add_argument("--model", metavar="MODULE:CALLABLE", help="as in training; not needed for TinySegmenter")
    group.add_argument(
        "--model-args", type=mapping(str, object, "'{\"width\": 64}'"), metavar="DICT",
        help=parser.rare("if not as in training"),
    )  # fmt: skip
    group.add_argument("--teacher", action="store_true", help="take the teacher, the average over the training")
