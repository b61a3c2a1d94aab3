"""Procedural street clips in two domains, with exact labels, exact flow and exact visibility."""

from typing import Literal, NamedTuple

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.utils.data import Dataset

from dastc._core.checks import check_at_least, check_between, check_choice
from dastc.clip import Clip
from dastc.data._street.camera import develop, draw_drive
from dastc.data._street.domains import Domain
from dastc.data._street.layout import build_street
from dastc.data._street.noise import Array
from dastc.data._street.planes import Street, View, film, flow_between, project, seen_before
from dastc.data._street.shading import Look, shade
from dastc.data.frames import from_rgb
from dastc.data.spaces import STREET

__all__ = ["StreetClips"]

_DOMAINS = ("source", "target")
_SPLITS = ("train", "val", "test")


class _Take(NamedTuple):
    """One clip's street as filmed, before it is painted."""

    street: Street
    to_picture: Array  # (T, N, 3, 3)
    view: View
    focal: float


class StreetClips(Dataset[Clip]):
    """Film procedural streets: a "rendered" source domain, a "real" target domain, and everything known exactly.

    A camera drives along a street of flat patches: ground, houses, plants, poles, signs, walking persons, moving and
    parked cars. The domains differ in what stands there, in colours, textures and light, and in fog, lens and sensor.
    Clip ``i`` depends on ``seed``, ``domain``, ``split`` and ``i`` alone, not on the order of access.

    Args:
        domain: ``"source"`` is clean and vivid; ``"target"`` is varied, hazy and noisy.
        split: Streets of different splits are drawn from different random streams.
        length: Number of clips.
        size: ``(height, width)`` of the frames in pixels, each >= 16.
        frames: Frames T of each clip; 1 gives images, without flow. The street is about 100 m long and the camera
            goes up to 0.7 m from frame to frame, so clips of more than about 100 frames leave it.
        shift: How far the target is from the source, in [0, 3]: 0 draws both alike, and colours, textures, light and
            sensor go further apart with it. Without effect on the source. At the default a small net trained on the
            source alone reaches about half of what it reaches with the target's labels, too.
        seed: Seed >= 0 of all clips.

    Shape:
        - output: an unbatched :class:`dastc.Clip` without weights; :func:`dastc.stack_clips` makes batches of them.
        - frames: ``(T, 3, H, W)``, float32, normalised as by :func:`dastc.data.from_rgb`.
        - labels: ``(T, H, W)``, int64, in [0, 9): the classes of ``spaces.STREET``; no pixel is ignored.
        - flow: ``(T-1, 2, H, W)``, float32, exact backward flow in pixels; ``None`` if T = 1.

    Attributes:
        label_space: ``spaces.STREET``.

    Raises:
        ValueError: If ``domain`` or ``split`` is unknown, or a number is out of its range.
        IndexError: If the index is not in [-length, length).

    Source:
        Ours.

    Example:
        >>> clips = StreetClips("source", length=3, size=(32, 48))
        >>> clip = clips[0]
        >>> clip.frames.shape, clip.labels.shape, clip.flow.shape, clips.visible(0).shape
        (torch.Size([2, 3, 32, 48]), torch.Size([2, 32, 48]), torch.Size([1, 2, 32, 48]), torch.Size([1, 32, 48]))
    """

    label_space = STREET

    def __init__(
        self,
        domain: Literal["source", "target"],
        *,
        split: Literal["train", "val", "test"] = "train",
        length: int = 500,
        size: tuple[int, int] = (96, 160),
        frames: int = 2,
        shift: float = 1.1,
        seed: int = 0,
    ) -> None:
        check_choice("StreetClips", "domain", domain, _DOMAINS)
        check_choice("StreetClips", "split", split, _SPLITS)
        check_at_least("StreetClips", "length", length, 0)
        check_at_least("StreetClips", "frames", frames, 1)
        check_between("StreetClips", "shift", shift, 0, 3)
        check_at_least("StreetClips", "seed", seed, 0)
        if len(size) != 2 or min(size) < 16:
            raise ValueError(f"StreetClips: `size` must be (height, width), each at least 16; got {size}.")
        self.domain, self.split, self.length, self.size = domain, split, length, (size[0], size[1])
        self.frames, self.shift, self.seed = frames, shift, seed
        self._domain = Domain(shift if domain == "target" else 0.0)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Clip:
        layout, motion, light = self._streams(index)
        take = self._film(layout, motion)
        look = Look(*(self._domain.draw(light, name) for name in Look._fields))
        rgb = shade(take.street, take.view, look, take.focal)
        pictures = develop(light, self._domain, rgb, take.view.nearness)
        flow = torch.from_numpy(flow_between(take.view, take.to_picture)) if self.frames > 1 else None
        labels = torch.from_numpy(take.street.label[take.view.patch])
        return Clip(from_rgb(rearrange(torch.from_numpy(pictures), "rgb t h w -> t h w rgb")), labels, flow)

    def visible(self, index: int) -> Tensor:
        """Tell which pixels' points the frame before shows too; elsewhere the flow points at something else.

        A point counts if the frame before shows the same surface both at exactly the place the flow points at and at
        the pixel nearest to it. So warping labels with nearest-neighbour sampling is right wherever this is true.

        Returns:
            ``(T-1, H, W)``, bool, on the grid of the later frame.
        """
        layout, motion, _ = self._streams(index)
        take = self._film(layout, motion)
        return torch.from_numpy(seen_before(take.street, take.view, take.to_picture))

    def _streams(self, index: int) -> list[np.random.Generator]:
        if not -self.length <= index < self.length:
            raise IndexError(f"StreetClips: `index` must lie in [{-self.length}, {self.length}); got {index}.")
        key = (self.seed, _DOMAINS.index(self.domain), _SPLITS.index(self.split), index % self.length)
        return [np.random.default_rng(child) for child in np.random.SeedSequence(key).spawn(3)]

    def _film(self, layout: np.random.Generator, motion: np.random.Generator) -> _Take:
        road_width = self._domain.draw(layout, "road_width")
        drive = draw_drive(motion, self._domain, self.frames, self.size, road_width)
        focal = float(drive.lens[0, 0])
        street = build_street(layout, self._domain, road_width, focal)
        to_picture = project(street, *drive)
        return _Take(street, to_picture, film(street, to_picture, self.size), focal)
