"""Mixing: the decoder's softmax over directions and their sum, compiled into one pass.

The same numbers, bit for bit, as `ExactSoftmax` followed by a product in float64: integer exponentials from a table,
their exact sum, one division a weight, and sums of multiples of 2**-22.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..._jit import njit


def mixed(
    scores: npt.NDArray[np.float32],
    exponentials: npt.NDArray[np.float64],
    step_bits: int,
    bits: int,
    directions: npt.NDArray[np.float64],
) -> npt.NDArray[np.float32]:
    """Directions weighted by the softmax of scores.

    Args:
        scores: (n, d).
        exponentials: integer exponentials of distances to the largest score, in steps of 2**-step_bits.
        step_bits: of the table.
        bits: weights are multiples of 2**-bits.
        directions: (d, 3), multiples of a power of two.

    Returns:
        (n, 3).
    """
    return _mixed(np.ascontiguousarray(scores), exponentials, float(1 << step_bits), float(1 << bits), directions)


@njit(nogil=True)
def _mixed(scores: Any, exponentials: Any, steps: float, parts: float, directions: Any) -> Any:
    rows, width = scores.shape
    last = len(exponentials) - 1
    out = np.empty((rows, 3), np.float32)
    weights = np.empty(width)
    for row in range(rows):
        top = scores[row, 0]
        for i in range(1, width):
            top = max(top, scores[row, i])
        total = 0.0
        for i in range(width):
            distance = (np.float64(top) - np.float64(scores[row, i])) * steps
            place = min(np.floor(distance + 0.5), last)
            weights[i] = exponentials[int(place)]
            total += weights[i]
        total = max(total, 1.0)
        x, y, z = 0.0, 0.0, 0.0
        for i in range(width):
            weight = np.floor(weights[i] * parts / total + 0.5) / parts
            x += weight * directions[i, 0]
            y += weight * directions[i, 1]
            z += weight * directions[i, 2]
        out[row, 0], out[row, 1], out[row, 2] = x, y, z
    return out
