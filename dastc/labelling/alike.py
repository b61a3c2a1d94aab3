"""Whether the target seems to show what the source shows, and parts that are used only if it does."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from dastc._core.checks import check_at_least, check_between, check_whole
from dastc._core.compiling import left_eager, orchestrates
from dastc.labelling.class_prior import ClassPrior

__all__ = ["AlikeDomains", "OnlyIfAlike"]

_FLOOR = 3e-3  # share of the pixels below which a class is too rare to compare
_log = logging.getLogger("dastc")


class AlikeDomains(nn.Module):
    """Find out whether the target seems to show what the source shows, before anything is built on it.

    A class prior and matched histograms help much where both domains show the same things at the same places, and harm
    much where they do not. Nobody knows the target's labels, but a model of the source names many of its pixels right.
    So the shares of the classes in horizontal bands of the picture, as the teacher names them in the first batches, are
    held against what the source's labels show. The domains count as alike if no class is named ``most`` times as often
    or as seldom as it is shown, and if on the mean over bands no more than ``apart`` of the pixels would have to change
    their class. That is decided once, logged to the logger ``"dastc"``, and kept in the state. ``alike`` is ``False``
    until then; afterwards ``why`` is a sentence, and ``found`` has the worst ``"class"``, its ``"ratio"``, and how far
    shares are ``"apart"``.

    Args:
        num_classes: Number of classes K.
        looks: Batches of the target to look at.
        most: Largest ratio of the shares of a class in the whole picture, at least 1. Shares are raised by 0.3 % first.
        apart: Largest mean distance of the shares in a band, in [0, 1]: half the sum of their absolute differences.
        bands: Number of bands.
        names: Of the classes, for what is logged.
        sync: Count over all ranks, if there are several.
        ignore_index: Label of the pixels that are ignored.

    Shape:
        - labels of ``see``: int64, ``(..., H, W)``.
        - logits of ``hear``: ``(B, T, K, h, w)``, float.

    Raises:
        ValueError: If an argument is out of range.

    Source:
        Ours; the thresholds and what they rest on are in docs/method.md#are-the-domains-alike. Not a part of DA-STC.

    Example:
        >>> import torch
        >>> domains = AlikeDomains(2, looks=1, names=["road", "car"])
        >>> domains.see(torch.zeros(1, 1, 4, 4, dtype=torch.long))
        >>> domains.hear(torch.tensor([0.0, 9.0]).view(1, 1, 2, 1, 1).expand(-1, -1, -1, 4, 4))
        >>> domains.alike
        False
        >>> domains.why
        'the target seems to show other things: car on 100.0 % of it, and on 0.0 % of the source'
    """

    def __init__(
        self,
        num_classes: int,
        *,
        looks: int = 50,
        most: float = 3.0,
        apart: float = 0.2,
        bands: int = 4,
        names: Sequence[str] = (),
        sync: bool = True,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        check_whole("AlikeDomains", "num_classes", num_classes, 1)
        check_whole("AlikeDomains", "ignore_index", ignore_index)
        check_whole("AlikeDomains", "looks", looks, 1)
        check_at_least("AlikeDomains", "most", most, 1)
        check_between("AlikeDomains", "apart", apart, 0, 1)
        check_whole("AlikeDomains", "bands", bands, 1)
        if not isinstance(names, Sequence):
            raise TypeError(f"AlikeDomains: `names` must be a sequence of names; got {names!r}.")
        if names and len(names) != num_classes:
            raise ValueError(f"AlikeDomains: `names` must name all {num_classes} classes; got {len(names)} names.")
        self.looks, self.most, self.apart, self.names = looks, most, apart, tuple(names)
        self.shares = ClassPrior(num_classes, strength=0, grid=(bands, 1), sync=sync, ignore_index=ignore_index)
        self.looked, self.alike, self.why = 0, False, ""
        self.found: dict[str, float] = {}

    @property
    def decided(self) -> bool:
        """Whether enough was looked at."""
        return bool(self.why)

    @left_eager
    def see(self, labels: Tensor) -> None:
        """Count the classes of the source, until it is decided."""
        if not self.decided:
            self.shares.see(labels)

    @left_eager
    def hear(self, logits: Tensor) -> None:
        """Count what is said of the target, in training mode, until it is decided: after the last look, at once."""
        if self.decided or not self.training:
            return
        self.shares(logits)
        self.looked += 1
        if self.looked >= self.looks:
            self._decide()

    def _decide(self) -> None:
        # the one place where the host waits for the device: once in a training
        shown, said = (_shares(counts.double().cpu().flatten(1)) for counts in (self.shares.shown, self.shares.said))
        of_source, of_target = shown.mean(dim=1), said.mean(dim=1)
        ratio = ((of_target + _FLOOR) / (of_source + _FLOOR)).log().abs().exp()
        apart = float((shown - said).abs().sum(dim=0).mean() / 2)
        worst = int(ratio.argmax())
        self.found = {"class": worst, "ratio": float(ratio[worst]), "apart": apart}
        self.alike = bool(ratio[worst] <= self.most and apart <= self.apart)
        if ratio[worst] > self.most:
            name = self.names[worst] if self.names else f"class {worst}"
            self.why = (
                f"the target seems to show other things: {name} on {of_target[worst]:.1%} of it, and on "
                f"{of_source[worst]:.1%} of the source"
            ).replace("%", " %")
        else:
            things = "the same" if self.alike else "other"
            self.why = (
                f"the target seems to show {things} things: band by band of the picture, {apart:.0%} of the pixels "
                "would have to change their class"
            ).replace("%", " %")
        _log.info("%s.", self.why)

    def get_extra_state(self) -> dict[str, Any]:
        """Return what was decided, or how far the count is."""
        return {"looked": self.looked, "alike": self.alike, "why": self.why, "found": self.found}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.looked, self.alike = int(state["looked"]), bool(state["alike"])
        self.why, self.found = str(state["why"]), dict(state["found"])

    def extra_repr(self) -> str:
        """Show the constructor's arguments, and what was decided."""
        return (
            f"looks={self.looks}, most={self.most}, apart={self.apart}, "
            f"alike={self.alike if self.decided else 'not decided yet'}"
        )


class OnlyIfAlike(nn.Module):
    """Use a part of a recipe only if the domains are found to be alike; until then, and if not, change nothing.

    Around what adjusts a teacher's logits, it has the domains look at these logits first. Several parts may follow one
    decision; one of them must adjust the teacher's logits, or nothing is ever decided.

    Args:
        part: Changes its first argument and returns it: a :class:`~dastc.adapt.ClassPrior` as ``adjust`` of
            :class:`~dastc.adapt.TeacherLabels`, or :class:`~dastc.adapt.MatchHistograms` as ``prepare`` of
            :class:`~dastc.adapt.Recipe`.
        domains: Decides.

    Shape:
        - arguments and output: those of ``part``.

    Example:
        >>> import torch
        >>> domains = AlikeDomains(2)
        >>> prior = OnlyIfAlike(ClassPrior(2), domains)
        >>> logits = torch.randn(1, 1, 2, 4, 4)
        >>> bool((prior(logits) == logits).all())
        True
    """

    def __init__(self, part: nn.Module, domains: AlikeDomains) -> None:
        super().__init__()
        self.part, self.domains = part, domains

    @property
    def num_classes(self) -> int | None:
        """Number of classes that the part expects, if it says so."""
        return getattr(self.part, "num_classes", None)

    @property
    def decision(self) -> str:
        """What became of the part, and why; empty before it is decided."""
        if not self.domains.decided:
            return ""
        return f"{type(self.part).__name__} {'on' if self.domains.alike else 'off'}: {self.domains.why}"

    def see(self, labels: Tensor) -> None:
        """Let the part and the domains count what the source shows."""
        self.domains.see(labels)
        count: Callable[[Tensor], None] | None = getattr(self.part, "see", None)
        if count is not None and self._may_count:
            count(labels)

    @orchestrates
    def forward(self, changed: Any, *others: Any) -> Any:
        """Return the first argument, changed by the part or as it is."""
        if isinstance(changed, Tensor):
            self.domains.hear(changed)
        if self.domains.alike:
            return self.part(changed, *others)
        if hasattr(self.part, "see") and self._may_count:
            self.part(changed, *others)  # it counts, to be ready
        return changed

    @property
    def _may_count(self) -> bool:
        return self.domains.alike or not self.domains.decided

    def extra_repr(self) -> str:
        """Show what was decided; the part and the domains show themselves."""
        return self.decision or f"part and domains: {type(self.domains).__name__} has not decided yet"


def _shares(counts: Tensor) -> Tensor:
    return counts / counts.sum(dim=0).clamp(min=1e-12)
