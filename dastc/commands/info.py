"""``dastc info``: versions, devices, kernels and extras."""

import platform
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import dastc
from dastc import backend_info
from dastc.commands.arguments import Parser
from dastc.commands.extras import EXTRAS
from dastc.training.progress import say

__all__ = ["main"]


def main(argv: Sequence[str], program: str) -> None:
    """Run the command."""
    parser = Parser(
        program, usage="", argv=argv, example="",
        about="Show versions, devices, which kernels run, and what each extra would add.\n"
        "Put it into a report of a fault.",
    )  # fmt: skip
    parser.parse(argv)
    say("\n".join(_lines()))


def _lines() -> Iterator[str]:
    yield f"dastc       {dastc.__version__}, in {Path(dastc.__file__).parent}"
    yield f"python      {platform.python_version()}, {platform.system()} {platform.machine()}"
    for name in ("torch", "numpy", "einops", "triton", "torchvision"):
        yield f"{name:<12}{_version(name)}"
    yield f"devices     {', '.join(_devices())}"
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    yield f"\nkernels on {kind}:"
    yield from (f"  {name:<16}{choice}" for name, choice in backend_info(kind).items())
    yield "\nextras:"
    for name, extra in EXTRAS.items():
        there = f'missing: pip install "dastc[{name}]"' if extra.missing else "installed"
        yield f"  {name:<10}{extra.adds:<40}{there}"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _devices() -> list[str]:
    cpu = f"cpu with {torch.get_num_threads()} threads"
    return [cpu, *(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))]
