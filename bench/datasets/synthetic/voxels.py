"""Voxels: the shell of voxels that a scene's surface crosses, and what a ring of cameras sees of it."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import numpy as np
import numpy.typing as npt

from ...._jit import njit
from .field import Points, Values, Vector, unit_circle
from .shapes import Scene, join

Voxels = npt.NDArray[np.int32]

_TILE = 64  # voxels; a tile is handled densely
_BLOCKS = (16, 4, 2)  # block edges inside a tile, coarse to fine
_FAR = 1e9


def shell(scene: Scene, bit_depth: int, scale: float, origin: Vector) -> Voxels:
    """Voxels that the surface of the scene crosses.

    A voxel is crossed when the field has both signs among the middles of its twelve edges.  That shell is closed
    and about as thick as the scans of 8iVFB; both signs among the corners would make it a fifth thicker.

    Blocks that the surface cannot reach are dropped from coarse to fine, and a part is evaluated only in blocks
    that it can touch, so that the work grows with the surface.

    Args:
        scene: what to draw, in units of its own.
        bit_depth: of the grid.
        scale: voxels a unit of the scene.
        origin: voxel at which the origin of the scene lies.

    Returns:
        (n, 3) coordinates, sorted by x, y, z.
    """
    view = _View(scene, scale, origin)
    n_tiles = max((1 << bit_depth) // _TILE, 1)
    tiles = _lattice(n_tiles) * _TILE
    near = np.ones((len(scene.parts), len(tiles)), bool)
    tiles, near = view.reached(tiles, near, _TILE)
    found = [_shell_of_tile(view, tile, near[:, i]) for i, tile in enumerate(tiles)]
    voxels = np.concatenate(found) if found else np.empty((0, 3), np.int32)
    voxels = voxels[((voxels >= 0) & (voxels < 1 << bit_depth)).all(axis=1)]
    return voxels[np.lexsort(voxels.T[::-1])]


def _lattice(n: int, step: int = 1) -> npt.NDArray[np.int64]:
    axis = np.arange(0, n * step, step)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)


class _View:
    """Some parts of a scene, seen from a voxel grid."""

    def __init__(self, scene: Scene, scale: float, origin: Vector) -> None:
        self.parts = tuple(scene.parts)
        self.rough = scene.rough
        self.scale = scale
        self.origin = origin

    def only(self, wanted: npt.NDArray[np.bool_]) -> _View:
        """The view with some of the parts, in the same order."""
        view = copy(self)
        view.parts = tuple(part for part, keep in zip(self.parts, wanted, strict=True) if keep)
        return view

    def points(self, grid: Values) -> Points:
        """Grid coordinates (n, 3) as points of the scene."""
        return Points(*((grid[:, axis] - self.origin[axis]) / self.scale for axis in range(3)))

    def reached(
        self, starts: npt.NDArray[np.int64], near: npt.NDArray[np.bool_], edge: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Blocks that the surface can cross, and the parts that can touch each (parts, blocks)."""
        reach = (0.8660254037844386 * edge + 1.0) / self.scale  # to the corners, and 1 voxel of roughness
        p = self.points(starts + (edge - 1) * 0.5)
        value = np.full(len(starts), _FAR)
        distances = np.full(near.shape, _FAR)
        for row, distance, part in zip(near, distances, self.parts, strict=True):
            index = np.flatnonzero(row)
            if len(index):
                distance[index] = part.shape(Points(p.x[index], p.y[index], p.z[index]))
                value[index] = join(value[index], part, distance[index])
        # A part matters as far as it, or a part after it that matters here, blends.
        blend = np.zeros(len(starts))
        still = np.empty(near.shape, bool)
        for i in reversed(range(len(self.parts))):
            wide = np.maximum(blend, self.parts[i].blend)
            still[i] = distances[i] < reach + wide
            blend = np.where(still[i], wide, blend)
        kept = np.abs(value) <= reach
        return starts[kept], np.compress(kept, still, axis=1)  # in rows, unlike still[:, kept]

    def field(self, grid: Values, near: npt.NDArray[np.bool_]) -> Values:
        """The field with its roughness at grid coordinates (n, 3); `near` (parts, n) says which parts matter."""
        p = self.points(grid)
        value = np.full(len(grid), _FAR)
        for row, part in zip(near, self.parts, strict=True):
            index = np.flatnonzero(row)
            if len(index) == len(grid):
                value = join(value, part, part.shape(p))
            elif len(index):
                value[index] = join(value[index], part, part.shape(Points(p.x[index], p.y[index], p.z[index])))
        if self.rough is not None:
            close = np.flatnonzero(np.abs(value) * self.scale < 1.5)
            value[close] += self.rough(Points(p.x[close], p.y[close], p.z[close]))
        return value


def _shell_of_tile(view: _View, tile: npt.NDArray[np.int64], near: npt.NDArray[np.bool_]) -> Voxels:
    """The shell in one tile, which the parts of the mask `near` can touch."""
    view = view.only(near)
    starts, edge = tile[None, :], _TILE
    parts = np.ones((len(view.parts), 1), bool)
    for child in _BLOCKS:
        offsets = _lattice(edge // child, child)
        children = (starts[:, None, :] + offsets[None, :, :]).reshape(-1, 3)
        starts, parts = view.reached(children, np.repeat(parts, len(offsets), axis=1), child)
        edge = child
        if not len(starts):
            return np.empty((0, 3), np.int32)
    local = starts - tile
    corners, owners = _corners(local, edge)
    value = np.zeros((_TILE + 1,) * 3)
    value[tuple(corners.T)] = view.field(corners + (tile - 0.5), np.take(parts, owners, axis=1))
    return (_crossed(value, local, edge) + tile).astype(np.int32)


@njit()
def _corners(
    starts: npt.NDArray[np.int64], edge: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:  # pragma: no cover
    """Corners of the voxels of all blocks, each once, and one of the blocks that it belongs to."""
    side = _TILE + 1
    taken = np.zeros((side, side, side), np.bool_)
    most = len(starts) * (edge + 1) ** 3
    corners, owners = np.empty((most, 3), np.int64), np.empty(most, np.int64)
    n = 0
    for block in range(len(starts)):
        for x in range(starts[block, 0], starts[block, 0] + edge + 1):
            for y in range(starts[block, 1], starts[block, 1] + edge + 1):
                for z in range(starts[block, 2], starts[block, 2] + edge + 1):
                    if not taken[x, y, z]:
                        taken[x, y, z] = True
                        corners[n, 0], corners[n, 1], corners[n, 2] = x, y, z
                        owners[n] = block
                        n += 1
    return corners[:n], owners[:n]


@njit()
def _crossed(value: Values, starts: npt.NDArray[np.int64], edge: int) -> npt.NDArray[np.int64]:  # pragma: no cover
    """Voxels of the blocks for which the field changes sign among the middles of their edges, (n, 3)."""
    found = np.empty((len(starts) * edge**3, 3), np.int64)
    n = 0
    for block in range(len(starts)):
        for x in range(starts[block, 0], starts[block, 0] + edge):
            for y in range(starts[block, 1], starts[block, 1] + edge):
                for z in range(starts[block, 2], starts[block, 2] + edge):
                    inside = 0
                    for a in range(2):
                        for b in range(2):
                            inside += value[x, y + a, z + b] + value[x + 1, y + a, z + b] < 0
                            inside += value[x + a, y, z + b] + value[x + a, y + 1, z + b] < 0
                            inside += value[x + a, y + b, z] + value[x + a, y + b, z + 1] < 0
                    if 0 < inside < 12:
                        found[n, 0], found[n, 1], found[n, 2] = x, y, z
                        n += 1
    return found[:n]


def scanned(voxels: Voxels, cameras: Sequence[tuple[float, float]], slack: float = 2.5) -> Voxels:
    """The voxels that cameras around the scene see; where none does, the scan has a hole.

    Args:
        voxels: (n, 3), n at least 1, sorted by x, y, z.
        cameras: directions to the cameras, which are far away: azimuth and height, both in turns.
        slack: how far behind the frontmost voxel of its pixel a voxel may lie, so that the voxels of a slanted
            surface do not hide each other.

    Returns:
        Those that are seen, sorted likewise, with smooth edges at holes.
    """
    visible = np.zeros(len(voxels), bool)
    x, y, z = (voxels[:, axis].astype(np.float64) for axis in range(3))
    for azimuth, height in cameras:
        cosine, sine = unit_circle(azimuth)
        up_cosine, up_sine = unit_circle(height)
        across = x * cosine - z * sine
        ahead = x * sine + z * cosine
        depth = -(ahead * up_cosine + y * up_sine)
        over = y * up_cosine - ahead * up_sine
        u = np.floor(across - across.min()).astype(np.int64)
        v = np.floor(over - over.min()).astype(np.int64)
        pixel = u * (int(v.max()) + 1) + v
        front = np.full(int(pixel.max()) + 1, _FAR)
        np.minimum.at(front, pixel, depth)
        visible |= depth <= front[pixel] + slack
    for _ in range(2):
        visible = _majority(voxels, visible)
    return voxels[visible]


def _majority(voxels: Voxels, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """What most of each voxel and its neighbours say."""
    return _votes(_keys(voxels), np.where(mask, 1, -1)) > 0


def without_crumbs(voxels: Voxels, smallest: int) -> Voxels:
    """The voxels (n, 3), sorted by x, y, z, without connected pieces of fewer than `smallest`."""
    piece = _pieces(_keys(voxels))
    sizes = np.bincount(piece, minlength=len(voxels))
    return voxels[sizes[piece] >= smallest]


def _keys(voxels: Voxels) -> npt.NDArray[np.int64]:
    wide = voxels.astype(np.int64)
    return (wide[:, 0] << 42) + (wide[:, 1] << 21) + wide[:, 2]


@njit()
def _votes(keys: npt.NDArray[np.int64], votes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:  # pragma: no cover
    """Sum of the votes of each voxel and its 26 neighbours; `keys` ascend, so one walk a pair suffices."""
    total = votes.copy()
    for x in range(2):
        for y in range(-1, 2):
            for z in range(-1, 2):
                shift = x * (1 << 42) + y * (1 << 21) + z
                if shift <= 0:
                    continue
                j = 0
                for i in range(keys.size):
                    while j < keys.size and keys[j] < keys[i] + shift:
                        j += 1
                    if j < keys.size and keys[j] == keys[i] + shift:
                        total[i] += votes[j]
                        total[j] += votes[i]
    return total


@njit()
def _pieces(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:  # pragma: no cover
    """Number of the connected piece (26 neighbours) of each voxel: union-find over the same walks."""
    parent = np.arange(keys.size)
    for x in range(2):
        for y in range(-1, 2):
            for z in range(-1, 2):
                shift = x * (1 << 42) + y * (1 << 21) + z
                if shift <= 0:
                    continue
                j = 0
                for i in range(keys.size):
                    while j < keys.size and keys[j] < keys[i] + shift:
                        j += 1
                    if j < keys.size and keys[j] == keys[i] + shift:
                        a, b = i, j
                        while parent[a] != a:
                            parent[a] = parent[parent[a]]
                            a = parent[a]
                        while parent[b] != b:
                            parent[b] = parent[parent[b]]
                            b = parent[b]
                        parent[max(a, b)] = min(a, b)
    for i in range(keys.size):
        parent[i] = parent[parent[i]]  # parents come first, so theirs are roots already
    return parent
