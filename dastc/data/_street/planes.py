"""Planar patches before a moving pinhole camera: what each pixel shows, and where that was a frame ago.

Everything in the street is a flat patch, ``origin + a * across + b * up`` with a and b in [0, 1]. A camera maps a
patch to the picture by a homography, so one patch moves between two frames by a homography too, and the flow is exact.
"""

from typing import NamedTuple, TypeAlias

import numpy as np

from dastc.data._street.noise import Array
from dastc.data._street.outlines import OUTLINES

__all__ = ["Patch", "Street", "View", "film", "flow_between", "patch_on_top", "project", "seen_before", "stack_patches"]

Point: TypeAlias = tuple[float, float, float]

_CLOSEST = 0.1  # metres before the camera


class Patch(NamedTuple):
    """One flat piece of the street: metres, x to the right, y up, z along the road.

    Args:
        label: Index of the class in ``STREET``.
        origin: Lower left corner in the first frame.
        across: Edge along which the patch coordinate a runs.
        up: Edge along which the patch coordinate b runs.
        colour: Main colour, RGB in [0, 1].
        accent: Second colour: windows, clothes, lines.
        outline: Which part of the rectangle is solid: ``"full"`` or a key of ``OUTLINES``.
        velocity: Metres per frame.
        phase: Random number in [0, 1) that makes the texture its own.
    """

    label: int
    origin: Point
    across: Point
    up: Point
    colour: Array
    accent: Array
    outline: str = "full"
    velocity: Point = (0.0, 0.0, 0.0)
    phase: float = 0.0


class Street(NamedTuple):
    """All patches, field by field: N rows each."""

    label: Array  # (N,)
    origin: Array  # (N, 3)
    across: Array  # (N, 3)
    up: Array  # (N, 3)
    colour: Array  # (N, 3)
    accent: Array  # (N, 3)
    outline: tuple[str, ...]
    velocity: Array  # (N, 3)
    phase: Array  # (N,)


class View(NamedTuple):
    """What the camera sees, for each pixel of each frame: ``(T, H, W)``."""

    patch: Array  # index of the patch on top
    nearness: Array  # 1 / depth in metres
    a: Array  # where on the patch
    b: Array


def stack_patches(patches: list[Patch]) -> Street:
    """Turn a list of patches into arrays."""
    label, origin, across, up, colour, accent, outline, velocity, phase = zip(*patches, strict=True)
    return Street(
        label=np.array(label, np.int64),
        origin=np.array(origin, np.float64),
        across=np.array(across, np.float64),
        up=np.array(up, np.float64),
        colour=np.array(colour, np.float32),
        accent=np.array(accent, np.float32),
        outline=tuple(outline),
        velocity=np.array(velocity, np.float64),
        phase=np.array(phase, np.float32),
    )


def project(street: Street, position: Array, yaw: Array, lens: Array) -> Array:
    """Homographies from patch coordinates (a, b, 1) to (x, y, 1) times depth, for each frame and patch.

    Shape:
        - position: ``(T, 3)``, of the camera, metres.
        - yaw: ``(T,)``, radians, to the right.
        - lens: ``(T, 3)``: focal length, column of the axis, row of the horizon, in pixels.
        - output: ``(T, N, 3, 3)``, float64.
    """
    times = np.arange(len(position))[:, None, None]
    origin = street.origin + times * street.velocity - position[:, None]  # (T, N, 3)
    across, up = (np.broadcast_to(x, origin.shape) for x in (street.across, street.up))
    world = np.stack([across, up, origin], axis=-1)  # (T, N, 3, 3)
    zero, one, cos, sin = np.zeros_like(yaw), np.ones_like(yaw), np.cos(yaw), np.sin(yaw)
    focal, column, row = lens.T
    right, ahead = np.stack([cos, zero, -sin], -1), np.stack([sin, zero, cos], -1)  # (T, 3)
    above = np.stack([zero, one, zero], -1)
    camera = np.stack(
        [focal[:, None] * right + column[:, None] * ahead, row[:, None] * ahead - focal[:, None] * above, ahead], axis=1
    )
    product: Array = camera[:, None] @ world
    return product


def film(street: Street, to_picture: Array, size: tuple[int, int]) -> View:
    """Find the nearest patch at each pixel of each frame; ``to_picture`` comes from :func:`project`."""
    shape = (len(to_picture), *size)
    patch, nearness = np.zeros(shape, np.int16), np.zeros(shape, np.float32)
    boxes, to_patch = _boxes(to_picture, size), np.linalg.inv(to_picture)
    rows, columns = (np.arange(n, dtype=np.float32) for n in size)
    # near ones first: what is hidden is then found out early
    depths = to_picture[:, :, 2] @ np.array([0.5, 0.5, 1])
    for t, index in ((t, index) for t, depth in enumerate(depths) for index in depth.argsort()):
        top, left, bottom, right = boxes[t, index]
        if top >= bottom or left >= right:
            continue
        window = (t, slice(top, bottom), slice(left, right))
        x, y = columns[None, left:right], rows[top:bottom, None]
        near = nearness[window]
        there, nearer = _meet(street, index, to_patch[t, index], x, y, near)
        np.copyto(near, nearer, where=there)
        np.copyto(patch[window], index, where=there)
    a, b = np.stack([_warp(h, on_top) for h, on_top in zip(to_patch, patch, strict=True)], axis=1)
    return View(patch, nearness, a, b)


def _boxes(to_picture: Array, size: tuple[int, int]) -> Array:
    """Rows and columns that a patch can cover: (top, left, bottom, right), the last two exclusive; (T, N, 4)."""
    corners = to_picture @ np.array([[0, 1, 1, 0], [0, 0, 1, 1], [1, 1, 1, 1]], np.float64)  # (T, N, 3, 4)
    # where an edge crosses the plane just before the camera, the patch is cut
    following = np.roll(corners, -1, axis=-1)
    depth, step = corners[..., 2, :], following[..., 2, :] - corners[..., 2, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (_CLOSEST - depth) / step
        crossing = corners + share[..., None, :] * (following - corners)
    cut = (share > 0) & (share < 1)
    points = np.concatenate([corners, crossing], axis=-1)
    usable = np.concatenate([depth >= _CLOSEST, cut], axis=-1)[..., None, :]  # (T, N, 1, 8)
    points = points[..., 1::-1, :] / np.where(usable, points[..., 2:, :], 1)  # rows, then columns
    first, last = np.where(usable, points, np.inf).min(-1), np.where(usable, points, -np.inf).max(-1)
    limit = np.array(size, np.float64)
    box = np.concatenate([np.ceil(first).clip(0, limit), np.floor(last + 1).clip(0, limit)], axis=-1)
    return box.astype(np.int64)


def _meet(street: Street, index: int, to_patch: Array, x: Array, y: Array, nearness: Array) -> tuple[Array, Array]:
    """Where a patch is solid and nearer than ``nearness``, and how near it is."""
    h = to_patch.astype(np.float32)[..., None, None]
    scaled = h[:, 0] * x + (h[:, 1] * y + h[:, 2])  # a, b and 1, each over the depth
    near = scaled[2]
    inside = (scaled[:2] >= 0) & (scaled[:2] <= near)
    there: Array = inside[0] & inside[1] & (near > nearness)
    if street.outline[index] != "full" and there.any():
        a, b = scaled[:2] / np.where(there, near, np.float32(1))
        there &= OUTLINES[street.outline[index]](a, b, float(street.phase[index]))
    return there, near


def _warp(homographies: Array, patch: Array) -> Array:
    """Map each pixel of ``(H, W)`` by the homography of its own patch: ``(2, H, W)``."""
    height, width = patch.shape
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    h = homographies.reshape(-1, 9).T.astype(np.float32).take(patch, axis=1)  # (9, H, W)
    scaled = np.stack([h[0] * x + h[1] * y + h[2], h[3] * x + h[4] * y + h[5]])
    warped: Array = scaled / (h[6] * x + h[7] * y + h[8])
    return warped


def flow_between(view: View, to_picture: Array) -> Array:
    """Backward flow ``(T-1, 2, H, W)``, float32: from each pixel of frame t+1 to where its point was in frame t."""
    height, width = view.patch.shape[1:]
    own = np.stack(np.broadcast_arrays(np.arange(width), np.arange(height)[:, None])).astype(np.float32)
    moves = to_picture[:-1] @ np.linalg.inv(to_picture[1:])  # (T-1, N, 3, 3)
    flow = np.empty((len(moves), 2, height, width), np.float32)
    for t, move in enumerate(moves):
        flow[t] = _warp(move, view.patch[t + 1]) - own
    return flow


def patch_on_top(street: Street, to_picture: Array, x: Array, y: Array) -> Array:
    """Index of the patch that one frame shows at real-valued points; ``to_picture`` is ``(N, 3, 3)``."""
    top, nearness = np.zeros(x.shape, np.int16), np.zeros(x.shape, np.float32)
    for index, to_patch in enumerate(np.linalg.inv(to_picture)):
        there, nearer = _meet(street, index, to_patch, x, y, nearness)
        np.copyto(top, np.int16(index), where=there)
        np.copyto(nearness, nearer, where=there)
    return top


def seen_before(street: Street, view: View, to_picture: Array) -> Array:
    """Where the point that a pixel of frame t+1 shows was also on top in frame t: ``(T-1, H, W)``, bool."""
    height, width = view.patch.shape[1:]
    seen = np.zeros((len(view.patch) - 1, height, width), np.bool_)
    for t, (dx, dy) in enumerate(flow_between(view, to_picture)):
        x = dx + np.arange(width, dtype=np.float32)
        y = dy + np.arange(height, dtype=np.float32)[:, None]
        # half a pixel beyond the outermost centres is still inside, and rounds to them
        inside = (np.abs(x - (width - 1) / 2) < width / 2) & (np.abs(y - (height - 1) / 2) < height / 2)
        column, row = (np.where(inside, np.rint(v), 0).astype(np.int64) for v in (x, y))
        shown = view.patch[t + 1]
        nearest, exact = view.patch[t, row, column], patch_on_top(street, to_picture[t], x, y)
        seen[t] = inside & (nearest == shown) & (exact == shown)
    return seen
