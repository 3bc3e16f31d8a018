"""Order: distinct points in lexicographic order, as pc_error sorts and merges them.

The order matters: normals are summed in float32 in this order, and of repeated points the first in the file
keeps its normal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .._jit import njit

#: Bits a pass of the radix sort; 2048 counters stay in the first-level cache.
_DIGIT_BITS = 11
#: Bits that coordinates are shrunk to: three of these and the number of a point are sorted as one word.
_SHRUNK_BITS = 14


@njit(nogil=True)
def _is_increasing(points: Any) -> Any:
    """Whether rows are in strictly increasing lexicographic order: sorted already, and without repeats."""
    for i in range(1, len(points)):
        for axis in range(3):
            step = points[i, axis] - points[i - 1, axis]
            if step > 0:
                break
            if step < 0 or axis == 2:
                return False
    return True


@njit(nogil=True)
def _sort_words(words: Any, low: Any, high: Any) -> Any:
    """Stable radix sort of uint64 words by their bits `low` to `high`."""
    n = len(words)
    other = np.empty(n, np.uint64)
    for shift in range(low, high, _DIGIT_BITS):
        s = np.uint64(shift)
        mask = np.uint64((1 << min(_DIGIT_BITS, high - shift)) - 1)
        start = np.zeros((1 << _DIGIT_BITS) + 1, np.int64)
        for i in range(n):
            start[np.int64((words[i] >> s) & mask) + 1] += 1
        for digit in range(1 << _DIGIT_BITS):
            start[digit + 1] += start[digit]
        for i in range(n):
            word = words[i]
            to = np.int64((word >> s) & mask)
            other[start[to]] = word
            start[to] += 1
        words, other = other, words
    return words


@njit(nogil=True)
def _ordered_columns(points: Any) -> Any:
    """Coordinates of each axis as uint32 above the axis' smallest, in the same order; and their bit widths."""
    n = len(points)
    columns = np.empty((3, n), np.uint32)
    widths = np.empty(3, np.int64)
    bits = points.view(np.uint32)
    sign = np.uint32(0x80000000)
    for axis in range(3):
        low, high = np.uint32(0xFFFFFFFF), np.uint32(0)
        for i in range(n):
            # An IEEE 754 number compares like its bits once negative numbers are flipped.
            word = bits[i, axis]
            word = np.uint32(~word) if word & sign else np.uint32(word | sign)
            columns[axis, i] = word
            low, high = min(low, word), max(high, word)
        for i in range(n):
            columns[axis, i] -= low
        span: Any = np.int64(high - low)
        width = 0
        while span >> width:
            width += 1
        widths[axis] = width
    return columns, widths


@njit(nogil=True)
def _integer_columns(points: Any) -> Any:
    """As `_ordered_columns` for points whose coordinates are all integers: far fewer bits to sort."""
    n = len(points)
    columns = np.empty((3, n), np.uint32)
    widths = np.empty(3, np.int64)
    for axis in range(3):
        low, high = points[0, axis], points[0, axis]
        for i in range(n):
            low, high = min(low, points[i, axis]), max(high, points[i, axis])
        for i in range(n):
            columns[axis, i] = np.uint32(np.int64(points[i, axis]) - np.int64(low))
        span: Any = np.int64(high) - np.int64(low)
        width = 0
        while span >> width:
            width += 1
        widths[axis] = width
    return columns, widths


@njit(nogil=True)
def _shrink_columns(columns: Any, widths: Any) -> None:
    """Fewer bits for `_ordered_columns` where the low ones tell no values of an axis apart, as on a coarse grid."""
    n = columns.shape[1]
    held = np.empty(1 << _SHRUNK_BITS, np.uint32)
    for axis in range(3):
        shift = np.uint32(max(widths[axis] - _SHRUNK_BITS, 0))
        held[:] = 0xFFFFFFFF
        apart: Any = shift > 0
        for i in range(n):
            value = columns[axis, i]
            place = value >> shift
            if held[place] == 0xFFFFFFFF:
                held[place] = value
            elif held[place] != value:
                apart = False
                break
        if apart:
            for i in range(n):
                columns[axis, i] >>= shift
            widths[axis] = _SHRUNK_BITS


@njit(nogil=True)
def _argsort(columns: Any, widths: Any) -> Any:
    """Stable order of points by (x, y, z)."""
    n = columns.shape[1]
    index_bits = 0
    while n >> index_bits:
        index_bits += 1
    index_mask = np.uint64((1 << index_bits) - 1)
    words = np.empty(n, np.uint64)
    order = np.empty(n, np.int32)
    wx, wy, wz = widths[0], widths[1], widths[2]
    if wx + wy + wz + index_bits <= 64:
        sx, sy, sz = np.uint64(wy + wz + index_bits), np.uint64(wz + index_bits), np.uint64(index_bits)
        for i in range(n):
            words[i] = (
                (np.uint64(columns[0, i]) << sx)
                | (np.uint64(columns[1, i]) << sy)
                | (np.uint64(columns[2, i]) << sz)
                | np.uint64(i)
            )
        words = _sort_words(words, index_bits, index_bits + wx + wy + wz)
        for i in range(n):
            order[i] = np.int32(words[i] & index_mask)
        return order
    # Too many bits for one word: sort by the last axis first, each sort keeping the order of the one before.
    for i in range(n):
        order[i] = i
    for axis in range(2, -1, -1):
        for i in range(n):
            words[i] = (np.uint64(columns[axis, order[i]]) << np.uint64(32)) | np.uint64(order[i])
        words = _sort_words(words, np.int64(32), 32 + widths[axis])
        for i in range(n):
            order[i] = np.int32(words[i] & np.uint64(0xFFFFFFFF))
    return order


@njit(nogil=True)
def _gather_distinct(points: Any, order: Any) -> Any:
    """The points in order, and the order, both without points equal to their predecessor."""
    kept = np.empty(len(order), np.int32)
    gathered = np.empty((len(order), 3), np.float32)
    count = 0
    for i in range(len(order)):
        row = order[i]
        x, y, z = points[row, 0], points[row, 1], points[row, 2]
        if count:
            last = count - 1
            if x == gathered[last, 0] and y == gathered[last, 1] and z == gathered[last, 2]:
                continue
        kept[count] = row
        gathered[count, 0], gathered[count, 1], gathered[count, 2] = x, y, z
        count += 1
    return gathered[:count], kept[:count]


def distinct_points(
    points: npt.NDArray[np.float32], integer: bool
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """The distinct points in lexicographic order, and for each the first row that holds it.

    Args:
        points: (n, 3) finite coordinates without negative zeros, n >= 1.
        integer: all coordinates are integers of magnitude up to 2**24 (sorts faster; same result).
    """
    if _is_increasing(points):
        return points, np.arange(len(points), dtype=np.int32)
    if integer:
        columns, widths = _integer_columns(points)
    else:
        columns, widths = _ordered_columns(points)
        _shrink_columns(columns, widths)
    return _gather_distinct(points, _argsort(columns, widths))
