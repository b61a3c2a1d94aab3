"""From painted surfaces to pictures: light, fog, lens and sensor; and the drive of the camera."""

from typing import NamedTuple

import numpy as np

from dastc.data._street.domains import Domain
from dastc.data._street.noise import Array

__all__ = ["Drive", "develop", "draw_drive"]


class Drive(NamedTuple):
    """Where the camera is in each frame, and how it sees; see :func:`dastc.data._street.planes.project`."""

    position: Array  # (T, 3)
    yaw: Array  # (T,)
    lens: Array  # (T, 3)


def draw_drive(
    rng: np.random.Generator, domain: Domain, frames: int, size: tuple[int, int], road_width: float
) -> Drive:
    """Draw a drive along the right lane: forward, with a little drift, turn and shake."""
    height, width = size
    focal = domain.draw(rng, "focal") * max(width, 1.5 * height)
    horizon, level = domain.draw(rng, "horizon") * height, domain.draw(rng, "camera_height")
    speed, shake = domain.draw(rng, "speed"), domain.draw(rng, "shake") * width / 160
    lateral, drift = road_width * (0.1 + 0.16 * rng.random()), 0.06 * (rng.random() - 0.5)
    yaw, turn = 0.16 * (rng.random() - 0.5), 0.02 * (rng.random() - 0.5)
    times = np.arange(frames)
    position = np.stack([lateral + drift * times, np.full(frames, level), speed * times], axis=1)
    rows = horizon + shake * rng.uniform(-1, 1, frames)
    lens = np.stack([np.full(frames, focal), np.full(frames, (width - 1) / 2), rows], axis=1)
    return Drive(position, yaw + turn * times, lens)


def develop(rng: np.random.Generator, domain: Domain, rgb: Array, nearness: Array) -> Array:
    """Turn colours ``(3, T, H, W)``, which are used up, and nearness ``(T, H, W)`` into 8-bit ``(3, T, H, W)``."""
    haze, tint = domain.colour(rng, "haze"), 1 + domain.draw(rng, "warmth") * np.array([1, 0.1, -1])
    # fog thins upwards: the sky is not lost in it
    fog = 1 - np.exp(-domain.draw(rng, "fog") * np.minimum(1 / nearness, 60))
    light = 1 - domain.draw(rng, "vignette") * _from_centre(rgb.shape[2:])
    rgb += (_per_channel(haze) - rgb) * fog
    rgb *= _per_channel(domain.draw(rng, "exposure") * tint) * light
    for t in range(rgb.shape[1]):
        _glare(rng, domain, rgb[:, t])
    rgb = np.clip(_blurred(rgb, domain.draw(rng, "blur")), 0, 1) ** np.float32(domain.draw(rng, "gamma"))
    rgb += np.float32(domain.draw(rng, "grain")) * rng.standard_normal(rgb.shape, np.float32)
    return np.clip(rgb * 255 + 0.5, 0, 255).astype(np.uint8)


def _per_channel(colour: Array) -> Array:
    return colour.astype(np.float32)[:, None, None, None]


def _from_centre(size: tuple[int, ...]) -> Array:
    """Squared distance from the centre: 0 there, 1 in the corners."""
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in size)
    return (y[:, None] ** 2 + x**2) / 2


def _glare(rng: np.random.Generator, domain: Domain, frame: Array) -> None:
    """Add a bright spot of this frame alone to ``(3, H, W)``: the one thing that does not follow the flow."""
    strength, (v, u), radius = domain.draw(rng, "glare"), rng.random(2), 0.15 + 0.25 * rng.random()
    if strength > 0:
        rows, columns = (
            np.exp(-(((np.arange(n, dtype=np.float32) / n - at) / radius) ** 2))
            for n, at in zip(frame.shape[1:], (v, u), strict=True)
        )
        frame += np.float32(strength) * rows[:, None] * columns


def _blurred(rgb: Array, share: float) -> Array:
    """Mix each picture with its 3 x 3 binomial blur; the border is left sharp."""
    soft = rgb.copy()
    soft[..., 1:-1, :] = (rgb[..., :-2, :] + rgb[..., 2:, :] + 2 * rgb[..., 1:-1, :]) / 4
    wide = soft.copy()
    wide[..., 1:-1] = (soft[..., :-2] + soft[..., 2:] + 2 * soft[..., 1:-1]) / 4
    mixed: Array = rgb + np.float32(min(share, 1.0)) * (wide - rgb)
    return mixed
