"""Randomness that a module owns: seeded, and part of its state_dict."""

import torch
from torch import Tensor, nn

__all__ = ["RandomState"]


class RandomState(nn.Module):
    """A CPU generator whose state travels with ``state_dict``, so that a resumed run draws what it would have drawn.

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
        self.generator = torch.Generator().manual_seed(seed)

    def get_extra_state(self) -> Tensor:
        """Return the generator's state as bytes in a tensor."""
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Continue the sequence of another generator."""
        self.generator.set_state(state.cpu())

    def __deepcopy__(self, memo: dict[int, object]) -> "RandomState":
        copy = RandomState()
        copy.set_extra_state(self.get_extra_state())
        memo[id(self)] = copy
        return copy
