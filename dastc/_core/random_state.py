"""Randomness that a module owns: seeded, and part of its state_dict."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import get_worker_info

__all__ = ["RandomState"]


class RandomState(nn.Module):
    """A CPU generator whose state travels with ``state_dict``, so that a resumed run draws what it would have drawn.

    A worker of a ``DataLoader`` works on a copy, made anew in every epoch; there the sequence starts from the seed and
    the worker's own together, so that neither workers nor epochs repeat each other.

    Args:
        seed: Start of the sequence.

    Example:
        >>> a, b = RandomState(1), RandomState(2)
        >>> b.load_state_dict(a.state_dict())
        <All keys matched successfully>
        >>> torch.equal(torch.rand(3, generator=a.generator), torch.rand(3, generator=b.generator))
        True
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self._generator = torch.Generator().manual_seed(seed)
        self._worker: int | None = None

    @property
    def generator(self) -> torch.Generator:
        """The generator to draw from, here."""
        worker = get_worker_info()
        if worker is not None and worker.seed != self._worker:
            self._worker = worker.seed
            self._generator.manual_seed((worker.seed * 1_000_003 + self._generator.initial_seed()) % 2**63)
        return self._generator

    def get_extra_state(self) -> Tensor:
        """Return the generator's state as bytes in a tensor."""
        return self._generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Continue the sequence of another generator."""
        self._generator.set_state(state.cpu())

    def __getstate__(self) -> dict[str, object]:
        # as bytes: a process that is spawned cannot take a generator, nor the memory of a tensor in it
        seed, state = self._generator.initial_seed(), self._generator.get_state().numpy().tobytes()
        return self.__dict__ | {"_generator": (seed, state)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        seed, drawn = state.pop("_generator")
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._generator = torch.Generator().manual_seed(seed)
        self._generator.set_state(torch.frombuffer(bytearray(drawn), dtype=torch.uint8))

    def __deepcopy__(self, memo: dict[int, object]) -> "RandomState":
        copy = RandomState()
        copy.set_extra_state(self.get_extra_state())
        memo[id(self)] = copy
        return copy
