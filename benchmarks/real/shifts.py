"""The domain shifts, declared as data, and their clips, decoded once.

Frames that are trained on and frames that are scored are disjoint in every shift. All names of classes and all labels
are CamVid's, whatever the source is.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Literal, NamedTuple
from zlib import crc32

import numpy as np
import torch
from torch.utils.data import Dataset, Subset
from tqdm import tqdm

from dastc import Clip
from dastc.data import CamVid, DISFlow, FlowCache, StreetClips, from_rgb, to_rgb
from dastc.data.spaces import CAMVID, STREET

SIZE = (180, 240)
CLASSES = CAMVID.names
STREET_NAMES = {"vegetation": "tree", "person": "pedestrian"}  # the others are named alike


class Part(NamedTuple):
    """Some clips of one data set.

    Args:
        data: Which data set: a folder that the user names, or the procedural streets.
        sequences: Which sequences of it; none means all.
        frames: Frames of a clip; more than one come with estimated flow.
        max_gap: Largest difference of neighbouring frame numbers in a clip.
        share: From where to where in the order of time, in [0, 1].
        blocks: Every tenth block of 20 clips is kept back from training where part of a source is needed to choose
            settings. Whole blocks, since neighbouring frames show nearly the same.
    """

    data: Literal["camvid", "carla", "street"]
    sequences: tuple[str, ...] = ()
    frames: int = 1
    max_gap: int = 30
    share: tuple[float, float] = (0.0, 1.0)
    blocks: Literal["all", "trained", "kept back"] = "all"


class Shift(NamedTuple):
    """From where to where, and what is scored.

    Args:
        source: Trained on with labels.
        target: Trained on without (by the oracle with).
        scored: Read at the end.
        unseen: Classes of CamVid that the source does not show: they do not count in the mean.
        choice: Target clips whose labels may help to choose settings, if any may.
    """

    source: Part
    target: Part
    scored: Part
    unseen: tuple[str, ...] = ()
    choice: Part | None = None

    @property
    def parts(self) -> dict[str, Part]:
        """The parts by name: two to train on, the others to score on."""
        parts = {
            "source": self.source._replace(blocks="trained"),
            "target": self.target,
            "scored": self.scored,
            "kept back": self.source._replace(blocks="kept back"),
        }
        return parts if self.choice is None else parts | {"choice": self.choice}

    @property
    def classes(self) -> tuple[int, ...]:
        """Labels that the mean is over."""
        return tuple(label for label, name in enumerate(CLASSES) if name not in self.unseen)


DAYS = ("0016E5", "0006R0")
SCORED = Part("camvid", ("Seq05VD",))
SHIFTS = {
    # synthetic images to real ones
    "a": Shift(Part("carla"), Part("camvid", DAYS), SCORED, ("bicyclist",), choice=Part("camvid", ("0006R0",))),
    # the same as video: clips of neighbouring frames, and the part of 0016E5 that has 15 frames a second
    "b": Shift(
        Part("carla", frames=2, max_gap=1), Part("camvid", ("0016E5",), frames=2, max_gap=2), SCORED, ("bicyclist",)
    ),
    # day to dusk: the first two thirds of the one drive at dusk are trained on, the last third is scored
    "c": Shift(
        Part("camvid", (*DAYS, "Seq05VD")),
        Part("camvid", ("0001TP",), share=(0, 2 / 3)),
        Part("camvid", ("0001TP",), share=(2 / 3, 1)),
    ),
    # day to day, where the light is alike and the street shows other things
    "d": Shift(
        Part("camvid", ("0016E5", "Seq05VD")),
        Part("camvid", ("0006R0",), share=(0, 2 / 3)),
        Part("camvid", ("0006R0",), share=(2 / 3, 1)),
    ),
    # procedural images to real ones
    "e": Shift(Part("street"), Part("camvid", DAYS), SCORED, ("fence", "bicyclist")),
}


class Packed(Dataset):
    """Clips in arrays of 8 bit, mapped from disk: a fresh process starts at once, and shares the memory of others."""

    def __init__(self, folder: Path) -> None:
        self.arrays = {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.arrays["frames"])

    def __getitem__(self, index: int) -> Clip:
        """Return one clip, normalised."""
        found = {name: torch.from_numpy(array[index].copy()) for name, array in self.arrays.items()}
        flow = found["flow"].float() if "flow" in found else None
        return Clip(from_rgb(found["frames"]), found["labels"].long(), flow)


class Unlabelled(Dataset):
    """The same clips without labels: no method can look, even by mistake."""

    def __init__(self, clips: Dataset) -> None:
        self.clips = clips

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.clips)

    def __getitem__(self, index: int) -> Clip:
        """Return one clip."""
        return self.clips[index]._replace(labels=None)


def packed(part, roots, cache, size=SIZE):
    """Return the clips of a part; what was decoded before with the same declaration is not decoded again."""
    folder = cache / f"{part.data}-{crc32(repr((part, size)).encode()):08x}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(dir=cache, prefix="new-"))
        try:
            pack(chosen(part, clips_of(part, roots, cache, size)), new)
            new.rename(folder)
        except OSError:
            if not folder.exists():  # else another process was faster
                raise
        finally:
            shutil.rmtree(new, ignore_errors=True)
    return Packed(folder)


def clips_of(part, roots, cache, size):
    if part.data == "street":
        return StreetClips("source", length=300, size=size, frames=part.frames)
    clips = CamVid(roots[part.data], sequences=part.sequences or None, frames=part.frames, max_gap=part.max_gap,
                   size=size)  # fmt: skip
    return clips if part.frames == 1 else FlowCache(clips, DISFlow(), cache / "flow")


def chosen(part, clips):
    first, last = (round(share * len(clips)) for share in part.share)
    indices = range(first, last)
    if part.blocks != "all":
        kept_back = part.blocks == "kept back"
        indices = [index for index in indices if (index // 20 % 10 == 9) == kept_back]
    return Subset(clips, indices)


def pack(clips, folder):
    relabel = as_camvid() if isinstance(clips.dataset, StreetClips) else None
    fields = {"frames": [], "labels": [], "flow": []}
    for index in tqdm(range(len(clips)), desc="decoding", disable=None):
        clip = clips[index]
        fields["frames"].append(to_rgb(clip.frames))
        fields["labels"].append((clip.labels if relabel is None else relabel[clip.labels]).to(torch.uint8))
        if clip.flow is not None:
            fields["flow"].append(clip.flow.half())  # what FlowCache keeps of it
    for name, values in fields.items():
        if values:
            np.save(folder / f"{name}.npy", torch.stack(values).numpy())


def as_camvid():
    """Return CamVid's label of each label of the procedural streets, which ignore no pixel."""
    return torch.tensor([CLASSES.index(STREET_NAMES.get(name, name)) for name in STREET.names])
