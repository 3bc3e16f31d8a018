"""Logistic tables of the context mixers, made with integers alone so that all machines have the same."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

#: Fixed-point one of probabilities: 16 bits.
PROBABILITY_ONE = 1 << 16
#: One nat in the logistic domain.
NAT = 256
#: Largest magnitude in the logistic domain: 11 nats, the last where 16 bits tell a probability from 0.
STRETCH_LIMIT = 2815

_STRETCH_BITS = 12
_FRACTION_BITS = 96


class LogisticTables(NamedTuple):
    """Integer logistic function and its inverse.

    Attributes:
        squash: (2 * STRETCH_LIMIT + 1,) int32: 2**16 / (1 + exp(-s / NAT)) at s + STRETCH_LIMIT, in [1, 65535].
        stretch: (4096,) int32: the s whose squash is nearest above 16 i + 8, for the probability p with i = p >> 4.
    """

    squash: npt.NDArray[np.int32]
    stretch: npt.NDArray[np.int32]


@functools.cache
def logistic_tables() -> LogisticTables:
    """The tables, computed once by long integer arithmetic."""
    one = 1 << _FRACTION_BITS
    step = _exp_minus(1, NAT)
    squash = np.empty(2 * STRETCH_LIMIT + 1, np.int32)
    power = one
    for s in range(STRETCH_LIMIT + 1):
        rounded = (PROBABILITY_ONE * one + (one + power) // 2) // (one + power)
        squash[STRETCH_LIMIT + s] = min(rounded, PROBABILITY_ONE - 1)
        squash[STRETCH_LIMIT - s] = max(PROBABILITY_ONE - rounded, 1)
        power = power * step >> _FRACTION_BITS
    centres = (np.arange(1 << _STRETCH_BITS) << 4) + 8
    stretch = np.minimum(np.searchsorted(squash, centres), 2 * STRETCH_LIMIT) - STRETCH_LIMIT
    return LogisticTables(squash, stretch.astype(np.int32))


def _exp_minus(numerator: int, denominator: int) -> int:
    """Fixed-point exp(-numerator / denominator), by its series."""
    term = total = 1 << _FRACTION_BITS
    order = 1
    while term:
        term = term * numerator // (denominator * order)
        total += -term if order % 2 else term
        order += 1
    return total
