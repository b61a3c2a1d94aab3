"""Read or replace one intermediate feature of any module, by its dotted name."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

from torch import Tensor, nn

__all__ = ["FeatureTap"]


class FeatureTap:
    """Open one submodule of a model for the forward passes inside a ``with`` block.

    The model is not changed: the hook lives as long as the block, whatever happens inside. Blocks may be nested, and
    a tap may be used inside itself.

    Args:
        model: Any module.
        name: Dotted name of a submodule, as in ``model.named_modules()``; ``""`` is the model itself.
        index: Which part of the submodule's output is the feature, if that is a tuple, a list or a mapping.

    Raises:
        ValueError: If the model has no such submodule; the message lists names that are near.
        TypeError: In the forward pass, if the output (at ``index``) is no tensor.
        RuntimeError: On reading ``feature`` if the submodule did not run, or ran more than once, in the block.

    Source:
        Ours.

    Example:
        >>> import torch
        >>> from dastc.models import TinySegmenter
        >>> model = TinySegmenter(3)
        >>> with FeatureTap(model, "stem").read() as seen:
        ...     logits = model(torch.zeros(1, 3, 16, 16))
        >>> seen.feature.shape
        torch.Size([1, 32, 4, 4])
        >>> with FeatureTap(model, "stem").replace(torch.zeros_like):
        ...     logits = model(torch.zeros(1, 3, 16, 16))
    """

    def __init__(self, model: nn.Module, name: str, *, index: int | str | None = None) -> None:
        modules = dict(model.named_modules())
        if name not in modules:
            near = get_close_matches(name, modules, n=5, cutoff=0.4) or [key for key, _ in model.named_children()]
            listed = ", ".join(map(repr, near))
            raise ValueError(
                f"FeatureTap: `name` must be a submodule of {type(model).__name__}; got {name!r}. Near: {listed}."
            )
        self.module, self.name, self.index = modules[name], name, index

    @contextmanager
    def read(self) -> Iterator["Reading"]:
        """Keep the feature of the forward pass inside the block; its gradient flows."""
        reading = Reading(self.name)

        def keep(feature: Tensor) -> Tensor:
            reading.features.append(feature)
            return feature

        with self.replace(keep):
            yield reading

    @contextmanager
    def replace(self, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """Let the model go on with ``change(feature)`` instead of the feature."""

        def hook(_: nn.Module, __: Any, output: Any) -> Any:
            return self._with_part(output, change(self._part(output)))

        handle = self.module.register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()

    def _part(self, output: Any) -> Tensor:
        part = output if self.index is None else output[self.index]
        if not isinstance(part, Tensor):
            where = "" if self.index is None else f" at index {self.index!r}"
            raise TypeError(
                f"FeatureTap: the output of {self.name!r}{where} must be a tensor; got {type(part).__name__}. "
                "Pass `index` to pick one."
            )
        return part

    def _with_part(self, output: Any, part: Tensor) -> Any:
        if self.index is None:
            return part
        if isinstance(output, Mapping):
            kind: Any = type(output)
            return kind({**output, self.index: part})
        parts = list(output)
        parts[int(self.index)] = part
        return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)


class Reading:
    """What a tap has seen."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.features: list[Tensor] = []

    @property
    def feature(self) -> Tensor:
        """The feature, if the submodule ran exactly once."""
        if len(self.features) != 1:
            raise RuntimeError(
                f"FeatureTap: {self.name!r} must run once inside the block; it ran {len(self.features)} times. "
                "Each pass is in `features`."
            )
        return self.features[0]
