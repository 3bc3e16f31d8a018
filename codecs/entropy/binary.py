"""Binary arithmetic coder with 16-bit probabilities, for numba kernels.

The state is an int64 array that lives as long as the stream; the interval has 56 bits, so that a probability is
never lost to a short interval, and int64 arithmetic suffices.  An encoder and a decoder that are given the same
probabilities stay in step; the decoder reads zeros beyond the end of its data.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..._jit import njit

#: Fields of the state.
LOW, HIGH, CODE, POSITION = 0, 1, 2, 3
_STATE_FIELDS = 4

_BYTES = 7
_TOP = 8 * (_BYTES - 1)
_MASK = (1 << 8 * _BYTES) - 1
#: Trailing zero bytes that `finish` may leave out, hence how far beyond the end a decoder may have to read.
MAX_TRIMMED_BYTES = 8


def encoder_state() -> npt.NDArray[np.int64]:
    """State of an encoder that has written nothing."""
    state = np.zeros(_STATE_FIELDS, np.int64)
    state[HIGH] = _MASK
    return state


def decoder_state(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """State of a decoder at the start of `data`."""
    state = encoder_state()
    state[CODE] = int.from_bytes(data[:_BYTES].tobytes().ljust(_BYTES, b"\0"), "big")
    state[POSITION] = _BYTES
    return state


def finish(state: npt.NDArray[np.int64], out: npt.NDArray[np.uint8]) -> bytes:
    """The bytes written, with the fewest that still tell the last interval from all others."""
    low, high, position = int(state[LOW]), int(state[HIGH]), int(state[POSITION])
    data = bytearray(out[:position].tobytes())
    for count in range(_BYTES + 1):
        unit = 1 << 8 * (_BYTES - count)
        value = -(-low // unit) * unit
        if value <= high:
            data += value.to_bytes(_BYTES, "big")[:count]
            break
    for _ in range(MAX_TRIMMED_BYTES):
        if data and data[-1] == 0:
            data.pop()
    return bytes(data)


@njit()
def overrun(state: npt.NDArray[np.int64], data: npt.NDArray[np.uint8]) -> bool:
    """Whether the decoder has read further than any stream that an encoder makes."""
    return state[POSITION] > data.shape[0] + _BYTES + MAX_TRIMMED_BYTES


@njit()
def encode(state: npt.NDArray[np.int64], out: npt.NDArray[np.uint8], bit: int, one: int) -> None:
    """Write `bit`, whose probability of being 1 is `one` / 2**16, with 0 < `one` < 2**16."""
    low, high = state[LOW], state[HIGH]
    middle = low + ((high - low) >> 16) * one
    if bit:
        high = middle
    else:
        low = middle + 1
    while (low ^ high) >> _TOP == 0:
        out[state[POSITION]] = high >> _TOP
        state[POSITION] += 1
        low = (low << 8) & _MASK
        high = (high << 8) & _MASK | 255
    state[LOW], state[HIGH] = low, high


@njit()
def decode(state: npt.NDArray[np.int64], data: npt.NDArray[np.uint8], one: int) -> int:
    """Read the bit that was written with the same `one`."""
    low, high, code = state[LOW], state[HIGH], state[CODE]
    middle = low + ((high - low) >> 16) * one
    bit = 0
    if code <= middle:
        bit = 1
        high = middle
    else:
        low = middle + 1
    while (low ^ high) >> _TOP == 0:
        position = state[POSITION]
        byte = np.int64(data[position]) if position < data.shape[0] else np.int64(0)
        state[POSITION] = position + 1
        low = (low << 8) & _MASK
        high = (high << 8) & _MASK | 255
        code = (code << 8) & _MASK | byte
    state[LOW], state[HIGH], state[CODE] = low, high, code
    return bit


@njit()
def encode_raw(state: npt.NDArray[np.int64], out: npt.NDArray[np.uint8], value: int, bits: int) -> None:
    """Write the low `bits` bits of `value`, high first, without a model."""
    for shift in range(bits - 1, -1, -1):
        encode(state, out, (value >> shift) & 1, 1 << 15)


@njit()
def decode_raw(state: npt.NDArray[np.int64], data: npt.NDArray[np.uint8], bits: int) -> int:
    """Read what `encode_raw` wrote."""
    value = np.int64(0)
    for _ in range(bits):
        value = value << 1 | decode(state, data, 1 << 15)
    return value
