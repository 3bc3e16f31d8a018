"""Modes: what the decoder does in each block, coded by adaptive bits.

byte 0     the most common level
then       payload, block by block: how its children are coded, whether its voxels stand at centres, else its level
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..._jit import njit
from ..deepcompress.decision import THRESHOLDS
from ..entropy.binary import decode, decoder_state, encode, encoder_state, finish, overrun
from ..errors import BitstreamError

#: How the children of a block's voxels are coded: not at all, guessed where they are nearly sure, or all of them.
UNCODED, GUESSED, EXACT = 0, 1, 2

_LEVELS = len(THRESHOLDS)
_ONE = 1 << 16
#: Probabilities stay this far from 0 and 1.
_MARGIN = 96
#: Observations after which a probability moves no slower.
_MEMORY = 60
#: Adaptive bits: whether children are coded, whether exactly, whether there are centres (two each, by the block
#: before), then of the level: whether it is the most common one, below it, and how far from it.
_CODED, _EXACT, _CENTRED, _SAME, _BELOW, _FURTHER, _BITS = 0, 2, 4, 6, 8, 9, 15


@dataclass(frozen=True, eq=False)
class Modes:
    """What is done in each block.

    Attributes:
        levels: (blocks,) uint8 that a voxel must pass; the most common one where that does not matter.
        centred: (blocks,) whether each coarse voxel stands for one point, at its centre.
        children: (blocks,) uint8, one of UNCODED, GUESSED and EXACT.
    """

    levels: npt.NDArray[np.uint8]
    centred: npt.NDArray[np.bool_]
    children: npt.NDArray[np.uint8]


def encode_modes(modes: Modes, *, has_centres: bool, has_children: bool) -> tuple[bytes, float]:
    """Code the modes; also the bits that the probabilities predicted, in whole bytes.

    Args:
        modes: of at least one block.
        has_centres: whether a block may be centred.
        has_children: whether those of a block may be coded.
    """
    free = ~modes.centred & (modes.children == UNCODED)
    middle = int(np.median(modes.levels[free])) if free.any() else 0
    state, stream = encoder_state(), np.empty(16 * len(modes.levels) * 8 + 64, np.uint8)
    arrays = modes.levels.copy(), modes.centred.astype(np.uint8), modes.children.copy()
    bits, _ = _code(False, *arrays, has_centres, has_children, middle, state, stream)
    return bytes([middle]) + finish(state, stream), 8 * (1 + math.ceil(bits / 8))


def decode_modes(data: bytes, blocks: int, *, has_centres: bool, has_children: bool) -> Modes:
    """The modes of so many blocks.

    Raises:
        BitstreamError: the string is damaged.
    """
    if not data or data[0] >= _LEVELS:
        raise BitstreamError(f"modes begin with {data[:1].hex() or 'nothing'}, expected a level below {_LEVELS}")
    stream = np.frombuffer(data, np.uint8, offset=1).copy()
    state = decoder_state(stream)
    levels, centred, children = (np.zeros(blocks, np.uint8) for _ in range(3))
    _, is_sound = _code(True, levels, centred, children, has_centres, has_children, data[0], state, stream)
    if not is_sound:
        raise BitstreamError("modes end before the last block, or hold a level out of range")
    return Modes(levels, centred.astype(np.bool_), children)


@njit()
def _bit(decoding, place, bit, model, counts, state, stream):  # type: ignore[no-untyped-def]
    """Code one adaptive bit: its value, and the bits that it was predicted to take."""
    one = min(max(int(model[place]), _MARGIN), _ONE - _MARGIN)
    if decoding:
        bit = decode(state, stream, one)
    else:
        encode(state, stream, bit, one)
    target = _ONE if bit else 0
    model[place] += 2 * (target - model[place]) // (2 * counts[place] + 3)
    counts[place] = min(counts[place] + 1, _MEMORY)
    return bit, -np.log2((one if bit else _ONE - one) / _ONE)


@njit()
def _code(  # type: ignore[no-untyped-def]  # noqa: C901  # a kernel takes arrays one by one
    decoding, levels, centred, children, has_centres, has_children, middle, state, stream
):
    model, counts = np.full(_BITS, _ONE // 2, np.int64), np.zeros(_BITS, np.int64)
    total = 0.0
    for block in range(len(levels)):
        if decoding and overrun(state, stream):
            return total, False
        before = max(block - 1, 0)
        if has_children:
            place = _CODED + (children[before] > 0 if block else 0)
            coded, bits = _bit(decoding, place, np.int64(children[block] > 0), model, counts, state, stream)
            total += bits
            exact = 0
            if coded:
                place = _EXACT + (children[before] > 1 if block else 0)
                exact, bits = _bit(decoding, place, np.int64(children[block] > 1), model, counts, state, stream)
                total += bits
            children[block] = coded + exact
        if has_centres:
            place = _CENTRED + (centred[before] if block else 0)
            centred[block], bits = _bit(decoding, place, np.int64(centred[block]), model, counts, state, stream)
            total += bits
        if centred[block] or children[block]:
            levels[block] = middle
            continue
        away = np.int64(levels[block]) - middle
        differs, bits = _bit(decoding, _SAME, np.int64(away != 0), model, counts, state, stream)
        total += bits
        if not differs:
            levels[block] = middle
            continue
        below, bits = _bit(decoding, _BELOW, np.int64(away < 0), model, counts, state, stream)
        total += bits
        distance, reach = 1, middle if below else _LEVELS - 1 - middle
        while distance < reach:
            place = min(_FURTHER + distance - 1, _BITS - 1)
            further, bits = _bit(decoding, place, np.int64(abs(away) > distance), model, counts, state, stream)
            total += bits
            if not further:
                break
            distance += 1
        if distance > reach:
            return total, False
        levels[block] = middle - distance if below else middle + distance
    return total, not (decoding and overrun(state, stream))
