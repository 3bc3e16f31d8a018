"""Neighbours: who is beside whom among sorted voxels, found in one pass along the list for each row of a window."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..._jit import njit

_AXIS_BITS = 21
_Y = 1 << _AXIS_BITS
_Z = 1 << 2 * _AXIS_BITS
ALL = slice(None)


def neighbours_of(keys: npt.NDArray[np.int64], radius: int, rows: slice = ALL) -> npt.NDArray[np.int32]:
    """Rows of the voxels around each voxel.

    Args:
        keys: (n,) ascending distinct keys z << 42 | y << 21 | x, coordinates below 2**21 - 2 * radius.
        radius: 1 for a window of 3**3, 2 for one of 5**3.
        rows: of the m voxels to look around.

    Returns:
        (m, (2 radius + 1)**3) rows, x fastest, from the lowest corner of the window; n where there is no voxel.
        The offset of entry k and that of the entry k from the end are opposite.
    """
    first, end, _ = rows.indices(len(keys))
    table = np.full((end - first, (2 * radius + 1) ** 3), len(keys), np.int32)
    _fill(keys, first, radius, table)
    return table


def windows_of(keys: npt.NDArray[np.int64], radius: int, rows: slice = ALL) -> npt.NDArray[np.uint8]:
    """Occupancy of the window around each voxel, (m, (2 radius + 1)**3), as for `neighbours_of`."""
    first, end, _ = rows.indices(len(keys))
    window = np.zeros((end - first, (2 * radius + 1) ** 3), np.uint8)
    _mark(keys, first, radius, window)
    return window


@njit(nogil=True)
def _fill(keys: npt.NDArray[np.int64], first: int, radius: int, table: npt.NDArray[np.int32]) -> None:
    n = len(keys)
    side = 2 * radius + 1
    for z in range(-radius, radius + 1):
        for y in range(-radius, radius + 1):
            step = z * _Z + y * _Y - radius
            column = ((z + radius) * side + y + radius) * side
            cursor = np.searchsorted(keys, keys[first] + step) if len(table) else 0
            for i in range(len(table)):
                low = keys[first + i] + step
                while cursor < n and keys[cursor] < low:
                    cursor += 1
                k = cursor
                while k < n and keys[k] <= low + 2 * radius:
                    table[i, column + keys[k] - low] = k
                    k += 1


@njit(nogil=True)
def _mark(keys: npt.NDArray[np.int64], first: int, radius: int, window: npt.NDArray[np.uint8]) -> None:
    n = len(keys)
    side = 2 * radius + 1
    for z in range(-radius, radius + 1):
        for y in range(-radius, radius + 1):
            step = z * _Z + y * _Y - radius
            column = ((z + radius) * side + y + radius) * side
            cursor = np.searchsorted(keys, keys[first] + step) if len(window) else 0
            for i in range(len(window)):
                low = keys[first + i] + step
                while cursor < n and keys[cursor] < low:
                    cursor += 1
                k = cursor
                while k < n and keys[k] <= low + 2 * radius:
                    window[i, column + keys[k] - low] = 1
                    k += 1
