"""Decision: which voxels a block puts out, by a threshold that the encoder picks for it and codes.

The encoder measures, for every threshold at once, what each block would add to both directions of the
distortion: squared distances from the input's points to the voxels that pass, and from those to the points.  Then it
picks the thresholds that make the larger of the two mean squared errors, which is what MPEG's D1 and D2 count, small.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..._jit import njit
from ...metrics.workers import Workers
from .cells import BLOCK_CELLS, CELL_SIDE, CELL_VOXELS, Cells, keys_of, morton_of_raster, voxel_offsets

#: Thresholds on the logits that a block can choose from; a voxel passes when its logit is at least the threshold.
THRESHOLDS: npt.NDArray[np.float32] = np.linspace(-4.0, 3.0, 32, dtype=np.float32)
#: What a block can choose beside: that no voxel passes, which leaves the likeliest of each cell.
LIKELIEST = len(THRESHOLDS)

_REACH = 3
_SIDE = CELL_SIDE + 2 * _REACH
#: Squared distance booked where nothing is within reach, by default.
FAR_SQ = float((_REACH + 1) ** 2)
#: Rank of a voxel without a point.
_EMPTY = np.uint16(65535)
#: Points that a block puts out for each of the input's, at most, and the squared error of more.
_MOST_PASSED = 32
_NEVER = 1e30
#: Halvings of the interval in which the weight between the two directions is sought.
_HALVINGS = 10
#: Parts of the cells that are measured side by side.
_PARTS = 2


@functools.cache
def _shells() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Steps inside a window in order of length: flat step (k,), squared length (k,), vector (k, 3)."""
    span = np.arange(-_REACH, _REACH + 1)
    vectors = np.stack(np.meshgrid(span, span, span, indexing="ij"), axis=-1).reshape(-1, 3)
    square = (vectors**2).sum(axis=1)
    order = np.argsort(square, kind="stable")
    order = order[square[order] <= _REACH * _REACH]
    flat = vectors @ np.array([_SIDE * _SIDE, _SIDE, 1])
    return flat[order], square[order].astype(np.float32), vectors[order].astype(np.float32)


@dataclass(frozen=True, eq=False)
class Costs:
    """What each block adds at each threshold; all (blocks, thresholds).

    Attributes:
        from_input_sq: sum of squared errors from the input's points.
        from_output_sq: the same from the voxels that pass.
        passed: number of voxels that pass.
        points: number of input points.
    """

    from_input_sq: npt.NDArray[np.float64]
    from_output_sq: npt.NDArray[np.float64]
    passed: npt.NDArray[np.int64]
    points: int


def blocks_of(positions: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.int64], int]:
    """Number of the block of each cell, (n,), blocks counted in the order z, y, x; and how many there are."""
    unique, row = np.unique(keys_of(positions // BLOCK_CELLS), return_inverse=True)
    return row.reshape(-1), len(unique)


def levels_of(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """How many of the thresholds each voxel passes, same shape."""
    return np.searchsorted(THRESHOLDS, logits.reshape(-1), side="right").astype(np.uint8).reshape(logits.shape)


@njit()
def _fill(  # type: ignore[no-untyped-def]  # a kernel takes arrays one by one
    row, neighbours, levels, ranks, firsts, raster, level_window, point_window
):
    n = len(levels)
    for wx in range(_SIDE):
        x = wx - _REACH
        cx = 0 if x < 0 else (1 if x < CELL_SIDE else 2)
        for wy in range(_SIDE):
            y = wy - _REACH
            cy = 0 if y < 0 else (1 if y < CELL_SIDE else 2)
            for wz in range(_SIDE):
                z = wz - _REACH
                cz = 0 if z < 0 else (1 if z < CELL_SIDE else 2)
                other = neighbours[row, cx * 9 + cy * 3 + cz]
                place = (wx * _SIDE + wy) * _SIDE + wz
                if other == n:
                    level_window[place] = 0
                    point_window[place] = -1
                else:
                    voxel = raster[(x & 7) << 6 | (y & 7) << 3 | (z & 7)]
                    level_window[place] = levels[other, voxel]
                    rank = ranks[other, voxel]
                    point_window[place] = firsts[other] + rank if rank != _EMPTY else -1


@njit()
def _error(k, point, shells, normals):  # type: ignore[no-untyped-def]
    """Squared length of step k, or of its part along the normal of an input point where there are normals."""
    _, square, vectors = shells
    if len(normals) == 0:
        return square[k]
    along = np.float32(0)
    for axis in range(3):
        along += vectors[k, axis] * normals[point, axis]
    return along * along


@njit()
def _add_from_input(  # type: ignore[no-untyped-def]  # a kernel takes arrays one by one
    place, point, level_window, shells, normals, far_sq, costs
):
    """At each threshold, the error of a point to the nearest voxel that passes."""
    reached = 0
    flat = shells[0]
    for k in range(len(flat)):
        level = level_window[place + flat[k]]
        if level > reached:
            error = _error(k, point, shells, normals)
            for threshold in range(reached, level):
                costs[threshold] += error
            reached = level
            if reached == len(costs):
                return
    for threshold in range(reached, len(costs)):
        costs[threshold] += far_sq


@njit()
def _error_to_input(place, point_window, shells, normals, far_sq):  # type: ignore[no-untyped-def]
    """Error of a voxel to the nearest point."""
    flat = shells[0]
    for k in range(len(flat)):
        point = point_window[place + flat[k]]
        if point >= 0:
            return _error(k, point, shells, normals)
    return np.float32(far_sq)


@njit(nogil=True)
def _measure(  # type: ignore[no-untyped-def]  # a kernel takes arrays one by one
    rows, where, voxels, block, shells, normals, far_sq, costs
):
    neighbours, raster, offsets = where
    levels, ranks, firsts = voxels
    from_input, from_output, passed = costs
    level_window = np.zeros(_SIDE**3, np.uint8)
    point_window = np.zeros(_SIDE**3, np.int64)
    for row in range(*rows):
        _fill(row, neighbours, levels, ranks, firsts, raster, level_window, point_window)
        b = block[row]
        for voxel in range(CELL_VOXELS):
            place = (offsets[voxel, 0] + _REACH) * _SIDE + offsets[voxel, 1] + _REACH
            place = place * _SIDE + offsets[voxel, 2] + _REACH
            point = point_window[place]
            level = level_window[place]
            if point >= 0:
                _add_from_input(place, point, level_window, shells, normals, far_sq, from_input[b])
            if level > 0:
                from_output[b, level - 1] += _error_to_input(place, point_window, shells, normals, far_sq)
                passed[b, level - 1] += 1


def measure(  # the parts of one encoder's state
    cells: Cells,
    neighbours: npt.NDArray[np.int32],
    levels: npt.NDArray[np.uint8],
    block: npt.NDArray[np.int64],
    blocks: int,
    normals: npt.NDArray[np.float32] | None = None,
    far_sq: float = FAR_SQ,
) -> Costs:
    """What each block would add at each threshold, the blocks around it being at the same one.

    Args:
        cells: the input.
        neighbours: (n, 27) of `neighbours_of`.
        levels: (n, 512) of `levels_of`.
        block: (n,) of `blocks_of`.
        blocks: their number.
        normals: (points, 3) unit normals of the input in the order of cells and voxels, to count point-to-plane
            errors (D2) in place of point-to-point ones (D1).
        far_sq: squared error booked where nothing is within reach.
    """
    occupied = np.unpackbits(cells.bits, axis=1).astype(np.bool_)
    counts = occupied.sum(axis=1)
    points = int(counts.sum())
    firsts = (np.cumsum(counts) - counts).astype(np.int64)
    # Two bytes a voxel, and not the row of its point, which would take four: large clouds have many cells.
    ranks = np.cumsum(occupied, axis=1, dtype=np.uint16)
    ranks -= np.uint16(1)
    ranks[~occupied] = _EMPTY
    shape = (blocks, len(THRESHOLDS))
    no_normals = np.empty((0, 3), np.float32)

    def add(rows: tuple[int, int]) -> tuple[npt.NDArray[Any], ...]:
        sums = np.zeros(shape), np.zeros(shape), np.zeros(shape, np.int64)
        _measure(
            rows,
            (neighbours, morton_of_raster(), voxel_offsets()),
            (levels, ranks, firsts),
            block,
            _shells(),
            no_normals if normals is None else normals,
            float(far_sq),
            sums,
        )
        return sums

    # In as many parts on every machine: real numbers add up to others in another order.
    ends = [len(levels) * part // _PARTS for part in range(_PARTS + 1)]
    parts = Workers().map(add, itertools.pairwise(ends))
    from_input, from_output, passed = (np.sum(some, axis=0) for some in zip(*parts, strict=True))
    # A voxel passes its own threshold and all below.
    from_output = from_output[:, ::-1].cumsum(axis=1)[:, ::-1]
    passed = passed[:, ::-1].cumsum(axis=1)[:, ::-1]
    return Costs(from_input, from_output, passed, points)


def choose_sparingly(costs: Costs, points: npt.NDArray[np.integer], other_bits: float) -> npt.NDArray[np.uint8]:
    """As `choose`, but no block takes a threshold that puts out many times its points, (blocks,) of the input.

    Beyond the reach of `measure` an error counts too little: where no surface is, it would seem best to fill space.
    A block that no threshold keeps from that takes `LIKELIEST`.
    """
    crowded = np.asarray(costs.passed > _MOST_PASSED * points[:, None])
    only: npt.NDArray[np.bool_] = np.all(crowded, axis=1)
    alone = only[:, None]
    # Such blocks are left out of the choice of the others.
    kept = replace(
        costs,
        from_input_sq=np.where(alone, 0.0, costs.from_input_sq),
        from_output_sq=np.where(crowded, np.where(alone, 0.0, _NEVER), costs.from_output_sq),
        passed=np.where(alone, 0, costs.passed),
    )
    return np.where(only, np.uint8(LIKELIEST), choose(kept, other_bits))


def choose(costs: Costs, other_bits: float, bits_of_step: float = 1.0) -> npt.NDArray[np.uint8]:
    """Threshold of each block, (blocks,), so that the larger mean squared error is small for the bits it takes.

    Args:
        costs: of `measure`.
        other_bits: size of the rest of the stream, which tells what a bit is worth here.
        bits_of_step: bits that a step between the thresholds of successive blocks costs, roughly.
    """
    blocks = len(costs.passed)
    # The highest where no choice is better than another, since none puts out anything.
    best, best_error = np.full(blocks, costs.passed.shape[1] - 1, np.uint8), np.inf
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        weight = (low + high) / 2
        picked, forward, back = _choose_at(costs, weight, bits_of_step / max(other_bits, 1.0))
        if max(forward, back) < best_error:
            best, best_error = picked.astype(np.uint8), max(forward, back)
        # More weight on the direction that is worse: where both are equal, neither can be bettered alone.
        low, high = (weight, high) if forward > back else (low, weight)
    return best


def _choose_at(costs: Costs, weight: float, bit_share: float) -> tuple[npt.NDArray[np.int64], float, float]:
    """Best thresholds for a weight of the direction from the input, and the mean squared error of each direction."""
    blocks, thresholds = costs.passed.shape
    row, steps = np.arange(blocks), np.arange(thresholds)
    picked = np.full(blocks, thresholds // 2)
    forward = back = 1.0
    price = 0.0
    for _ in range(5):
        # The mean over the output falls when more voxels better than it pass (Dinkelbach's iteration on the ratio).
        loss = weight * costs.from_input_sq + (1 - weight) * (costs.from_output_sq - back * costs.passed)
        away = np.abs(steps - int(np.median(picked)))
        picked = np.argmin(loss + price * costs.points * away, axis=1)
        forward = float(costs.from_input_sq[row, picked].sum()) / costs.points
        passed = int(costs.passed[row, picked].sum())
        back = float(costs.from_output_sq[row, picked].sum()) / passed if passed else np.inf
        if not passed:
            return picked, forward, back
        # One per cent of rate is worth about one per cent of error.
        price = max(forward, back) * bit_share
    return picked, forward, back


def d1_mse(costs: Costs, picked: npt.NDArray[np.uint8]) -> float:
    """Symmetric mean squared error that a choice is expected to have."""
    row = np.arange(len(picked))
    forward = costs.from_input_sq[row, picked].sum() / costs.points
    passed = costs.passed[row, picked].sum()
    return float(max(forward, costs.from_output_sq[row, picked].sum() / max(passed, 1)))


def passing(
    logits: npt.NDArray[np.float32], block: npt.NDArray[np.int64], picked: npt.NDArray[np.uint8]
) -> npt.NDArray[np.bool_]:
    """Voxels that pass the threshold of their block, (n, 512)."""
    return logits >= THRESHOLDS[picked][block][:, None]
