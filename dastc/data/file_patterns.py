"""Files found by a pattern such as ``images/{sequence}/{number}.png``."""

import re
from collections.abc import Iterator
from glob import escape
from pathlib import Path
from typing import NamedTuple

__all__: list[str] = []  # for the data sets of this package

_FIELD = re.compile(r"\{(?P<name>\w*)(?::0?(?P<width>\d+))?\}|(?P<any>\*)")
_FIELDS = ("sequence", "number", "previous")


class Key(NamedTuple):
    """Which frame a file belongs to; for flow perhaps also to which earlier one it leads."""

    sequence: str
    number: int
    previous: int | None = None


def find_files(caller: str, argument: str, root: Path, pattern: str) -> dict[Key, Path]:
    """Find the files below ``root`` that fit a pattern; hidden ones are left out.

    ``{sequence}`` and ``*`` stand for anything without a slash, ``{number}`` and ``{previous}`` for digits, and
    ``{number:05}`` for five of them. What stands twice must be the same.
    """
    expression = _expression(caller, argument, pattern)
    found: dict[Key, Path] = {}
    for path in sorted(_candidates(root, pattern)):
        name = path.relative_to(root).as_posix()
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
            )
    return found


def fields_of(pattern: str) -> set[str]:
    """Return the names of the fields in a pattern."""
    return {match["name"] for match in _FIELD.finditer(pattern)} - {None}


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
    return re.compile(text + re.escape(pattern[end:]))


def _candidates(root: Path, pattern: str) -> Iterator[Path]:
    # digits are matched later: a glob cannot tell them
    parts, end = [], 0
    for match in _FIELD.finditer(pattern):
        parts += [escape(pattern[end : match.start()]), "*"]
        end = match.end()
    # two fields without a separator are one star: two of them mean something else
    return root.glob(re.sub(r"\*+", "*", "".join([*parts, escape(pattern[end:])])))
