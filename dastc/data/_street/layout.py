"""Put a street together: ground, buildings, plants, poles with signs, persons and cars."""

from typing import NamedTuple

import numpy as np

from dastc.data._street.domains import Domain
from dastc.data._street.noise import Array
from dastc.data._street.planes import Patch, Street, stack_patches

__all__ = ["SKY", "build_street"]

SKY, BUILDING, ROAD, PAVEMENT, VEGETATION, POLE, SIGN, PERSON, CAR = range(9)
_FAR = 110.0  # metres to the wood or the houses that close the street
_SKY_DISTANCE = 1e5
_BLACK = np.zeros(3)


class _Plan(NamedTuple):
    """What the pieces of one street have to know of each other."""

    rng: np.random.Generator
    domain: Domain
    half_road: float
    pavement: float
    pixel: float  # width of a pixel at one metre

    @property
    def front(self) -> float:
        """Distance of the building line from the middle of the road."""
        return self.half_road + self.pavement

    def side(self) -> float:
        return -1.0 if self.rng.random() < 0.5 else 1.0

    def between(self, low: float, high: float) -> float:
        return float(low + (high - low) * self.rng.random())


def build_street(rng: np.random.Generator, domain: Domain, road_width: float, focal: float) -> Street:
    """Draw a street around a road of the given width, in metres; ``focal`` is in pixels."""
    plan = _Plan(rng, domain, road_width / 2, domain.draw(rng, "pavement_width"), 1 / focal)
    patches = [_sky(plan), *_ground(plan), *_backdrop(plan)]
    for side in (-1.0, 1.0):
        patches += _row(plan, side)
    for name, make in (("trees", _tree), ("poles", _pole), ("persons", _person)):
        for _ in range(domain.count(rng, name)):
            patches += make(plan)
    return stack_patches(patches + _parked(plan) + _traffic(plan))


def _sky(plan: _Plan) -> Patch:
    d = _SKY_DISTANCE
    zenith, haze = (plan.domain.colour(plan.rng, name) for name in ("zenith", "haze"))
    return Patch(SKY, (-8 * d, -8 * d, d), (16 * d, 0, 0), (0, 16 * d, 0), zenith, haze, phase=plan.rng.random())


def _ground(plan: _Plan) -> list[Patch]:
    rng, colour = plan.rng, plan.domain.colour
    road, line, tiles, grass = (colour(rng, name) for name in ("road", "line", "pavement", "grass"))
    edges = (-300.0, -plan.front, -plan.half_road, plan.half_road, plan.front, 300.0)
    looks = [(VEGETATION, grass, grass), (PAVEMENT, tiles, tiles * 0.8), (ROAD, road, line)]
    return [
        Patch(label, (left, 0, -20), (right - left, 0, 0), (0, 0, 420), main, accent, phase=rng.random())
        for (label, main, accent), left, right in zip([*looks, *looks[1::-1]], edges[:-1], edges[1:], strict=True)
    ]


def _backdrop(plan: _Plan) -> list[Patch]:
    rng, domain = plan.rng, plan.domain
    height, leaf = plan.between(10, 22), domain.colour(rng, "leaf")
    return [
        Patch(VEGETATION, (-200, 0, _FAR), (400, 0, 0), (0, height, 0), leaf, leaf * 0.6, "wood", phase=rng.random())
    ]


def _row(plan: _Plan, side: float) -> list[Patch]:
    """Houses along one side of the road, with gaps where hedges grow."""
    rng, domain = plan.rng, plan.domain
    patches, z, chance = [], plan.between(-8, 2), domain.draw(rng, "gap_chance")
    while z < _FAR - 15:
        length = domain.draw(rng, "building_length")
        if rng.random() < chance:
            length *= 0.6
            patches.append(_hedge(plan, side, z, length))
        else:
            patches += _house(plan, side, z, length)
        z += length + plan.between(0, 0.5)
    return patches


def _house(plan: _Plan, side: float, z: float, length: float) -> list[Patch]:
    rng, domain = plan.rng, plan.domain
    height, x = domain.draw(rng, "building_height"), side * (plan.front + plan.between(0, 1.5))
    wall, window, phase = domain.colour(rng, "wall"), domain.colour(rng, "window"), rng.random()
    along = Patch(BUILDING, (x, 0, z), (0, 0, length), (0, height, 0), wall, window, phase=phase)
    # the end that faces the camera lies in another light
    end = Patch(BUILDING, (x, 0, z), (side * 12, 0, 0), (0, height, 0), wall * 0.8, window * 0.8, phase=phase)
    return [along, end]


def _hedge(plan: _Plan, side: float, z: float, length: float) -> Patch:
    leaf = plan.domain.colour(plan.rng, "leaf")
    x, height = side * (plan.front + 0.3), plan.between(1.2, 2.6)
    return Patch(
        VEGETATION, (x, 0, z), (0, 0, length), (0, height, 0), leaf, leaf * 0.6, "hedge", phase=plan.rng.random()
    )


def _tree(plan: _Plan) -> list[Patch]:
    rng, domain = plan.rng, plan.domain
    width, height, z = plan.between(3.5, 6.5), plan.between(5.5, 9.5), plan.between(7, 60)
    x = plan.side() * (plan.front - plan.between(-2, 0.8)) - width / 2
    leaf, trunk = domain.colour(rng, "leaf"), domain.colour(rng, "trunk")
    return [Patch(VEGETATION, (x, 0, z), (width, 0, 0), (0, height, 0), leaf, trunk, "crown", phase=rng.random())]


def _pole(plan: _Plan) -> list[Patch]:
    rng, domain = plan.rng, plan.domain
    z, side = plan.between(4, 14), plan.side()
    x = side * (plan.half_road + plan.between(0.3, 1.0))
    width = max(plan.between(0.16, 0.26), 3.2 * plan.pixel * z)
    signed = rng.random() < domain.draw(rng, "sign_chance")
    height, colour = plan.between(2.6, 3.4) if signed else plan.between(4.5, 7), domain.colour(rng, "pole")
    pole = Patch(POLE, (x - width / 2, 0, z), (width, 0, 0), (0, height, 0), colour, colour, phase=rng.random())
    if signed:
        return [pole, _sign(plan, x, height, z)]
    # a little nearer than the pole: two patches at one depth would flicker
    reach = -side * plan.between(1.0, 2.0)
    arm = Patch(POLE, (x, height - width, z - 0.02), (reach, 0, 0), (0, width, 0), colour, colour)
    return [pole, arm]


def _sign(plan: _Plan, x: float, top: float, z: float) -> Patch:
    size = max(plan.between(0.75, 1.05), 6.5 * plan.pixel * z)
    outline = ("disc", "triangle", "full")[plan.rng.integers(3)]
    colour, border = plan.domain.paint(plan.rng, "sign_"), plan.domain.colour(plan.rng, "line")
    return Patch(
        SIGN, (x - size / 2, top - 0.8 * size, z - 0.06), (size, 0, 0), (0, size, 0), colour, border, outline,
        phase=plan.rng.random(),
    )  # fmt: skip


def _person(plan: _Plan) -> list[Patch]:
    rng, domain = plan.rng, plan.domain
    z, height = plan.between(4.5, 11.5), plan.between(1.6, 1.95)
    x, pace = plan.side() * plan.between(0.88 * plan.half_road, plan.front), plan.between(0.03, 0.14) * plan.side()
    clothes = domain.paint(rng, "cloth_")
    width = plan.between(0.7, 0.9)
    return [
        Patch(
            PERSON, (x - width / 2, 0, z), (width, 0, 0), (0, height, 0), clothes, domain.colour(rng, "skin"),
            "person", (pace, 0, 0), rng.random(),
        )
    ]  # fmt: skip


def _parked(plan: _Plan) -> list[Patch]:
    patches, z = [], {-1.0: plan.between(4, 9), 1.0: plan.between(6, 11)}
    for _ in range(plan.domain.count(plan.rng, "parked_cars")):
        side = plan.side()
        patches += _car(plan, side * (plan.half_road - 1.1), z[side], 0.0)
        z[side] += plan.between(5.2, 14)
    return patches


def _traffic(plan: _Plan) -> list[Patch]:
    """Oncoming cars on the left, and at most one ahead on the right."""
    patches, left = [], plan.between(12, 22)
    for number in range(plan.domain.count(plan.rng, "moving_cars")):
        if number == 1:
            patches += _car(plan, plan.half_road * 0.4, plan.between(9, 20), plan.between(0.2, 0.7))
        else:
            patches += _car(plan, -plan.half_road * 0.35, left, -plan.between(0.3, 0.7))
            left += plan.between(10, 20)
    return patches


def _car(plan: _Plan, x: float, z: float, speed: float) -> list[Patch]:
    """Two patches of one box: the end towards the camera and the side towards the middle of the road."""
    paint, glass = plan.domain.paint(plan.rng), plan.domain.colour(plan.rng, "window")
    height, length, half = plan.between(1.4, 1.75), plan.between(3.7, 4.6), 0.9
    inner, motion, phase = x - half * float(np.sign(x)), (0.0, 0.0, speed), plan.rng.random()
    end = Patch(CAR, (x - half, 0, z), (2 * half, 0, 0), (0, height, 0), paint, glass, "car_rear", motion, phase)
    flank: Array = paint * 0.85
    return [end, Patch(CAR, (inner, 0, z), (0, 0, length), (0, height, 0), flank, glass, "car_side", motion, phase)]
