"""What stands between a caller and the network itself: DistributedDataParallel, torch.compile and their like."""

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dastc._core.distributed import world

__all__ = ["averages_gradients", "unwrapped"]

_INNER = ("module", "_orig_mod")  # DistributedDataParallel and DataParallel; torch.compile


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the network behind its wrappers: its class, attributes and names of submodules are the user's own."""
    while True:
        children = dict(model.named_children())
        name = next((name for name in _INNER if list(children) == [name] and _wraps(model, name)), None)
        if name is None:
            return model
        model = children[name]


def _wraps(model: nn.Module, name: str) -> bool:
    # a network of one submodule that happens to be called so is no wrapper: wrappers are PyTorch's own
    return name == "_orig_mod" or type(model).__module__.startswith("torch.nn.parallel")


def averages_gradients(model: nn.Module) -> bool:
    """Say whether something averages gradients over ranks, or nothing has to: asked inside a forward pass."""
    if world() == 1:
        return True
    if DistributedDataParallel._get_active_ddp_module() is not None:  # type: ignore[no-untyped-call]
        return True
    wrapped = any(isinstance(module, DistributedDataParallel) for module in model.modules())
    return wrapped or any(hasattr(p, "full_tensor") for p in model.parameters())
