"""What stands between a caller and the network itself: DistributedDataParallel, torch.compile and their like."""

from torch import nn

__all__ = ["unwrapped"]

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
