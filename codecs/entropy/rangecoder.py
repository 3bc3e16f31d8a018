"""Range coder: symbols by integer tables to bytes and back (asymmetric numeral systems of `constriction`).

A stream is a sequence of batches.  `SymbolEncoder.put` and `SymbolDecoder.get` are called with the same batches in
the same order; a model that needs decoded symbols to know the next tables calls `get` as often as it likes.  Within a
batch symbols are grouped by table, so that one call of the library codes all that share one (tens of millions of
symbols a second); batches of a few thousand symbols or more are fastest.
"""

from __future__ import annotations

from .tables import FrequencyTables, Symbols


class SymbolEncoder:
    """Collects batches of symbols; `finish` gives the bytes.

    Attributes:
        estimated_bits: what the tables say that the symbols so far cost.
    """

    estimated_bits: float

    def put(self, symbols: Symbols, tables: FrequencyTables, index: Symbols | int) -> None:
        """Code integers of any shape, each by the table that `index` (same shape, or one for all) names."""
        raise NotImplementedError

    def put_uniform(self, values: Symbols, size: int) -> None:
        """Code integers in [0, size), all equally likely; size up to 2**24."""
        raise NotImplementedError

    def finish(self) -> bytes:
        """The stream; b"" when no symbol was put."""
        raise NotImplementedError


class SymbolDecoder:
    """Reads batches of symbols in the order in which they were put."""

    def __init__(self, data: bytes) -> None:
        raise NotImplementedError

    def get(self, tables: FrequencyTables, index: Symbols, shape: tuple[int, ...] | None = None) -> Symbols:
        """Symbols (int32) of the shape of `index`, or of `shape` when `index` is one for all.

        Raises:
            BitstreamError: the data cannot be a stream of these tables.
        """
        raise NotImplementedError

    def get_uniform(self, shape: int | tuple[int, ...], size: int) -> Symbols:
        """What `put_uniform` wrote."""
        raise NotImplementedError

    def finish(self) -> None:
        """Check that the stream is used up to its last bit.

        Raises:
            BitstreamError: it is not (damage that the symbols did not show).
        """
        raise NotImplementedError
