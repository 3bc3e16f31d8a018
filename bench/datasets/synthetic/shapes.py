"""Shapes: distances to simple bodies, negative inside; and the scene that joins them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .field import Points, Values, Vector, noise, smooth_max, smooth_min

Shape = Callable[[Points], Values]


@dataclass(frozen=True)
class Part:
    """A body that is added to, or cut from, those before it.

    Attributes:
        shape: its distance field; it changes by at most 1 a unit, so that blocks can be skipped safely.
        blend: width over which it melts into the others.
        cut: whether it is taken away.
    """

    shape: Shape
    blend: float
    cut: bool = False


@dataclass
class Scene:
    """Parts in the order in which they are joined.

    Attributes:
        rough: what is added to the distance close to the surface: cloth grain and sensor noise.
    """

    rough: Shape | None = None
    parts: list[Part] = field(default_factory=list)

    def add(self, shape: Shape, blend: float = 0.0) -> None:
        """Join a body to those before."""
        self.parts.append(Part(shape, blend))

    def cut(self, shape: Shape, blend: float = 0.0) -> None:
        """Take a body away from those before."""
        self.parts.append(Part(shape, blend, cut=True))


def join(before: Values, part: Part, distance: Values) -> Values:
    """Field after a part."""
    if part.cut:
        return smooth_max(before, -distance, part.blend)
    return smooth_min(before, distance, part.blend)


def ball(center: Vector, radius: float) -> Shape:
    """A sphere."""
    return lambda p: p.minus(center).norm() - radius


def ellipsoid(center: Vector, radii: Vector) -> Shape:
    """An ellipsoid with axes along x, y, z; the distance is exact on its surface and good near it."""

    def distance(p: Points) -> Values:
        q = p.minus(center)
        once = Points(q.x / radii[0], q.y / radii[1], q.z / radii[2])
        twice = Points(once.x / radii[0], once.y / radii[1], once.z / radii[2])
        length = once.norm()
        return length * (length - 1.0) / (twice.norm() + 1e-9)

    return distance


def limb(start: Vector, end: Vector, r_start: float, r_end: float, flat: float = 1.0) -> Shape:
    """A tapered capsule; `flat` scales its extent in z."""
    ax, ay, az = end[0] - start[0], end[1] - start[1], (end[2] - start[2]) / flat
    inverse = 1.0 / (ax * ax + ay * ay + az * az)

    def distance(p: Points) -> Values:
        x, y, z = p.x - start[0], p.y - start[1], (p.z - start[2]) / flat
        t = np.minimum(np.maximum((x * ax + y * ay + z * az) * inverse, 0.0), 1.0)
        away = Points(x - t * ax, y - t * ay, z - t * az)
        return (away.norm() - (r_start + t * (r_end - r_start))) * min(flat, 1.0)

    return distance


def box(center: Vector, half: Vector, radius: float, turns: float = 0.0) -> Shape:
    """A box with rounded edges, turned about the vertical."""

    def distance(p: Points) -> Values:
        q = p.minus(center)
        if turns:
            q = q.turned(turns)
        dx = np.abs(q.x) - (half[0] - radius)
        dy = np.abs(q.y) - (half[1] - radius)
        dz = np.abs(q.z) - (half[2] - radius)
        outside = Points(np.maximum(dx, 0.0), np.maximum(dy, 0.0), np.maximum(dz, 0.0)).norm()
        return outside + np.minimum(np.maximum(np.maximum(dx, dy), dz), 0.0) - radius

    return distance


def ring(center: Vector, radii: tuple[float, float], tube: tuple[float, float]) -> Shape:
    """A horizontal elliptic ring; radii along x and z, tube half-width outwards and half-height."""

    def distance(p: Points) -> Values:
        q = p.minus(center)
        z = q.z * (radii[0] / radii[1])
        outwards = (np.sqrt(q.x * q.x + z * z) - radii[0]) / tube[0]
        upwards = q.y / tube[1]
        length = np.sqrt(outwards * outwards + upwards * upwards)
        return (length - 1.0) * (min(tube) * min(1.0, radii[1] / radii[0]))

    return distance


def turned(center: Vector, profile: Callable[[Values], Values], flat: float = 1.0) -> Shape:
    """A body of revolution about the vertical through `center`; `profile` gives the radius at a height.

    Where the radius is negative there is no body.  `flat` scales the extent in z.
    """

    def distance(p: Points) -> Values:
        q = p.minus(center)
        z = q.z / flat
        return (np.sqrt(q.x * q.x + z * z) - profile(q.y)) * min(flat, 1.0)

    return distance


def displaced(shape: Shape, amount: Shape, slope: float = 1.5) -> Shape:
    """A body whose surface is pushed outwards by `amount`; `slope` is how steep that may make the distance."""
    return lambda p: (shape(p) - amount(p)) * (1.0 / slope)


def between(shape: Shape, low: float, high: float, blend: float = 0.0) -> Shape:
    """The part of a body between two heights."""
    middle, half = 0.5 * (low + high), 0.5 * (high - low)
    return lambda p: smooth_max(shape(p), np.abs(p.y - middle) - half, blend)


def placed(shape: Shape, origin: Vector, turns: float = 0.0, size: float = 1.0) -> Shape:
    """A body moved to `origin`, turned about the vertical and scaled."""

    def distance(p: Points) -> Values:
        q = p.minus(origin).turned(turns)
        return shape(Points(q.x / size, q.y / size, q.z / size)) * size

    return distance


def grain(scale: float, amount_voxels: float, seed: int) -> Shape:
    """Roughness of a scanned surface: smooth noise of 3 and 7 voxels' wavelength, a fraction of a voxel high."""

    def amount(p: Points) -> Values:
        fine = noise(p, 3.0 / scale, seed)
        coarse = noise(p, 7.0 / scale, seed + 1)
        return (fine * 1.3 + coarse * 0.5) * (amount_voxels / scale)

    return amount


def unit(v: Vector) -> Vector:
    """The vector scaled to length 1."""
    length = math.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2])
    return (v[0] / length, v[1] / length, v[2] / length)


def cross(a: Vector, b: Vector) -> Vector:
    """Vector product."""
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


def go(origin: Vector, *steps: tuple[float, Vector]) -> Vector:
    """Where steps (length, direction) lead from `origin`."""
    x, y, z = origin
    for length, direction in steps:
        x, y, z = x + length * direction[0], y + length * direction[1], z + length * direction[2]
    return (x, y, z)
