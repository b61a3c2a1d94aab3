"""What the command lines of trainings have in common: arguments, and errors of one line."""

import argparse
import ast
import codecs
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["add_run_arguments", "any_number", "mapping", "names", "positive", "reported"]

_LONGEST = 600


@contextmanager
def reported(program: str, *also: type[Exception]) -> Iterator[None]:
    """Turn what a user can put right into one line and an exit code; anything else is a bug, and keeps its traceback.

    The codes: 2 for arguments and data, 1 for a training that went wrong, 130 for Ctrl-C.

    Args:
        program: Stands before the line.
        also: Kinds of errors that a user can put right, beside ``ValueError`` and ``OSError``.
    """
    kinds: tuple[type[Exception], ...] = (ValueError, OSError, *also)
    try:
        yield
    except kinds as error:
        sys.stderr.write(f"{program}: {_one_line(error)}\n")
        raise SystemExit(2) from error
    except FloatingPointError as error:
        sys.stderr.write(f"{program}: {error}\n")
        raise SystemExit(1) from error
    except KeyboardInterrupt as error:
        raise SystemExit(130) from error


def _one_line(error: Exception) -> str:
    said = " ".join(str(error).split())  # torch lists each weight that does not fit in a line of its own
    return said if len(said) <= _LONGEST else f"{said[:_LONGEST]} ..."


def add_run_arguments(parser: Any, *, out: str, save_every: int, rare: Callable[[str], str] = str) -> None:
    """Add the arguments that every training has, to a parser or a group of one.

    Args:
        parser: To which they are added.
        out: The folder of the run, if none is given.
        save_every: Steps between checkpoints, if not given.
        rare: Makes the help of arguments that few need.
    """
    parser.add_argument("--seed", type=int, default=0, metavar="N", help=rare("of all draws"))
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda ...; auto: the GPU if any")
    parser.add_argument("--out", type=Path, default=Path(out), metavar="DIR", help=f"of this run alone; {out}")
    parser.add_argument(
        "--save-every", type=positive, default=save_every, metavar="N", help=rare("steps between checkpoints")
    )
    parser.add_argument("--resume", action="store_true", help="go on from what is in DIR, if there is something")
    parser.add_argument("--overwrite", action="store_true", help=rare("remove the run that is in DIR"))


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    return _at_least(1, text)


def any_number(text: str) -> int:
    """Read a whole number of at least 0."""
    return _at_least(0, text)


def _at_least(least: int, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}; got {text!r}")
    return value


def names(text: str) -> tuple[str, ...]:
    """Read different names between commas, or from a text file with a name a line.

    A single word that looks like a file, such as ``classes.txt``, is one; with a comma after it, it is a name.
    """
    single = "," not in text and (Path(text).suffix or Path(text).name != text)
    listed = _lines(Path(text)) if single else text.split(",")
    found = tuple(name.strip() for name in listed if name.strip())
    twice = [name for name, times in Counter(found).items() if times > 1]
    if twice or not found:
        got = f"{', '.join(twice)} twice" if twice else "none"
        raise argparse.ArgumentTypeError(f"must name each class once, and at least one; got {got} in {text!r}")
    return found


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise argparse.ArgumentTypeError(
            f"must be names between commas, or a text file that is there; got {str(path)!r}, and there is none. "
            "A class of this name is written with a comma after it"
        )
    try:
        content = path.read_bytes()
        # editors mark the encoding at the beginning, which is not a part of the first name
        wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise argparse.ArgumentTypeError(f"must be a file of text in UTF-8; got {str(path)!r} ({error})") from error
    lines = [line for line in text.splitlines() if line.strip()]
    if any("," in line or "\0" in line for line in lines[1:]):
        raise argparse.ArgumentTypeError(f"must be a file with one name a line; got {str(path)!r} with commas or zeros")
    return lines if len(lines) > 1 else ",".join(lines).split(",")


class mapping:
    """Read a dict in Python's form, as the ``type`` of an argument.

    Args:
        keys: Of what type its keys are.
        values: Of which types its values may be; ``object`` for any.
        example: For the message.
    """

    def __init__(self, keys: type, values: type | tuple[type, ...], example: str) -> None:
        self.keys, self.values, self.example = keys, values, example

    def __call__(self, text: str) -> dict[Any, Any]:
        """Return the dict."""
        try:
            found = ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            found = None
        if isinstance(found, dict) and all(self._fits(*pair) for pair in found.items()):
            return found
        raise argparse.ArgumentTypeError(f"must be a dict such as {self.example}; got {text!r}")

    def _fits(self, key: object, value: object) -> bool:
        fits = isinstance(key, self.keys) and isinstance(value, self.values)
        return fits and not (isinstance(value, bool) and self.values is not object)  # True is an int of Python's
