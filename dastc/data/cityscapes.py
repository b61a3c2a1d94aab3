"""Cityscapes: single pictures, and the video around them."""

from collections.abc import Sequence
from pathlib import Path

from dastc._core.checks import check_choice
from dastc.data.clip_files import ClipFiles
from dastc.data.clip_lists import choose, list_clips
from dastc.data.file_patterns import Key
from dastc.data.label_space import LabelSpace
from dastc.data.published_files import find_flow, find_or_explain, published_labels
from dastc.data.spaces import CITYSCAPES19

__all__ = ["Cityscapes", "CityscapesSeq"]

_SPLITS = ("train", "val", "test")
_FRAME = "{sequence}_{number:06}"


class Cityscapes(ClipFiles):
    """Read Cityscapes' finely labelled pictures, as clips of one frame.

    ``root`` holds ``leftImg8bit/SPLIT/CITY/*_leftImg8bit.png`` and ``gtFine/SPLIT/CITY/*_gtFine_labelIds.png``.

    Args:
        root: The folder of the data set. Nothing is downloaded.
        split: ``"train"``, ``"val"`` or ``"test"``, whose public labels are void.
        cities: Names of the cities to use; ``None`` means all.
        size: ``(height, width)`` to resize to, pictures bilinearly and labels by nearest pixel; ``None`` keeps the
            size of the files, (1024, 2048).
        labelled: Read labels, and ask for those of every picture; else ``gtFine`` is not needed.
        label_space: What the ids become; must map those of ``"cityscapes"``.

    Shape:
        - item: an unbatched :class:`dastc.Clip` without flow: frames ``(1, 3, H, W)``, float32, normalised by
          :func:`from_rgb`; labels ``(1, H, W)``, int64, in [0, K) or the ignored label.

    Raises:
        ValueError: If folders or all files are missing, a city or split is unknown, or the label space does not map
            Cityscapes. When reading: if labels and picture differ in size.
        RuntimeError: Without Pillow; when reading, if a file is missing or broken.

    Source:
        Cordts et al. 2016.

    Example:
        >>> from dastc.data import Cityscapes
        >>> Cityscapes("no/such/folder")
        Traceback (most recent call last):
        ...
        ValueError: Cityscapes: `root` must hold the folder leftImg8bit/train; got no/such/folder without it.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        split: str = "train",
        cities: str | Sequence[str] | None = None,
        size: tuple[int, int] | None = None,
        labelled: bool = True,
        label_space: LabelSpace = CITYSCAPES19,
    ) -> None:
        check_choice("Cityscapes", "split", split, _SPLITS)
        self.root, self.split, self.cities, self.labelled = Path(root), split, cities, labelled
        images, labels = _find("Cityscapes", self.root, "leftImg8bit", split, cities, labelled)
        clips, missing = list_clips("Cityscapes", images, labels, None, frames=1)
        super().__init__(
            clips,
            label_space=label_space,
            label_files=published_labels("Cityscapes", label_space, "cityscapes") if labelled else None,
            size=size,
            missing=missing,
        )


class CityscapesSeq(ClipFiles):
    """Read clips of Cityscapes' video, each ending at the one labelled frame of its thirty.

    ``root`` holds ``leftImg8bit_sequence/SPLIT/CITY/*_leftImg8bit.png`` and
    ``gtFine/SPLIT/CITY/*_gtFine_labelIds.png``. The frames before the labelled one have the ignored label everywhere.

    Args:
        root: The folder of the data set. Nothing is downloaded.
        split: ``"train"``, ``"val"`` or ``"test"``, whose public labels are void.
        cities: Names of the cities to use; ``None`` means all.
        frames: Frames per clip T, at least 1.
        interval: Frames of the video from one frame of a clip to the next, at 17 a second.
        size: ``(height, width)`` to resize to, pictures bilinearly and labels by nearest pixel; ``None`` keeps the
            size of the files, (1024, 2048).
        labelled: Read labels; else ``gtFine`` is not needed, and a clip ends at every frame that has enough before it.
        flow: A folder of files named ``CITY_SEQUENCE_NUMBER_PREVIOUS_int16_x10.npy``, as in the released data, for
            each pair of neighbouring frames; of any resolution.
        label_space: What the ids become; must map those of ``"cityscapes"``.

    Shape:
        - item: an unbatched :class:`dastc.Clip`: frames ``(T, 3, H, W)``, float32, normalised by :func:`from_rgb`;
          labels ``(T, H, W)``, int64, in [0, K) or the ignored label; with ``flow``, flow ``(T-1, 2, H, W)``, float32.

    Raises:
        ValueError: If folders or all files are missing, flow is for a pair of frames, a city or split is unknown, or
            the label space does not map Cityscapes. When reading: if labels and picture differ in size.
        RuntimeError: Without Pillow; when reading, if a file is missing or broken.

    Source:
        Cordts et al. 2016; docs/method.md#pictures-and-labels and docs/method.md#flow-files.

    Example:
        >>> from dastc.data import CityscapesSeq
        >>> CityscapesSeq("no/folder", split="val")
        Traceback (most recent call last):
        ...
        ValueError: CityscapesSeq: `root` must hold the folder leftImg8bit_sequence/val; got no/folder without it.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        split: str = "train",
        cities: str | Sequence[str] | None = None,
        frames: int = 2,
        interval: int = 1,
        size: tuple[int, int] | None = None,
        labelled: bool = True,
        flow: str | Path | None = None,
        label_space: LabelSpace = CITYSCAPES19,
    ) -> None:
        check_choice("CityscapesSeq", "split", split, _SPLITS)
        self.root, self.split, self.cities, self.labelled = Path(root), split, cities, labelled
        self.frames, self.interval = frames, interval
        images, labels = _find("CityscapesSeq", self.root, "leftImg8bit_sequence", split, cities, labelled)
        clips, missing = list_clips(
            "CityscapesSeq",
            images,
            labels,
            find_flow("CityscapesSeq", flow, _FRAME + "_{previous:06}"),
            frames=frames,
            interval=interval,
            all_labelled=False,
            may_begin_within=not labelled,
        )
        super().__init__(
            clips,
            label_space=label_space,
            label_files=published_labels("CityscapesSeq", label_space, "cityscapes") if labelled else None,
            size=size,
            missing=missing,
        )


def _find(
    caller: str, root: Path, kind: str, split: str, cities: str | Sequence[str] | None, labelled: bool
) -> tuple[dict[Key, Path], dict[Key, Path] | None]:
    """Return pictures and labels; a sequence is named ``CITY_SEQUENCE``, and may be numbered like its frame."""
    images = find_or_explain(caller, root, f"{kind}/{split}", f"*/{_FRAME}_leftImg8bit.png")
    chosen = choose(caller, "cities", (_city(key) for key in images), cities, root / kind / split)
    labels = find_or_explain(caller, root, f"gtFine/{split}", f"*/{_FRAME}_gtFine_labelIds.png") if labelled else None
    if cities is not None:
        images = {key: path for key, path in images.items() if _city(key) in chosen}
        labels = labels and {key: path for key, path in labels.items() if _city(key) in chosen}
    return images, labels


def _city(key: Key) -> str:
    return key.sequence.rpartition("_")[0]
