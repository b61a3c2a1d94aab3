"""Training mode for what learns."""

from torch import nn

__all__ = ["set_to_train"]


def set_to_train(module: nn.Module) -> None:
    """Put a module in training mode, and leave what is frozen as it is.

    ``from_pretrained`` and others return models in evaluation mode: dropout would be off, and BatchNorm would never see
    a batch. A submodule whose parameters are all frozen, and that is in evaluation mode, stays so, as
    :func:`dastc.models.freeze` leaves it; so does what a ``train`` of the model's own keeps there.
    """
    frozen = [part for part in module.modules() if not part.training and _is_frozen(part)]
    module.train()
    for part in frozen:
        part.eval()


def _is_frozen(module: nn.Module) -> bool:
    learns = [parameter.requires_grad for parameter in module.parameters()]
    return bool(learns) and not any(learns)
