"""What each loss term pulls at: the strength of its gradient, and whether it agrees with the others."""

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dastc._core.distributed import alone
from dastc.clip import Clip

__all__ = ["LossGradient", "loss_gradients"]


class LossGradient(NamedTuple):
    """The gradient of one term, as :func:`loss_gradients` returns it.

    Args:
        norm: Its length.
        cosine: Between it and the sum of the other terms' gradients, in [-1, 1]; NaN if either is zero.

    Example:
        >>> LossGradient._fields
        ('norm', 'cosine')
    """

    norm: float
    cosine: float


def loss_gradients(recipe: nn.Module, source: Clip, target: Clip) -> dict[str, LossGradient]:
    """Take each loss term's gradient on the student: how strong it is, and whether it agrees with the others.

    Works on a copy: the recipe, its teacher and its random state stay as they were. Of several ranks, any may look
    alone: it measures its own clips.

    Args:
        recipe: Any recipe with ``model`` and ``step``.
        source: A labelled clip.
        target: A clip of the same size.

    Returns:
        Norm and cosine, by the name of each term of ``step`` but ``"total"``.

    Source:
        Ours.

    Example:
        >>> from dastc.adapt import DACS
        >>> from dastc.models import TinySegmenter
        >>> clip = Clip(torch.randn(1, 1, 3, 16, 16), torch.randint(0, 3, (1, 1, 16, 16)))
        >>> sorted(loss_gradients(DACS(TinySegmenter(3), 3), clip, clip))
        ['mixed', 'source']
    """
    twin = copy.deepcopy(recipe)
    with alone():
        losses = twin.step(source, target)  # type: ignore[operator]  # a recipe's
    parameters = [p for p in twin.model.parameters() if p.requires_grad]  # type: ignore[union-attr]
    pulls = {name: _gradient(loss, parameters) for name, loss in losses.items() if name != "total"}
    everything = torch.stack(list(pulls.values())).sum(dim=0)
    return {name: LossGradient(float(pull.norm()), _cosine(pull, everything - pull)) for name, pull in pulls.items()}


def _gradient(loss: Tensor, parameters: list[Tensor]) -> Tensor:
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
    return torch.cat([gradient.flatten() for gradient in gradients])


def _cosine(a: Tensor, b: Tensor) -> float:
    return float((a / a.norm()) @ (b / b.norm()))
