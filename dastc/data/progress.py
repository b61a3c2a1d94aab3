"""A bar for what takes its time."""

from collections.abc import Iterable
from importlib.util import find_spec
from typing import TypeVar

__all__: list[str] = []  # for this package

T = TypeVar("T")


def with_progress(caller: str, items: Iterable[T], title: str, *, total: int | None, wanted: bool) -> Iterable[T]:
    """Hand the items on, and show a bar on the standard error if it is wanted; it needs tqdm, an optional extra."""
    if not wanted:
        return items
    if find_spec("tqdm") is None:
        raise RuntimeError(
            f"{caller}: `progress=True` needs tqdm, which is not installed. "
            'Install it with `pip install "dastc[data]"`, or give `progress=False`.'
        )
    from tqdm import tqdm

    bar: Iterable[T] = tqdm(items, desc=title, total=total, dynamic_ncols=True)
    return bar
