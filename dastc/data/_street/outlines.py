"""Which part of a patch is solid: functions of its coordinates a (across) and b (up), both in [0, 1]."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dastc.data._street.noise import Array, smooth_noise

__all__ = ["OUTLINES"]

_Mask = NDArray[np.bool_]


def _crown(a: Array, b: Array, phase: float) -> _Mask:
    ragged = smooth_noise(40 * a + 512 * phase, 40 * b)
    crown = ((a - 0.5) / 0.45) ** 2 + ((b - 0.66) / 0.31) ** 2 + 0.22 * ragged < 0.85
    trunk = (np.abs(a - 0.5) < 0.045) & (b < 0.6)
    return crown | trunk


def _hedge(a: Array, b: Array, phase: float) -> _Mask:
    return b < 0.82 + 0.09 * smooth_noise(120 * a + 512 * phase, 10 * b)


def _wood(a: Array, b: Array, phase: float) -> _Mask:
    broad = smooth_noise(60 * a + 512 * phase, 0 * b)
    return b < 0.6 + 0.13 * broad + 0.05 * smooth_noise(400 * a, 12 * b)


def _person(a: Array, b: Array, _phase: float) -> _Mask:
    side = np.abs(a - 0.5)
    head = (side / 0.2) ** 2 + ((b - 0.91) / 0.085) ** 2 < 1
    torso = (side < 0.46 - 0.5 * np.abs(b - 0.66)) & (b > 0.42) & (b < 0.84)
    legs = (side < 0.36) & (side > 0.11 - 0.26 * b) & (b <= 0.45)
    return head | torso | legs


def _car_rear(a: Array, b: Array, _phase: float) -> _Mask:
    side = np.abs(a - 0.5)
    body = (side < 0.5 - 0.32 * np.clip(b - 0.58, 0, 1)) & (b > 0.14)
    wheels = (side > 0.33) & (b <= 0.14)
    return body | wheels


def _car_side(a: Array, b: Array, _phase: float) -> _Mask:
    body = (b > 0.16) & (b < 0.64)
    cabin = (b >= 0.64) & (a > 0.02 + 0.3 * (b - 0.64)) & (a < 0.76 - 0.5 * (b - 0.64))
    # a wheel is 0.3 m in radius on a car of about 4.2 m by 1.45 m
    wheels = (((np.abs(a - 0.5) - 0.31) / 0.075) ** 2 + ((b - 0.2) / 0.2) ** 2) < 1
    return body | cabin | wheels


def _disc(a: Array, b: Array, _phase: float) -> _Mask:
    return (a - 0.5) ** 2 + (b - 0.5) ** 2 < 0.25


def _triangle(a: Array, b: Array, _phase: float) -> _Mask:
    return np.abs(a - 0.5) < 0.5 * (1.05 - b)


OUTLINES: dict[str, Callable[[Array, Array, float], _Mask]] = {
    "crown": _crown, "hedge": _hedge, "wood": _wood, "person": _person,
    "car_rear": _car_rear, "car_side": _car_side, "disc": _disc, "triangle": _triangle,
}  # fmt: skip
