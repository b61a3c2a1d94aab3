"""The checkpoint of a run: all that it needs to go on as if nothing had happened."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dastc.adapt import load_checkpoint, save_checkpoint
from dastc.training.progress import say
from dastc.training.ranks import rank, together, world

__all__ = ["RunState"]


class RunState:
    """Save and restore a recipe, its optimiser, what ranks have of their own, and the seconds spent so far.

    Args:
        path: The checkpoint; ``None`` saves nothing.
        recipe: Of the run.
        optimizer: Of the run.
        settings: What must be the same when the run goes on.
        about: Further plain values to keep beside.
    """

    def __init__(
        self,
        path: Path | None,
        recipe: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        settings: Mapping[str, Any],
        about: Mapping[str, Any],
    ) -> None:
        self.path, self.recipe, self.optimizer, self.about = path, recipe, optimizer, dict(about)
        self.settings = {name: str(value) for name, value in settings.items()} | {"ranks": str(world())}
        self.saved: int | None = None

    def restore(self, *, resume: bool) -> tuple[int, float]:
        """Return how many steps and seconds are done, and restore what they led to.

        Raises:
            ValueError: If the checkpoint is that of a run which is not to go on, or was made under other settings.
        """
        first, seconds = 0, 0.0
        if self.path is not None and self.path.exists():
            if not resume:
                raise ValueError(f"fit: `path` must be new, or the run must be resumed; {self.path} exists.")
            first, seconds = self._load(self.path)
        elif resume:
            say(f"{self.path} does not exist: the run starts from the beginning.")
        if first == 0 and rank() > 0:
            torch.manual_seed(torch.initial_seed() + rank())  # dropout differs between ranks
        _check_alike(first, self.path)
        return first, seconds

    def save(self, step: int, seconds: float) -> None:
        """Write the checkpoint; all ranks call this at the same step."""
        if self.path is None or step == self.saved:
            return
        of_ranks = [{"draws": _draws()}]
        if world() > 1:
            mine = of_ranks[0] | {"extra": _extra(self.recipe)}
            of_ranks = [{}] * world()
            dist.all_gather_object(of_ranks, mine)
        with together():  # whoever goes on finds the file
            if rank() == 0:
                about = {**self.about, "settings": self.settings, "seconds": seconds, "ranks": of_ranks}
                save_checkpoint(self.path, self.recipe, optimizer=self.optimizer, step=step, about=about)
        self.saved = step

    def kept(self) -> str:
        """Say what is left of a run that stopped."""
        if self.saved is None:
            return "There is no checkpoint."
        return f"{self.path} holds step {self.saved}: --resume goes on from there."

    def _load(self, path: Path) -> tuple[int, float]:
        state = load_checkpoint(path, self.recipe, optimizer=self.optimizer)
        about = state["about"]
        there = about.get("settings", {})
        for name, wanted in self.settings.items():
            if there.get(name) != wanted:
                raise ValueError(f"fit: `{name}` must be as it was in {path}, {there.get(name)}; got {wanted}.")
        mine = about["ranks"][rank()]
        _set_draws(mine["draws"])
        if rank() > 0:
            self.recipe.load_state_dict(self.recipe.state_dict() | mine["extra"])
        self.saved = state["step"]
        return state["step"], about["seconds"]


def _extra(recipe: nn.Module) -> dict[str, Any]:
    """Return what may differ between ranks although weights and buffers do not, such as the clip of the step before."""
    return {name: value for name, value in recipe.state_dict().items() if name.endswith("_extra_state")}


def _draws() -> dict[str, Tensor]:
    on_gpu = {"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {}
    return {"cpu": torch.get_rng_state(), **on_gpu}


def _set_draws(draws: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(draws["cpu"])
    if "cuda" in draws and torch.cuda.is_available():
        torch.cuda.set_rng_state(draws["cuda"])


def _check_alike(first: int, path: Path | None) -> None:
    if world() == 1:
        return
    found: list[int] = [0] * world()
    dist.all_gather_object(found, first)
    if len(set(found)) > 1:
        raise ValueError(f"fit: all ranks must see the same {path}; they are at the steps {found}.")
