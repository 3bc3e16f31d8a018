"""Procedural: surfaces of dressed figures and of things, drawn at random, for training without any mesh.

What a codec's network learns is the local shape: how cloth folds, how limbs and edges curve, where surfaces meet.
Every body here is a tube: an axis, a radius that varies along it and around it.  Tubes that overlap are cut where one
lies inside another, so that no hidden surface remains, as in a scan.

None of this is shared with the figures of the synthetic data set, which codecs are evaluated on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ...codecs.formats.mesh import Mesh

Floats = npt.NDArray[np.float64]

#: Part of the radius within which a face of another tube is hidden.
_HIDDEN = 0.93
#: Vertices around and along: of trunks, skirts and things, and of what is smaller.
_AROUND, _ALONG, _SMALL = 160, 160, 90


@dataclass(frozen=True, eq=False)
class Tube:
    """A closed surface around an axis.

    Attributes:
        axis: (k, 3) points of the axis.
        radius: (k,) mean radius at each.
        factor: (k, a) radius at each angle, as a multiple of the mean.
        flat: width of the cross-section across its second direction, as a multiple of the first.
    """

    axis: Floats
    radius: Floats
    factor: Floats
    flat: float = 1.0

    @cached_property
    def frame(self) -> tuple[Floats, Floats]:
        """Two unit vectors across the axis at each of its points, (k, 3) each, which turn as little as possible."""
        tangent = np.gradient(self.axis, axis=0)
        tangent /= np.linalg.norm(tangent, axis=1, keepdims=True) + 1e-12
        first = np.empty_like(tangent)
        side = np.eye(3)[np.argmin(np.abs(tangent[0]))]
        for row, along in enumerate(tangent):
            side = side - along * (side @ along)
            side = side / (np.linalg.norm(side) + 1e-12)
            first[row] = side
        return first, np.cross(tangent, first)

    @cached_property
    def box(self) -> tuple[Floats, Floats]:
        """Lowest and highest corner of a box around the tube."""
        reach = float((self.radius * self.factor.max(axis=1)).max()) * max(self.flat, 1.0)
        return self.axis.min(axis=0) - reach, self.axis.max(axis=0) + reach

    def mesh(self) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Vertices and triangles; the ends are closed by fans."""
        first, second = self.frame
        k, around = self.factor.shape
        angle = np.arange(around) * (2.0 * np.pi / around)
        reach = self.radius[:, None] * self.factor
        ring = (
            self.axis[:, None, :]
            + (reach * np.cos(angle))[..., None] * first[:, None, :]
            + (reach * np.sin(angle) * self.flat)[..., None] * second[:, None, :]
        ).reshape(-1, 3)
        place = np.arange(k * around).reshape(k, around)
        a, b = place[:-1], place[1:]
        c, d = np.roll(a, -1, axis=1), np.roll(b, -1, axis=1)
        walls = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([c, b, d], -1).reshape(-1, 3)])
        caps = []
        for end, row in ((k * around, place[0]), (k * around + 1, place[-1])):
            caps.append(np.stack([np.full(around, end), row, np.roll(row, -1)], axis=-1))
        vertices = np.concatenate([ring, self.axis[:1], self.axis[-1:]])
        return vertices, np.concatenate([walls, *caps])

    def hides(self, points: Floats) -> npt.NDArray[np.bool_]:
        """Whether each point lies well inside, (n,)."""
        from .surface import nearest

        low, high = self.box
        inner = np.ones(len(points), np.bool_)
        for axis in range(3):
            column = points[:, axis]
            inner &= (column > low[axis]) & (column < high[axis])
        near = np.zeros(len(points), np.int64)
        near[inner] = nearest(self.axis, points[inner])
        # Before the first and behind the last point of the axis is outside.
        inner &= (near > 0) & (near < len(self.axis) - 1)
        first, second = self.frame
        rows, offset = near[inner], points[inner] - self.axis[near[inner]]
        x = np.einsum("ij,ij->i", offset, first[rows])
        y = np.einsum("ij,ij->i", offset, second[rows]) / self.flat
        around = self.factor.shape[1]
        sector = np.floor(np.arctan2(y, x) / (2.0 * np.pi) * around + 0.5).astype(np.int64) % around
        inner[inner] = np.hypot(x, y) < _HIDDEN * self.radius[rows] * self.factor[rows, sector]
        return inner


def joined(tubes: list[Tube]) -> Mesh:
    """One mesh of all tubes without the faces that lie inside another."""
    vertices, faces, n = [], [], 0
    for number, tube in enumerate(tubes):
        points, corners = tube.mesh()
        middle = points[corners].mean(axis=1)
        hidden = np.zeros(len(corners), np.bool_)
        for other_number, other in enumerate(tubes):
            if other_number != number and _meet(tube, other):
                hidden |= other.hides(middle)
        vertices.append(points)
        faces.append(corners[~hidden] + n)
        n += len(points)
    return Mesh(np.concatenate(vertices), np.concatenate(faces))


def _meet(a: Tube, b: Tube) -> bool:
    return bool((a.box[0] < b.box[1]).all() and (b.box[0] < a.box[1]).all())


def curve(rng: np.random.Generator, start: Floats, end: Floats, bend: float, k: int = _ALONG) -> Floats:
    """An axis from start to end that bows by `bend` of its length in a random direction, (k, 3)."""
    t = np.linspace(0.0, 1.0, k)[:, None]
    length = float(np.linalg.norm(end - start))
    bow = rng.standard_normal(3) * bend * length
    sway = rng.standard_normal(3) * bend * 0.3 * length
    return start + (end - start) * t + bow * np.sin(np.pi * t) + sway * np.sin(2.0 * np.pi * t)


def folds(
    rng: np.random.Generator, k: int, depth: float, count: int, *, growing: bool = False, around: int = _AROUND
) -> Floats:
    """Radius factors of cloth: folds that run along the tube, wander, and sharpen to one side; (k, a)."""
    t = np.linspace(0.0, 1.0, k)[:, None]
    angle = (np.arange(around) * (2.0 * np.pi / around))[None, :]
    total = np.zeros((k, around))
    for _ in range(int(rng.integers(2, 5))):
        n = max(2, int(count * rng.uniform(0.5, 1.6)))
        wander = rng.uniform(-1.5, 1.5) * t + rng.uniform(0.0, 0.6) * np.sin(
            2.0 * np.pi * (rng.uniform(0.5, 2.5) * t + rng.random())
        )
        phase = n * angle + wander * rng.uniform(0.5, 2.0) + rng.uniform(0.0, 2.0 * np.pi)
        wave = np.sin(phase + rng.uniform(0.2, 0.8) * np.sin(phase))  # steeper on one side
        swell = 0.6 + 0.4 * np.sin(2.0 * np.pi * (rng.uniform(0.5, 2.0) * t + rng.random()) + angle)
        total += wave * swell * rng.uniform(0.3, 1.0)
    return 1.0 + depth * total * (t if growing else 1.0)


def wrinkles(rng: np.random.Generator, k: int, depth: float, count: float, *, around: int = _AROUND) -> Floats:
    """Radius factors of sleeves and trouser legs: creases across the tube, slanting and broken; (k, a)."""
    t = np.linspace(0.0, 1.0, k)[:, None]
    angle = (np.arange(around) * (2.0 * np.pi / around))[None, :]
    total = np.zeros((k, around))
    for _ in range(int(rng.integers(2, 5))):
        slant = int(rng.integers(-2, 3)) * angle + rng.uniform(0.3, 1.5) * np.sin(angle + rng.uniform(0.0, 6.3))
        phase = 2.0 * np.pi * count * rng.uniform(0.5, 1.5) * t + slant + rng.uniform(0.0, 6.3)
        centre = rng.random()
        where = np.exp(-(((t - centre) / rng.uniform(0.1, 0.4)) ** 2))
        total += np.sin(phase + 0.5 * np.sin(phase)) * where * (0.5 + 0.5 * np.sin(angle + rng.uniform(0.0, 6.3)))
    return 1.0 + depth * total


def rounded(k: int, ends: float = 0.15) -> Floats:
    """1 along most of the tube, falling like a circle's arc towards its ends, (k,)."""
    t = np.linspace(0.0, 1.0, k)
    near = np.minimum(np.minimum(t, 1.0 - t) / ends, 1.0)
    return np.sqrt(np.maximum(1.0 - (1.0 - near) ** 2, 1e-6))


def profile(rng: np.random.Generator, k: int, knots: int, low: float, high: float) -> Floats:
    """A smooth random positive function along the tube, (k,)."""
    from scipy.interpolate import PchipInterpolator

    values = rng.uniform(low, high, knots)
    smooth: Floats = PchipInterpolator(np.linspace(0.0, 1.0, knots), values)(np.linspace(0.0, 1.0, k))
    return smooth


def figure(rng: np.random.Generator) -> Mesh:
    """A dressed person, about 1.8 units high, standing, in one of many poses and clothes."""
    tubes = []
    hip = np.array([0.0, 0.95, 0.0])
    chest = hip + np.array([rng.uniform(-0.05, 0.05), 0.5, rng.uniform(-0.08, 0.08)])
    head = chest + np.array([rng.uniform(-0.04, 0.04), 0.27, rng.uniform(-0.02, 0.08)])
    girth = rng.uniform(0.12, 0.19)
    shape = girth * profile(rng, _ALONG, 5, 0.8, 1.15) * rounded(_ALONG)
    tubes.append(
        Tube(
            curve(rng, hip - _up(0.1), chest + _up(0.06), 0.04),
            shape,
            folds(rng, _ALONG, rng.uniform(0.005, 0.05), 7) * wrinkles(rng, _ALONG, rng.uniform(0.01, 0.06), 5.0),
            rng.uniform(0.6, 0.85),
        )
    )
    tubes.append(_blob(rng, head + _up(0.03), np.array([0.075, 0.11, 0.09]), 0.03))
    tubes.append(_limb(rng, chest, head, 0.055, 0.05, 0.02))
    if rng.random() < 0.7:  # hair, or a hat
        size = np.array([0.09, 0.1, 0.1]) * rng.uniform(0.95, 1.3)
        tubes.append(_blob(rng, head + _up(rng.uniform(0.04, 0.09)), size, rng.uniform(0.02, 0.12)))
    for side in (-1.0, 1.0):
        shoulder = chest + np.array([side * girth * 0.95, 0.0, 0.0])
        lift = rng.uniform(0.05, 1.2)
        elbow = shoulder + 0.28 * np.array([side * np.sin(lift), -np.cos(lift), rng.uniform(-0.3, 0.4)])
        hand = elbow + 0.26 * _unit(
            np.array([side * rng.uniform(-0.8, 0.8), rng.uniform(-1.0, 0.8), rng.uniform(0, 1)])
        )
        sleeve = rng.uniform(0.045, 0.075)
        tubes.append(_limb(rng, shoulder, elbow, sleeve, sleeve * 0.9, rng.uniform(0.02, 0.12)))
        tubes.append(_limb(rng, elbow, hand, sleeve * 0.85, sleeve * 0.7, rng.uniform(0.02, 0.12)))
        tubes.append(_blob(rng, hand, np.array([0.035, 0.05, 0.025]), 0.1))
        foot = np.array([side * rng.uniform(0.08, 0.2), 0.05, rng.uniform(-0.25, 0.3)])
        start = hip + np.array([side * girth * 0.45, -0.03, 0.0])
        knee = (start + foot) / 2 + np.array([0.0, 0.02, rng.uniform(0.0, 0.1)])
        leg = rng.uniform(0.065, 0.1)
        tubes.append(_limb(rng, start, knee, leg, leg * 0.85, rng.uniform(0.02, 0.1)))
        tubes.append(_limb(rng, knee, foot + _up(0.03), leg * 0.85, leg * 0.7, rng.uniform(0.02, 0.12)))
        heel, toe = foot - np.array([0.0, 0.0, 0.06]), foot + np.array([side * 0.02, -0.02, 0.16])
        tubes.append(_limb(rng, heel, toe, 0.045, 0.04, 0.03))
    if rng.random() < 0.6:  # a skirt or a coat
        length = rng.uniform(0.35, 0.9)
        flare = np.linspace(girth * 1.05, girth * rng.uniform(1.3, 2.3), _ALONG) * rounded(_ALONG, 0.02)
        low = hip + np.array([rng.uniform(-0.05, 0.05), 0.1 - length, rng.uniform(-0.05, 0.05)])
        pleats = folds(rng, _ALONG, rng.uniform(0.02, 0.09), int(rng.integers(5, 16)), growing=True)
        tubes.append(Tube(curve(rng, hip + _up(0.12), low, 0.03), flare, pleats, rng.uniform(0.75, 1.0)))
    if rng.random() < 0.4:  # a bag
        at = chest + np.array([rng.uniform(-0.1, 0.1), -0.1, -girth * 0.9])
        tubes.append(_box(rng, at, rng.uniform(0.08, 0.16, 3)))
    return joined(tubes)


def thing(rng: np.random.Generator) -> Mesh:
    """A household object: turned, boxed or grown together from blobs."""
    kind = rng.random()
    if kind < 0.45:
        height = rng.uniform(0.6, 2.0)
        radius = (
            0.4 * profile(rng, _ALONG, int(rng.integers(3, 8)), 0.25, 1.0) * rounded(_ALONG, rng.uniform(0.01, 0.2))
        )
        ribs = folds(rng, _ALONG, rng.choice([0.0, 0.01, 0.04]), int(rng.integers(4, 30)))
        tubes = [
            Tube(curve(rng, _up(0.0), _up(height), rng.choice([0.0, 0.05])), radius, ribs, rng.uniform(0.5, 1.0))
        ]
        if rng.random() < 0.5:
            tubes.append(_handle(rng, radius, height))
    elif kind < 0.7:
        tubes = [
            _box(rng, rng.uniform(-0.4, 0.4, 3), rng.uniform(0.1, 0.5, 3)) for _ in range(int(rng.integers(1, 5)))
        ]
    else:
        tubes = [
            _blob(rng, rng.uniform(-0.4, 0.4, 3), rng.uniform(0.15, 0.45, 3), rng.uniform(0.0, 0.15), _AROUND)
            for _ in range(int(rng.integers(1, 6)))
        ]
    return joined(tubes)


def _up(y: float) -> Floats:
    return np.array([0.0, y, 0.0])


def _unit(v: Floats) -> Floats:
    unit: Floats = v / (np.linalg.norm(v) + 1e-12)
    return unit


def _limb(  # two ends with their radii
    rng: np.random.Generator, start: Floats, end: Floats, r_start: float, r_end: float, depth: float
) -> Tube:
    radius = np.linspace(r_start, r_end, _SMALL) * rounded(_SMALL, 0.12) * profile(rng, _SMALL, 4, 0.93, 1.07)
    along = _unit(end - start)
    axis = curve(rng, start - along * r_start * 0.8, end + along * r_end * 0.8, 0.03, _SMALL)
    return Tube(
        axis, radius, wrinkles(rng, _SMALL, depth, rng.uniform(2.0, 8.0), around=_SMALL), rng.uniform(0.8, 1.0)
    )


def _blob(rng: np.random.Generator, centre: Floats, radii: Floats, depth: float, n: int = _SMALL) -> Tube:
    t = np.linspace(-1.0, 1.0, n)[:, None]
    radius = radii[0] * np.sqrt(np.maximum(1.0 - t[:, 0] ** 2, 1e-6))
    bumps = folds(rng, n, depth, 4, around=n) * wrinkles(rng, n, depth, 3.0, around=n)
    return Tube(centre + t * np.array([0.0, radii[1], 0.0]), radius, bumps, float(radii[2] / radii[0]))


def _box(rng: np.random.Generator, centre: Floats, half: Floats) -> Tube:
    """A box with rounded edges: the cross-section is a superellipse."""
    angle = np.arange(_AROUND) * (2.0 * np.pi / _AROUND)
    power = rng.uniform(4.0, 30.0)
    section = (np.abs(np.cos(angle)) ** power + np.abs(np.sin(angle)) ** power) ** (-1.0 / power)
    axis = centre + np.linspace(-1.0, 1.0, _ALONG)[:, None] * (_unit(rng.standard_normal(3)) * half[1])
    factor = np.broadcast_to(section, (_ALONG, _AROUND)).copy()
    return Tube(axis, half[0] * rounded(_ALONG, rng.uniform(0.01, 0.06)), factor, float(half[2] / half[0]))


def _handle(rng: np.random.Generator, radius: Floats, height: float) -> Tube:
    turn = np.linspace(-0.55 * np.pi, 0.55 * np.pi, _ALONG)[:, None]
    reach, rise = rng.uniform(0.12, 0.3), rng.uniform(0.15, 0.35) * height
    foot = np.array([float(np.median(radius)) * 0.95, rng.uniform(0.4, 0.6) * height, 0.0])
    axis = foot + np.cos(turn) * np.array([reach, 0.0, 0.0]) + np.sin(turn) * np.array([0.0, rise, 0.0])
    thick = rng.uniform(0.02, 0.05) * rounded(_ALONG, 0.02)
    return Tube(axis, thick, np.ones((_ALONG, _AROUND)), rng.uniform(0.4, 1.0))
