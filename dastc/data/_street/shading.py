"""Paint what each pixel shows: textures that stick to the patches, so that they move with the flow."""

from typing import NamedTuple

import numpy as np

from dastc.data._street.layout import BUILDING, CAR, PAVEMENT, PERSON, POLE, ROAD, SIGN, SKY, VEGETATION
from dastc.data._street.noise import Array, smooth_noise
from dastc.data._street.planes import Street, View

__all__ = ["Look", "shade"]

# deviation of the coarse texture and of the fine one, and the size of their blobs in metres
_TEXTURE = {
    SKY: (0.0, 0.0, 1.0, 1.0), BUILDING: (0.06, 0.05, 2.5, 0.25), ROAD: (0.07, 0.06, 2.0, 0.2),
    PAVEMENT: (0.05, 0.06, 1.5, 0.2), VEGETATION: (0.16, 0.2, 1.0, 0.25), POLE: (0.05, 0.0, 0.5, 0.2),
    SIGN: (0.03, 0.0, 0.3, 0.1), PERSON: (0.1, 0.08, 0.3, 0.1), CAR: (0.05, 0.0, 0.8, 0.2),
}  # fmt: skip


class Look(NamedTuple):
    """How this clip's surfaces look; drawn from the ranges of the same names in the domain."""

    texture: float
    line_strength: float
    window_pitch: float
    window_share: float
    cloud: float
    shadow: float


class _Pixels(NamedTuple):
    """The pixels of one class, as flat arrays."""

    a: Array  # patch coordinates
    b: Array
    x: Array  # metres along a
    y: Array  # metres along b
    phase: Array
    main: Array  # (3, N)
    accent: Array  # (3, N)


def shade(street: Street, view: View, look: Look, focal: float) -> Array:
    """Colours in [0, about 1] before the light and the lens: ``(3, T, H, W)``, float32."""
    patch = view.patch.ravel()
    labels = street.label[patch]
    sizes = np.stack([np.linalg.norm(street.across, axis=1), np.linalg.norm(street.up, axis=1)]).astype(np.float32)
    rgb = np.empty((3, patch.size), np.float32)
    nearness, a, b = (x.ravel() for x in view[1:])
    for label, paint in _PAINTS.items():
        index = np.flatnonzero(labels == label)
        p = patch[index]
        main, accent = street.colour.T.take(p, axis=1), street.accent.T.take(p, axis=1)
        at, up = a[index], b[index]
        pixels = _Pixels(at, up, at * sizes[0][p], up * sizes[1][p], street.phase[p], main, accent)
        # texture finer than a pixel averages out
        footprint = 1 / (nearness[index] * focal)
        rgb[:, index] = paint(pixels, look) * _texture(pixels, footprint, label, look)
    return rgb.reshape(3, *view.patch.shape)


def _texture(pixels: _Pixels, footprint: Array, label: int, look: Look) -> Array:
    coarse, fine, broad, small = _TEXTURE[label]
    offset = pixels.phase * 977
    gain = np.ones_like(pixels.x)
    for strength, blob in ((coarse, broad), (fine, small)):
        if strength:
            cells = np.float32(6 / blob)
            fade = np.minimum(blob / (2.5 * footprint), 1) * (look.texture * strength)
            gain += fade * smooth_noise(pixels.x * cells + offset, pixels.y * cells + offset)
    return gain


def _mix(main: Array, other: Array, share: Array) -> Array:
    """Blend two colours: 0 keeps ``main``, 1 gives ``other``."""
    mixed: Array = main + (other - main) * share.astype(np.float32)
    return mixed


def _sky(p: _Pixels, look: Look) -> Array:
    # a and b span 16 focal lengths; the horizon lies at b = 0.5
    elevation = (p.b - 0.5) * 16
    sky = _mix(p.accent, p.main, np.clip(1.6 * elevation, 0, 1))
    clouds = smooth_noise(p.a * 320 + p.phase * 977, elevation * 60) + 0.5 * smooth_noise(p.a * 960, elevation * 180)
    white = np.full((3, 1), 0.97, np.float32)
    return _mix(sky, white, np.clip(clouds * 0.6, 0, 1) * look.cloud)


def _building(p: _Pixels, look: Look) -> Array:
    pitch = look.window_pitch * (0.85 + 0.3 * p.phase)
    column, row = p.x / pitch % 1, p.y / (pitch * 1.1) % 1
    margin = (1 - look.window_share) / 2
    window = (np.abs(column - 0.5) < 0.5 - margin) & (np.abs(row - 0.55) < 0.45 - margin) & (p.y > 0.4)
    return _mix(p.main, p.accent, window)


def _road(p: _Pixels, look: Look) -> Array:
    middle = (np.abs(p.a - 0.5) < 0.015) & (p.y % 6 < 3)
    edge = np.abs(p.a - 0.5) > 0.47
    return _mix(p.main, p.accent, (middle | edge) * np.float32(look.line_strength)) * _shadow(p, look)


def _shadow(p: _Pixels, look: Look) -> Array:
    """Darken the ground in patches of some metres, as trees and houses do."""
    shadow: Array = 1 - (smooth_noise(p.x * 1.5, p.y * 0.8 + 977 * p.phase) > 0.7) * np.float32(look.shadow)
    return shadow


def _pavement(p: _Pixels, look: Look) -> Array:
    joints = (p.x % 0.8 < 0.08) | (p.y % 0.8 < 0.08)
    return _mix(p.main, p.accent, joints) * _shadow(p, look)


def _vegetation(p: _Pixels, _look: Look) -> Array:
    # crowns are about as wide as high; below the crown stands the trunk
    trunk = (p.b < 0.36) & (np.abs(p.a - 0.5) < 0.05) & (p.y < 4) & (p.x < 8)
    return _mix(p.main, p.accent, trunk)


def _pole(p: _Pixels, _look: Look) -> Array:
    # a round pole is lit from one side
    lit: Array = p.main * (1.15 - 0.4 * p.a)
    return lit


def _sign(p: _Pixels, _look: Look) -> Array:
    bar = (np.abs(p.a - 0.5) < 0.3) & (np.abs(p.b - 0.45) < 0.1)
    return _mix(p.main, p.accent, bar)


def _person(p: _Pixels, _look: Look) -> Array:
    legs = np.where(p.b < 0.45, 0.3 + 0.5 * p.phase, 1).astype(np.float32)
    return _mix(p.main * legs, p.accent, p.b > 0.83)


def _car(p: _Pixels, _look: Look) -> Array:
    glass = (p.b > 0.62) & (p.b < 0.92) & (np.abs(p.a - 0.45) < 0.38)
    dark = np.where(p.b < 0.3, 0.25, 1).astype(np.float32)
    return dark * _mix(p.main, p.accent, glass)


_PAINTS = {
    SKY: _sky, BUILDING: _building, ROAD: _road, PAVEMENT: _pavement, VEGETATION: _vegetation, POLE: _pole,
    SIGN: _sign, PERSON: _person, CAR: _car,
}  # fmt: skip
