"""Several processes that train one model, as torchrun starts them."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import torch
import torch.distributed as dist

from dastc._core.distributed import rank, world

__all__ = ["device_of", "rank", "ranks", "together", "world"]

_POLL_SECONDS = 0.1
_meetings = count()  # counts alike in all processes, as all of them meet at the same places


def device_of(name: str) -> torch.device:
    """Return the device that a command line names: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` and so on.

    ``auto`` is the GPU if there is one. Where torchrun started several processes, ``cuda`` is the one of this process.

    Raises:
        ValueError: If torch knows no such device or cannot use it.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not name.startswith("cuda"):
        return _usable(name)
    if not torch.cuda.is_available():
        raise ValueError(f"--device {name} needs a GPU that torch can use, and there is none; take auto or cpu.")
    index = os.environ.get("LOCAL_RANK", "0") if name == "cuda" else name.removeprefix("cuda:")
    return _usable(f"cuda:{index}")


def _usable(name: str) -> torch.device:
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # which of them depends on the device
        reason = str(error).splitlines()[0]
        raise ValueError(f"--device must be auto, cpu, cuda or another one that torch can use; {reason}") from error


@contextmanager
def ranks(device: str = "auto") -> Iterator[torch.device]:
    """Join the other processes that torchrun started, if it did, and leave them at the end of the block.

    Args:
        device: Where to compute: ``auto``, ``cpu``, ``cuda`` or another name that torch knows. Each process takes the
            GPU of its local rank.

    Returns:
        The device, for the block. CPUs talk through gloo, GPUs through NCCL.

    Raises:
        ValueError: If torch cannot use the device.

    Source:
        Ours.

    Example:
        >>> with ranks("cpu") as device:
        ...     print(device)
        cpu
    """
    found = device_of(device)
    if found.type == "cuda":
        torch.cuda.set_device(found)
    if "WORLD_SIZE" not in os.environ or dist.is_initialized():
        yield found
        return
    dist.init_process_group("nccl" if found.type == "cuda" else "gloo")
    try:
        yield found
    finally:
        dist.destroy_process_group()


@contextmanager
def together() -> Iterator[None]:
    """Wait at the end of the block until all ranks are there, however long that takes.

    A collective gives up after some minutes, and so does the training if one rank checks files or computes flow while
    the others are in it. Here nobody gives up; a rank whose block fails ends the others with exit code 1.

    Source:
        Ours.

    Example:
        >>> with together():
        ...     if rank() == 0:
        ...         print("files are checked")
        files are checked
    """
    if world() == 1:
        yield
        return
    store, key = dist.distributed_c10d._get_default_store(), f"dastc/together/{next(_meetings)}"
    try:
        yield
    except BaseException:
        store.set(f"{key}/failed", str(rank()))
        raise
    _meet(store, key)
    # the first rank may keep the store: it goes last
    store.add(f"{key}/gone", 1)
    while rank() == 0 and store.add(f"{key}/gone", 0) < world():
        time.sleep(_POLL_SECONDS)


def _meet(store: Any, key: str) -> None:
    store.add(f"{key}/there", 1)
    # a counter is read by adding nothing to it: that waits for nobody, and so cannot time out
    while store.add(f"{key}/there", 0) < world():
        if store.check([f"{key}/failed"]):
            raise SystemExit(1)
        time.sleep(_POLL_SECONDS)
