"""GTA5: single pictures from a game."""

from pathlib import Path

from dastc.data.clip_files import ClipFiles
from dastc.data.clip_lists import list_clips
from dastc.data.label_space import LabelSpace
from dastc.data.published_files import find_or_explain, published_labels
from dastc.data.spaces import CITYSCAPES19

__all__ = ["GTA5"]


class GTA5(ClipFiles):
    """Read GTA5, single pictures as clips of one frame.

    ``root`` holds ``images/NNNNN.png`` and ``labels/NNNNN.png``, the palette pictures of the archive; converted files
    such as ``*_labelTrainIds.png`` beside them are left alone. Pictures differ in size: give ``size``.

    Args:
        root: The folder of the data set. Nothing is downloaded.
        size: ``(height, width)`` to resize to, pictures bilinearly and labels by nearest pixel; ``None`` keeps the
            sizes of the files, about (1052, 1914).
        label_space: What the ids become; must map those of ``"gta5"``.

    Shape:
        - item: an unbatched :class:`dastc.Clip` without flow: frames ``(1, 3, H, W)``, float32, normalised by
          :func:`from_rgb`; labels ``(1, H, W)``, int64, in [0, K) or the ignored label.

    Raises:
        ValueError: If folders or all files are missing, or the label space does not map GTA5. When reading: if labels
            and picture differ in size; :meth:`check` finds those that do.
        RuntimeError: Without Pillow; when reading, if a file is missing or broken.

    Source:
        Richter et al. 2016.

    Example:
        >>> from dastc.data import GTA5
        >>> GTA5("no/such/folder")
        Traceback (most recent call last):
        ...
        ValueError: GTA5: `root` must hold the folder images; got no/such/folder without it.
    """

    def __init__(
        self, root: str | Path, *, size: tuple[int, int] | None = None, label_space: LabelSpace = CITYSCAPES19
    ) -> None:
        self.root = Path(root)
        images = find_or_explain("GTA5", self.root, "images", "{number}.png")
        labels = find_or_explain("GTA5", self.root, "labels", "{number}.png")
        clips, missing = list_clips("GTA5", images, labels, None, frames=1)
        super().__init__(
            clips,
            label_space=label_space,
            label_files=published_labels("GTA5", label_space, "gta5"),
            size=size,
            missing=missing,
        )
