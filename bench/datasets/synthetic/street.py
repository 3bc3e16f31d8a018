"""Street: one turn of a rotating laser scanner between houses, cars, hedges and trees, after the sweeps of KITTI.

The scanner stands at the origin, 1.73 m above the road: x ahead, y left, z up, in metres.  A ray goes to the nearest
of what it meets; how often it is lost, and how wrong its range is, follows the sweeps of an HDL-64E.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .field import Points, Values, noise, uniforms, wave

_FAR = 1e9
_GROUND_M = -1.73
_KERB_M = 4.5
#: What is nearer is the car that carries the scanner.
_NEAREST_M = 2.5
_REACH_M = 60.0
_RANGE_ERROR_M = 0.03
#: x and y of the trunks.
_TREES = ((-27.0, 7.0), (-16.5, 6.9), (2.0, 7.1), (20.5, 6.9), (32.0, 7.0), (-22.0, -7.0), (-3.5, -6.9), (11.0, -7.0))
#: x, y and radius of lamp posts and signs.
_POLES = ((-10.0, 6.7, 0.08), (12.0, -6.7, 0.08), (-35.0, -6.7, 0.08), (36.0, 6.7, 0.08), (7.0, 6.6, 0.04))
#: x and y of the cars: parked on both sides, and two that drive.
_CARS = (
    *((-31.0, 5.6), (-24.0, 5.5), (-12.5, 5.7), (-6.5, 5.6), (7.5, 5.5), (13.5, 5.6), (26.0, 5.6), (38.0, 5.5)),
    *((-37.0, -5.6), (-18.0, -5.5), (-11.5, -5.6), (4.5, -5.6), (17.5, -5.5), (24.0, -5.7), (33.0, -5.6)),
    *((16.0, 1.8), (-20.0, -1.9)),
)


@dataclass(frozen=True)
class Block:
    """An upright box.

    Attributes:
        center: its middle in metres.
        half: half its length, width and height.
        turns: heading as a fraction of a full turn.
    """

    center: tuple[float, float, float]
    half: tuple[float, float, float]
    turns: float = 0.0


def sweep(beams: int, columns: int, seed: int) -> Values:
    """Points that the scanner gets back in one turn.

    Args:
        beams: lasers, 64 for the HDL-64E.
        columns: directions of a turn.
        seed: of range errors, lost rays and foliage.

    Returns:
        (n, 3) in metres, beam after beam.
    """
    rays = _rays(beams, columns)
    error, error_too, foliage, luck = uniforms(seed, 4 * len(rays)).reshape(4, -1)
    hits = [_ground(rays), _posts(rays), _crowns(rays, foliage)]
    hits += [_block(rays, block) for block in (*_houses(), *_cars())]
    # Rays end at some depth in a hedge, or go through it.
    hits += [_block(rays, hedge) + foliage * foliage * 1.2 for hedge in _hedges()]
    nearest = np.full(len(rays), _FAR)
    for hit in hits:
        nearest = np.where(hit > _NEAREST_M, np.minimum(nearest, hit), nearest)
    far = np.minimum(nearest * (1.0 / _REACH_M), 1.0)
    back = (nearest < _REACH_M) & (luck > 0.02 + 0.2 * far * far)
    measured = nearest + (error + error_too - 1.0) * _RANGE_ERROR_M
    return np.stack([axis[back] * measured[back] for axis in rays], axis=1)


def on_grid(points: Values, bit_depth: int, step_m: float) -> npt.NDArray[np.int32]:
    """The voxels that points (n, 3) in metres lie in.

    The scanner is in the middle of the grid; points outside are dropped.

    Returns:
        (m, 3) coordinates, sorted by x, y, z.
    """
    middle = float(1 << (bit_depth - 1))
    voxels = np.floor(points * (1.0 / step_m) + (middle + 0.5))
    inside = ((voxels >= 0) & (voxels < 1 << bit_depth)).all(axis=1)
    return np.unique(voxels[inside].astype(np.int32), axis=0)


def _rays(beams: int, columns: int) -> Points:
    """Directions of length 1: the upper beams are a third of a degree apart, the lower ones a half."""
    skew = uniforms(97, 2 * beams)  # beams are a little off their places, as calibrated scanners' are
    upper = np.arange(beams) * (64.0 / beams)
    degrees = 2.0 - upper * (1.0 / 3.0) - np.maximum(upper - 31.0, 0.0) * (1.0 / 6.0) + 0.08 * skew[:beams]
    pitch = np.repeat(degrees * (1.0 / 360.0), columns)
    turn = np.arange(columns)[None, :] + skew[beams:, None]
    turn = turn.reshape(-1) * (1.0 / columns)
    level = wave(pitch + 0.25)
    return Points(wave(turn + 0.25) * level, wave(turn) * level, wave(pitch))


def _ground(rays: Points) -> Values:
    """Distance to the road, which is cambered, and to the pavement behind kerbs; found in steps along the ray."""
    steep = np.minimum(rays.z, -1e-6)
    along = _GROUND_M / steep
    for _ in range(3):
        x, y = rays.x * along, rays.y * along
        flat = Points(x, y, np.zeros(len(x)))
        height = np.where(np.abs(y) > _KERB_M, 0.12, 0.0) - np.minimum(y * y, _KERB_M * _KERB_M) * 0.003
        height = height + noise(flat, 9.0, 501) * 0.06 + noise(flat, 1.1, 502) * 0.01
        along = (_GROUND_M + height) / steep
    return np.where(rays.z < -1e-6, along, _FAR)


def _standing(
    x: float, y: float, length: float, width: float, bottom: float, top: float, turns: float = 0.0
) -> Block:
    """A block by its heights above the road."""
    center = (x, y, _GROUND_M + (bottom + top) / 2)
    return Block(center, (length / 2, width / 2, (top - bottom) / 2), turns)


def _houses() -> list[Block]:
    """Two rows of houses with bays and doorsteps, and gaps between some."""
    dice = uniforms(511, 400).reshape(-1, 8).tolist()
    blocks = []
    for side, first in ((-1.0, 0), (1.0, 20)):
        x = -70.0
        for a in dice[first : first + 10]:
            width, depth, height, front = 9.0 + 8.0 * a[0], 8.0 + 3.0 * a[1], 7.0 + 7.0 * a[2], 8.2 + 2.5 * a[3]
            blocks.append(_standing(x + width / 2, side * (front + depth / 2), width, depth, 0.0, height))
            for bay in range(3):
                at = x + width * (bay + 0.5) / 3
                low, high = 0.6 + 0.2 * bay - 0.6 * a[4], 2.6 + 0.2 * bay + 0.6 * a[4]
                blocks.append(_standing(at, side * (front - 0.25), 1.6, 0.6, low, high))
            x += width + (7.0 * a[5] if a[6] > 0.5 else 0.0)
    return blocks


def _hedges() -> list[Block]:
    """Hedges before the houses, one on each side for a part of the street."""
    return [
        _standing(-21.0, 7.8, 15.0, 0.9, 0.0, 1.5),
        _standing(18.0, 7.7, 11.0, 0.8, 0.0, 1.2),
        _standing(-29.0, -7.6, 9.0, 0.9, 0.0, 1.8),
        _standing(3.0, -7.7, 12.0, 0.8, 0.0, 1.4),
    ]


def _cars() -> list[Block]:
    """Cars: body, cabin and wheels."""
    dice = uniforms(521, 4 * len(_CARS)).reshape(-1, 4).tolist()
    blocks = []
    for (x, y), a in zip(_CARS, dice, strict=True):
        length, width, top, turns = 4.1 + 0.7 * a[0], 1.75 + 0.1 * a[1], 1.4 + 0.3 * a[2], (a[3] - 0.5) * 0.012
        blocks.append(_standing(x, y, length, width, 0.2, 1.04, turns))
        blocks.append(_standing(x - 0.25, y, length * 0.54, width * 0.88, 0.9, top, turns))
        blocks += [_standing(x + at * length, y, 0.62, width, 0.0, 0.62, turns) for at in (-0.31, 0.31)]
    return blocks


def _block(rays: Points, block: Block) -> Values:
    """Distance along each ray to a block: where the ray has entered all three of its slabs and left none."""
    heading = wave(np.array([block.turns + 0.25, block.turns]))
    cosine, sine = float(heading[0]), float(heading[1])
    x, y, z = block.center
    slabs = (
        (rays.x * cosine + rays.y * sine, x * cosine + y * sine),
        (rays.y * cosine - rays.x * sine, y * cosine - x * sine),
        (rays.z, z),
    )
    enter, leave = np.zeros(len(rays)), np.full(len(rays), _FAR)
    for (speed, middle), half in zip(slabs, block.half, strict=True):
        inverse = 1.0 / np.where(np.abs(speed) < 1e-9, 1e-9, speed)
        one, other = (middle - half) * inverse, (middle + half) * inverse
        enter = np.maximum(enter, np.minimum(one, other))
        leave = np.minimum(leave, np.maximum(one, other))
    return np.where(enter < leave, enter, _FAR)


def _posts(rays: Points) -> Values:
    """Distance to the nearest lamp post, sign or trunk."""
    nearest = np.full(len(rays), _FAR)
    posts = [(x, y, radius, 4.5) for x, y, radius in _POLES] + [(x, y, 0.16, 2.2) for x, y in _TREES]
    flat = rays.x * rays.x + rays.y * rays.y
    for x, y, radius, top in posts:
        along = (rays.x * x + rays.y * y) / flat
        room = radius * radius - (x * x + y * y - along * along * flat)
        hit = along - np.sqrt(np.maximum(room, 0.0) / flat)
        height = rays.z * hit
        met = (room > 0) & (hit > 0) & (height < top) & (height > _GROUND_M)
        nearest = np.where(met, np.minimum(nearest, hit), nearest)
    return nearest


def _crowns(rays: Points, foliage: Values) -> Values:
    """Distance to leaves: a ray that enters a crown ends after 1.3 m on average, or leaves it again."""
    nearest = np.full(len(rays), _FAR)
    for i, (x, y) in enumerate(_TREES):
        z, radius = 2.2 + 0.15 * i, 1.9 + 0.08 * i
        along = rays.x * x + rays.y * y + rays.z * z
        room = radius * radius - (x * x + y * y + z * z - along * along)
        half = np.sqrt(np.maximum(room, 0.0))
        depth = foliage * 2.6
        met = (room > 0) & (along > 0) & (depth < 2.0 * half)
        nearest = np.where(met, np.minimum(nearest, along - half + depth), nearest)
    return nearest
