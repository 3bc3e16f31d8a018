"""Field: the arithmetic of scalar fields in space, the same to the last bit on every machine.

Only operations that IEEE 754 rounds correctly are used (+ - * / sqrt, comparisons, floor), in a fixed order:
no library sine or exponential, no sums or products of matrices, whose last bits differ between processors and
library versions, and no fastmath, so that the compiler fuses and reorders nothing.  Random numbers come from raw
PCG64 words, whose stream numpy guarantees.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ...._jit import njit

Values = npt.NDArray[np.float64]
Vector = tuple[float, float, float]

_TABLE_SIZE = 4096


class Points(NamedTuple):
    """Positions, (n,) each: x to the right, y up, z towards the viewer."""

    x: Values
    y: Values
    z: Values

    def __len__(self) -> int:
        return len(self.x)

    def minus(self, origin: Vector) -> Points:
        """Positions relative to `origin`."""
        return Points(self.x - origin[0], self.y - origin[1], self.z - origin[2])

    def norm(self) -> Values:
        """Distance from the origin."""
        return np.sqrt(self.x * self.x + self.y * self.y + self.z * self.z)

    def turned(self, turns: float) -> Points:
        """Positions in a frame turned about the y axis by a fraction of a full turn."""
        cosine, sine = unit_circle(turns)
        return Points(self.x * cosine - self.z * sine, self.y, self.x * sine + self.z * cosine)


def wave(turns: Values) -> Values:
    """sin(2 pi turns), to 6e-8."""
    return _wave(np.ascontiguousarray(turns).reshape(-1)).reshape(np.shape(turns))


@njit()
def _wave(turns: Values) -> Values:  # pragma: no cover
    out = np.empty(turns.size)
    for i in range(turns.size):
        folded = turns[i] - math.floor(turns[i] + 0.5)
        if folded > 0.25:
            folded = 0.5 - folded
        elif folded < -0.25:
            folded = -0.5 - folded
        r = folded * 6.283185307179586
        s = r * r
        series = -1.0 / 39916800.0
        series = series * s + 1.0 / 362880.0
        series = series * s - 1.0 / 5040.0
        series = series * s + 1.0 / 120.0
        series = series * s - 1.0 / 6.0
        series = series * s + 1.0
        out[i] = r * series
    return out


def unit_circle(turns: float) -> tuple[float, float]:
    """(cosine, sine) of a fraction of a full turn."""
    both = wave(np.array([turns + 0.25, turns]))
    return float(both[0]), float(both[1])


def multiple_angle(x: Values, z: Values, n: int) -> tuple[Values, Values]:
    """cos(n a) and sin(n a) of the angle a of (x, z), by multiplying complex numbers: no arc tangent."""
    x, z = np.broadcast_arrays(x, z)
    cosine, sine = _multiple_angle(np.ascontiguousarray(x).reshape(-1), np.ascontiguousarray(z).reshape(-1), n)
    return cosine.reshape(x.shape), sine.reshape(x.shape)


@njit()
def _multiple_angle(x: Values, z: Values, n: int) -> tuple[Values, Values]:  # pragma: no cover
    cosine, sine = np.empty(x.size), np.empty(x.size)
    for i in range(x.size):
        length = math.sqrt(x[i] * x[i] + z[i] * z[i]) + 1e-9
        c, s = x[i] / length, z[i] / length
        a, b = 1.0, 0.0
        left = n
        while left:
            if left & 1:
                a, b = a * c - b * s, a * s + b * c
            c, s = c * c - s * s, c * s + c * s
            left >>= 1
        cosine[i], sine[i] = a, b
    return cosine, sine


def ramp(values: Values, start: float, end: float) -> Values:
    """0 up to `start`, 1 from `end` on, smooth between; falling when `end` is smaller."""
    t = np.minimum(np.maximum((values - start) / (end - start), 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)


def smooth_min(a: Values, b: Values, blend: float) -> Values:
    """Smaller of two fields, rounded where they differ by less than `blend`."""
    if blend <= 0:
        return np.minimum(a, b)
    h = np.maximum(blend - np.abs(a - b), 0.0)
    return np.minimum(a, b) - h * h * (0.25 / blend)


def smooth_max(a: Values, b: Values, blend: float) -> Values:
    """Larger of two fields, rounded where they differ by less than `blend`."""
    if blend <= 0:
        return np.maximum(a, b)
    h = np.maximum(blend - np.abs(a - b), 0.0)
    return np.maximum(a, b) + h * h * (0.25 / blend)


def uniforms(seed: int, n: int) -> Values:
    """N numbers in [0, 1)."""
    words = np.random.PCG64(seed).random_raw(n)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


@lru_cache(maxsize=64)
def _table(seed: int) -> Values:
    return uniforms(seed, _TABLE_SIZE) * 2.0 - 1.0


def noise(p: Points, wavelength: float, seed: int) -> Values:
    """Smooth random field in (-1, 1): random values on a lattice of that spacing, blended between.

    Standard deviation about 0.3.
    """
    x, y, z = (np.ascontiguousarray(values).reshape(-1) for values in p)
    return _noise(x, y, z, 1.0 / wavelength, _table(seed)).reshape(p.x.shape)


@njit()
def _noise(x: Values, y: Values, z: Values, inverse: float, table: Values) -> Values:  # pragma: no cover
    out = np.empty(x.size)
    for i in range(x.size):
        sx, sy, sz = x[i] * inverse, y[i] * inverse, z[i] * inverse
        fx, fy, fz = math.floor(sx), math.floor(sy), math.floor(sz)
        u, v, w = sx - fx, sy - fy, sz - fz
        u = u * u * (3.0 - 2.0 * u)
        v = v * v * (3.0 - 2.0 * v)
        w = w * w * (3.0 - 2.0 * w)
        ix, iy, iz = np.int64(fx) * 73856093, np.int64(fy) * 19349663, np.int64(fz) * 83492791
        planes = (0.0, 0.0)
        for c in range(2):
            h = iz + c * 83492791
            low = _corner(table, ix, iy, h)
            low += u * (_corner(table, ix + 73856093, iy, h) - low)
            high = _corner(table, ix, iy + 19349663, h)
            high += u * (_corner(table, ix + 73856093, iy + 19349663, h) - high)
            planes = (planes[1], low + v * (high - low))
        out[i] = planes[0] + w * (planes[1] - planes[0])
    return out


@njit(inline="always")
def _corner(table: Values, a: int, b: int, c: int) -> float:  # pragma: no cover
    mixed = a ^ b ^ c
    return table[(mixed ^ (mixed >> 15)) & (_TABLE_SIZE - 1)]
