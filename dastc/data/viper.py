"""VIPER: driving through a game's streets, with the car's own bonnet in the picture."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from dastc._core.checks import check_choice
from dastc.data.clip_files import ClipFiles
from dastc.data.clip_lists import choose, list_clips, only
from dastc.data.id_pictures import Ids
from dastc.data.label_space import LabelSpace
from dastc.data.published_files import find_flow, find_or_explain, published_labels
from dastc.data.spaces import VIPER15

__all__ = ["Viper"]

_CAR = 24


class Viper(ClipFiles):
    """Read VIPER as clips that are labelled in every frame.

    ``root`` holds ``SPLIT/img/SSS/SSS_FFFFF.jpg`` (or ``.png``) and ``SPLIT/cls/SSS/SSS_FFFFF.png``. The published
    list is every tenth frame with the one before it, so that frames ending in 9 are needed, too.

    Args:
        root: The folder of the data set. Nothing is downloaded.
        split: ``"train"`` or ``"val"``; the test split has no public labels.
        sequences: Names of the sequences to use, such as ``"001"``; ``None`` means all.
        frames: Frames per clip T, at least 1.
        interval: Frames of the video from one frame of a clip to the next.
        every: Clips end at frames whose number is divisible by it.
        size: ``(height, width)`` to resize to, pictures bilinearly and labels by nearest pixel; ``None`` keeps the
            size of the files, (1080, 1920). Published results use (720, 1280).
        ignore_own_car: Ignore the car that the pictures are taken from: the part labelled car, connected over edges
            or corners, that reaches the middle of the last row.
        flow: A folder of files named ``SSS_NUMBERPREVIOUS_int16_x10.npy`` (no separator, five digits each), as in the
            released data, for each pair of neighbouring frames; of any resolution.
        label_space: What the ids become; must map those of ``"viper"``.

    Shape:
        - item: an unbatched :class:`dastc.Clip`: frames ``(T, 3, H, W)``, float32, normalised by :func:`from_rgb`;
          labels ``(T, H, W)``, int64, in [0, K) or the ignored label; with ``flow``, flow ``(T-1, 2, H, W)``, float32.

    Raises:
        ValueError: If folders or all files are missing, flow is for a pair of frames, a sequence or split is unknown,
            or the label space does not map VIPER. When reading: if labels and picture differ in size.
        RuntimeError: Without Pillow or, for ``ignore_own_car``, SciPy; when reading, if a file is missing or broken.

    Source:
        Richter et al. 2017; docs/method.md#pictures-and-labels and docs/method.md#flow-files.

    Example:
        >>> from dastc.data import Viper
        >>> Viper("no/such/folder")
        Traceback (most recent call last):
        ...
        ValueError: Viper: `root` must hold the folder train/img; got no/such/folder without it.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        split: str = "train",
        sequences: str | Sequence[str] | None = None,
        frames: int = 2,
        interval: int = 1,
        every: int = 10,
        size: tuple[int, int] | None = None,
        ignore_own_car: bool = True,
        flow: str | Path | None = None,
        label_space: LabelSpace = VIPER15,
    ) -> None:
        check_choice("Viper", "split", split, ("train", "val"))
        if ignore_own_car and find_spec("scipy") is None:
            raise RuntimeError(
                "Viper: `ignore_own_car` needs SciPy, which is not installed. "
                'Install it with `pip install "dastc[data]"`.'
            )
        self.root, self.split, self.ignore_own_car = Path(root), split, ignore_own_car
        self.frames, self.interval, self.every = frames, interval, every
        frame = "{sequence}/{sequence}_{number:05}"
        images = find_or_explain("Viper", self.root, f"{split}/img", f"{frame}.*")
        labels = find_or_explain("Viper", self.root, f"{split}/cls", f"{frame}.png")
        names = choose("Viper", "sequences", (key.sequence for key in images), sequences, self.root / split / "img")
        self.sequence_names = tuple(sorted(names))
        clips, missing = list_clips(
            "Viper",
            only(images, names),
            labels if sequences is None else only(labels, names),
            find_flow("Viper", flow, "{sequence}_{number:05}{previous:05}"),
            frames=frames,
            interval=interval,
            every=every,
        )
        prepare = without_own_car if ignore_own_car else None
        super().__init__(
            clips,
            label_space=label_space,
            label_files=published_labels("Viper", label_space, "viper", prepare=prepare),
            size=size,
            missing=missing,
        )


def without_own_car(ids: Ids) -> Ids:
    """Set the car that reaches the middle of the last row to 0, which is unlabelled."""
    from scipy.ndimage import label

    if ids[-1, ids.shape[1] // 2] != _CAR:
        return ids
    parts, _ = label(ids == _CAR, structure=np.ones((3, 3)))
    ignored: Ids = np.where(parts == parts[-1, ids.shape[1] // 2], 0, ids)
    return ignored
