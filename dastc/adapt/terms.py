"""What a step minimises: losses over the passes of its views."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from dastc._core.checks import check_at_least, check_dtype, check_same_device, check_shape
from dastc._core.compiling import left_eager, orchestrates
from dastc.adapt.passes import Pass
from dastc.adapt.steps import concatenated, segmentation_loss
from dastc.aggregation import CategoryAggregator, CategoryMemory
from dastc.losses import CentroidAlignmentLoss, ContextConsistencyLoss

__all__ = ["Agreement", "Alignment", "Segmentation"]

FUSED = ("in_source", "in_target")


class Segmentation(nn.Module):
    """Compare what the network says of each view with the view's labels, by cross entropy.

    Args:
        ignore_index: Label of the pixels that are ignored.

    Shape:
        - passes: by name.
        - output: one loss for each view, of the view's weight and under its name.

    Source:
        The total of the released code (docs/method.md#the-total).

    Example:
        >>> Segmentation()
        Segmentation(ignore_index=255)
    """

    def __init__(self, *, ignore_index: int = 255) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    @left_eager
    def forward(self, passes: Mapping[str, Pass]) -> dict[str, Tensor]:
        """Return the losses."""
        for name, one in passes.items():
            _check_logits("Segmentation", name, one)
        return {
            name: one.weight * segmentation_loss(one.logits, one.clip, ignore_index=self.ignore_index)
            for name, one in passes.items()
        }

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return f"ignore_index={self.ignore_index}"


class Alignment(nn.Module):
    """Align the centroids of classes across domains, averaged over the pixels of each domain in some of the views.

    Views that show both domains in both contexts keep context from being taken for domain.

    Args:
        num_classes: Number of classes K.
        objective: Any Module that takes centroids of the source and of the target and returns a scalar, such as
            :class:`~dastc.losses.CentroidAlignmentLoss`; ``None`` means its ``"cdd"``.
        features: Dotted name of the submodule whose output is averaged; ``None`` averages logits.
        weight: Of the loss, dimensionless.
        over: Names of the views.
        aggregator: Averages; ``None`` means a :class:`~dastc.aggregation.CategoryAggregator` as it comes.
        memory: Momentum in [0, 1] of running centroids, one set for each domain, that each domain's own are aligned
            with; ``None`` aligns those of this step with each other.
        ignore_index: Label of the pixels that are ignored.

    Shape:
        - passes: by name.
        - output: ``{"align": loss}``; empty as long as none of the views is there.

    Raises:
        ValueError: If an argument is out of range.

    Source:
        arXiv 2311.13254 v1, abstract; docs/method.md#aggregation-of-classes and docs/method.md#alignment-of-classes.

    Example:
        >>> Alignment(19, CentroidAlignmentLoss("infonce", temperature=0.2), features="neck", weight=0.05).features
        'neck'
    """

    def __init__(
        self,
        num_classes: int,
        objective: nn.Module | None = None,
        *,
        features: str | None = None,
        weight: float = 0.1,
        over: Sequence[str] = FUSED,
        aggregator: CategoryAggregator | None = None,
        memory: float | None = None,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        check_at_least("Alignment", "weight", weight, 0)
        if not over or isinstance(over, str):
            raise ValueError(f"Alignment: `over` must list the names of views; got {over!r}.")
        self.num_classes, self.features, self.weight, self.over = num_classes, features, weight, tuple(over)
        self.memory, self.ignore_index = memory, ignore_index
        self.objective = CentroidAlignmentLoss("cdd") if objective is None else objective
        self.aggregator = (
            CategoryAggregator(num_classes, ignore_index=ignore_index) if aggregator is None else aggregator
        )
        if memory is not None:
            self.source_memory = CategoryMemory(num_classes, momentum=memory)
            self.target_memory = CategoryMemory(num_classes, momentum=memory)

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the views that a recipe must make for this term."""
        return self.over

    @orchestrates
    def forward(self, passes: Mapping[str, Pass]) -> dict[str, Tensor]:
        """Return the loss."""
        chosen = [passes[name] for name in self.over if name in passes]
        if not chosen:
            return {}
        for one in chosen:
            _check_logits("Alignment", one.name, one)
            check_shape("Alignment", f"{one.name}.logits", one.logits, "B T K h w", _known(chosen[0]))
        clip = concatenated([one.clip for one in chosen])
        if clip.labels is None:
            raise ValueError("Alignment: the clips of all views must be labelled; got None.")
        from_source = torch.cat([one.from_source for one in chosen])
        logits = torch.cat([one.logits for one in chosen])
        deep = logits if self.features is None else torch.cat([one.features[self.features] for one in chosen])
        source, target = (
            self.aggregator(
                deep, clip.labels.where(mine, self.ignore_index), logits=logits, weights=clip.weights, flow=clip.flow
            )
            for mine in (from_source, ~from_source)
        )
        if self.memory is None:
            return {"align": self.weight * self.objective(source, target)}
        of_source, of_target = self.source_memory(source), self.target_memory(target)
        return {"align": self.weight * ((self.objective(of_source, target) + self.objective(source, of_target)) / 2)}

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return f"features={self.features!r}, weight={self.weight}, over={self.over}, memory={self.memory}"


class Agreement(nn.Module):
    """Ask for one answer where two contexts show the same pixels; needs no label.

    Args:
        weight: Of the loss, dimensionless.
        objective: Any Module that takes two logits and a mask; ``None`` means
            :class:`~dastc.losses.ContextConsistencyLoss`.
        between: Names of the two views.

    Shape:
        - passes: by name.
        - output: ``{"agreement": loss}``; empty as long as one of the views is not there.

    Raises:
        ValueError: If an argument is out of range.

    Source:
        The aim is the paper's (arXiv 2311.13254 v1, abstract: one thing in two contexts); the form is ours.

    Example:
        >>> Agreement(0.5).needs
        ('in_source', 'in_target')
    """

    needs_alike = True

    def __init__(
        self, weight: float = 1.0, objective: nn.Module | None = None, *, between: tuple[str, str] = FUSED
    ) -> None:
        super().__init__()
        check_at_least("Agreement", "weight", weight, 0)
        self.weight, self.between = weight, between
        self.objective = ContextConsistencyLoss() if objective is None else objective

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the views that a recipe must make for this term."""
        return self.between

    @orchestrates
    def forward(self, passes: Mapping[str, Pass]) -> dict[str, Tensor]:
        """Return the loss."""
        if not all(name in passes for name in self.between):
            return {}
        first, second = (passes[name] for name in self.between)
        for one in (first, second):
            _check_logits("Agreement", one.name, one)
        if first.alike is None:
            raise ValueError(f"Agreement: view {first.name!r} must say where both contexts are `alike`; got None.")
        logits = (one.logits.flatten(0, 1) for one in (first, second))
        return {"agreement": self.weight * self.objective(*logits, first.alike.flatten(0, 1))}

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return f"weight={self.weight}, between={self.between}"


def _check_logits(caller: str, name: str, one: Pass) -> None:
    batch, time = one.clip.frames.shape[:2]
    check_shape(caller, f"{name}.logits", one.logits, "B T K h w", {"B": batch, "T": time})
    check_dtype(caller, f"{name}.logits", one.logits, "float")
    check_same_device(caller, {f"{name}.logits": one.logits, f"{name}.clip.frames": one.clip.frames})


def _known(first: Pass) -> dict[str, int]:
    return dict(zip("TKhw", first.logits.shape[1:], strict=True))
