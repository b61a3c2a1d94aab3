"""How the two domains differ, as data: a range for each quantity in the source and in the target."""

import colorsys
from typing import NamedTuple

import numpy as np

from dastc.data._street.noise import Array

__all__ = ["Domain"]


class _Span(NamedTuple):
    """A uniform range in the source and in the target."""

    source: tuple[float, float]
    target: tuple[float, float]


class _Palette(NamedTuple):
    """A box of colours, from the darkest to the brightest RGB, in the source and in the target."""

    source: tuple[tuple[float, float, float], tuple[float, float, float]]
    target: tuple[tuple[float, float, float], tuple[float, float, float]]


_LAYOUT = {
    "camera_height": _Span((1.4, 1.7), (1.5, 2.2)),  # metres
    "focal": _Span((0.62, 0.7), (0.6, 0.85)),  # picture widths
    "horizon": _Span((0.44, 0.5), (0.38, 0.52)),  # picture heights from the top
    "speed": _Span((0.3, 0.6), (0.2, 0.7)),  # metres per frame
    "shake": _Span((0.0, 0.3), (0.0, 0.8)),  # pixels
    "road_width": _Span((7.5, 9.5), (6.0, 12.0)),
    "pavement_width": _Span((2.0, 3.5), (1.5, 5.0)),
    "building_length": _Span((9.0, 20.0), (6.0, 26.0)),
    "building_height": _Span((6.0, 16.0), (4.0, 22.0)),
    "gap_chance": _Span((0.2, 0.4), (0.2, 0.6)),
    "trees": _Span((3.0, 6.0), (3.0, 8.0)),
    "poles": _Span((5.0, 8.0), (4.0, 9.0)),
    "sign_chance": _Span((0.55, 0.75), (0.45, 0.7)),
    "persons": _Span((4.0, 7.0), (3.0, 9.0)),
    "parked_cars": _Span((1.0, 4.0), (1.0, 6.0)),
    "moving_cars": _Span((1.0, 2.0), (0.0, 3.0)),
}

_LOOK = {
    "texture": _Span((0.5, 0.7), (1.1, 1.5)),
    "line_strength": _Span((0.9, 1.0), (0.2, 0.9)),
    "window_pitch": _Span((2.4, 3.2), (1.8, 4.2)),  # metres
    "window_share": _Span((0.45, 0.6), (0.3, 0.7)),
    "cloud": _Span((0.1, 0.5), (0.0, 1.0)),
    "shadow": _Span((0.0, 0.15), (0.1, 0.5)),
    "fog": _Span((0.0, 0.002), (0.004, 0.013)),  # per metre
    "exposure": _Span((0.95, 1.05), (0.78, 1.05)),
    "warmth": _Span((-0.03, 0.03), (-0.04, 0.1)),
    "gamma": _Span((0.97, 1.03), (0.85, 1.2)),
    "glare": _Span((0.0, 0.0), (0.0, 0.25)),
    "vignette": _Span((0.0, 0.05), (0.1, 0.3)),
    "blur": _Span((0.1, 0.2), (0.3, 0.9)),
    "grain": _Span((0.0, 0.008), (0.03, 0.065)),
    "vivid": _Span((0.75, 1.0), (0.05, 0.6)),  # saturation of cars
    "value": _Span((0.6, 0.95), (0.12, 0.8)),
    "cloth_vivid": _Span((0.75, 1.0), (0.1, 0.5)),
    "cloth_value": _Span((0.6, 0.95), (0.08, 0.4)),
    "sign_vivid": _Span((0.8, 1.0), (0.4, 0.85)),
    "sign_value": _Span((0.75, 1.0), (0.45, 0.9)),
}

_PALETTE = {
    "zenith": _Palette(((0.25, 0.48, 0.88), (0.35, 0.6, 1.0)), ((0.497, 0.534, 0.577), (0.739, 0.771, 0.815))),
    "haze": _Palette(((0.6, 0.78, 0.95), (0.75, 0.88, 1.0)), ((0.714, 0.722, 0.729), (0.907, 0.913, 0.915))),
    "wall": _Palette(((0.68, 0.48, 0.36), (0.92, 0.8, 0.62)), ((0.42, 0.38, 0.37), (0.72, 0.68, 0.66))),
    "window": _Palette(((0.3, 0.42, 0.58), (0.42, 0.55, 0.72)), ((0.14, 0.15, 0.17), (0.36, 0.38, 0.4))),
    "road": _Palette(((0.32, 0.32, 0.34), (0.4, 0.4, 0.42)), ((0.33, 0.32, 0.32), (0.49, 0.48, 0.47))),
    "line": _Palette(((0.92, 0.92, 0.9), (1.0, 1.0, 1.0)), ((0.6, 0.58, 0.5), (0.9, 0.9, 0.86))),
    "pavement": _Palette(((0.64, 0.58, 0.54), (0.74, 0.68, 0.62)), ((0.449, 0.378, 0.329), (0.629, 0.526, 0.456))),
    "leaf": _Palette(((0.14, 0.44, 0.1), (0.26, 0.62, 0.2)), ((0.163, 0.195, 0.064), (0.352, 0.37, 0.147))),
    "trunk": _Palette(((0.3, 0.2, 0.12), (0.4, 0.28, 0.18)), ((0.16, 0.13, 0.11), (0.28, 0.23, 0.2))),
    "grass": _Palette(((0.24, 0.52, 0.16), (0.34, 0.64, 0.24)), ((0.28, 0.28, 0.12), (0.44, 0.42, 0.22))),
    "pole": _Palette(((0.2, 0.2, 0.23), (0.28, 0.28, 0.32)), ((0.08, 0.08, 0.08), (0.22, 0.22, 0.21))),
    "skin": _Palette(((0.85, 0.64, 0.52), (0.95, 0.76, 0.64)), ((0.4, 0.28, 0.22), (0.8, 0.62, 0.52))),
}


class Domain:
    """One of the two domains; ``shift`` 0 is the source, 1 the target, and between and beyond follow the line.

    Args:
        shift: Position between the two, >= 0.
    """

    def __init__(self, shift: float) -> None:
        self._spans = {name: _at(np.array(span), shift) for name, span in (_LAYOUT | _LOOK).items()}
        self._boxes = {name: _at(np.array(box), shift).clip(0, 1) for name, box in _PALETTE.items()}

    def draw(self, rng: np.random.Generator, name: str) -> float:
        """Draw one quantity from its range."""
        low, high = self._spans[name]
        return float(low + (high - low) * rng.random())

    def count(self, rng: np.random.Generator, name: str) -> int:
        """Draw a whole number whose mean is that of the range."""
        return int(self.draw(rng, name) + rng.random())

    def colour(self, rng: np.random.Generator, name: str) -> Array:
        """Draw from a box of colours: mostly along its diagonal, so that bright and dark vary more than hue."""
        low, high = self._boxes[name]
        draw = rng.random(4)
        mixed: Array = low + (high - low) * (0.65 * draw[3] + 0.35 * draw[:3])
        return mixed

    def paint(self, rng: np.random.Generator, prefix: str = "") -> Array:
        """Draw the colour of a painted or dyed thing: any hue, as vivid and bright as the domain has it."""
        saturation, value = self.draw(rng, f"{prefix}vivid"), self.draw(rng, f"{prefix}value")
        return np.array(colorsys.hsv_to_rgb(rng.random(), min(saturation, 1.0), min(value, 1.0)))


def _at(pair: Array, shift: float) -> Array:
    """Interpolate (source, target) ranges; a strong shift stops where a quantity would lose its sense."""
    lowest, highest = pair.min(), 2 * pair.max()
    between: Array = np.clip(pair[0] + shift * (pair[1] - pair[0]), lowest * (0.5 if lowest > 0 else 2), highest)
    return between
