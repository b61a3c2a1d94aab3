"""Flow for data that comes without it, computed once."""

import hashlib
import warnings
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

from dastc._core.checks import check_dtype, check_shape
from dastc.clip import Clip
from dastc.data.flow_estimators import FlowEstimator
from dastc.data.flow_files import read_flow, write_flow
from dastc.data.label_space import LabelSpace
from dastc.data.progress import with_progress
from dastc.data.reader_errors import reading
from dastc.data.whole_files import write_whole

__all__ = ["FilledCache", "FlowCache"]

_MADE_BY = "made_by.txt"
_Origin = Literal["found", "computed", "replaced"]


class _Clips(Protocol):
    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Clip: ...


class FilledCache(NamedTuple):
    """What :meth:`FlowCache.fill` did, in pairs of neighbouring frames.

    Args:
        found: Their flow was there already.
        computed: Their flow was not there.
        replaced: Their file was broken, and was computed again.

    Example:
        >>> FilledCache(found=1, computed=2, replaced=0)
        FilledCache(found=1, computed=2, replaced=0)
    """

    found: int
    computed: int
    replaced: int


class FlowCache(Dataset[Clip]):
    """Give the clips of a data set backward flow: estimated at first sight, then read from a folder.

    A pair of frames is known by its content, so clips that overlap share their flow, and neither their order nor their
    names matter. Frames must be the same at each visit: random changes come after this, as a transform of its clips.

    Files are ``.npy`` in float16, about three digits: 1/32 pixel where the flow is 32 to 64 pixels long. The first
    visit gives what later ones will read. Each appears at once and complete, so that several workers and processes can
    share the folder, and an interrupted run goes on where it was. A file that cannot be read is computed again, with a
    warning that names it.

    Args:
        dataset: Unbatched clips, with ``len()`` and an index. Flow that they have is replaced.
        estimator: Computes what is not there; see :class:`DISFlow` and :class:`RAFTFlow`. One that works on a GPU
            belongs into the main process: call :meth:`fill` before workers read.
        folder: Where the flow is kept; made if need be. It holds the flow of one estimator.
        made_by: What tells this estimator from others. It is written into the folder and compared with what is there;
            ``None`` means the ``repr`` of the estimator.

    Shape:
        - item: the clip, with flow ``(T-1, 2, H, W)``, float32; ``None`` at T = 1.

    Attributes:
        label_space: That of the data set.

    Raises:
        ValueError: If the folder holds the flow of another estimator, or the ``repr`` of this one shows a memory
            address and no ``made_by`` is given; when reading, if a clip or what the estimator returns has a wrong
            shape.
        TypeError: When reading, if frames or flow are not float.
        RuntimeError: If the folder cannot be written.

    Source:
        Ours.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from dastc.data import StreetClips
        >>> def still(previous, current):
        ...     return torch.zeros(2, *current.shape[1:])
        >>> with TemporaryDirectory() as folder:
        ...     clips = FlowCache(StreetClips("source", length=2, size=(16, 24)), still, folder, made_by="still")
        ...     print(clips.fill(progress=False), clips[0].flow.shape)
        FilledCache(found=0, computed=2, replaced=0) torch.Size([1, 2, 16, 24])
    """

    def __init__(
        self, dataset: _Clips, estimator: FlowEstimator, folder: str | Path, *, made_by: str | None = None
    ) -> None:
        self.dataset, self.estimator, self.folder = dataset, estimator, Path(folder)
        self.made_by = repr(estimator) if made_by is None else made_by
        if " at 0x" in self.made_by:
            raise ValueError(
                f"FlowCache: `made_by` must be given for an estimator whose repr changes; got {self.made_by}."
            )
        _claim(self.folder, self.made_by)

    @property
    def label_space(self) -> LabelSpace:
        """That of the data set."""
        space: LabelSpace = self.dataset.label_space  # type: ignore[attr-defined]  # an AttributeError if it has none
        return space

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> Clip:
        """Return one clip with flow; computes what is missing."""
        clip = self.dataset[index]
        flows = [flow for flow, _ in self._flows(clip)]
        return clip._replace(flow=torch.stack(flows).to(clip.frames.device) if flows else None)

    def fill(self, *, progress: bool = True) -> FilledCache:
        """Visit every clip once, computing what is missing, and say what was done.

        Args:
            progress: Show a bar, which needs tqdm.
        """
        seen: Counter[str] = Counter()
        indices = range(len(self))
        for index in with_progress("FlowCache.fill", indices, "flow", total=len(indices), wanted=progress):
            seen.update(origin for _, origin in self._flows(self.dataset[index]))
        return FilledCache(seen["found"], seen["computed"], seen["replaced"])

    def _flows(self, clip: Clip) -> list[tuple[Tensor, _Origin]]:
        check_shape("FlowCache", "dataset[i].frames", clip.frames, "T 3 H W", {"3": 3})
        check_dtype("FlowCache", "dataset[i].frames", clip.frames, "float")
        return [self._flow(*pair) for pair in pairwise([(frame, _digest(frame)) for frame in clip.frames])]

    def _flow(self, previous: tuple[Tensor, bytes], current: tuple[Tensor, bytes]) -> tuple[Tensor, _Origin]:
        key = hashlib.blake2b(previous[1] + current[1], digest_size=16).hexdigest()
        # two letters: folders of hundreds of thousands of files are slow
        path = self.folder / key[:2] / f"{key}.npy"
        sizes = {"2": 2, "H": current[0].shape[1], "W": current[0].shape[2]}
        origin: _Origin = "computed"
        if path.exists():
            try:
                flow = read_flow(path)
                check_shape("FlowCache", path.name, flow, "2 H W", sizes)
            except (RuntimeError, ValueError) as error:
                warnings.warn(f"FlowCache: {path} is broken and computed again ({error})", RuntimeWarning, stacklevel=2)
                origin = "replaced"
            else:
                return flow, "found"
        flow = self.estimator(previous[0], current[0])
        check_shape("FlowCache", "estimator(previous, current)", flow, "2 H W", sizes)
        check_dtype("FlowCache", "estimator(previous, current)", flow, "float")
        _make(path.parent)
        write_flow(path, flow, dtype="float16")
        return read_flow(path), origin  # what every later visit will get


def _digest(frame: Tensor) -> bytes:
    content = frame.detach().cpu().contiguous()
    # the same bytes in another shape are another picture
    digest = hashlib.blake2b(f"{tuple(content.shape)} {content.dtype}".encode())
    digest.update(content.flatten().view(torch.uint8).numpy().data)
    return digest.digest()


def _claim(folder: Path, made_by: str) -> None:
    _make(folder)
    record = folder / _MADE_BY
    if not record.exists():
        write_whole("FlowCache", record, f"{made_by}\n".encode())
    with reading("FlowCache", record):
        content = record.read_bytes()
    there = content.decode(errors="replace").strip()  # garbled is another's, and is shown
    if there != made_by.strip():
        raise ValueError(
            f"FlowCache: `folder` must hold the flow of {made_by}; got {folder} with that of {there}. "
            "Use a folder for each estimator."
        )


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RuntimeError(f"FlowCache: {folder} cannot be made ({type(error).__name__}: {error}).") from error
