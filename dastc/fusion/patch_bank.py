"""A bank of rare-class patches that fills itself from the clips that pass by."""

from collections.abc import Sequence
from typing import Any

import torch
from einops import rearrange, reduce, repeat
from torch import Tensor, nn

from dastc._core.buffers import make_room
from dastc._core.checks import check_classes, check_shape, check_whole
from dastc._core.distributed import batch_rand, most_over_ranks
from dastc.clip import Clip, check_clip
from dastc.functional.labels import draw_classes

__all__ = ["PatchBank"]


class PatchBank(nn.Module):
    """Remember pictures of chosen classes, and hand them out again as static patches.

    Everything stays on the device of the clips that were seen: no disk is read, and nothing waits for the device.

    Args:
        num_classes: Number of classes K.
        classes: The labels to keep patches of.
        capacity: Pictures kept for each class; the oldest goes first.
        min_pixels: Least number of pixels of a class for a picture to be worth keeping.
        sync: Look for it on all ranks, when torch.distributed runs: every rank then has the bank that one process has.
        ignore_index: Label of the pixels around the patches.

    Shape:
        - clip of ``update``: any size, but always the same; its current frames are read.
        - output of ``sample``: frames ``(B, C, H, W)``, labels ``(B, H, W)`` int64 with ``ignore_index`` wherever
          no patch is. An empty bank gives no patch at all.

    Raises:
        ValueError: If a class is outside [0, K), an argument is out of range, clips change size, ``sample`` is
            called before any ``update``, or a checkpoint of another capacity is loaded.

    Source:
        The released code (docs/method.md#fusion-of-clips), without its reads of files and its loops without end
        (docs/method.md#what-is-corrected).

    Example:
        >>> bank = PatchBank(3, classes=[2], min_pixels=1)
        >>> bank.update(Clip(torch.ones(1, 1, 3, 2, 2), torch.tensor([[[[0, 2], [2, 1]]]])))
        >>> frames, labels = bank.sample(1, batch=1)
        >>> labels
        tensor([[[255,   2],
                 [  2, 255]]])
    """

    classes: Tensor
    frames: Tensor
    labels: Tensor
    written: Tensor

    def __init__(
        self,
        num_classes: int,
        *,
        classes: Sequence[int],
        capacity: int = 4,
        min_pixels: int = 16,
        sync: bool = True,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        check_whole("PatchBank", "capacity", capacity, 1)
        check_whole("PatchBank", "min_pixels", min_pixels, 1)
        check_classes("PatchBank", "classes", classes, num_classes, ignore_index)
        if not classes:
            raise ValueError("PatchBank: `classes` must name at least one class; got [].")
        self.num_classes, self.capacity, self.min_pixels = num_classes, capacity, min_pixels
        self.sync, self.ignore_index = sync, ignore_index
        self.register_buffer("classes", torch.tensor(list(classes)), persistent=False)
        self.register_buffer("frames", None)
        self.register_buffer("labels", None)
        self.register_buffer("written", torch.zeros(len(classes), dtype=torch.long))

    @torch.no_grad()
    def update(self, clip: Clip) -> None:
        """Keep, for each class, the current frame of the sample that shows most of it."""
        sizes = check_clip("PatchBank.update", "clip", clip, labelled=True)
        frames, labels = clip.frames[:, -1], clip.labels[:, -1]  # type: ignore[index]  # check_clip saw the labels
        self._allocate(frames, labels)
        check_shape("PatchBank.update", "clip.labels", labels, "B H W", sizes | self._size())
        if sizes["B"] == 0:
            return
        of_class = labels == rearrange(self.classes, "c -> c 1 1 1")  # (C, B, H, W)
        pixels, sample = reduce(of_class.long(), "c b h w -> c b", "sum").max(dim=1)
        row, slot = torch.arange(len(pixels), device=pixels.device), self.written % self.capacity
        pictures, patches = frames[sample], labels[sample].where(of_class[row, sample], self.ignore_index)
        if self.sync:
            pixels, pictures, patches = most_over_ranks(pixels, pictures, patches)
        worth = pixels >= self.min_pixels
        keep = worth.view(-1, 1, 1)
        self.frames[row, slot] = pictures.where(keep.unsqueeze(1), self.frames[row, slot])
        self.labels[row, slot] = patches.where(keep, self.labels[row, slot])
        self.written += worth

    def sample(self, amount: int, *, batch: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Compose one static picture for each sample of a batch, of one patch of each of ``amount`` classes."""
        if not self.has_seen:
            raise ValueError("PatchBank.sample: `update` must come first; the bank has seen no clip.")
        check_whole("PatchBank.sample", "amount", amount, 0)
        check_whole("PatchBank.sample", "batch", batch, 0)
        known = (self.written > 0).expand(batch, -1)
        rank = batch_rand(*known.shape, generator=generator).to(known.device, non_blocking=True)
        chosen = draw_classes(known, amount, generator=generator) if amount else torch.zeros_like(known)
        slot = (rank * self.written.clamp(max=self.capacity)).long().clamp(max=self.capacity - 1)  # (B, C)
        row = torch.arange(len(self.written), device=known.device)
        patches = self.labels[row, slot].where(chosen[..., None, None], self.ignore_index)  # (B, C, H, W)
        # where patches overlap, the class named last lies on top
        order = row.view(1, -1, 1, 1).where(patches != self.ignore_index, -1)
        top = order.max(dim=1, keepdim=True)
        labels = patches.gather(1, top.indices).squeeze(1)
        colours = repeat(top.indices, "b 1 h w -> b 1 c h w", c=self.frames.shape[-3])
        frames = self.frames[row, slot].gather(1, colours).squeeze(1)
        return frames, labels

    @property
    def has_seen(self) -> bool:
        """Whether any clip has passed by, so that the size of the pictures is known."""
        return self._buffers["frames"] is not None

    def _allocate(self, frames: Tensor, labels: Tensor) -> None:
        if not self.has_seen:
            shape = (len(self.written), self.capacity)
            self.frames = frames.new_zeros((*shape, *frames.shape[1:]))
            self.labels = labels.new_full((*shape, *labels.shape[1:]), self.ignore_index)

    def _size(self) -> dict[str, int]:
        return {"H": self.labels.shape[-2], "W": self.labels.shape[-1]}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        saved = state_dict.get(prefix + "frames")
        if saved is not None and saved.shape[1] != self.capacity:
            # room of another size would load, and later be written beyond its end
            raise ValueError(f"PatchBank: `capacity` must be the checkpoint's, {saved.shape[1]}; got {self.capacity}.")
        make_room(self, state_dict, prefix, ("frames", "labels"))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return (
            f"num_classes={self.num_classes}, classes={self.classes.tolist()}, capacity={self.capacity}, "
            f"min_pixels={self.min_pixels}, sync={self.sync}, ignore_index={self.ignore_index}"
        )
