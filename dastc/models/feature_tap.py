"""Read or replace one intermediate feature of any module, by its dotted name."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from difflib import get_close_matches
from typing import Any

from torch import Tensor, nn

from dastc._core.compiling import orchestrates
from dastc._core.recomputing import recomputing_within
from dastc._core.wrappers import unwrapped

__all__ = ["FeatureTap"]


class FeatureTap:
    """Open one submodule of a model for the forward passes inside a ``with`` block.

    The model is not changed: what the tap does lasts as long as the block, whatever happens inside. Blocks may be
    nested, and a tap may be used inside itself. It also works where the model was compiled before, which costs one
    recompilation, and inside parts that are recomputed in the backward pass (activation checkpointing): these run
    with ``use_reentrant=False`` within the block.

    Args:
        model: Any module; it may be wrapped by DistributedDataParallel or ``torch.compile``.
        name: Dotted name of a submodule, as in ``model.named_modules()`` with or without the wrapper's part of the
            name; ``""`` is the model itself.
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
        if not isinstance(name, str):
            raise TypeError(f"FeatureTap: `name` must be the dotted name of a submodule; got {name!r}.")
        inner = unwrapped(model)
        modules = dict(inner.named_modules()) | (dict(model.named_modules()) if inner is not model else {})
        if name == "":
            modules[name] = inner
        if name not in modules:
            near = get_close_matches(name, modules, n=5, cutoff=0.4) or [key for key, _ in inner.named_children()]
            listed = ", ".join(map(repr, near))
            raise ValueError(
                f"FeatureTap: `name` must be a submodule of {type(inner).__name__}; got {name!r}. Near: {listed}."
            )
        self.module, self.name, self.index = modules[name], name, index

    @contextmanager
    def read(self) -> Iterator["Reading"]:
        """Keep the feature of the forward pass inside the block; its gradient flows."""
        reading = Reading(self.name)
        with recomputing_within(reading.paused), self._changed(reading.keep):
            yield reading

    @contextmanager
    def replace(self, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """Let the model go on with ``change(feature)`` instead of the feature."""
        inside = True

        def again() -> AbstractContextManager[None]:
            return nullcontext() if inside else self._changed(change)

        with recomputing_within(again), self._changed(change):
            try:
                yield
            finally:
                inside = False

    @contextmanager
    def _changed(self, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
        # an attribute and not a hook: compiled code looks whether `forward` is still what it was, and not at hooks
        module, before = self.module, self.module.__dict__.get("forward")
        forward = module.forward

        def changed(*args: Any, **kwargs: Any) -> Any:
            output = forward(*args, **kwargs)
            return self._with_part(output, change(self._part(output)))

        # the compiler would stop in there, and look at it again for each view that is changed otherwise
        module.forward = orchestrates(changed) if getattr(change, "_torchdynamo_disable", False) else changed
        try:
            yield
        finally:
            if before is None:
                del module.forward
            else:
                module.forward = before

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
        self._paused = False

    def keep(self, feature: Tensor) -> Tensor:
        """Note a feature, and hand it on."""
        if not self._paused:
            self.features.append(feature)
        return feature

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Note nothing: a part that is computed again in the backward pass is not read again."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    @property
    def feature(self) -> Tensor:
        """The feature, if the submodule ran exactly once."""
        if len(self.features) != 1:
            raise RuntimeError(
                f"FeatureTap: {self.name!r} must run once inside the block; it ran {len(self.features)} times. "
                "Each pass is in `features`."
            )
        return self.features[0]
