"""Tables: integer probabilities at 16 bits, made once when a model is exported and kept with its weights.

A table codes the symbols `minimum` .. `minimum + size - 2` directly; its last entry is an escape, after which the
distance to the range follows in an Elias-gamma-like code of its own (see `rangecoder`), so that no symbol is ever
clipped.  No floating-point cumulative distribution is evaluated at run time: what a decoder needs is in the weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

#: Bits of a frequency table: the frequencies of each table sum to 2**16.
PRECISION_BITS = 16
TOTAL = 1 << PRECISION_BITS

Symbols = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class FrequencyTables:
    """A set of integer probability tables, chosen by index.

    Attributes:
        frequencies: (t, width) uint32; row i holds `sizes[i]` positive entries that sum to 2**16, then zeros.
        sizes: (t,) int32 entries of each table, the escape (its last entry) included.
        minimum: (t,) int32 first symbol of each table.
    """

    frequencies: npt.NDArray[np.uint32]
    sizes: npt.NDArray[np.int32]
    minimum: npt.NDArray[np.int32]

    @classmethod
    def from_probabilities(
        cls, probabilities: Sequence[npt.NDArray[np.float64]], minimum: Sequence[int]
    ) -> FrequencyTables:
        """Integer tables nearest to float ones; the last entry of each is the escape's probability."""
        raise NotImplementedError

    def __len__(self) -> int:
        """Number of tables."""
        return len(self.sizes)

    def bits(self, symbols: Symbols, index: Symbols | int) -> npt.NDArray[np.float64]:
        """Bits that each symbol costs by its table, escapes included; same shape as `symbols`."""
        raise NotImplementedError

    def arrays(self, prefix: str = "") -> dict[str, npt.NDArray[Any]]:
        """The tables as plain arrays, to be kept with the weights (safetensors)."""
        raise NotImplementedError

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]], prefix: str = "") -> FrequencyTables:
        """What `arrays` gave, checked."""
        raise NotImplementedError
