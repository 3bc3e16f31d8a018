"""Objects: an amphora, and a shrub in a pot; about 1000 units tall, standing at y = 0."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from .field import Points, Values, Vector, multiple_angle, noise, ramp, uniforms, unit_circle, wave
from .shapes import (
    Scene,
    Shape,
    between,
    cross,
    displaced,
    ellipsoid,
    go,
    grain,
    limb,
    ring,
    turned,
    unit,
)


def amphora(scale: float) -> Scene:
    """A chipped amphora with two handles, fluted below, with a frieze around the belly."""
    scene = Scene(rough=grain(scale, 0.45, 311))

    def profile(y: Values) -> Values:
        return (
            96.0
            - 40.0 * ramp(y, 24.0, 70.0)
            + 196.0 * ramp(y, 60.0, 520.0)
            - 172.0 * ramp(y, 520.0, 790.0)
            + 44.0 * ramp(y, 900.0, 985.0)
        )

    def relief(p: Points) -> Values:
        c20, s20 = multiple_angle(p.x, p.z, 20)
        c6, s6 = multiple_angle(p.x, p.z, 6)
        flutes = np.abs(c20) * -7.0 * ramp(p.y, 70.0, 150.0) * ramp(p.y, 400.0, 330.0)
        ribs = (wave(p.y * (1.0 / 24.0)) + 1.0) * 2.2 * ramp(p.y, 645.0, 655.0) * ramp(p.y, 745.0, 735.0)
        twist = p.y * (1.0 / 150.0)
        leaves = c6 * wave(twist + 0.25) + s6 * wave(twist) + 0.5 * (c20 * wave(twist * 2.0) + s20 * wave(twist))
        band = ramp(p.y, 430.0, 445.0) * ramp(p.y, 612.0, 597.0)
        frieze = ramp(leaves, -0.1, 0.25) * 8.0 * band
        wear = noise(p, 120.0, 322) * 4.0 + noise(p, 50.0, 323) * 1.2
        chips = ramp(noise(p, 52.0, 324), 0.62, 0.8) * -7.0
        return flutes + ribs + frieze + wear + chips

    body = between(turned((0, 0, 0), profile), 0.0, 985.0, 10.0)
    scene.add(displaced(body, relief, slope=2.2))
    for height, tube in ((420.0, 9.0), (622.0, 9.0), (800.0, 11.0)):
        radius = float(profile(np.array([height]))[0])
        scene.add(ring((0, height, 0), (radius, radius), (tube, tube * 0.8)), 4.0)
    scene.add(displaced(ring((0, 985, 0), (136, 136), (17, 20)), lambda p: noise(p, 45.0, 325) * 5.0), 6.0)
    scene.cut(between(turned((0, 0, 0), lambda y: 58.0 + 52.0 * ramp(y, 900.0, 985.0)), 820.0, 1200.0), 6.0)
    for side in (-1.0, 1.0):
        path: list[Vector] = [
            (side * 80, 880, 0), (side * 150, 912, 4), (side * 206, 890, 2), (side * 232, 830, 0),
            (side * 230, 755, -3), (side * 206, 690, 0), (side * 160, 640, 0),
        ]  # fmt: skip
        for start, end in pairwise(path):
            scene.add(displaced(limb(start, end, 23.0, 23.0), lambda p: noise(p, 30.0, 326) * 2.0), 3.0)
    return scene


def _blade(base: Vector, along: Vector, up: Vector, length: float, width: float, bend: float) -> Shape:
    """A leaf of 5 units' thickness, pointed at both ends, that bends down to its tip."""
    ahead = unit(along)
    side = unit(cross(ahead, up))
    normal = cross(side, ahead)

    def distance(p: Points) -> Values:
        q = p.minus(base)
        u = (q.x * ahead[0] + q.y * ahead[1] + q.z * ahead[2]) * (1.0 / length)
        v = q.x * side[0] + q.y * side[1] + q.z * side[2]
        w = q.x * normal[0] + q.y * normal[1] + q.z * normal[2]
        inside = np.minimum(np.maximum(u, 0.0), 1.0)
        half = 4.0 * width * inside * (1.0 - inside) + 3.0
        sag = w + bend * length * inside * inside - np.abs(v) * 0.25
        beyond = (u - inside) * length
        across = np.maximum(np.abs(v) - half, 0.0)
        edge = np.sqrt(beyond * beyond + across * across + sag * sag) - 2.6
        return edge * 0.6

    return distance


def shrub(scale: float) -> Scene:
    """A shrub in a clay pot: branches and some two hundred leaves."""
    scene = Scene(rough=grain(scale, 0.5, 411))

    def pot(y: Values) -> Values:
        return 120.0 + 46.0 * ramp(y, 0.0, 230.0)

    scene.add(between(turned((0, 0, 0), pot), 0.0, 235.0, 8.0), 0.0)
    scene.add(between(turned((0, 0, 0), lambda y: 184.0 + y * 0.0), 205.0, 250.0, 8.0), 4.0)
    scene.cut(between(turned((0, 0, 0), lambda y: 158.0 + y * 0.0), 226.0, 400.0), 4.0)
    soil = displaced(ellipsoid((0, 205, 0), (160, 26, 160)), lambda p: noise(p, 22.0, 421) * 8.0)
    scene.add(soil, 3.0)
    dice = iter(uniforms(431, 4096).tolist())
    golden = 0.3819660112501051
    for branch in range(13):
        cosine, sine = unit_circle(branch * golden + next(dice) * 0.1)
        spread = 60.0 + 190.0 * math.sqrt((branch + 0.5) / 13)
        top = 950.0 - spread * 1.05 + 60.0 * next(dice)
        root = (cosine * 22.0, 210.0, sine * 22.0)
        knee = (cosine * spread * 0.42, 230.0 + (top - 230.0) * 0.55, sine * spread * 0.42)
        tip = (cosine * spread, top, sine * spread)
        scene.add(limb(root, knee, 11.0, 8.5), 8.0)
        scene.add(limb(knee, tip, 8.5, 4.5), 3.0)
        for leaf in range(15):
            t = 0.12 + 0.88 * leaf / 14
            start, end, s = (root, knee, t * 2) if t < 0.5 else (knee, tip, t * 2 - 1)
            base = (
                start[0] + s * (end[0] - start[0]),
                start[1] + s * (end[1] - start[1]),
                start[2] + s * (end[2] - start[2]),
            )
            c, s = unit_circle(leaf * golden + branch * 0.13 + next(dice) * 0.08)
            along = (c, 0.15 + 0.7 * next(dice), s)
            length = (95.0 + 60.0 * next(dice)) * (1.1 - 0.35 * t)
            scene.add(_blade(base, along, (0.0, 1.0, 0.0), length, 15.0 + 9.0 * next(dice), 0.1 + 0.35 * next(dice)))
            scene.add(limb(base, go(base, (16.0, unit(along))), 3.4, 3.0))
    return scene
