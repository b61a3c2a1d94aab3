"""Files found by a pattern such as ``images/{sequence}/{number}.png``."""

import re
from collections.abc import Iterator
from glob import escape
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

from dastc.data.unicode_names import composed

__all__: list[str] = []  # for the data sets of this package

_FIELD = re.compile(r"\{(?P<name>\w*)(?::0?(?P<width>\d+))?\}|(?P<any>\*)")
_FIELDS = ("sequence", "number", "previous")
# letters that two file systems may write in two ways: as one sign, or as a letter and its accent
_TWO_WAYS = re.compile(r"[^\x00-\x7f]+")
_SUFFIX = re.compile(r"\.[A-Za-z0-9]+$")


class Key(NamedTuple):
    """Which frame a file belongs to; for flow perhaps also to which earlier one it leads."""

    sequence: str
    number: int
    previous: int | None = None


def find_files(caller: str, argument: str, root: Path, pattern: str) -> dict[Key, Path]:
    """Find the files below ``root`` that fit a pattern; hidden ones are left out.

    ``{sequence}`` and ``*`` stand for anything without a slash, ``{number}`` and ``{previous}`` for digits, and
    ``{number:05}`` for five of them. What stands twice must be the same. The suffix may be in capitals or not, and
    accents may be signs of their own or not, as they are on a Mac.
    """
    pattern = _tidy(caller, argument, pattern)
    expression = _expression(caller, argument, pattern)
    found: dict[Key, Path] = {}
    for path in sorted(_candidates(root, pattern)):
        name = composed(path.relative_to(root).as_posix())
        match = expression.fullmatch(name)
        if match is None or any(part.startswith(".") for part in name.split("/")):
            continue
        fields = match.groupdict()
        previous = fields.get("previous")
        key = Key(
            fields.get("sequence") or "", int(fields.get("number") or 0), None if previous is None else int(previous)
        )
        other = found.setdefault(key, path)
        if other is not path:
            raise ValueError(
                f"{caller}: `{argument}` must find each frame once; got {other} and {path} by {pattern!r}."
                f"{_alike(root, other, path)}"
            )
    return found


def fields_of(pattern: str) -> set[str]:
    """Return the names of the fields in a pattern."""
    return {match["name"] for match in _FIELD.finditer(pattern)} - {None}


def _tidy(caller: str, argument: str, pattern: str) -> str:
    """Return the pattern as names are compared with it; refuse what leads out of the root."""
    if PurePosixPath(pattern).is_absolute() or PureWindowsPath(pattern).is_absolute():
        raise ValueError(f"{caller}: `{argument}` must be relative to the root folder; got {pattern!r}.")
    if "\\" in pattern:
        raise ValueError(f"{caller}: `{argument}` must separate folders by /; got {pattern!r}.")
    parts = [part for part in composed(pattern).split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ValueError(
            f"{caller}: `{argument}` must stay in the root folder; got {pattern!r}. Give a root further up."
        )
    if "**" in parts:
        raise ValueError(
            f"{caller}: `{argument}` must name every folder, by `*` where its name does not matter; got {pattern!r}."
        )
    return "/".join(parts)


def _alike(root: Path, one: Path, other: Path) -> str:
    a, b = (path.relative_to(root).as_posix() for path in (one, other))
    if composed(a) == composed(b):
        return " The names differ in Unicode's form alone, composed and decomposed. Remove one of them."
    return ""


def _expression(caller: str, argument: str, pattern: str) -> re.Pattern[str]:
    text, end, seen = "", 0, set()
    for match in _FIELD.finditer(pattern):
        text += re.escape(pattern[end : match.start()])
        end, name = match.end(), match["name"]
        if match["any"]:
            text += "[^/]*"
            continue
        if name not in _FIELDS:
            known = ", ".join(f"{{{field}}}" for field in _FIELDS)
            raise ValueError(
                f"{caller}: `{argument}` may have the fields {known}, and *; got {match[0]} in {pattern!r}."
            )
        digits = rf"\d{{{match['width']}}}" if match["width"] else r"\d+"
        text += f"(?P={name})" if name in seen else f"(?P<{name}>{'[^/]+' if name == 'sequence' else digits})"
        seen.add(name)
    suffix = _SUFFIX.search(pattern, end)
    last = len(pattern) if suffix is None else suffix.start()
    return re.compile(f"{text}{re.escape(pattern[end:last])}(?i:{re.escape(pattern[last:])})")


def _candidates(root: Path, pattern: str) -> Iterator[Path]:
    # digits are matched later: a glob cannot tell them
    parts, end = [], 0
    suffix = _SUFFIX.search(pattern)
    last = len(pattern) if suffix is None else suffix.start()
    for match in _FIELD.finditer(pattern):
        parts += [_literal(pattern[end : match.start()]), "*"]
        end = match.end()
    parts += [_literal(pattern[end:last]), *(f"[{c}{c.swapcase()}]" if c.isalpha() else c for c in pattern[last:])]
    # two fields without a separator are one star: two of them mean something else
    return root.glob(re.sub(r"\*+", "*", "".join(parts)))


def _literal(text: str) -> str:
    return "*".join(map(escape, _TWO_WAYS.split(text)))
