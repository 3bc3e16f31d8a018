"""Kernel: one level of the octree, coded in raster order with mixed context models.

All functions of the kernel are in this file because numba's cache watches the file of the compiled function only.

Order.  The nodes of a level are sorted by z, then y, then x.  Their children are coded in the same order among
themselves: all children with the lowest z first, row by row.  So a child knows the half space of children before it,
at its own resolution, and all nodes, at half of it; and the children come out sorted for the next level.

Prediction.  Windows of that neighbourhood select one adaptive probability in each of several tables; integer
logistic mixing weighs them (Mahoney's PAQ), a final mixer weighs mixers that were selected by different small
contexts.  All of it is integer arithmetic: a stream decodes alike everywhere.
"""

# Long functions with many arguments are what numba compiles to fast code; splitting them would copy state around.
# ruff: noqa: C901, PLR0912, PLR0915

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..._jit import njit
from ..entropy.binary import decode, decode_raw, encode, encode_raw, overrun
from ..entropy.logistic import NAT, PROBABILITY_ONE, STRETCH_LIMIT, logistic_tables

#: Bits a coordinate within a key: z << 42 | y << 21 | x.
KEY_BITS = 21
_AXIS = (1 << KEY_BITS) - 1

_CONTEXTS = 14
_INPUTS = 2 * _CONTEXTS + 1
#: Selectors of the first mixer layer: where each set of weights begins.
_SELECT_PARITY, _SELECT_FINE, _SELECT_COARSE, _MIXERS = 0, 16, 30, 58

_COUNT_BITS = 10
_COUNT_MASK = (1 << _COUNT_BITS) - 1
_COUNT_LIMIT = 255
_WEIGHT_ONE = 1 << 16

# Outcomes of `code_level`.
OK, TOO_MANY, EXHAUSTED = 0, 1, 2


class Model(NamedTuple):
    """Adaptive state of the predictor, and its scratch space.

    Attributes:
        tables: (contexts, 2**k) uint32: 22-bit probability of a 1, then a 10-bit count of what was seen.
        mixers: (sets, inputs) int32 weights of the first layer, 16 fraction bits.
        final: (8, 3) int32 weights of the second.
        direct: (32,) uint32 probabilities of the direct mode.
        squash, stretch: the logistic tables.
        rates: (256,) int32 adaptation rate by count, 16 fraction bits.
        contexts, slots: (contexts,) int64, of the current decision.
        inputs: (inputs,) int64.
        outputs: (8,) int64: mixer sets, their dot products, final product and probability.
    """

    tables: npt.NDArray[np.uint32]
    mixers: npt.NDArray[np.int32]
    final: npt.NDArray[np.int32]
    direct: npt.NDArray[np.uint32]
    squash: npt.NDArray[np.int32]
    stretch: npt.NDArray[np.int32]
    rates: npt.NDArray[np.int32]
    contexts: npt.NDArray[np.int64]
    slots: npt.NDArray[np.int64]
    inputs: npt.NDArray[np.int64]
    outputs: npt.NDArray[np.int64]


def new_model(table_bits: int) -> Model:
    """A model that has seen nothing, with 2**`table_bits` probabilities for each context."""
    logistic = logistic_tables()
    half = np.uint32(1 << 31)
    mixers = np.empty((_MIXERS, _INPUTS), np.int32)
    mixers[:, 0:-1:2] = 22 * _WEIGHT_ONE // 100
    mixers[:, 1:-1:2] = 5 * _WEIGHT_ONE // 100
    mixers[:, -1] = 0
    count = np.arange(_COUNT_LIMIT + 1)
    return Model(
        tables=np.full((_CONTEXTS, 1 << table_bits), half, np.uint32),
        mixers=mixers,
        final=np.full((8, 3), _WEIGHT_ONE // 3, np.int32),
        direct=np.full(32, half, np.uint32),
        squash=logistic.squash,
        stretch=logistic.stretch,
        rates=(2 * PROBABILITY_ONE // (2 * count + 3)).astype(np.int32),
        contexts=np.zeros(_CONTEXTS, np.int64),
        slots=np.zeros(_CONTEXTS, np.int64),
        inputs=np.zeros(_INPUTS, np.int64),
        outputs=np.zeros(8, np.int64),
    )


@njit()
def _hash(a: int, b: int) -> int:
    x = (a * np.int64(0x2545F491) + b * np.int64(0x9E3779B1)) & np.int64(0x7FFFFFFFFFFF)
    x ^= x >> 23
    x = (x * np.int64(0x2127599B)) & np.int64(0x7FFFFFFFFFFF)
    return x ^ (x >> 19)


@njit()
def _clamp(value: int, limit: int) -> int:
    return min(max(value, -limit), limit)


@njit()
def _population(bits: int) -> int:
    count = 0
    while bits:
        bits &= bits - 1
        count += 1
    return count


@njit()
def _nudge(table: npt.NDArray[np.uint32], slot: int, bit: int, rates: npt.NDArray[np.int32]) -> None:
    """Move one probability towards `bit`, the less the more it has seen."""
    entry = np.int64(table[slot])
    count = entry & _COUNT_MASK
    probability = entry >> _COUNT_BITS
    target = (1 << 22) - 1 if bit else 0
    probability += ((target - probability) * rates[count]) >> 16
    table[slot] = probability << _COUNT_BITS | min(count + 1, _COUNT_LIMIT)


@njit()
def _predict(model: Model, parity: int, found: int, fine: int, coarse: int) -> int:
    """Probability of a 1, 16 bits, from `model.contexts` and three small selectors."""
    mask = np.int64(model.tables.shape[1] - 1)
    inputs = model.inputs
    for k in range(_CONTEXTS):
        slot = _hash(model.contexts[k] + 1, np.int64(k) * 77 + 5) & mask
        model.slots[k] = slot
        entry = np.int64(model.tables[k, slot])
        count = entry & _COUNT_MASK
        if count == 0:
            inputs[2 * k] = 0
            inputs[2 * k + 1] = 0
        else:
            probability = entry >> (_COUNT_BITS + 6)
            inputs[2 * k] = model.stretch[probability >> 4]
            inputs[2 * k + 1] = ((probability - 32768) * min(count, 32)) >> 10
    inputs[_INPUTS - 1] = NAT
    sets = model.outputs
    sets[0] = _SELECT_PARITY + (parity | found << 3)
    sets[1] = _SELECT_FINE + fine
    sets[2] = _SELECT_COARSE + coarse
    total = np.int64(0)
    for m in range(3):
        weights = model.mixers[sets[m]]
        dot = np.int64(0)
        for k in range(_INPUTS):
            dot += np.int64(weights[k]) * inputs[k]
        dot = _clamp(dot >> 16, STRETCH_LIMIT)
        model.outputs[3 + m] = dot
        total += model.final[parity, m] * dot
    probability = np.int64(model.squash[_clamp(total >> 16, STRETCH_LIMIT) + STRETCH_LIMIT])
    model.outputs[6] = probability
    return min(max(probability, 24), PROBABILITY_ONE - 24)


@njit()
def _learn(model: Model, parity: int, bit: int) -> None:
    """Adapt all that took part in the last prediction to its outcome."""
    target = PROBABILITY_ONE if bit else 0
    error = target - model.outputs[6]
    inputs = model.inputs
    for m in range(3):
        dot = model.outputs[3 + m]
        model.final[parity, m] += (dot * error * 2) >> 18
        own = (target - np.int64(model.squash[dot + STRETCH_LIMIT])) * 6
        weights = model.mixers[model.outputs[m]]
        for k in range(_INPUTS):
            weights[k] += (inputs[k] * own + (1 << 17)) >> 18
    for k in range(_CONTEXTS):
        _nudge(model.tables[k], model.slots[k], bit, model.rates)


@njit()
def _rows(nodes: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Keys (z << 21 | y) of the rows of sorted nodes, and where each begins, with the end at last."""
    count = 0
    for i in range(nodes.shape[0]):
        if i == 0 or nodes[i] >> KEY_BITS != nodes[i - 1] >> KEY_BITS:
            count += 1
    keys = np.empty(count, np.int64)
    starts = np.empty(count + 1, np.int64)
    count = 0
    for i in range(nodes.shape[0]):
        if i == 0 or nodes[i] >> KEY_BITS != nodes[i - 1] >> KEY_BITS:
            keys[count] = nodes[i] >> KEY_BITS
            starts[count] = i
            count += 1
    starts[count] = nodes.shape[0]
    return keys, starts


@njit()
def _gather_row(
    nodes: npt.NDArray[np.int64],
    keys: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    row: int,
    row_cursors: npt.NDArray[np.int64],
    neighbours: npt.NDArray[np.int32],
) -> None:
    """Indices of the 27 nodes around each node of a row, in raster order; `len(nodes)` where there is none.

    The rows around are found with cursors that only move forward, so that all rows of a level take linear time.
    """
    nowhere = nodes.shape[0]
    first, end = starts[row], starts[row + 1]
    for q in range(9):
        wanted = keys[row] + ((q // 3 - 1) << KEY_BITS) + (q % 3 - 1)
        other = row_cursors[q]
        while other < keys.shape[0] and keys[other] < wanted:
            other += 1
        row_cursors[q] = other
        if other == keys.shape[0] or keys[other] != wanted:
            for i in range(end - first):
                neighbours[i, 3 * q] = nowhere
                neighbours[i, 3 * q + 1] = nowhere
                neighbours[i, 3 * q + 2] = nowhere
            continue
        cursor, other_end = starts[other], starts[other + 1]
        for i in range(end - first):
            left = (nodes[first + i] & _AXIS) - 1
            while cursor < other_end and (nodes[cursor] & _AXIS) < left:
                cursor += 1
            probe = cursor
            for dx in range(3):
                if probe < other_end and (nodes[probe] & _AXIS) == left + dx:
                    neighbours[i, 3 * q + dx] = probe
                    probe += 1
                else:
                    neighbours[i, 3 * q + dx] = nowhere


@njit()
def _longest_row(starts: npt.NDArray[np.int64]) -> int:
    longest = 0
    for row in range(starts.shape[0] - 1):
        longest = max(longest, starts[row + 1] - starts[row])
    return longest


@njit()
def _fine_row(words: npt.NDArray[np.int64], z: int, y: int) -> int:
    """Six children in a row of three nodes: z and y count child rows from the lower neighbour's first."""
    pairs = (words[3 * (z >> 1) + (y >> 1)] >> (4 * (z & 1) + 2 * (y & 1))) & 0x030303
    return (pairs | pairs >> 6 | pairs >> 12) & 63


@njit()
def code_level(
    decoding: bool,
    level: int,
    nodes: npt.NDArray[np.int64],
    full_children: npt.NDArray[np.int64],
    direct: npt.NDArray[np.uint8],
    child_limit: int,
    model: Model,
    coder: npt.NDArray[np.int64],
    stream: npt.NDArray[np.uint8],
) -> tuple[int, npt.NDArray[np.int64], float]:
    """Code the children of one level's nodes.

    Args:
        decoding: read the stream, else write it.
        level: depth of the nodes below the root.
        nodes: sorted keys of the nodes.
        full_children: encoder: sorted keys of children, at least those of `nodes`; decoder: anything.
        direct: 1 for each node that was coded by itself; it has no children.
        child_limit: more children than this are an error.
        model: adaptive state.
        coder: state of the arithmetic coder.
        stream: bytes to read, or room for the bytes to write.

    Returns:
        Outcome, sorted keys of the children, and the bits that the probabilities predicted (encoder only).
    """
    n = nodes.shape[0]
    occupancy = np.zeros(n + 1, np.int64)  # the last stands for absent nodes
    keys, starts = _rows(nodes)
    neighbours = np.empty((_longest_row(starts), 27), np.int32)
    cursors = np.zeros(9, np.int64)
    slab_cursors = np.zeros(9, np.int64)
    words = np.zeros(9, np.int64)
    windows = np.zeros(13, np.int64)
    children = np.empty(min(max(2 * n, 64), child_limit + 8), np.int64)
    child_count = 0
    reference = 0
    bits = 0.0
    contexts = model.contexts
    slab = 0
    while slab < keys.shape[0]:
        z = keys[slab] >> KEY_BITS
        slab_end = slab
        while slab_end < keys.shape[0] and keys[slab_end] >> KEY_BITS == z:
            slab_end += 1
        slab_cursors[:] = cursors
        for cz in range(2):
            cursors[:] = slab_cursors
            for row in range(slab, slab_end):
                _gather_row(nodes, keys, starts, row, cursors, neighbours)
                room = child_count + 4 * (starts[row + 1] - starts[row])
                if room > children.shape[0]:
                    grown = np.empty(max(room, children.shape[0] * 3 // 2), np.int64)
                    grown[:child_count] = children[:child_count]
                    children = grown
                y = keys[row] & _AXIS
                for cy in range(2):
                    if decoding and (overrun(coder, stream) or child_count > child_limit):
                        return (TOO_MANY if child_count > child_limit else EXHAUSTED), children[:0], bits
                    row_key = ((z << 1 | cz) << KEY_BITS | (y << 1 | cy)) << KEY_BITS
                    for i in range(starts[row], starts[row + 1]):
                        if direct[i]:
                            continue
                        # Occupancy of the 27 nodes as far as it is coded, and which of them exist.
                        around = neighbours[i - starts[row]]
                        coarse = np.int64(0)
                        for q in range(9):
                            a, b, c = around[3 * q], around[3 * q + 1], around[3 * q + 2]
                            words[q] = occupancy[a] | occupancy[b] << 8 | occupancy[c] << 16
                            coarse |= (np.int64(a < n) | np.int64(b < n) << 1 | np.int64(c < n) << 2) << (3 * q)
                        for d in range(5):
                            windows[d] = _fine_row(words, cz + 1, cy + d)
                            windows[5 + d] = _fine_row(words, cz, cy + d)
                        for d in range(3):
                            windows[10 + d] = _fine_row(words, cz + 2, cy + d)
                        coarse_count = _population(coarse)
                        for cx in range(2):
                            parity = 4 * cz + 2 * cy + cx
                            own = occupancy[i]
                            key = row_key | (nodes[i] & _AXIS) << 1 | cx
                            bit = 0
                            if not decoding:
                                while reference < full_children.shape[0] and full_children[reference] < key:
                                    reference += 1
                                bit = np.int64(reference < full_children.shape[0] and full_children[reference] == key)
                            if parity == 7 and own == 0:
                                bit = 1  # a node has a child
                            else:
                                a0, a1, a2 = (windows[0] >> cx) & 31, (windows[1] >> cx) & 31, (windows[2] >> cx) & 31
                                a3, a4 = (windows[3] >> cx) & 31, (windows[4] >> cx) & 31
                                b1, b2, b3 = (windows[6] >> cx) & 31, (windows[7] >> cx) & 31, (windows[8] >> cx) & 31
                                r2, r1 = (windows[10] >> cx) & 31, (windows[11] >> cx) & 31
                                r0 = (windows[12] & 3 | ((own >> (4 * cz + 2 * cy)) & 3) << 2) >> cx
                                x1 = (r0 >> 1) & 1
                                x2 = r0 & 1
                                a1c, a2c, a3c, r1c = (a1 >> 1) & 7, (a2 >> 1) & 7, (a3 >> 1) & 7, (r1 >> 1) & 7
                                c13 = a1c | a2c << 3 | a3c << 6 | r1c << 9 | x1 << 12
                                sx, sy, sz = 2 * cx - 1, 6 * cy - 3, 18 * cz - 9
                                outer = (
                                    ((coarse >> (13 + sx)) & 1)
                                    | ((coarse >> (13 + sy)) & 1) << 1
                                    | ((coarse >> (13 + sz)) & 1) << 2
                                    | ((coarse >> (13 + sx + sy)) & 1) << 3
                                    | ((coarse >> (13 + sx + sz)) & 1) << 4
                                    | ((coarse >> (13 + sy + sz)) & 1) << 5
                                    | ((coarse >> (13 + sx + sy + sz)) & 1) << 6
                                )
                                ahead = coarse >> 14
                                z2 = (
                                    ((b2 >> 2) & 1)
                                    | ((b1 >> 2) & 1) << 1
                                    | ((b3 >> 2) & 1) << 2
                                    | ((b2 >> 1) & 1) << 3
                                    | ((b2 >> 3) & 1) << 4
                                )
                                ext = ((r2 >> 1) & 7) | x2 << 3 | z2 << 4
                                plane = a0 | a1 << 5 | a2 << 10 | a3 << 15 | a4 << 20
                                fine_count = _population(c13)
                                wide_count = _population(plane | r1 << 25 | r2 << 30)
                                contexts[0] = c13 | parity << 13
                                contexts[1] = c13 | ext << 13
                                contexts[2] = coarse | parity << 27 | own << 30
                                contexts[3] = (
                                    outer
                                    | parity << 7
                                    | x1 << 10
                                    | ((r1 >> 2) & 1) << 11
                                    | ((a2 >> 2) & 1) << 12
                                    | own << 13
                                )
                                contexts[4] = c13 | outer << 13 | parity << 20
                                contexts[5] = c13 | ahead << 13 | parity << 26
                                contexts[6] = plane | parity << 25
                                contexts[7] = (
                                    (a1c | a2c << 3 | a3c << 6)
                                    | (((b1 >> 1) & 7) | ((b2 >> 1) & 7) << 3 | ((b3 >> 1) & 7) << 6) << 9
                                    | (x1 | ((r1 >> 2) & 1) << 1) << 18
                                )
                                contexts[8] = (
                                    r1
                                    | r2 << 5
                                    | x1 << 10
                                    | x2 << 11
                                    | a2 << 12
                                    | ((a1 >> 2) & 1) << 17
                                    | ((a3 >> 2) & 1) << 18
                                    | parity << 19
                                )
                                contexts[9] = fine_count | coarse_count << 4 | parity << 9
                                contexts[10] = wide_count | coarse_count << 6 | parity << 11 | x1 << 14
                                contexts[11] = parity | np.int64(own != 0) << 3 | level << 4
                                contexts[12] = (
                                    a2
                                    | b2 << 5
                                    | r1 << 10
                                    | x1 << 15
                                    | x2 << 16
                                    | (ahead & 1) << 17
                                    | ((ahead >> 2) & 1) << 18
                                    | ((ahead >> 8) & 1) << 19
                                    | parity << 20
                                )
                                contexts[13] = _hash(
                                    c13 | ext << 13 | ((a0 >> 1) & 7) << 26 | ((a4 >> 1) & 7) << 29,
                                    outer | parity << 7,
                                )
                                one = _predict(model, parity, np.int64(own != 0), fine_count, coarse_count)
                                if decoding:
                                    bit = decode(coder, stream, one)
                                else:
                                    encode(coder, stream, bit, one)
                                    bits -= np.log2((one if bit else PROBABILITY_ONE - one) / PROBABILITY_ONE)
                                _learn(model, parity, bit)
                            if bit:
                                occupancy[i] |= 1 << parity
                                children[child_count] = key
                                child_count += 1
        slab = slab_end
    if decoding and (child_count > child_limit or overrun(coder, stream)):
        return (TOO_MANY if child_count > child_limit else EXHAUSTED), children[:0], bits
    return OK, children[:child_count], bits


@njit()
def code_direct(
    decoding: bool,
    remaining: int,
    nodes: npt.NDArray[np.int64],
    full_nodes: npt.NDArray[np.int64],
    full_points: npt.NDArray[np.int64],
    model: Model,
    coder: npt.NDArray[np.int64],
    stream: npt.NDArray[np.uint8],
) -> tuple[int, npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Code at once the points that are alone in a node without neighbours.

    Each such node has a flag; after a 1 follow the `remaining` low bits of the point's three coordinates.

    Args:
        decoding: read the stream, else write it.
        remaining: bits a coordinate below the nodes.
        nodes: sorted keys of the nodes.
        full_nodes: encoder: sorted keys of nodes, at least `nodes`.
        full_points: encoder: for each of `full_nodes` the key of its only point, or -1.
        model: adaptive state.
        coder: state of the arithmetic coder.
        stream: bytes to read, or room for the bytes to write.

    Returns:
        Outcome, 1 for each node that was coded, and the keys of the points.
    """
    n = nodes.shape[0]
    direct = np.zeros(n, np.uint8)
    points = np.empty(64, np.int64)
    point_count = 0
    keys, starts = _rows(nodes)
    neighbours = np.empty((_longest_row(starts), 27), np.int32)
    cursors = np.zeros(9, np.int64)
    reference = 0
    low = (np.int64(1) << remaining) - 1
    for row in range(keys.shape[0]):
        if decoding and overrun(coder, stream):
            return EXHAUSTED, direct, points[:0]
        _gather_row(nodes, keys, starts, row, cursors, neighbours)
        for i in range(starts[row], starts[row + 1]):
            around = neighbours[i - starts[row]]
            count = 0
            for q in range(27):
                count += around[q] < n
            if count > 1:
                continue
            one = min(max(np.int64(model.direct[remaining]) >> (_COUNT_BITS + 6), 64), PROBABILITY_ONE - 64)
            point = np.int64(-1)
            if decoding:
                flag = decode(coder, stream, one)
            else:
                while full_nodes[reference] < nodes[i]:
                    reference += 1
                point = full_points[reference]
                flag = np.int64(point >= 0)
                encode(coder, stream, flag, one)
            _nudge(model.direct, remaining, flag, model.rates)
            if flag == 0:
                continue
            if decoding:
                point = np.int64(0)
                for axis in range(2, -1, -1):
                    high = (nodes[i] >> (axis * KEY_BITS)) & _AXIS
                    point |= (high << remaining | decode_raw(coder, stream, remaining)) << (axis * KEY_BITS)
            else:
                for axis in range(2, -1, -1):
                    encode_raw(coder, stream, (point >> (axis * KEY_BITS)) & low, remaining)
            if point_count == points.shape[0]:
                grown = np.empty(2 * point_count, np.int64)
                grown[:point_count] = points
                points = grown
            points[point_count] = point
            point_count += 1
            direct[i] = 1
    if decoding and overrun(coder, stream):
        return EXHAUSTED, direct, points[:0]
    return OK, direct, points[:point_count]


@njit()
def _code_bit(
    decoding: bool,
    bit: int,
    slot: int,
    table: npt.NDArray[np.uint32],
    coder: npt.NDArray[np.int64],
    stream: npt.NDArray[np.uint8],
) -> int:
    """One bit with one adaptive probability, for the small sections."""
    entry = np.int64(table[slot])
    count = entry & _COUNT_MASK
    probability = entry >> _COUNT_BITS
    one = min(max(probability >> 6, 24), PROBABILITY_ONE - 24)
    if decoding:
        bit = decode(coder, stream, one)
    else:
        encode(coder, stream, bit, one)
    target = (1 << 22) - 1 if bit else 0
    probability += (target - probability) * 2 // (2 * count + 3)
    table[slot] = probability << _COUNT_BITS | min(count + 1, _COUNT_LIMIT)
    return bit


@njit()
def code_multiplicities(
    decoding: bool,
    counts: npt.NDArray[np.int64],
    table: npt.NDArray[np.uint32],
    coder: npt.NDArray[np.int64],
    stream: npt.NDArray[np.uint8],
) -> bool:
    """Code how often each voxel occurs, as the Elias gamma code of the count with adaptive bits.

    Args:
        decoding: fill `counts` from the stream, else write them.
        counts: for each voxel, at least 1 and below 2**40.
        table: (128,) probabilities.
        coder: state of the arithmetic coder.
        stream: bytes to read, or room for the bytes to write.

    Returns:
        False if the stream ended early or a count has more than 40 bits.
    """
    repeated = 0  # whether the last voxel was repeated: duplicates come in clusters
    for i in range(counts.shape[0]):
        length = 0
        while _code_bit(
            decoding, np.int64(counts[i] >> (length + 1) > 0), 2 * length + repeated, table, coder, stream
        ):
            length += 1
            if length == 40:
                return False
        count = np.int64(1)
        for position in range(length - 1, -1, -1):
            bit = _code_bit(decoding, (counts[i] >> position) & 1, 84 + position, table, coder, stream)
            count = count << 1 | bit
        counts[i] = count
        repeated = np.int64(count > 1)
        if decoding and overrun(coder, stream):
            return False
    return True
