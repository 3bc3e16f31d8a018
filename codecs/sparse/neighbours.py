"""Neighbours: who is beside whom among sorted voxels, found in one pass along the list for each row of a window."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

_AXIS_BITS = 21
_Y = 1 << _AXIS_BITS
_Z = 1 << 2 * _AXIS_BITS


def neighbours_of(keys: npt.NDArray[np.int64], radius: int) -> npt.NDArray[np.int32]:
    """Rows of the voxels around each voxel.

    Args:
        keys: (n,) ascending distinct keys z << 42 | y << 21 | x, coordinates below 2**21 - 2 * radius.
        radius: 1 for a window of 3**3, 2 for one of 5**3.

    Returns:
        (n, (2 radius + 1)**3) rows, x fastest, from the lowest corner of the window; n where there is no voxel.
        The offset of entry k and that of the entry k from the end are opposite.
    """
    side = 2 * radius + 1
    table = np.full((len(keys), side**3), len(keys), np.int32)
    # A margin keeps a step over the border of the grid from ending in another row.
    _fill(keys + radius * (_Z + _Y + 1), radius, table)
    return table


def windows_of(keys: npt.NDArray[np.int64], radius: int) -> npt.NDArray[np.uint8]:
    """Occupancy of the window around each voxel, (n, (2 radius + 1)**3), in the order of `neighbours_of`."""
    side = 2 * radius + 1
    window = np.zeros((len(keys), side**3), np.uint8)
    _mark(keys + radius * (_Z + _Y + 1), radius, window)
    return window


@njit(cache=True, nogil=True)
def _fill(keys: npt.NDArray[np.int64], radius: int, table: npt.NDArray[np.int32]) -> None:
    n = len(keys)
    side = 2 * radius + 1
    for z in range(-radius, radius + 1):
        for y in range(-radius, radius + 1):
            first = ((z + radius) * side + y + radius) * side
            cursor = 0
            for i in range(n):
                low = keys[i] + z * _Z + y * _Y - radius
                while cursor < n and keys[cursor] < low:
                    cursor += 1
                k = cursor
                while k < n and keys[k] <= low + 2 * radius:
                    table[i, first + keys[k] - low] = k
                    k += 1


@njit(cache=True, nogil=True)
def _mark(keys: npt.NDArray[np.int64], radius: int, window: npt.NDArray[np.uint8]) -> None:
    n = len(keys)
    side = 2 * radius + 1
    for z in range(-radius, radius + 1):
        for y in range(-radius, radius + 1):
            first = ((z + radius) * side + y + radius) * side
            cursor = 0
            for i in range(n):
                low = keys[i] + z * _Z + y * _Y - radius
                while cursor < n and keys[cursor] < low:
                    cursor += 1
                k = cursor
                while k < n and keys[k] <= low + 2 * radius:
                    window[i, first + keys[k] - low] = 1
                    k += 1
