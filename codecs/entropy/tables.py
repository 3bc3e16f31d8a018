"""Tables: integer probabilities at 16 bits, made once when a model is exported and kept with its weights.

A table codes the symbols `minimum` .. `minimum + size - 2` directly; its last entry is an escape, after which side
and distance from that range follow in Elias' gamma code, so that no symbol is ever clipped.  No cumulative
distribution is evaluated in floating point at run time: what a decoder needs lies with the weights.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

#: Bits of a frequency table: the frequencies of each table sum to 2**16.
PRECISION_BITS = 16
TOTAL = 1 << PRECISION_BITS
#: A table has at least one symbol and the escape, and at most so many entries.
MAX_ENTRIES = 1 << 14
#: Probability beyond a table's range, both sides together, that its escape takes.  Entries take 2**-16 at least, so
#: that a longer range costs more than it saves: of 2**-17 .. 2**-11, this is best for all three shapes of `gaussian`
#: (codes within 0.07 % of the entropy at scales 0.2 .. 30).
TAIL_MASS = 2.0**-13
#: A table starts within +- 2**30, so that neither its last symbol nor a distance from it leaves 32 bits.
MAX_FIRST = 1 << 30
#: Elias' gamma code writes u >= 0 as the length of u + 1 in bits, then its lower bits; symbols are int32.
MAX_LENGTH = 33

Integers = npt.NDArray[np.integer[Any]]
Index = Integers | int


def quantise(probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.uint32]:
    """Frequencies that sum to 2**16, each at least 1, with the smallest expected code length.

    Starts from shares that leave room for the entries that must be raised to 1, gives what is missing one at a time
    where it gains most, and then moves single counts as long as that helps.  As the gain of an entry falls with each
    count, a point that no move improves is the best one.

    Args:
        probabilities: (k,) non-negative, 1 <= k <= 2**14; they need not sum to 1.

    Raises:
        ValueError: negative or not finite, all zero, or too many.
    """
    weights = np.asarray(probabilities, np.float64)
    if weights.ndim != 1 or not 1 <= len(weights) <= MAX_ENTRIES:
        raise ValueError(f"a table has 1 to {MAX_ENTRIES:,} entries, got shape {weights.shape}")
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.sum() > 0:
        raise ValueError("probabilities must be finite, not negative, and not all zero")
    weights = weights / weights.sum()
    frequencies = np.maximum(np.floor(weights * _room(weights)), 1.0)

    def gain(count: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Bits that the step from count to count + 1 saves on average."""
        return weights * np.log2(1.0 + 1.0 / count)

    queue = [(-saved, entry) for entry, saved in enumerate(gain(frequencies).tolist())]
    heapq.heapify(queue)
    for _ in range(TOTAL - int(frequencies.sum())):
        entry = queue[0][1]
        frequencies[entry] += 1.0
        heapq.heapreplace(queue, (-float(weights[entry] * np.log2(1.0 + 1.0 / frequencies[entry])), entry))
    while True:
        more = gain(frequencies)
        less = np.where(frequencies > 1.0, gain(np.maximum(frequencies - 1.0, 1.0)), np.inf)
        best, worst = int(np.argmax(more)), int(np.argmin(less))
        if not more[best] > less[worst] * (1.0 + 1e-12):
            return frequencies.astype(np.uint32)
        frequencies[best] += 1.0
        frequencies[worst] -= 1.0


def _room(weights: npt.NDArray[np.float64]) -> float:
    """Largest multiple of the weights whose whole parts, raised to at least 1, do not exceed the total."""
    falling = np.sort(weights)[::-1]
    own = np.cumsum(falling)  # weight of the entries above 1, if there are 1, 2, ... of them
    n = np.arange(1, len(weights) + 1)
    multiple = (TOTAL - (len(weights) - n)) / own
    fits = np.flatnonzero(falling * multiple >= 1.0)
    return float(multiple[fits[-1]]) if len(fits) else float(TOTAL - len(weights) + 1)


@dataclass(frozen=True, eq=False)
class FrequencyTables:
    """A set of integer probability tables, chosen by index.

    Attributes:
        frequencies: (t, width) uint32; row i holds `sizes[i]` positive entries that sum to 2**16, then zeros.
        sizes: (t,) int32 entries of each table, at least 2, its last entry (the escape) included.
        minimum: (t,) int32 first symbol of each table.

    Raises:
        ValueError: on construction, if the arrays are anything else.
    """

    frequencies: npt.NDArray[np.uint32]
    sizes: npt.NDArray[np.int32]
    minimum: npt.NDArray[np.int32]

    def __post_init__(self) -> None:
        rows = len(self.sizes)
        if self.frequencies.ndim != 2 or self.frequencies.dtype != np.uint32:
            raise ValueError(f"frequencies must be (t, width) uint32, got {self.frequencies.shape}")
        if len(self.frequencies) != rows or self.minimum.shape != (rows,) or self.sizes.shape != (rows,) or not rows:
            raise ValueError(f"{len(self.frequencies)} tables, {rows} sizes and {len(self.minimum)} first symbols")
        width = self.frequencies.shape[1]
        if int(self.sizes.min()) < 2 or int(self.sizes.max()) > min(width, MAX_ENTRIES):
            raise ValueError(f"sizes {self.sizes.min()}..{self.sizes.max()}, expected 2..{min(width, MAX_ENTRIES)}")
        used = np.arange(width) < self.sizes[:, None]
        if ((self.frequencies > 0) != used).any():
            raise ValueError("a table's frequencies must be positive up to its size and zero behind")
        if int(np.abs(self.minimum.astype(np.int64)).max()) > MAX_FIRST:
            raise ValueError(f"first symbols must lie in -{MAX_FIRST:,}..{MAX_FIRST:,}")
        sums = self.frequencies.sum(axis=1, dtype=np.int64)
        if (sums != TOTAL).any():
            raise ValueError(f"frequencies of each table must sum to {TOTAL}, got {sums[sums != TOTAL][0]}")

    @classmethod
    def from_probabilities(
        cls, probabilities: Sequence[npt.NDArray[np.float64]], minimum: Sequence[int]
    ) -> FrequencyTables:
        """The best integer tables for float ones.

        Args:
            probabilities: one (k,) array a table, k >= 2, the escape's probability last.
            minimum: first symbol of each table.
        """
        rows = [quantise(table) for table in probabilities]
        sizes = np.array([len(row) for row in rows], np.int32)
        frequencies = np.zeros((len(rows), int(sizes.max(initial=0))), np.uint32)
        for target, row in zip(frequencies, rows, strict=True):
            target[: len(row)] = row
        return cls(frequencies, sizes, np.asarray(minimum, np.int32))

    def __len__(self) -> int:
        """Number of tables."""
        return len(self.sizes)

    @cached_property
    def _bits(self) -> npt.NDArray[np.float32]:
        """Bits of each entry, (t, width); infinite where there is none."""
        with np.errstate(divide="ignore"):
            return (PRECISION_BITS - np.log2(self.frequencies)).astype(np.float32)

    def entries(self, symbols: Integers, index: Index) -> npt.NDArray[np.int32]:
        """Place of each symbol in its table, the last one (the escape) for those outside its range.

        Args:
            symbols: int32 range, any shape.
            index: table of each symbol (same shape), or one for all.
        """
        self.check_index(index)
        # A symbol below its range becomes a large uint32, at least 2**30 as the range starts within +- 2**30.
        place = (symbols.astype(np.int32, copy=False) - self.minimum[index]).view(np.uint32)
        escape = (self.sizes[index] - 1).astype(np.uint32)
        return np.minimum(place, escape).view(np.int32)

    def bits(self, symbols: Integers, index: Index) -> npt.NDArray[np.float64]:
        """Bits that each symbol costs by its table, escapes included; same shape as `symbols`.

        Args:
            symbols: int32 range, any shape.
            index: table of each symbol (same shape), or one for all.
        """
        entry = self.entries(symbols, index)
        bits = self._bits[index, entry].astype(np.float64)
        escaped = entry == self.sizes[index] - 1
        if escaped.any():
            _, length, _ = self.escapes(symbols[escaped], index if isinstance(index, int) else index[escaped])
            bits[escaped] += escape_bits(length)
        return bits

    def entry_bits(self, table: int) -> npt.NDArray[np.float64]:
        """Bits of each entry of one table, (size,)."""
        return self._bits[table, : self.sizes[table]].astype(np.float64)

    def total_bits(self, entries: npt.NDArray[np.int32], index: Index) -> float:
        """Bits of places in tables, what follows an escape not included.

        Args:
            entries: (n,), as `entries` gives them.
            index: (n,) tables, or one for all.
        """
        if isinstance(index, int):
            counts = np.bincount(entries, minlength=int(self.sizes[index]))
            return float(counts @ self.entry_bits(index))
        flat = self._bits.reshape(-1)
        return float(flat[index * np.int64(self._bits.shape[1]) + entries].sum(dtype=np.float64))

    def escapes(self, symbols: Integers, index: Index) -> tuple[Integers, Integers, Integers]:
        """Side (0 below, 1 above), bit length and lower bits of the distance of symbols outside their range."""
        low, high = self._range(index)
        values = symbols.astype(np.int64)
        side = (values >= high).astype(np.int64)
        distance = np.where(side == 1, values - high, low - 1 - values) + 1
        # frexp gives the exact bit length of integers below 2**53.
        length = np.frexp(distance.astype(np.float64))[1].astype(np.int64)
        return side, length, distance - (np.int64(1) << (length - 1))

    def _range(self, index: Index) -> tuple[Integers, Integers]:
        """First symbol of each table, and the first behind it; int64."""
        low = np.asarray(self.minimum[index], np.int64)
        return low, low + self.sizes[index] - 1

    def from_escapes(self, side: Integers, length: Integers, rest: Integers, index: Index) -> Integers:
        """Symbols (int64) of what `escapes` gave."""
        low, high = self._range(index)
        distance = (np.int64(1) << (length.astype(np.int64) - 1)) + rest - 1
        return np.where(side == 1, high + distance, low - 1 - distance)

    def check_index(self, index: Index) -> None:
        """Raise IndexError where `index` names no table (negative numbers do not count from the end)."""
        if isinstance(index, int):
            low = high = index
        elif index.size:
            low, high = int(index.min()), int(index.max())
        else:
            return
        if low < 0 or high >= len(self):
            raise IndexError(f"table {low if low < 0 else high} of {len(self)}")

    def arrays(self, prefix: str = "") -> dict[str, npt.NDArray[Any]]:
        """The tables as plain arrays, to be kept with the weights (safetensors); zeros behind rows left out."""
        used = np.arange(self.frequencies.shape[1]) < self.sizes[:, None]
        # A frequency is 1 to 65535, as each table has at least two entries: 16 bits hold it.
        return {
            f"{prefix}frequencies": self.frequencies[used].astype(np.uint16),
            f"{prefix}sizes": self.sizes.copy(),
            f"{prefix}minimum": self.minimum.copy(),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]], prefix: str = "") -> FrequencyTables:
        """What `arrays` gave, checked.

        Raises:
            KeyError: an array is missing.
            ValueError: they are not tables.
        """
        flat = np.asarray(arrays[f"{prefix}frequencies"])
        sizes = np.asarray(arrays[f"{prefix}sizes"], np.int32)
        if flat.dtype != np.uint16 or flat.ndim != 1 or sizes.ndim != 1 or int(sizes.sum()) != len(flat):
            raise ValueError(f"{len(flat)} frequencies ({flat.dtype}) for tables of {int(sizes.sum())} entries")
        if not len(sizes) or int(sizes.min()) < 2 or int(sizes.max()) > MAX_ENTRIES:
            raise ValueError(f"each table has 2 to {MAX_ENTRIES:,} entries")
        frequencies = np.zeros((len(sizes), int(sizes.max())), np.uint32)
        frequencies[np.arange(frequencies.shape[1]) < sizes[:, None]] = flat
        return cls(frequencies, sizes, np.asarray(arrays[f"{prefix}minimum"], np.int32))


#: Table of the bit length (1..33) of an escaped distance: halves from length to length, as in Elias' gamma code.
LENGTH_TABLE = FrequencyTables.from_probabilities([np.append(0.5 ** np.arange(1, MAX_LENGTH + 1), 0.0)], [1])
_LENGTH_BITS = np.append(0.0, LENGTH_TABLE.entry_bits(0)[:MAX_LENGTH])


def escape_bits(length: Integers) -> npt.NDArray[np.float64]:
    """Bits of side, length and lower bits of escaped symbols, beside the escape itself."""
    bits: npt.NDArray[np.float64] = 1.0 + _LENGTH_BITS[length] + (length - 1)
    return bits
