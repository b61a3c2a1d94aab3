"""Work that is done while something else waits: reading ahead in a thread."""

from collections.abc import Iterable, Iterator
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any, TypeVar

from dastc._core.checks import check_at_least

__all__ = ["read_ahead"]

T = TypeVar("T")
_POLL = 0.1  # seconds between looks whether the reader has gone


def read_ahead(items: Iterable[T], *, ahead: int = 4) -> Iterator[T]:
    """Go through ``items`` in a thread of its own, at most ``ahead`` of them early; memory stays bounded.

    Decoding, encoding and a model at work leave Python's lock, so that a chain of these overlaps them:
    ``for labels in read_ahead(segmented(read_ahead(frames)))``.

    Args:
        items: What to go through; all of its work is done in the thread.
        ahead: Most items that wait, at least 1.

    Raises:
        ValueError: If ``ahead`` < 1. What ``items`` raises arrives where its item would have.

    Source:
        Ours.

    Example:
        >>> list(read_ahead(range(3)))
        [0, 1, 2]
    """
    check_at_least("read_ahead", "ahead", ahead, 1)
    return _consume(items, Queue(maxsize=ahead), Event())


def _consume(items: Iterable[T], queue: "Queue[Any]", gone: Event) -> Iterator[T]:
    thread = Thread(target=_produce, args=(items, queue, gone), daemon=True, name="read_ahead")
    thread.start()
    try:
        while True:
            kind, value = queue.get()
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value
    finally:
        gone.set()  # who reads no further leaves no thread behind
        while thread.is_alive():
            _drain(queue)
            thread.join(timeout=_POLL)


def _produce(items: Iterable[Any], queue: "Queue[Any]", gone: Event) -> None:
    def hand_over(kind: str, value: object = None) -> bool:
        while not gone.is_set():
            try:
                queue.put((kind, value), timeout=_POLL)
            except Full:
                continue
            return True
        return False

    iterator: Iterator[Any] = iter(())
    try:
        iterator = iter(items)
        for item in iterator:
            if not hand_over("item", item):
                break
    except BaseException as error:  # whatever it is, it is raised where the item was awaited
        hand_over("error", error)
    else:
        hand_over("end")
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()


def _drain(queue: "Queue[Any]") -> None:
    try:
        while True:
            queue.get_nowait()
    except Empty:
        return
