"""Activation checkpointing, told what has to hold again when a part of a network is run a second time."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch.utils.checkpoint as checkpointing

__all__ = ["recomputing_within"]


@contextmanager
def recomputing_within(context: Callable[[], AbstractContextManager[Any]]) -> Iterator[None]:
    """Inside the block, let every checkpointed part of a network be recomputed within ``context()``.

    What a block changes about a forward pass is gone by the time of the backward pass, so the recomputed part would be
    another one than the part that ran. Checkpoints with ``use_reentrant=True`` run as those with ``False`` do: the
    former compute their output without gradient, and nothing that is read inside of them could be trained.
    """
    generator, reentrant = checkpointing._checkpoint_without_reentrant_generator, checkpointing.CheckpointFunction

    def within(function: Any, preserve: Any, context_fn: Any, *args: Any, **kwargs: Any) -> Any:
        def both() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
            forward, again = context_fn()
            return forward, _joined(again, context)

        return generator(function, preserve, both, *args, **kwargs)

    checkpointing._checkpoint_without_reentrant_generator = within  # type: ignore[assignment]
    checkpointing.CheckpointFunction = _NotReentrant  # type: ignore[assignment,misc]
    try:
        yield
    finally:
        checkpointing._checkpoint_without_reentrant_generator = generator
        checkpointing.CheckpointFunction = reentrant  # type: ignore[misc]


class _NotReentrant:
    @staticmethod
    def apply(function: Any, preserve: bool, *args: Any) -> Any:
        return checkpointing.checkpoint(function, *args, use_reentrant=False, preserve_rng_state=preserve)


@contextmanager
def _joined(outer: AbstractContextManager[Any], inner: Callable[[], AbstractContextManager[Any]]) -> Iterator[None]:
    with outer, inner():
        yield
