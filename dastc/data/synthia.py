"""SYNTHIA: rendered streets, as video and as single pictures."""

from collections.abc import Sequence
from pathlib import Path

from dastc._core.checks import check_at_least
from dastc.data.clip_files import ClipFiles
from dastc.data.clip_lists import choose, list_clips
from dastc.data.file_patterns import Key
from dastc.data.label_space import LabelSpace
from dastc.data.published_files import find_flow, find_or_explain, published_labels
from dastc.data.spaces import SYNTHIA16, SYNTHIA_SEQ12

__all__ = ["SynthiaRand", "SynthiaSeq"]


class SynthiaSeq(ClipFiles):
    """Read SYNTHIA's video sequences as clips that are labelled in every frame.

    ``root`` is a sequence, such as ``SYNTHIA-SEQS-04-DAWN``, or a folder of several. A sequence holds
    ``RGB/VIEW/NNNNNN.png`` and ``GT/LABELS/VIEW/NNNNNN.png``, as in the archive, or ``rgb/NNNNNN.png`` and
    ``label/NNNNNN.png``. Ids are in the first channel of 16-bit RGB; files of one channel are read, too.

    Args:
        root: The folder of the data set. Nothing is downloaded.
        sequences: Names of the sequences to use, which are their folders'; ``None`` means all.
        view: The camera, in the layout of the archive.
        frames: Frames per clip T, at least 1.
        interval: Frames of the video from one frame of a clip to the next, at 5 a second.
        cut: Rows to cut off below, before resizing: 120 of 760 in published results.
        size: ``(height, width)`` to resize to, pictures bilinearly and labels by nearest pixel; ``None`` keeps what
            is left of the files, (640, 1280).
        flow: A folder of files named ``NNNNNN_int16_x10.npy`` after the later frame, as in the released data, for
            each pair of neighbouring frames; of any resolution, of whole pictures. For several sequences it holds a
            folder of each one's name.
        label_space: What the ids become; must map those of ``"synthia_seq"``.

    Shape:
        - item: an unbatched :class:`dastc.Clip`: frames ``(T, 3, H, W)``, float32, normalised by :func:`from_rgb`;
          labels ``(T, H, W)``, int64, in [0, K) or the ignored label; with ``flow``, flow ``(T-1, 2, H, W)``, float32.

    Raises:
        ValueError: If there is no known layout, all files are missing, flow is for a pair of frames, a sequence is
            unknown, or the label space does not map SYNTHIA. When reading: if labels and picture differ in size, or
            have no more rows than are cut off.
        RuntimeError: Without Pillow; when reading, if a file is missing or broken.

    Source:
        Ros et al. 2016; docs/method.md#pictures-and-labels and docs/method.md#flow-files.

    Example:
        >>> from dastc.data import SynthiaSeq
        >>> SynthiaSeq("no/such/folder")
        Traceback (most recent call last):
        ...
        ValueError: SynthiaSeq: `root` must be an existing folder; got no/such/folder.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        sequences: str | Sequence[str] | None = None,
        view: str = "Stereo_Left/Omni_F",
        frames: int = 2,
        interval: int = 1,
        cut: int = 120,
        size: tuple[int, int] | None = None,
        flow: str | Path | None = None,
        label_space: LabelSpace = SYNTHIA_SEQ12,
    ) -> None:
        check_at_least("SynthiaSeq", "cut", cut, 0)
        self.root, self.view, self.frames, self.interval, self.cut = Path(root), view, frames, interval, cut
        found = _sequences(self.root, view)
        names = choose("SynthiaSeq", "sequences", found, sequences, self.root)
        self.sequence_names = tuple(sorted(names))
        images: dict[Key, Path] = {}
        labels: dict[Key, Path] = {}
        for name in self.sequence_names:
            for files, folder in zip((images, labels), found[name], strict=True):
                numbers = find_or_explain("SynthiaSeq", folder.parent, folder.name, "{number:06}.png")
                files |= {Key(name, key.number): path for key, path in numbers.items()}
        clips, missing = list_clips(
            "SynthiaSeq",
            images,
            labels,
            find_flow("SynthiaSeq", flow, "{number:06}" if len(names) == 1 else "{sequence}/{number:06}"),
            frames=frames,
            interval=interval,
        )
        super().__init__(
            clips,
            label_space=label_space,
            label_files=published_labels("SynthiaSeq", label_space, "synthia_seq", first_channel=True),
            size=size,
            cut=cut,
            missing=missing,
        )


class SynthiaRand(ClipFiles):
    """Read SYNTHIA-RAND-CITYSCAPES, single pictures as clips of one frame.

    ``root`` holds ``RGB/NNNNNNN.png`` and ``GT/LABELS/NNNNNNN.png``. Ids are in the first channel of 16-bit RGB; files
    of one channel are read, too.

    Args:
        root: The folder of the data set, ``RAND_CITYSCAPES``. Nothing is downloaded.
        size: ``(height, width)`` to resize to, pictures bilinearly and labels by nearest pixel; ``None`` keeps the
            size of the files, (760, 1280).
        label_space: What the ids become; must map those of ``"synthia_rand"``.

    Shape:
        - item: an unbatched :class:`dastc.Clip` without flow: frames ``(1, 3, H, W)``, float32, normalised by
          :func:`from_rgb`; labels ``(1, H, W)``, int64, in [0, K) or the ignored label.

    Raises:
        ValueError: If folders or all files are missing, or the label space does not map SYNTHIA. When reading: if
            labels and picture differ in size.
        RuntimeError: Without Pillow; when reading, if a file is missing or broken.

    Source:
        Ros et al. 2016.

    Example:
        >>> from dastc.data import SynthiaRand
        >>> SynthiaRand("no/such/folder")
        Traceback (most recent call last):
        ...
        ValueError: SynthiaRand: `root` must hold the folder RGB; got no/such/folder without it.
    """

    def __init__(
        self, root: str | Path, *, size: tuple[int, int] | None = None, label_space: LabelSpace = SYNTHIA16
    ) -> None:
        self.root = Path(root)
        images = find_or_explain("SynthiaRand", self.root, "RGB", "{number}.png")
        labels = find_or_explain("SynthiaRand", self.root, "GT/LABELS", "{number}.png")
        clips, missing = list_clips("SynthiaRand", images, labels, None, frames=1)
        super().__init__(
            clips,
            label_space=label_space,
            label_files=published_labels("SynthiaRand", label_space, "synthia_rand", first_channel=True),
            size=size,
            missing=missing,
        )


def _sequences(root: Path, view: str) -> dict[str, tuple[Path, Path]]:
    """Return the folders of pictures and labels of each sequence, by its name."""
    if not root.is_dir():
        raise ValueError(f"SynthiaSeq: `root` must be an existing folder; got {root}.")
    found = {}
    for folder in (root, *sorted(path for path in root.iterdir() if path.is_dir())):
        # the archive's layout first: where case does not matter, RGB/ is rgb/, too
        layouts = ((folder / "RGB" / view, folder / "GT" / "LABELS" / view), (folder / "rgb", folder / "label"))
        there = [pair for pair in layouts if pair[0].is_dir() and pair[1].is_dir()]
        if there:
            found[folder.resolve().name] = there[0]
    if not found:
        raise ValueError(
            f"SynthiaSeq: `root` must hold RGB/{view} and GT/LABELS/{view}, or rgb and label, itself or in its "
            f"folders; got {root} with none of them."
        )
    return found
