"""Stop before weights are ruined, and never save ruined ones."""

import math
from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dastc.training.ranks import world

__all__ = ["check_losses", "check_weights", "read_losses"]


def read_losses(losses: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the values of a step's losses, as means over ranks; the device is waited for once."""
    if not losses:
        return {}
    values = torch.stack([loss.detach().float() for loss in losses.values()]).tolist()
    mine = dict(zip(losses, values, strict=True))
    if world() == 1:
        return mine
    found: list[dict[str, float]] = [{}] * world()
    dist.all_gather_object(found, mine)
    # a term that is NaN on one rank is NaN in the mean, so that all ranks stop at the same step
    return {
        name: sum(each[name] for each in found if name in each) / sum(name in each for each in found)
        for name in dict.fromkeys(name for each in found for name in each)
    }


def check_losses(values: Mapping[str, float], step: int) -> None:
    """Refuse losses that are not finite.

    Raises:
        FloatingPointError: With the names and values of all terms.
    """
    if not all(map(math.isfinite, values.values())):
        listed = ", ".join(f"{name}={value:.4g}" for name, value in values.items())
        raise FloatingPointError(f"the losses of step {step} are not finite: {listed}.")


def check_weights(model: nn.Module, step: int) -> None:
    """Refuse parameters that learn and are not finite: the last update may have ruined them under finite losses.

    Raises:
        FloatingPointError: With the names of the first few.
    """
    learnt = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    finite = torch.stack([parameter.detach().isfinite().all() for parameter in learnt.values()]).tolist()
    ruined = [name for name, fine in zip(learnt, finite, strict=True) if not fine]
    if ruined:
        listed = ", ".join(ruined[:3]) + (", ..." if len(ruined) > 3 else "")
        raise FloatingPointError(
            f"the weights are not finite after step {step}: {len(ruined)} of {len(learnt)} parameters, {listed}."
        )
