"""Surface: the loops over samples, compiled."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ..._jit import njit

Floats = npt.NDArray[np.float64]


@njit()
def _draw(corners: Floats, rng: np.random.Generator) -> tuple[float, float, float]:
    """A point of a triangle, evenly distributed: the square root makes up for the narrowing towards a corner."""
    u, v = math.sqrt(rng.random()), rng.random()
    a, b, c = 1.0 - u, u * (1.0 - v), u * v
    return (
        a * corners[0, 0] + b * corners[1, 0] + c * corners[2, 0],
        a * corners[0, 1] + b * corners[1, 1] + c * corners[2, 1],
        a * corners[0, 2] + b * corners[1, 2] + c * corners[2, 2],
    )


@njit()
def sample_points(corners: Floats, shares: npt.NDArray[np.int64], rng: np.random.Generator) -> Floats:
    """`shares[f]` points on triangle f, (sum of shares, 3)."""
    out = np.empty((shares.sum(), 3))
    row = 0
    for face in range(len(shares)):
        for _ in range(shares[face]):
            out[row, 0], out[row, 1], out[row, 2] = _draw(corners[face], rng)
            row += 1
    return out


@njit()
def mark(  # numba takes no keywords
    grid: npt.NDArray[np.uint64],
    corners: Floats,
    shares: npt.NDArray[np.int64],
    waves: Floats,
    noise: float,
    shift: Floats,
    rng: np.random.Generator,
) -> None:
    """Sample a surface, fold it, add noise, and set the bit of each voxel that a sample falls in.

    Args:
        grid: (x, y, z // 64), 64 voxels a word.
        corners: (f, 3, 3) triangles in voxels.
        shares: (f,) samples of each.
        waves: (w, 9) of frequency, phase, amplitude, unit vector along, unit vector of the displacement.
        noise: standard deviation on each axis, voxels, cut at 6 deviations.
        shift: (3,) added at the end.
        rng: source of all draws.
    """
    for face in range(len(shares)):
        for _ in range(shares[face]):
            x, y, z = _draw(corners[face], rng)
            for w in range(len(waves)):
                along = waves[w, 3] * x + waves[w, 4] * y + waves[w, 5] * z
                height = waves[w, 2] * math.sin(along * waves[w, 0] + waves[w, 1])
                x += height * waves[w, 6]
                y += height * waves[w, 7]
                z += height * waves[w, 8]
            if noise > 0.0:
                x += noise * min(max(rng.standard_normal(), -6.0), 6.0)
                y += noise * min(max(rng.standard_normal(), -6.0), 6.0)
                z += noise * min(max(rng.standard_normal(), -6.0), 6.0)
            i = math.floor(x + shift[0] + 0.5)
            j = math.floor(y + shift[1] + 0.5)
            k = math.floor(z + shift[2] + 0.5)
            grid[i, j, k >> 6] |= np.uint64(1) << np.uint64(k & 63)


@njit()
def marked(grid: npt.NDArray[np.uint64]) -> npt.NDArray[np.int32]:
    """Voxels whose bit is set, (n, 3), z fastest."""
    n = 0
    for word in grid.flat:
        rest = word
        while rest:
            rest &= rest - np.uint64(1)
            n += 1
    out = np.empty((n, 3), np.int32)
    row = 0
    for i in range(grid.shape[0]):
        for j in range(grid.shape[1]):
            for k in range(grid.shape[2]):
                word = grid[i, j, k]
                place = 64 * k
                while word:
                    while not word & np.uint64(255):
                        word >>= np.uint64(8)
                        place += 8
                    if word & np.uint64(1):
                        out[row, 0], out[row, 1], out[row, 2] = i, j, place
                        row += 1
                    word >>= np.uint64(1)
                    place += 1
    return out


@njit()
def nearest(places: Floats, points: Floats) -> npt.NDArray[np.int64]:
    """Row of `places` (k, 3) nearest to each of `points` (n, 3), for a few hundred places."""
    out = np.empty(len(points), np.int64)
    for row in range(len(points)):
        best, best_place = np.inf, 0
        for place in range(len(places)):
            x = points[row, 0] - places[place, 0]
            y = points[row, 1] - places[place, 1]
            z = points[row, 2] - places[place, 2]
            square = x * x + y * y + z * z
            if square < best:
                best, best_place = square, place
        out[row] = best_place
    return out
