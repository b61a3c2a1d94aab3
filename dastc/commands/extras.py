"""The optional extras: what each needs, and what it adds."""

from importlib.util import find_spec
from typing import NamedTuple

__all__ = ["EXTRAS", "Extra", "need"]


class Extra(NamedTuple):
    """An optional extra.

    Args:
        packages: Names of its distributions, and under which they are imported.
        adds: What can be done with it.
    """

    packages: dict[str, str]
    adds: str

    @property
    def missing(self) -> list[str]:
        """The distributions that are not installed."""
        return [name for name, module in self.packages.items() if find_spec(module) is None]


_PICTURES = {"pillow": "PIL", "tqdm": "tqdm"}
EXTRAS = {
    "data": Extra(_PICTURES | {"scipy": "scipy"}, "reads pictures and labels"),
    "examples": Extra(_PICTURES | {"matplotlib": "matplotlib"}, "draws panels: demo, compare"),
    "flow": Extra({"opencv-python-headless": "cv2", "tqdm": "tqdm"}, "estimates flow: adapt --flow dis"),
    "video": Extra(_PICTURES | {"av": "av"}, "reads and writes videos: adapt, segment"),
    "models": Extra({"transformers": "transformers", "scipy": "scipy"}, "SegFormer, Mask2Former and others"),
}


def need(name: str, caller: str) -> None:
    """Refuse to go on without an extra, before anything is computed.

    Raises:
        RuntimeError: With the command that installs it.
    """
    missing = EXTRAS[name].missing
    if missing:
        raise RuntimeError(
            f"{caller} needs {', '.join(missing)}, which is not installed. "
            f'Install it with `pip install "dastc[{name}]"`.'
        )
