"""Kernels: the compiled searches behind `neighbours`, on a grid of voxels and on a tree.

They are all in this file because numba's cache watches the file of the compiled function only: were a helper in
another file, a change of it would leave old machine code in use.

Grid.  Voxels come in bricks of 4 x 4 x 4, whose occupancy is one 64-bit word, and bricks in blocks of 4 x 4 x 4,
which a hash table finds.  A table of shells says, for each of the 64 places of a query in its brick, which voxels of
the 27 bricks around it come first, second, ...; so one AND finds the occupied ones among up to 64.

Tree.  A k-d tree that splits and searches in the order of the one in pc_error (nanoflann, Blanco & Rai 2014), because
that order decides which 30 of, say, 48 equidistant neighbours pc_error takes.

Neighbours.  `ties` says which of them count.
"""

# Long functions with many arguments are what numba compiles to fast code; splitting them would copy state around.
# ruff: noqa: C901, PLR0912, PLR0915

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import intrinsic

# Whoever changes one of these touches this file, too, for the cache's sake.
from .._jit import njit
from .ties import FIRST_NEIGHBOURS, MORE_NEIGHBOURS, MOST_TIES, RELATIVE_TIE_TOLERANCE, TIE_TOLERANCE_SQ

#: Coordinates, in voxel sides, lie in [-VOXEL_LIMIT, VOXEL_LIMIT): three of a block's fit in one 63-bit key.
VOXEL_LIMIT = 1 << 24
#: Every voxel up to so many voxels away along each axis lies in the 27 bricks around a query's.
REACH = 4
#: Voxels at squared distances below this lie within REACH; and those whose fourfold bounds lie below that.
DISTANCE_SQUARES, BOUND_SQUARES = (REACH + 1) ** 2, 4 * REACH**2
#: No run of ties reaches further beyond the least squared distance, nor further than this share of it.
TIE_REACH_SQ = (MOST_TIES - 1) * TIE_TOLERANCE_SQ
_RELATIVE_REACH = (MOST_TIES - 1) * RELATIVE_TIE_TOLERANCE
#: Points that a leaf of the tree holds at most.
LEAF_POINTS = 10

#: Room for the candidates of one query.
_CAPACITY = 64
#: Slack of a lower bound, for distances whose coordinate differences were rounded to float32.
_SLACK = 1.0 - 1e-6
#: Points of the 27 bricks around a query that are compared.
_MOST_NEAR = 1024
#: Twice the diagonal of the 4 x 4 x 4 points of a brick, in halves, from corner to corner: 2 x 2 x 3 sqrt(3) / 2.
_BRICK_DIAGONAL = 6.0 * 3.0**0.5
#: Voxels of integers up to this side have squared distances in a neighbourhood, in halves, below 2^31.
MOST_SPARSE_SIDE = 1024
_AXIS_BITS = 21
_AXIS_MASK = np.uint64((1 << _AXIS_BITS) - 1)
_BIAS = VOXEL_LIMIT >> 4
_HASH_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_ONE = np.uint64(1)
_ZERO = np.uint64(0)
#: Sides of a box that are longer than this share of the longest count as long.
_LONG_SIDE = 1.0 - 0.00001
#: Nodes that can be waiting at once: halving a box ends after 3 x 277 times in float32, halving the points after 31.
_MOST_WAITING = 1024


class Grid(NamedTuple):
    """The occupied voxels of a cloud; blocks, bricks, voxels and points are numbered in storage order.

    Brick (x, y, z) is bit 16 (x & 3) + 4 (y & 3) + (z & 3) of block (x >> 2, y >> 2, z >> 2), and a voxel is the same
    bit of its brick.  Members follow each other in the order of their bits, so that counting the set bits below
    a member's gives its number.

    Attributes:
        side: side of a voxel, in units of the coordinates; a power of two, so that binning is exact.
        keys: (b,) packed lattice coordinates of the blocks.
        slots: open-addressing hash table of block numbers, -1 where empty; its length is a power of two.
        masks: (b,) the occupied bricks of each block.
        bricks: (b + 1,) number of each block's first brick.
        occupancy: (m,) the occupied voxels of each brick.
        voxels: (m + 1,) number of each brick's first voxel.
        start: (v + 1,) number of each voxel's first point.
    """

    side: float
    keys: npt.NDArray[np.uint64]
    slots: npt.NDArray[np.int32]
    masks: npt.NDArray[np.uint64]
    bricks: npt.NDArray[np.int32]
    occupancy: npt.NDArray[np.uint64]
    voxels: npt.NDArray[np.int32]
    start: npt.NDArray[np.int32]


class Shells(NamedTuple):
    """For each place in a brick the voxels around it, nearest first, as masks of the 27 bricks around.

    A place is one of the 64 voxels, or one of the 512 parts that halving these along each axis makes.

    Attributes:
        first: (p s + 1,) first entry of each of the p places of each of s squares from 0 on.
        square: (e,) squared distance of the voxels; or four times the least of a query there and any point in them.
        brick: (e,) 9 (x + 1) + 3 (y + 1) + z + 1 for the brick at lattice offset (x, y, z).
        mask: (e,) voxels of that brick at that distance.
    """

    first: npt.NDArray[np.int32]
    square: npt.NDArray[np.uint8]
    brick: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint64]


class Tree(NamedTuple):
    """A k-d tree over n points.

    Attributes:
        box: (2, 3) bounds of all points.
        axis: axis that a node splits, -1 for a leaf.
        low, high: largest coordinate of the first child and smallest of the second, along the axis.
        first, second: child nodes; for a leaf, its range of `points`.
        points: (n, 3) in the order of the leaves.
        depth: nodes on the longest path from the root.
    """

    box: npt.NDArray[np.float32]
    axis: npt.NDArray[np.int8]
    low: npt.NDArray[np.float32]
    high: npt.NDArray[np.float32]
    first: npt.NDArray[np.int32]
    second: npt.NDArray[np.int32]
    points: npt.NDArray[np.float32]
    depth: int


class Results(NamedTuple):
    """What a search has found for each of n queries; written for those that it answers.

    Attributes:
        distance_sq: (n,) squared distance to the nearest point.
        start: (n,) where the query's neighbours begin among those that the search returns.
        run: (n,) how many there are, 1 to 30.
        exact: (n,) how many of them, from the first, are at exactly the least distance.
    """

    distance_sq: npt.NDArray[np.float64]
    start: npt.NDArray[np.int32]
    run: npt.NDArray[np.uint8]
    exact: npt.NDArray[np.uint8]


def _emit_popcount(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    return builder.ctpop(arguments[0])


def _emit_lowest_bit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    return builder.cttz(arguments[0], context.get_constant(types.boolean, False))


@intrinsic
def _popcount_of(typing_context: Any, word: Any) -> Any:
    """Number of set bits of a uint64."""
    return types.uint64(types.uint64), _emit_popcount


@intrinsic
def _lowest_bit_of(typing_context: Any, word: Any) -> Any:
    """Index of the lowest set bit of a uint64; 64 when none is set."""
    return types.uint64(types.uint64), _emit_lowest_bit


_popcount: Any = _popcount_of
_lowest_bit: Any = _lowest_bit_of


# Candidates: from the points near a query to its neighbours.


@njit(nogil=True)
def _square(qx: Any, qy: Any, qz: Any, points: Any, i: Any) -> Any:
    """Squared distance; differences round to float32 before they are squared in double, as pc_error's do."""
    dx = np.float64(qx - points[i, 0])
    dy = np.float64(qy - points[i, 1])
    dz = np.float64(qz - points[i, 2])
    return dx * dx + dy * dy + dz * dz


@njit(nogil=True)
def _settle(squares: Any, places: Any, count: Any, limit: Any) -> Any:
    """Apply pc_error's rules to the candidates of one query: `count` squared distances and places.

    Candidates beyond `limit`, the least squared distance plus as much as ties can reach, do not matter.

    Returns:
        run: how many of the candidates are neighbours, which then come first; 0 where only the tree can tell.
        exact: how many of them are at exactly the least distance, and come before the others.
    """
    kept = 0
    for i in range(count):
        if squares[i] <= limit:
            square, place = squares[i], places[i]
            j = kept
            while j and (squares[j - 1] > square or (squares[j - 1] == square and places[j - 1] > place)):
                squares[j], places[j] = squares[j - 1], places[j - 1]
                j -= 1
            squares[j], places[j] = square, place
            kept += 1
    exact = 1
    while exact < kept and squares[exact] == squares[0]:
        exact += 1
    asked = FIRST_NEIGHBOURS
    while exact >= asked and asked < MOST_TIES:
        asked += MORE_NEIGHBOURS
    run = min(exact, asked)
    tolerance = min(TIE_TOLERANCE_SQ, RELATIVE_TIE_TOLERANCE * squares[0])
    while run < min(asked, kept) and squares[run] - squares[run - 1] < tolerance:
        run += 1
    if exact > MOST_TIES or (run == asked and kept > asked and squares[asked] == squares[asked - 1]):
        run, exact = 0, 0
    return run, exact


# Grid: binning.


@njit(nogil=True)
def _bit_of(x: Any, y: Any, z: Any) -> Any:
    return np.uint64(((x & 3) << 4) | ((y & 3) << 2) | (z & 3))


@njit(nogil=True)
def _rank_of(word: Any, bit: Any) -> Any:
    """Set bits of `word` below the single bit `bit`."""
    return np.int32(_popcount(word & (bit - _ONE)))


@njit(nogil=True)
def _block_key(x: Any, y: Any, z: Any) -> Any:
    return (
        (np.uint64(x + _BIAS) << np.uint64(2 * _AXIS_BITS))
        | (np.uint64(y + _BIAS) << np.uint64(_AXIS_BITS))
        | np.uint64(z + _BIAS)
    )


@njit(nogil=True)
def _shift_of(slots: Any) -> Any:
    """64 - log2(len(slots)): how far to shift a hash to get a slot."""
    size, shift = len(slots), 64
    while size > 1:
        size >>= 1
        shift -= 1
    return np.uint64(shift)


@njit(nogil=True)
def _find_block(key: Any, keys: Any, slots: Any, shift: Any) -> Any:
    """Number of the block with this key, or -1."""
    slot = np.int64((key * _HASH_MULTIPLIER) >> shift)
    while True:
        block = slots[slot]
        if block < 0 or keys[block] == key:
            return block
        slot = (slot + 1) & (len(slots) - 1)


@njit(nogil=True)
def _enter_block(key: Any, block: Any, slots: Any, shift: Any) -> None:
    slot = np.int64((key * _HASH_MULTIPLIER) >> shift)
    while slots[slot] >= 0:
        slot = (slot + 1) & (len(slots) - 1)
    slots[slot] = block


@njit(nogil=True)
def _bin_some(
    points: Any,
    begin: Any,
    inverse_side: Any,
    block_of: Any,
    bits_of: Any,
    keys: Any,
    masks: Any,
    count: Any,
    slots: Any,
) -> Any:
    """Number blocks in the order of their first point until all points are done or `keys` is full.

    Returns:
        The next point to do and the number of blocks.
    """
    shift = _shift_of(slots)
    last_key, block = ~_ZERO, np.int32(-1)
    for i in range(begin, len(points)):
        x = np.int64(np.floor(points[i, 0] * inverse_side))
        y = np.int64(np.floor(points[i, 1] * inverse_side))
        z = np.int64(np.floor(points[i, 2] * inverse_side))
        key = _block_key(x >> 4, y >> 4, z >> 4)
        if key != last_key:
            block = _find_block(key, keys, slots, shift)
            if block < 0:
                if count == len(keys):
                    return i, count
                block = np.int32(count)
                keys[block] = key
                masks[block] = _ZERO
                _enter_block(key, block, slots, shift)
                count += 1
            last_key = key
        brick = _bit_of(x >> 2, y >> 2, z >> 2)
        masks[block] |= _ONE << brick
        block_of[i] = block
        bits_of[i] = (brick << np.uint64(6)) | _bit_of(x, y, z)
    return len(points), count


@njit(nogil=True)
def bin_blocks(points: Any, inverse_side: Any) -> Any:
    """Find the blocks of (n, 3) points in lexicographic order.

    Returns:
        block_of: (n,) block of each point.
        bits_of: (n,) place of its brick in the block, times 64, plus the place of its voxel in the brick.
        keys, masks, slots: as in `Grid`.
    """
    n = len(points)
    block_of, bits_of = np.empty(n, np.int32), np.empty(n, np.uint16)
    capacity = 1024
    while capacity < n // 64:
        capacity *= 2
    old_keys, old_masks = np.empty(0, np.uint64), np.empty(0, np.uint64)
    done, count = np.int64(0), np.int64(0)
    while True:
        keys, masks = np.empty(capacity, np.uint64), np.empty(capacity, np.uint64)
        slots = np.empty(4 * capacity, np.int32)
        for slot in range(len(slots)):
            slots[slot] = -1
        shift = _shift_of(slots)
        for block in range(count):
            keys[block], masks[block] = old_keys[block], old_masks[block]
            _enter_block(keys[block], np.int32(block), slots, shift)
        done, count = _bin_some(points, done, inverse_side, block_of, bits_of, keys, masks, count, slots)
        if done == n:
            return block_of, bits_of, keys[:count], masks[:count], slots
        # Full: go on with twice the room.
        old_keys, old_masks = keys, masks
        capacity *= 2


@njit(nogil=True)
def number_members(masks: Any) -> Any:
    """Number of the first member of each mask, when all set bits are numbered one after the other; (len + 1,)."""
    first = np.zeros(len(masks) + 1, np.int32)
    for i in range(len(masks)):
        first[i + 1] = first[i] + np.int32(_popcount(masks[i]))
    return first


@njit(nogil=True)
def fill_bricks(block_of: Any, bits_of: Any, masks: Any, bricks: Any) -> Any:
    """Occupancy of all bricks; `block_of` becomes the brick of each point."""
    occupancy = np.zeros(bricks[-1], np.uint64)
    for i in range(len(block_of)):
        block, bits = block_of[i], np.uint64(bits_of[i])
        brick = bricks[block] + _rank_of(masks[block], _ONE << (bits >> np.uint64(6)))
        occupancy[brick] |= _ONE << (bits & np.uint64(63))
        block_of[i] = brick
    return occupancy


@njit(nogil=True)
def rank_points(brick_of: Any, bits_of: Any, occupancy: Any, voxels: Any) -> Any:
    """First point of each voxel, and the number of each point; the points of a voxel keep their order."""
    n = len(brick_of)
    n_voxels = voxels[-1]
    rank, start = np.empty(n, np.int32), np.zeros(n_voxels + 1, np.int32)
    for i in range(n):
        brick, bit = brick_of[i], np.uint64(bits_of[i]) & np.uint64(63)
        rank[i] = voxels[brick] + _rank_of(occupancy[brick], _ONE << bit)
    if n_voxels == n:  # one point to a voxel
        for voxel in range(n + 1):
            start[voxel] = voxel
        return start, rank
    for i in range(n):
        start[rank[i] + 1] += 1
    for voxel in range(n_voxels):
        start[voxel + 1] += start[voxel]
    taken = np.zeros(n_voxels, np.int32)
    for i in range(n):
        voxel = rank[i]
        rank[i] = start[voxel] + taken[voxel]
        taken[voxel] += 1
    return start, rank


# Grid: searches.


@njit(nogil=True)
def _blocks_around(key: Any, grid: Any, shift: Any, blocks: Any) -> None:
    x = np.int64(key >> np.uint64(2 * _AXIS_BITS)) - _BIAS
    y = np.int64((key >> np.uint64(_AXIS_BITS)) & _AXIS_MASK) - _BIAS
    z = np.int64(key & _AXIS_MASK) - _BIAS
    for neighbour in range(27):
        i, j, k = neighbour // 9 - 1, neighbour // 3 % 3 - 1, neighbour % 3 - 1
        blocks[neighbour] = _find_block(_block_key(x + i, y + j, z + k), grid.keys, grid.slots, shift)


@njit(nogil=True)
def _bricks_around(place: Any, blocks: Any, grid: Any, words: Any, bases: Any) -> None:
    """Occupancy and first voxel of the 27 bricks around the one at `place` in the middle one of 27 blocks."""
    neighbour = 0
    # Bricks are counted from the low corner of the 27 blocks, so that none is negative.
    for i in range((place >> 4) + 3, (place >> 4) + 6):
        for j in range((place >> 2 & 3) + 3, (place >> 2 & 3) + 6):
            for k in range((place & 3) + 3, (place & 3) + 6):
                block = blocks[9 * (i >> 2) + 3 * (j >> 2) + (k >> 2)]
                words[neighbour], bases[neighbour] = _ZERO, 0
                if block >= 0:
                    bit = _ONE << _bit_of(i, j, k)
                    if grid.masks[block] & bit:
                        brick = grid.bricks[block] + _rank_of(grid.masks[block], bit)
                        words[neighbour], bases[neighbour] = grid.occupancy[brick], grid.voxels[brick]
                neighbour += 1


@njit(nogil=True)
def _least_after() -> Any:
    """Least squared distance of a query, by that of another one and the square of how far apart the two are."""
    least = np.empty((DISTANCE_SQUARES + 1, 28), np.uint8)
    for square in range(DISTANCE_SQUARES + 1):
        for step in range(28):
            distance = max(math.sqrt(square) - math.sqrt(step), 0.0)
            least[square, step] = math.ceil(distance * distance - 1e-9)
    return least


@njit(nogil=True)
def search_voxels(queries: Any, low: Any, high: Any, grid: Any, shells: Any, results: Any) -> Any:
    """Nearest points of all queries in the query blocks `low` to `high`, points being voxels of side 1 in both grids.

    `shells` are those of distances between voxels.

    Returns:
        Numbers of the nearest points, query after query, and the queries left open (too far, too many ties).
    """
    shift = _shift_of(grid.slots)
    blocks = np.empty(27, np.int32)
    words, bases = np.empty(27, np.uint64), np.empty(27, np.int32)
    query = queries.voxels[queries.bricks[low]]
    n_queries = queries.voxels[queries.bricks[high]] - query
    # Room for the most that there can be: pages that are never written cost nothing, growing an array does.
    ties = np.empty(MOST_TIES * n_queries + 1, np.int32)
    left_open = np.empty(n_queries, np.int32)
    n_ties, n_open = 0, 0
    least_after = _least_after()
    for query_block in range(low, high):
        _blocks_around(queries.keys[query_block], grid, shift, blocks)
        query_brick = queries.bricks[query_block]
        todo_bricks = queries.masks[query_block]
        while todo_bricks:
            place = np.int64(_lowest_bit(todo_bricks))
            todo_bricks &= todo_bricks - _ONE
            _bricks_around(place, blocks, grid, words, bases)
            todo = queries.occupancy[query_brick]
            query_brick += 1
            best: Any = 0
            before = np.int64(0)
            while todo:
                place = np.int64(_lowest_bit(todo))
                todo &= todo - _ONE
                # Nothing is nearer than the query before allows; the first shells are known to be empty.
                least = np.int64(0)
                if best > 1:
                    dx, dy, dz = (
                        (place >> 4) - (before >> 4),
                        (place >> 2 & 3) - (before >> 2 & 3),
                        (place & 3) - (before & 3),
                    )
                    least = np.int64(least_after[best, dx * dx + dy * dy + dz * dz])
                before = place
                best = DISTANCE_SQUARES
                begin = n_ties
                for entry in range(
                    shells.first[place * DISTANCE_SQUARES + least], shells.first[(place + 1) * DISTANCE_SQUARES]
                ):
                    if shells.square[entry] > best:
                        break
                    word = words[shells.brick[entry]]
                    hits = word & shells.mask[entry]
                    if hits:
                        best = np.int64(shells.square[entry])
                        base = bases[shells.brick[entry]]
                        while hits and n_ties - begin <= MOST_TIES:
                            ties[n_ties] = base + _rank_of(word, hits & (~hits + _ONE))
                            n_ties += 1
                            hits &= hits - _ONE
                count = n_ties - begin
                if count == 0 or count > MOST_TIES:
                    n_ties = begin
                    left_open[n_open] = query
                    n_open += 1
                else:
                    results.distance_sq[query] = best
                    results.start[query] = begin
                    results.run[query] = count
                    results.exact[query] = count
                query += 1
    return ties[:n_ties], left_open[:n_open]


@njit(nogil=True)
def _gather(words: Any, bases: Any, grid: Any, points: Any, near: Any, numbers: Any) -> Any:
    """Copy the integer points of 27 bricks and their numbers; returns how many, or -1 where there is no room."""
    count = 0
    for neighbour in range(27):
        if words[neighbour]:
            base = bases[neighbour]
            begin, end = grid.start[base], grid.start[base + np.int32(_popcount(words[neighbour]))]
            if count + end - begin > _MOST_NEAR:
                return -1
            for number in range(begin, end):
                for axis in range(3):
                    near[axis, count] = np.int32(points[number, axis])
                numbers[count] = number
                count += 1
    return count


@njit(nogil=True)
def _measure_near(x: Any, y: Any, z: Any, factor: Any, near: Any, count: Any, squares: Any) -> Any:
    """Squared distances of the first `count` points, times `factor` along each axis, to (x, y, z); the least of them.

    Without branches and in 32 bits, so that it compiles to vector instructions.
    """
    near_x, near_y, near_z = near[0], near[1], near[2]
    for i in range(count):
        dx, dy, dz = factor * near_x[i] - x, factor * near_y[i] - y, factor * near_z[i] - z
        squares[i] = np.int32(dx * dx + dy * dy + dz * dz)
    least = np.int32(0x7FFFFFFF)
    for i in range(count):
        square = squares[i]
        least = square if square < least else least  # not min, which would widen it
    return least


@njit(nogil=True)
def search_sparse(queries: Any, low: Any, high: Any, grid: Any, points: Any, results: Any) -> Any:
    """As `search_voxels`, among integer points whose voxels are wider than 1: a few for each brick of the queries.

    Whatever is nearest to a point of a query brick lies hardly farther from the middle of the brick than the point
    nearest to that; so few are left of the points around, which are then compared with all queries of the brick.
    """
    shift = _shift_of(grid.slots)
    blocks = np.empty(27, np.int32)
    words, bases = np.empty(27, np.uint64), np.empty(27, np.int32)
    around, around_numbers = np.empty((3, _MOST_NEAR), np.int32), np.empty(_MOST_NEAR, np.int32)
    near, numbers = np.empty((3, _MOST_NEAR), np.int32), np.empty(_MOST_NEAR, np.int32)
    squares = np.empty(_MOST_NEAR, np.int32)
    side = np.int64(grid.side)
    beyond = (REACH * side) ** 2
    query = queries.voxels[queries.bricks[low]]
    n_queries = queries.voxels[queries.bricks[high]] - query
    ties = np.empty(MOST_TIES * n_queries + _MOST_NEAR, np.int32)
    left_open = np.empty(n_queries, np.int32)
    n_ties, n_open = 0, 0
    last_key, last_brick = ~_ZERO, np.uint64(64)
    n_around = 0
    for query_block in range(low, high):
        key = queries.keys[query_block]
        block_x = (np.int64(key >> np.uint64(2 * _AXIS_BITS)) - _BIAS) * 16
        block_y = (np.int64((key >> np.uint64(_AXIS_BITS)) & _AXIS_MASK) - _BIAS) * 16
        block_z = (np.int64(key & _AXIS_MASK) - _BIAS) * 16
        query_brick = queries.bricks[query_block]
        todo_bricks = queries.masks[query_block]
        while todo_bricks:
            place = np.int64(_lowest_bit(todo_bricks))
            todo_bricks &= todo_bricks - _ONE
            x, y, z = block_x + 4 * (place >> 4), block_y + 4 * (place >> 2 & 3), block_z + 4 * (place & 3)
            # A query's brick lies in one brick of the points, which are at least as wide.
            voxel_x, voxel_y, voxel_z = x // side, y // side, z // side
            key = _block_key(voxel_x >> 4, voxel_y >> 4, voxel_z >> 4)
            if key != last_key:
                last_key, last_brick = key, np.uint64(64)
                _blocks_around(key, grid, shift, blocks)
            brick = _bit_of(voxel_x >> 2, voxel_y >> 2, voxel_z >> 2)
            if brick != last_brick:
                last_brick = brick
                _bricks_around(np.int64(brick), blocks, grid, words, bases)
                n_around = _gather(words, bases, grid, points, around, around_numbers)
            n_near = 0
            if n_around > 0:
                # In halves, in which the middle of the brick is an integer.
                least = _measure_near(
                    np.int32(2 * x + 3),
                    np.int32(2 * y + 3),
                    np.int32(2 * z + 3),
                    np.int32(2),
                    around,
                    n_around,
                    squares,
                )
                limit = np.int32((math.sqrt(least) + _BRICK_DIAGONAL) ** 2 + 1.0)
                for i in range(n_around):
                    near[0, n_near], near[1, n_near], near[2, n_near] = around[0, i], around[1, i], around[2, i]
                    numbers[n_near] = around_numbers[i]
                    n_near += squares[i] <= limit
            todo = queries.occupancy[query_brick]
            query_brick += 1
            while todo:
                place = np.int64(_lowest_bit(todo))
                todo &= todo - _ONE
                qx, qy, qz = np.int32(x + (place >> 4)), np.int32(y + (place >> 2 & 3)), np.int32(z + (place & 3))
                best = np.int64(beyond)
                count = 0
                for i in range(n_near):
                    dx, dy, dz = near[0, i] - qx, near[1, i] - qy, near[2, i] - qz
                    square = dx * dx + dy * dy + dz * dz
                    # Without branches: what comes next is not to be guessed.
                    count = 0 if square < best else count
                    best = min(best, square)
                    ties[n_ties + count] = numbers[i]
                    count += square == best
                if best >= beyond or count > MOST_TIES:
                    left_open[n_open] = query
                    n_open += 1
                else:
                    results.distance_sq[query] = best
                    results.start[query] = n_ties
                    results.run[query] = count
                    results.exact[query] = count
                    n_ties += count
                query += 1
    return ties[:n_ties], left_open[:n_open]


@njit(nogil=True)
def search_near(queries: Any, todo: Any, grid: Any, points: Any, shells: Any, reach_sq: Any, results: Any) -> Any:
    """Neighbours of the rows `todo` of (n, 3) queries among those of (m, 3) stored points within 4 voxel sides.

    Quickest when queries close to each other follow each other.  `shells` are those of least distances; `reach_sq`
    says how far beyond the least squared distance ties can lie (0 where all distances are integers).

    Returns:
        Numbers of the neighbours, query after query, and the queries left open (too far, too many candidates).
    """
    shift = _shift_of(grid.slots)
    blocks = np.empty(27, np.int32)
    words, bases = np.empty(27, np.uint64), np.empty(27, np.int32)
    inverse_side = 1.0 / grid.side
    unit_sq = grid.side * grid.side * _SLACK / 4.0
    halved = len(shells.first) > 64 * BOUND_SQUARES + 1
    single = grid.voxels[-1] == len(points)  # one point to a voxel
    squares, places = np.empty(_CAPACITY), np.empty(_CAPACITY, np.int32)
    ties = np.empty(MOST_TIES * len(todo), np.int32)
    left_open = np.empty(len(todo), np.int32)
    n_ties, n_open = 0, 0
    last_key, last_brick = ~_ZERO, np.uint64(64)
    for query in todo:
        qx, qy, qz = queries[query, 0], queries[query, 1], queries[query, 2]
        cx, cy, cz = np.floor(qx * inverse_side), np.floor(qy * inverse_side), np.floor(qz * inverse_side)
        count: Any = np.int64(0)
        tied: Any = np.int64(0)
        best, limit = np.inf, np.inf
        if max(abs(cx), abs(cy), abs(cz)) < VOXEL_LIMIT - 64:
            x, y, z = np.int64(cx), np.int64(cy), np.int64(cz)
            key = _block_key(x >> 4, y >> 4, z >> 4)
            if key != last_key:
                last_key, last_brick = key, np.uint64(64)
                _blocks_around(key, grid, shift, blocks)
            brick = _bit_of(x >> 2, y >> 2, z >> 2)
            if brick != last_brick:
                last_brick = brick
                _bricks_around(np.int64(brick), blocks, grid, words, bases)
            place = np.int64(_bit_of(x, y, z))
            if halved:
                place = 8 * place + (
                    4 * (qx * inverse_side - cx >= 0.5)
                    + 2 * (qy * inverse_side - cy >= 0.5)
                    + 1 * (qz * inverse_side - cz >= 0.5)
                )
            for entry in range(shells.first[place * BOUND_SQUARES], shells.first[(place + 1) * BOUND_SQUARES]):
                if shells.square[entry] * unit_sq > limit:
                    break
                word = words[shells.brick[entry]]
                hits = word & shells.mask[entry]
                while hits:
                    voxel = bases[shells.brick[entry]] + _rank_of(word, hits & (~hits + _ONE))
                    hits &= hits - _ONE
                    begin, end = voxel, voxel + 1
                    if not single:
                        begin, end = grid.start[voxel], grid.start[voxel + 1]
                    for candidate in range(begin, end):
                        square = _square(qx, qy, qz, points, candidate)
                        if square > limit:
                            continue
                        if square < best:
                            limit = square + min(reach_sq, _RELATIVE_REACH * square)
                            if best > limit:
                                count = np.int64(0)
                            best = square
                            tied = np.int64(0)
                        tied += square == best
                        if count < _CAPACITY:
                            squares[count], places[count] = square, candidate
                            count += 1
                        else:
                            limit = -1.0  # no room: leave it open
        run: Any = np.int64(0)
        exact: Any = np.int64(0)
        if count and 0.0 <= limit < BOUND_SQUARES * unit_sq:
            if tied == count and count < FIRST_NEIGHBOURS:
                run, exact = count, count
            else:
                run, exact = _settle(squares, places, count, limit)
        if run == 0:
            left_open[n_open] = query
            n_open += 1
            continue
        results.distance_sq[query] = best
        results.start[query] = n_ties
        results.run[query] = run
        results.exact[query] = exact
        for i in range(run):
            ties[n_ties + i] = places[i]
        n_ties += run
    return ties[:n_ties], left_open[:n_open]


@njit(nogil=True)
def _gap_sq(step: Any, below: Any, above: Any, side: Any) -> Any:
    """Squared distance along an axis to the brick `step` away, given those to the low and high face of one's own."""
    if step == 0:
        return 0.0
    gap = above + (step - 1) * side if step > 0 else below - (step + 1) * side
    return gap * gap


@njit(nogil=True)
def search_far(queries: Any, todo: Any, grid: Any, points: Any, rings: Any, reach_sq: Any, results: Any) -> Any:
    """As `search_near`, by going over whole bricks, up to `rings` of them away."""
    shift = _shift_of(grid.slots)
    side = 4.0 * grid.side
    inverse_side = 1.0 / side
    squares, places = np.empty(_CAPACITY), np.empty(_CAPACITY, np.int32)
    ties = np.empty(MOST_TIES * len(todo), np.int32)
    left_open = np.empty(len(todo), np.int32)
    n_ties, n_open = 0, 0
    last_key, block = ~_ZERO, np.int32(-1)
    guess = -1
    for query in todo:
        qx, qy, qz = queries[query, 0], queries[query, 1], queries[query, 2]
        cx, cy, cz = np.floor(qx * inverse_side), np.floor(qy * inverse_side), np.floor(qz * inverse_side)
        # Distances from the query to the low and high faces of its brick.
        below_x, below_y, below_z = qx - cx * side, qy - cy * side, qz - cz * side
        above_x, above_y, above_z = side - below_x, side - below_y, side - below_z
        clearance = min(below_x, below_y, below_z, above_x, above_y, above_z)
        count: Any = np.int64(0)
        best, limit = np.inf, np.inf
        if guess >= 0:
            # Where the nearest point of the query before lies is a good first bound for this one.
            square = _square(qx, qy, qz, points, guess)
            limit = square + min(reach_sq, _RELATIVE_REACH * square)
        ring = 0 if max(abs(cx), abs(cy), abs(cz)) < VOXEL_LIMIT // 4 - 4 * rings - 4 else rings + 1
        answered = False
        while ring <= rings:
            for i in range(-ring, ring + 1):
                sq_x = _gap_sq(i, below_x, above_x, side)
                if sq_x * _SLACK > limit:
                    continue
                for j in range(-ring, ring + 1):
                    sq_xy = sq_x + _gap_sq(j, below_y, above_y, side)
                    if sq_xy * _SLACK > limit:
                        continue
                    inner = max(abs(i), abs(j)) < ring
                    for k in range(-ring, ring + 1, 2 * ring if inner else 1):
                        if (sq_xy + _gap_sq(k, below_z, above_z, side)) * _SLACK > limit:
                            continue
                        x, y, z = np.int64(cx) + i, np.int64(cy) + j, np.int64(cz) + k
                        key = _block_key(x >> 2, y >> 2, z >> 2)
                        if key != last_key:
                            last_key = key
                            block = _find_block(key, grid.keys, grid.slots, shift)
                        if block < 0:
                            continue
                        bit = _ONE << _bit_of(x, y, z)
                        if not grid.masks[block] & bit:
                            continue
                        brick = grid.bricks[block] + _rank_of(grid.masks[block], bit)
                        for candidate in range(grid.start[grid.voxels[brick]], grid.start[grid.voxels[brick + 1]]):
                            square = _square(qx, qy, qz, points, candidate)
                            if square > limit:
                                continue
                            if square < best:
                                limit = min(limit, square + min(reach_sq, _RELATIVE_REACH * square))
                                if best > limit:
                                    count = np.int64(0)
                                best = square
                            if count < _CAPACITY:
                                squares[count], places[count] = square, candidate
                                count += 1
                            else:
                                limit = -1.0  # no room: leave it open
            clear = clearance + ring * side
            if clear * clear * _SLACK > limit:
                answered = limit >= 0.0
                break
            ring += 1
        run: Any = np.int64(0)
        exact: Any = np.int64(0)
        if answered:
            run, exact = _settle(squares, places, count, limit)
        if run == 0:
            left_open[n_open] = query
            n_open += 1
            continue
        guess = places[0]
        results.distance_sq[query] = best
        results.start[query] = n_ties
        results.run[query] = run
        results.exact[query] = exact
        for i in range(run):
            ties[n_ties + i] = places[i]
        n_ties += run
    return ties[:n_ties], left_open[:n_open]


# Tree: building.


@njit(nogil=True)
def _swap_to_front(points: Any, order: Any, axis: Any, node: Any, begin: Any, end: Any, cut: Any) -> Any:
    """Move the points below `cut` to the front of a range; returns where the others begin.

    Exchanges the outermost misplaced pair until the two ends meet, which fixes the order inside the leaves.  `node`
    is where the node's points begin; as in nanoflann, reaching it from the right ends the search.
    """
    left, right = begin, end - 1
    while True:
        while left <= right and points[order[left], axis] < cut:
            left += 1
        while right > node and left <= right and points[order[right], axis] >= cut:
            right -= 1
        if left > right or right == node:
            return left
        order[left], order[right] = order[right], order[left]
        left += 1
        right -= 1


@njit(nogil=True)
def _spread(points: Any, order: Any, axis: Any, begin: Any, end: Any) -> Any:
    low = high = points[order[begin], axis]
    for i in range(begin + 1, end):
        value = points[order[i], axis]
        low, high = min(low, value), max(high, value)
    return low, high


@njit(nogil=True)
def _split(points: Any, order: Any, begin: Any, end: Any, box: Any) -> Any:
    """Divide a node's points at the middle of its longest side; returns the axis, the cut and where it falls."""
    longest = max(box[1, 0] - box[0, 0], box[1, 1] - box[0, 1], box[1, 2] - box[0, 2])
    axis, widest = 0, np.float32(-1.0)
    low = high = np.float32(0.0)
    for i in range(3):
        # Of sides almost as long as the longest, the one along which the points spread most; of all, if none is.
        if np.float64(box[1, i] - box[0, i]) > _LONG_SIDE * np.float64(longest) or not longest > 0:
            i_low, i_high = _spread(points, order, i, begin, end)
            if i_high - i_low > widest:
                axis, low, high, widest = i, i_low, i_high, i_high - i_low
    cut = min(max(np.float32((box[0, axis] + box[1, axis]) / np.float32(2.0)), low), high)
    below = _swap_to_front(points, order, axis, begin, begin, end, cut)
    above = _swap_to_front(points, order, axis, begin, below, end, np.nextafter(cut, np.float32(np.inf)))
    middle = begin + (end - begin) // 2
    return axis, cut, below if below > middle else (above if above < middle else middle)


@njit(nogil=True)
def build_nodes(
    points: Any, order: Any, root: Any, base: Any, begin: Any, end: Any, root_box: Any, stop: Any,
    pending: Any, boxes: Any, axes: Any, lows: Any, highs: Any, firsts: Any, seconds: Any,
) -> Any:  # fmt: skip
    """Build the nodes below `root`; those of at most `stop` points (and more than a leaf) are left as pending.

    `order` holds the points of each node and is rearranged; `root` is the number of the root node, `base` that of the
    first node below it; the root has the range `begin` to `end` of `order` and the box `root_box`.  Written are
    rows (node, begin, end, depth) of `pending`, their `boxes`, and the nodes, as in `Tree`.

    Returns:
        The number of nodes used from `base` on, the depth, and the number of pending nodes.
    """
    nodes = np.empty((_MOST_WAITING, 4), np.int64)
    node_boxes = np.empty((_MOST_WAITING, 2, 3), np.float32)
    for side in range(2):
        for i in range(3):
            node_boxes[0, side, i] = root_box[side, i]
    nodes[0, 0], nodes[0, 1], nodes[0, 2], nodes[0, 3] = root, begin, end, 1
    top, following, deepest, left_over = 1, base, 1, 0
    while top:
        top -= 1
        node, begin, end, depth = nodes[top, 0], nodes[top, 1], nodes[top, 2], nodes[top, 3]
        deepest = max(deepest, depth)
        if end - begin <= LEAF_POINTS:
            axes[node] = -1
            firsts[node], seconds[node] = begin, end
            continue
        if end - begin <= stop:
            for i in range(4):
                pending[left_over, i] = nodes[top, i]
            for side in range(2):
                for i in range(3):
                    boxes[left_over, side, i] = node_boxes[top, side, i]
            left_over += 1
            continue
        axis, cut, middle = _split(points, order, begin, end, node_boxes[top])
        axes[node] = axis
        lows[node] = _spread(points, order, axis, begin, middle)[1]
        highs[node] = _spread(points, order, axis, middle, end)[0]
        firsts[node], seconds[node] = following, following + 1
        nodes[top, 0], nodes[top, 1], nodes[top, 2], nodes[top, 3] = following + 1, middle, end, depth + 1
        top += 1
        nodes[top, 0], nodes[top, 1], nodes[top, 2], nodes[top, 3] = following, begin, middle, depth + 1
        for side in range(2):
            for i in range(3):
                node_boxes[top, side, i] = node_boxes[top - 1, side, i]
        node_boxes[top - 1, 0, axis] = cut
        node_boxes[top, 1, axis] = cut
        following += 2
        top += 1
    return following - base, deepest, left_over


# Tree: searches.


@njit(nogil=True)
def _descend(q: Any, node: Any, top: Any, tree: Any, stack: Any, bounds: Any) -> Any:
    """Go down from a node to the leaf nearest to `q`, putting the children passed by on the stack."""
    while tree.axis[node] >= 0:
        axis = np.int64(tree.axis[node])
        value = np.float64(q[axis])
        to_low, to_high = value - np.float64(tree.low[node]), value - np.float64(tree.high[node])
        if to_low + to_high < 0:
            near, far, gap = tree.first[node], tree.second[node], to_high * to_high
        else:
            near, far, gap = tree.second[node], tree.first[node], to_low * to_low
        stack[top] = far
        for i in range(4):
            bounds[top + 1, i] = bounds[top, i]
        # Row `top` is for the child passed by, the next one for the child gone to.
        bounds[top, 3] = bounds[top, 3] + gap - bounds[top, axis]
        bounds[top, axis] = gap
        top += 1
        node = near
    return node, top


@njit(nogil=True)
def _nearest_k(q: Any, k: Any, tree: Any, stack: Any, bounds: Any, squares: Any, rows: Any) -> Any:
    """The `k` nearest points in the order of nanoflann: of equal distances, the ones met first, in that order."""
    count = np.int64(0)
    squares[k - 1] = np.inf
    total = 0.0
    for axis in range(3):
        gap = max(tree.box[0, axis] - q[axis], q[axis] - tree.box[1, axis], np.float32(0.0))
        bounds[0, axis] = np.float64(gap * gap)
        total += bounds[0, axis]
    bounds[0, 3] = total
    stack[0] = 0
    top = 1
    while top:
        top -= 1
        if bounds[top, 3] > squares[k - 1]:
            continue
        leaf, top = _descend(q, stack[top], top, tree, stack, bounds)
        for row in range(tree.first[leaf], tree.second[leaf]):
            square = _square(q[0], q[1], q[2], tree.points, row)
            if square >= squares[k - 1]:
                continue
            i = count
            while i and squares[i - 1] > square:
                if i < k:
                    squares[i], rows[i] = squares[i - 1], rows[i - 1]
                i -= 1
            if i < k:
                squares[i], rows[i] = square, row
            count = min(count + 1, k)
    return count


@njit(nogil=True)
def _as_pc_error(q: Any, tree: Any, stack: Any, bounds: Any, squares: Any, rows: Any) -> Any:
    """Ask for more and more neighbours as pc_error does; returns the run of neighbours and how many tie exactly."""
    asked = FIRST_NEIGHBOURS
    while True:
        count = _nearest_k(q, asked, tree, stack, bounds, squares, rows)
        if count < asked or squares[0] != squares[asked - 1] or asked == MOST_TIES:
            break
        asked += MORE_NEIGHBOURS
    exact = 1
    while exact < count and squares[exact] == squares[0]:
        exact += 1
    run = exact
    tolerance = min(TIE_TOLERANCE_SQ, RELATIVE_TIE_TOLERANCE * squares[0])
    while run < count and squares[run] - squares[run - 1] < tolerance:
        run += 1
    return run, exact


@njit(nogil=True)
def search_tree(queries: Any, todo: Any, tree: Any, numbers: Any, reach_sq: Any, results: Any) -> Any:
    """Neighbours of the rows `todo` of (n, 3) queries, always found; `numbers` are those of the tree's points.

    Returns:
        Numbers of the neighbours, query after query.
    """
    squares, rows = np.empty(_CAPACITY), np.empty(_CAPACITY, np.int32)
    stack, bounds = np.empty(tree.depth + 1, np.int32), np.empty((tree.depth + 2, 4))
    ties = np.empty(MOST_TIES * len(todo), np.int32)
    n_ties = 0
    guess = 0
    for query in todo:
        q = queries[query]
        # The nearest point of the query before is a good first bound for this one.
        best = _square(q[0], q[1], q[2], tree.points, guess)
        limit = best + min(reach_sq, _RELATIVE_REACH * best)
        count: Any = np.int64(0)
        for i in range(4):
            bounds[0, i] = 0.0
        stack[0] = 0
        top = 1
        while top:
            top -= 1
            if bounds[top, 3] * _SLACK > limit:
                continue
            leaf, top = _descend(q, stack[top], top, tree, stack, bounds)
            for row in range(tree.first[leaf], tree.second[leaf]):
                square = _square(q[0], q[1], q[2], tree.points, row)
                if square > limit:
                    continue
                if square < best:
                    limit = square + min(reach_sq, _RELATIVE_REACH * square)
                    if best > limit:
                        count = np.int64(0)
                    best = square
                if count < _CAPACITY:
                    squares[count], rows[count] = square, row
                    count += 1
                else:
                    limit = -1.0  # no room: ask as pc_error does
        run: Any = np.int64(0)
        exact: Any = np.int64(0)
        if limit >= 0.0:
            run, exact = _settle(squares, rows, count, limit)
        if run == 0:
            run, exact = _as_pc_error(q, tree, stack, bounds, squares, rows)
        guess = rows[0]
        results.distance_sq[query] = squares[0]
        results.start[query] = n_ties
        results.run[query] = run
        results.exact[query] = exact
        for i in range(run):
            ties[n_ties + i] = numbers[rows[i]]
        n_ties += run
    return ties[:n_ties]


@njit(nogil=True)
def nearest_spacings(tree: Tree, begin: int, end: int) -> Any:
    """Squared distances of the tree's points `begin` to `end` to their nearest other; infinite for a lone point."""
    squares, rows = np.empty(2), np.empty(2, np.int32)
    stack, bounds = np.empty(tree.depth + 1, np.int32), np.empty((tree.depth + 2, 4))
    found = np.empty(end - begin)
    for row in range(begin, end):
        _nearest_k(tree.points[row], np.int64(2), tree, stack, bounds, squares, rows)
        found[row - begin] = squares[1]
    return found
