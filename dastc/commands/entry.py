"""From the words of a command line to the command that they name."""

import argparse
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module

import dastc
from dastc.training.command_line import reported

__all__ = ["main"]

_COMMANDS = {
    "demo": "adapt a small model between two procedural domains, and draw a picture",
    "check": "open all files of a data set, and say what is wrong with them",
    "adapt": "adapt a model from labelled pictures to pictures or videos without labels",
    "segment": "segment a video, or a folder of pictures",
    "compare": "score models on labelled frames: a table and a picture",
    "info": "show versions, devices, kernels and extras",
}
_EXAMPLE = 'example:\n  pip install "dastc[examples]" && dastc demo'


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``dastc`` with the words of a command line.

    Wrong arguments or data end with exit code 2 and one line that says what is wrong; a training that went wrong with
    1; Ctrl-C with 130.

    Args:
        argv: The words after ``dastc``; ``None`` takes those of this process.

    Raises:
        SystemExit: With the exit code, if it is not 0, or after ``--help``.

    Example:
        >>> main(["--version"])
        Traceback (most recent call last):
        ...
        SystemExit: 0
    """
    words = list(sys.argv[1:] if argv is None else argv)
    name = _parser().parse_args(words[:1] or ["--help"]).command
    program = f"dastc {name}"
    with reported(program), _plain_warnings(program):
        import_module(f"dastc.commands.{name}").main(words[1:], program)


def _parser() -> argparse.ArgumentParser:
    listed = "\n".join(f"  {name:<9}{does}" for name, does in _COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="dastc",
        usage="dastc COMMAND [options]",
        description=f"Domain-adaptive segmentation of video and images.\n\ncommands:\n{listed}",
        epilog=f"{_EXAMPLE}\n\n`dastc COMMAND --help` shows the options of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"dastc {dastc.__version__}")
    parser.add_argument("command", choices=_COMMANDS, metavar="COMMAND", help=argparse.SUPPRESS)
    return parser


@contextmanager
def _plain_warnings(program: str) -> Iterator[None]:
    """Show warnings as a line of the program, without the place in its source."""
    before = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: f"{program}: {message}\n"
    try:
        yield
    finally:
        warnings.formatwarning = before
