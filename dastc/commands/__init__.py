"""The command line: ``dastc demo``, ``check``, ``adapt``, ``segment``, ``compare`` and ``info``."""

from dastc.commands.entry import main

__all__ = ["main"]
