"""One step of the optimiser."""

from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dastc.clip import Clip, map_clip
from dastc.training.ranks import world
from dastc.training.schedules import Schedule

__all__ = ["TrainStep"]


class TrainStep:
    """Update the weights once: forward and backward passes of a recipe, and the optimiser's step.

    Args:
        recipe: A recipe, on its device. With several ranks it is put into ``DistributedDataParallel``, which also gives
            all of them the weights of the first.
        optimizer: Of the model's parameters.
        schedule: Gives the rate of a step from a group's full rate; ``None`` leaves rates as they are.
        accumulate: In how many parts a batch is passed on, one after the other; it saves memory.
        amp: Compute in bfloat16 where that is safe.
        target_labels: Hand the target's labels, of which there may be few, to the recipe as ``target_labels``.
    """

    def __init__(
        self,
        recipe: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        schedule: Schedule | None = None,
        accumulate: int = 1,
        amp: bool = False,
        target_labels: bool = False,
    ) -> None:
        self.device = next(recipe.parameters()).device
        self.module = _distributed(recipe, self.device)
        self.optimizer, self.schedule, self.accumulate = optimizer, schedule, accumulate
        self.amp, self.target_labels = amp, target_labels
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])

    def __call__(self, step: int, source: Clip, target: Clip) -> dict[str, Tensor]:
        """Return the losses of one step, means over the parts of the batch."""
        if self.schedule is not None:
            for group in self.optimizer.param_groups:
                group["lr"] = self.schedule(group["initial_lr"], step)
        self.optimizer.zero_grad(set_to_none=True)
        pairs = list(zip(*(self._parts(clip) for clip in (source, target)), strict=True))
        losses: dict[str, Tensor] = {}
        for number, pair in enumerate(pairs, 1):
            for name, value in self._backward(pair, send=number == len(pairs)).items():
                losses[name] = losses[name] + value if name in losses else value
        self.optimizer.step()
        return losses

    def _parts(self, clip: Clip) -> list[Clip]:
        clips, parts = clip.frames.shape[0], self.accumulate
        if clips % parts:
            raise ValueError(f"fit: `accumulate` must divide the {clips} clips of a batch; got {parts}.")
        size = clips // parts
        cut = [map_clip(clip, lambda x, at=n * size: x[at : at + size]) for n in range(parts)]  # type: ignore[misc]
        return [part.to(self.device, non_blocking=True) for part in cut]

    def _backward(self, pair: tuple[Clip, ...], *, send: bool) -> dict[str, Tensor]:
        known = {"target_labels": pair[1].labels} if self.target_labels else {}
        # the forward pass, too, has to know whether gradients will be sent to the other ranks
        keep = isinstance(self.module, DistributedDataParallel) and not send
        with self.module.no_sync() if keep else nullcontext():  # type: ignore[operator]
            # bfloat16 has the range of float32: no gradient scaler is needed
            with torch.autocast(self.device.type, torch.bfloat16) if self.amp else nullcontext():
                losses = self.module(*pair, **known)
            (losses["total"] / self.accumulate).backward()
        return {name: value.detach() / self.accumulate for name, value in losses.items()}


def _distributed(recipe: nn.Module, device: torch.device) -> nn.Module:
    if world() == 1:
        return recipe
    # a part of the model may take no part in a step, such as a second head or the fusion of frames
    return DistributedDataParallel(
        recipe, device_ids=[device] if device.type == "cuda" else None, find_unused_parameters=True
    )
