"""Kernel: one level of an octree, coded in raster order by a small network that was trained and still learns.

All functions of the kernel are in this file because numba's cache watches the file of the compiled function only.

Order.  The nodes of a level are sorted by z, then y, then x.  Their children are coded in the same order among
themselves: all children with the lowest z first, row by row.  So a child knows the half space of children before it,
at its own resolution, and all nodes, at half of it; and the children come out sorted for the next level.

Prediction.  Windows of that neighbourhood are read in two ways.  A network with one hidden layer sums one vector of
weights for each pattern that it sees (two-dimensional slices, rows, columns).  Beside it each of several tables
holds an adaptive probability for each (hashed) context.  Logistic mixers, selected by small contexts, weigh all of
them, and a last mixer weighs the mixers (Mahoney's PAQ).  Network and mixers were trained by coding other clouds, and
go on learning from each child.

All of it is integer arithmetic: a stream decodes alike on every machine, whatever the compiler made of the loops.
"""

# Long functions with many arguments are what numba compiles to fast code; splitting them would copy state around.
# ruff: noqa: C901, PLR0912, PLR0915

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..._jit import njit
from ..entropy.binary import decode, encode, overrun
from ..entropy.logistic import NAT, PROBABILITY_ONE, STRETCH_LIMIT, logistic_tables
from ..entropy.rows import LANES, add_to_row, sum_rows

#: Bits a coordinate within a key: z << 42 | y << 21 | x.
KEY_BITS = 21
_AXIS = (1 << KEY_BITS) - 1

# Outcomes of `code_level`.
OK, TOO_MANY, EXHAUSTED = 0, 1, 2
#: The band in which every child is coded.
LOSSLESS = (0, PROBABILITY_ONE)

# The network: rows of weights, one group for each kind of pattern.  A window of five children has 32 patterns.
_SLICES = 0  # five rows one slice back
_ROWS = _SLICES + 5 * 32  # two rows back in this slice
_LAST = _ROWS + 2 * 32  # the last two children in this row
_FAR_SLICES = _LAST + 4  # five rows two slices back
_NODES = _FAR_SLICES + 5 * 32  # nine rows of three nodes
_PARITY = _NODES + 9 * 8
_FOUND = _PARITY + 8  # whether the parent has a child already
_BACK = _FOUND + 2  # 3 x 3 one slice back
_BESIDE = _BACK + 512  # 3 x 2 in this slice and the last two
_OUTER = _BESIDE + 256  # the seven nodes on the child's side of its parent
_FAR_BACK = _OUTER + 1024  # 3 x 3 two slices back
_NEAR = _FAR_BACK + 512  # nine of the neighbours that share a face or an edge
_COLUMNS = _NEAR + 4096  # the slices, read along y
_PROFILES = _COLUMNS + 5 * 32  # four rows read across
_SIBLINGS = _PROFILES + 5 * 16
NETWORK_ROWS = _SIBLINGS + 256
_PATTERNS = 40

_WEIGHT_BITS = 20  # fraction bits of the hidden layer's weights
_OUTPUT_BITS = 16  # of the output layer's
#: Learning rate, 16 fraction bits: _RATE_LAST + _RATE_EXTRA / (1 + decisions / _RATE_DECISIONS).
_RATE_LAST, _RATE_EXTRA, _RATE_DECISIONS = 130, 3200, 30_000
#: The first updates of each row of weights count double.
_EAGER_UPDATES = 100
#: An error below this, 16 fraction bits, teaches too little for its time.
_NEGLIGIBLE_ERROR = 512

# The context tables and the mixers.
_CONTEXTS = 10
_INPUTS = _CONTEXTS + 2
_MIXERS = 6
_SELECT_PARITY = 0
_SELECT_OUTER = _SELECT_PARITY + 16
_SELECT_FACES = _SELECT_OUTER + 128
_SELECT_BACK = _SELECT_FACES + 64
_SELECT_NETWORK = _SELECT_BACK + 512
_SELECT_SIBLINGS = _SELECT_NETWORK + 24
_MIXER_SETS = _SELECT_SIBLINGS + 256

_COUNT_BITS = 10
_COUNT_MASK = (1 << _COUNT_BITS) - 1
_COUNT_LIMIT = 255
_HALF = 1 << 31
_WEIGHT_ONE = 1 << 16
#: No probability leaves this distance from 0 and 1, 16 fraction bits.
MIN_PROBABILITY = 24


class Model(NamedTuple):
    """Adaptive state of the predictor, and its scratch space.

    Attributes:
        hidden: (rows, units) int32 weights of the hidden layer.
        output: (units,) int32 weights of the output.
        updates: (rows,) int32, up to _EAGER_UPDATES.
        tables: (contexts, 2**k) uint32: 22-bit probability of a 1, then a 10-bit count of what was seen.
        mixers: (sets, inputs) int32 weights of the mixers, 16 fraction bits.
        final: (8, mixers) int32 weights of the last mixer.
        squash, stretch: the logistic tables.
        rates: (256,) int32 adaptation rate by count, 16 fraction bits.
        decisions: (1,) int64 how many were predicted.
        patterns: (patterns,) int64 rows of the current decision.
        activations, gradient, eager_gradient: (units,) int32.
        contexts, slots: (contexts,) int64 of the current decision.
        selected, dots: (mixers,) int64 sets of weights, and what they gave.
        inputs: (inputs,) int32; the network's output and a constant at the end.
    """

    hidden: npt.NDArray[np.int32]
    output: npt.NDArray[np.int32]
    updates: npt.NDArray[np.int32]
    tables: npt.NDArray[np.uint32]
    mixers: npt.NDArray[np.int32]
    final: npt.NDArray[np.int32]
    squash: npt.NDArray[np.int32]
    stretch: npt.NDArray[np.int32]
    rates: npt.NDArray[np.int32]
    decisions: npt.NDArray[np.int64]
    patterns: npt.NDArray[np.int64]
    activations: npt.NDArray[np.int32]
    gradient: npt.NDArray[np.int32]
    eager_gradient: npt.NDArray[np.int32]
    contexts: npt.NDArray[np.int64]
    slots: npt.NDArray[np.int64]
    selected: npt.NDArray[np.int64]
    dots: npt.NDArray[np.int64]
    inputs: npt.NDArray[np.int32]


def new_model(table_bits: int, units: int) -> Model:
    """A model that has seen nothing, with 2**`table_bits` probabilities for each context and `units` hidden units.

    Units are filled up to a multiple of `LANES` with idle ones: where all weights are zero, all stay zero.
    """
    logistic = logistic_tables()
    hidden, output = _first_weights(units)
    idle = -units % LANES
    hidden, output = np.pad(hidden, ((0, 0), (0, idle))), np.pad(output, (0, idle))
    units += idle
    mixers = np.empty((_MIXER_SETS, _INPUTS), np.int32)
    mixers[:, :_CONTEXTS] = 19 * _WEIGHT_ONE // (10 * _CONTEXTS)
    mixers[:, _CONTEXTS] = _WEIGHT_ONE // 2
    mixers[:, _CONTEXTS + 1] = 0
    count = np.arange(_COUNT_LIMIT + 1)
    return Model(
        hidden=hidden,
        output=output,
        updates=np.zeros(NETWORK_ROWS, np.int32),
        tables=np.full((_CONTEXTS, 1 << table_bits), _HALF, np.uint32),
        mixers=mixers,
        final=np.full((8, _MIXERS), _WEIGHT_ONE // _MIXERS, np.int32),
        squash=logistic.squash,
        stretch=logistic.stretch,
        rates=(2 * PROBABILITY_ONE // (2 * count + 3)).astype(np.int32),
        decisions=np.zeros(1, np.int64),
        patterns=np.zeros(_PATTERNS, np.int64),
        activations=np.zeros(units, np.int32),
        gradient=np.zeros(units, np.int32),
        eager_gradient=np.zeros(units, np.int32),
        contexts=np.zeros(_CONTEXTS, np.int64),
        slots=np.zeros(_CONTEXTS, np.int64),
        selected=np.zeros(_MIXERS, np.int64),
        dots=np.zeros(_MIXERS, np.int64),
        inputs=np.zeros(_INPUTS, np.int32),
    )


@functools.cache
def _first_weights(units: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Weights before any learning: pseudo-random for each single voxel or node, zero for joint patterns.

    A row of weights for a window starts as the sum of the vectors of its occupied places, so that the hidden units
    begin as random projections of the neighbourhood.
    """
    hidden = np.zeros((NETWORK_ROWS, units), np.int64)
    windows = [(_SLICES, 5, 7), (_LAST, 2, 1), (_FAR_SLICES, 5, 5), (_NODES, 3, 9)]
    seed = 0
    for first, places, count in windows:
        for window in range(count):
            single = _pseudo_random(seed, (places, units)) * 175 >> 10  # within 0.17
            seed += single.size
            row = first + window * (1 << places)
            for pattern in range(1 << places):
                occupied = [place for place in range(places) if pattern >> place & 1]
                hidden[row + pattern] = single[occupied].sum(axis=0)
    hidden[_PARITY:_BACK] = _pseudo_random(seed, (_BACK - _PARITY, units)) * 175 >> 10
    seed += (_BACK - _PARITY) * units
    output = _pseudo_random(seed, (units,)) >> (_WEIGHT_BITS - _OUTPUT_BITS + 2)  # within 0.25
    return hidden.astype(np.int32), output.astype(np.int32)


def _pseudo_random(first: int, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Integers spread evenly over +-2**20: the splitmix64 sequence from its `first` element on."""
    size = int(np.prod(shape))
    x = (np.arange(first + 1, first + size + 1, dtype=np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return (x >> np.uint64(43)).astype(np.int64).reshape(shape) - (1 << 20)


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
def _network(model: Model) -> int:
    """The network's output for the patterns of the decision, in the logistic domain."""
    activations = model.activations
    sum_rows(model.hidden, model.patterns, activations)
    total = np.int64(0)
    for j in range(activations.shape[0]):
        active = max(activations[j], np.int32(0))
        activations[j] = active
        total += np.int64(active >> 8) * np.int64(model.output[j])
    return _clamp(total >> (_WEIGHT_BITS + _OUTPUT_BITS - 16), STRETCH_LIMIT)


@njit()
def _teach_network(model: Model, error: int) -> None:
    """One step down the gradient of the code length; `error` is outcome minus probability, 16 fraction bits."""
    if abs(error) < _NEGLIGIBLE_ERROR:
        return
    decisions = model.decisions[0]
    rate = _RATE_LAST + _RATE_EXTRA * _RATE_DECISIONS // (_RATE_DECISIONS + decisions)
    step = (error * rate) >> 8  # 24 fraction bits
    hidden, output, activations = model.hidden, model.output, model.activations
    gradient, eager = model.gradient, model.eager_gradient
    units = activations.shape[0]
    for j in range(units):
        down = np.int32((step * np.int64(output[j]) + (1 << 19)) >> 20)
        own = down if activations[j] > 0 else np.int32(0)
        gradient[j] = own
        eager[j] = 2 * own
        output[j] += np.int32((step * np.int64(activations[j] >> 8) + (1 << 19)) >> 20)
    for k in range(_PATTERNS):
        row = model.patterns[k]
        if model.updates[row] < _EAGER_UPDATES:
            model.updates[row] += 1
            add_to_row(hidden, row, eager)
        else:
            add_to_row(hidden, row, gradient)


@njit()
def _mix(model: Model, parity: int, guess: int) -> int:
    """Probability of a 1, 16 bits, from the network's `guess`, `model.contexts` and `model.selected`."""
    mask = np.int64(model.tables.shape[1] - 1)
    inputs = model.inputs
    for k in range(_CONTEXTS):
        model.slots[k] = _hash(model.contexts[k] + 1, np.int64(k) * 77 + 5) & mask
    for k in range(_CONTEXTS):
        entry = np.int64(model.tables[k, model.slots[k]])
        # A context that was never met has no say.
        inputs[k] = model.stretch[entry >> 20] if entry & _COUNT_MASK else 0
    inputs[_CONTEXTS] = guess
    inputs[_CONTEXTS + 1] = NAT
    total = np.int64(0)
    for m in range(_MIXERS):
        selected = model.selected[m]
        dot = np.int64(0)
        for k in range(_INPUTS):
            dot += np.int64(model.mixers[selected, k]) * np.int64(inputs[k])
        dot = _clamp(dot >> 16, STRETCH_LIMIT)
        model.dots[m] = dot
        total += model.final[parity, m] * dot
    return np.int64(model.squash[_clamp(total >> 16, STRETCH_LIMIT) + STRETCH_LIMIT])


@njit()
def _teach_mixers(model: Model, parity: int, bit: int, probability: int) -> None:
    """Adapt mixers and tables to the outcome of the last decision, which `_mix` gave `probability`."""
    target = PROBABILITY_ONE if bit else 0
    error = target - probability
    inputs = model.inputs
    for m in range(_MIXERS):
        dot = model.dots[m]
        model.final[parity, m] += (dot * error) >> 18
        own = (target - np.int64(model.squash[dot + STRETCH_LIMIT])) * 6
        selected = model.selected[m]
        for k in range(_INPUTS):
            model.mixers[selected, k] += (np.int64(inputs[k]) * own + (1 << 17)) >> 18
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


@njit(nogil=True)
def code_level(
    decoding: bool,
    nodes: npt.NDArray[np.int64],
    full_children: npt.NDArray[np.int64],
    skipped: npt.NDArray[np.uint8],
    band: tuple[int, int],
    child_limit: int,
    model: Model,
    coder: npt.NDArray[np.int64],
    stream: npt.NDArray[np.uint8],
) -> tuple[int, npt.NDArray[np.int64], float]:
    """Code the children of one level's nodes.

    Args:
        decoding: read the stream, else write it.
        nodes: sorted keys of the nodes.
        full_children: encoder: sorted keys of children, at least those of `nodes`; decoder: anything.
        skipped: 1 for each node whose children are not coded.
        band: probabilities, 16 fraction bits, below and above which a child is not coded: it is taken to be empty, or
            occupied, and what follows sees it so.
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
    contexts, patterns = model.contexts, model.patterns
    low, high = band
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
                        if skipped[i]:
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
                                # One row of five each: one slice back (a), two back (b), this slice (r).
                                a0, a1, a2 = windows[0] >> cx & 31, windows[1] >> cx & 31, windows[2] >> cx & 31
                                a3, a4 = windows[3] >> cx & 31, windows[4] >> cx & 31
                                b0, b1, b2 = windows[5] >> cx & 31, windows[6] >> cx & 31, windows[7] >> cx & 31
                                b3, b4 = windows[8] >> cx & 31, windows[9] >> cx & 31
                                r2, r1 = windows[10] >> cx & 31, windows[11] >> cx & 31
                                r0 = (windows[12] & 3 | (own >> (4 * cz + 2 * cy) & 3) << 2) >> cx
                                last, last_but_one = r0 >> 1 & 1, r0 & 1
                                above, behind = r1 >> 2 & 1, a2 >> 2 & 1
                                back = (a1 >> 1 & 7) | (a2 >> 1 & 7) << 3 | (a3 >> 1 & 7) << 6
                                far_back = (b1 >> 1 & 7) | (b2 >> 1 & 7) << 3 | (b3 >> 1 & 7) << 6
                                row_above = r1 >> 1 & 7
                                near = back | row_above << 9 | last << 12  # all thirteen known neighbours
                                near_but_corners = (
                                    (a1 >> 2 & 1)
                                    | (a2 >> 1 & 7) << 1
                                    | (a3 >> 2 & 1) << 4
                                    | row_above << 5
                                    | last << 8
                                )
                                beyond = (
                                    (r2 >> 1 & 7)
                                    | last_but_one << 3
                                    | (b2 >> 2 & 1) << 4
                                    | (b1 >> 2 & 1) << 5
                                    | (b3 >> 2 & 1) << 6
                                    | (b2 >> 1 & 1) << 7
                                    | (b2 >> 3 & 1) << 8
                                )
                                sx, sy, sz = 2 * cx - 1, 6 * cy - 3, 18 * cz - 9
                                outer = (
                                    (coarse >> (13 + sx) & 1)
                                    | (coarse >> (13 + sy) & 1) << 1
                                    | (coarse >> (13 + sz) & 1) << 2
                                    | (coarse >> (13 + sx + sy) & 1) << 3
                                    | (coarse >> (13 + sx + sz) & 1) << 4
                                    | (coarse >> (13 + sy + sz) & 1) << 5
                                    | (coarse >> (13 + sx + sy + sz) & 1) << 6
                                )
                                ahead = coarse >> 14
                                plane = a0 | a1 << 5 | a2 << 10 | a3 << 15 | a4 << 20
                                found = np.int64(own != 0)

                                patterns[0] = _SLICES + a0
                                patterns[1] = _SLICES + 32 + a1
                                patterns[2] = _SLICES + 64 + a2
                                patterns[3] = _SLICES + 96 + a3
                                patterns[4] = _SLICES + 128 + a4
                                patterns[5] = _ROWS + r1
                                patterns[6] = _ROWS + 32 + r2
                                patterns[7] = _LAST + (last | last_but_one << 1)
                                patterns[8] = _FAR_SLICES + b0
                                patterns[9] = _FAR_SLICES + 32 + b1
                                patterns[10] = _FAR_SLICES + 64 + b2
                                patterns[11] = _FAR_SLICES + 96 + b3
                                patterns[12] = _FAR_SLICES + 128 + b4
                                for q in range(9):
                                    patterns[13 + q] = _NODES + 8 * q + (coarse >> (3 * q) & 7)
                                patterns[22] = _PARITY + parity
                                patterns[23] = _FOUND + found
                                patterns[24] = _BACK + back
                                patterns[25] = _BESIDE + (
                                    row_above | (r2 >> 1 & 7) << 3 | last << 6 | last_but_one << 7
                                )
                                patterns[26] = _OUTER + (outer | parity << 7)
                                patterns[27] = _FAR_BACK + far_back
                                patterns[28] = _NEAR + (near_but_corners | parity << 9)
                                for c in range(5):
                                    column = (
                                        (a0 >> c & 1)
                                        | (a1 >> c & 1) << 1
                                        | (a2 >> c & 1) << 2
                                        | (a3 >> c & 1) << 3
                                        | (a4 >> c & 1) << 4
                                    )
                                    profile = (
                                        (a2 >> c & 1) | (b2 >> c & 1) << 1 | (r1 >> c & 1) << 2 | (r2 >> c & 1) << 3
                                    )
                                    patterns[29 + c] = _COLUMNS + 32 * c + column
                                    patterns[34 + c] = _PROFILES + 16 * c + profile
                                patterns[39] = _SIBLINGS + own
                                guess = _network(model)

                                contexts[0] = back | far_back << 9 | (last | above << 1) << 18
                                contexts[1] = _hash(
                                    near | beyond << 13 | (a0 >> 1 & 7) << 26 | (a4 >> 1 & 7) << 29,
                                    outer | parity << 7,
                                )
                                contexts[2] = coarse | parity << 27 | own << 30
                                contexts[3] = near | ahead << 13 | parity << 26
                                contexts[4] = near | outer << 13 | parity << 20
                                contexts[5] = _population(near) | coarse_count << 4 | parity << 9
                                contexts[6] = near | beyond << 13
                                contexts[7] = plane | parity << 25
                                contexts[8] = (
                                    r1
                                    | r2 << 5
                                    | (last | last_but_one << 1) << 10
                                    | a2 << 12
                                    | ((a1 >> 2 & 1) | (a3 >> 2 & 1) << 1) << 17
                                    | parity << 19
                                )
                                contexts[9] = (
                                    outer | parity << 7 | (last | above << 1 | behind << 2) << 10 | own << 13
                                )
                                model.selected[0] = _SELECT_PARITY + (parity | found << 3)
                                model.selected[1] = _SELECT_OUTER + outer
                                model.selected[2] = _SELECT_FACES + (parity | last << 3 | above << 4 | behind << 5)
                                model.selected[3] = _SELECT_BACK + back
                                model.selected[4] = _SELECT_NETWORK + ((guess + STRETCH_LIMIT) >> 8)
                                model.selected[5] = _SELECT_SIBLINGS + own
                                probability = _mix(model, parity, guess)
                                one = min(max(probability, MIN_PROBABILITY), PROBABILITY_ONE - MIN_PROBABILITY)
                                if one < low:
                                    bit = 0
                                elif one > high:
                                    bit = 1
                                else:
                                    if decoding:
                                        bit = decode(coder, stream, one)
                                    else:
                                        encode(coder, stream, bit, one)
                                        bits -= np.log2((one if bit else PROBABILITY_ONE - one) / PROBABILITY_ONE)
                                    target = PROBABILITY_ONE if bit else 0
                                    _teach_network(model, target - model.squash[guess + STRETCH_LIMIT])
                                    _teach_mixers(model, parity, bit, probability)
                                    model.decisions[0] += 1
                            if bit:
                                occupancy[i] |= 1 << parity
                                children[child_count] = key
                                child_count += 1
        slab = slab_end
    if decoding and (child_count > child_limit or overrun(coder, stream)):
        return (TOO_MANY if child_count > child_limit else EXHAUSTED), children[:0], bits
    return OK, children[:child_count], bits
