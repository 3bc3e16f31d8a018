"""Range coder: symbols by integer tables to bytes and back.

Asymmetric numeral systems of `constriction`.  A stream is a sequence of batches: `SymbolEncoder.put` and
`SymbolDecoder.get` are called with the same tables and indices in the same order, so that a model which needs
decoded symbols to know the next tables calls `get` as often as it likes.  Within a batch, symbols are grouped by
table, and one call of the library codes a whole group: tens of millions of symbols a second where groups are large.

Frequencies are multiples of 2**-16, hence exact in float32, in which constriction takes them; it turns them into its
24-bit fixed-point model by one correctly rounded multiplication each, so that the model is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import BitstreamError
from .tables import LENGTH_TABLE, MAX_LENGTH, TOTAL, FrequencyTables, Index, Integers, escape_bits

#: Values that `put_uniform` can tell apart: the precision of constriction's models.
MAX_UNIFORM = 1 << 24
_CHUNK_BITS = 16
_INT32 = np.iinfo(np.int32)
_WORD_BYTES = 4

Int32s = npt.NDArray[np.int32]
#: A model of constriction, which has no type annotations of its own.
Model = Any


class _Models:
    """Constriction's models of a set of tables, each made when it is first used."""

    def __init__(self, tables: FrequencyTables) -> None:
        self._tables = tables
        self._models: dict[int, Model] = {}

    def __getitem__(self, table: int) -> Model:
        model = self._models.get(table)
        if model is None:
            import constriction

            row = self._tables.frequencies[table, : self._tables.sizes[table]]
            model = constriction.stream.model.Categorical((row / np.float32(TOTAL)).astype(np.float32), perfect=False)
            self._models[table] = model
        return model


def _models(tables: FrequencyTables) -> _Models:
    """The models of `tables`, kept on the object itself."""
    found: _Models | None = tables.__dict__.get("_constriction_models")
    if found is None:
        found = tables.__dict__["_constriction_models"] = _Models(tables)
    return found


def _order(index: Integers, n_tables: int) -> tuple[Integers, Iterator[tuple[int, int, int]]]:
    """Places in the order of their table, and (table, start, end) of each group of that order."""
    narrow = index.astype(np.uint8 if n_tables <= 256 else np.uint16 if n_tables <= 65536 else np.int64)
    order = np.argsort(narrow, kind="stable")  # a radix sort for 8 and 16 bits
    counts = np.bincount(index, minlength=1)
    used = np.flatnonzero(counts)
    ends = np.cumsum(counts[used])
    starts = ends - counts[used]
    return order, zip(used.tolist(), starts.tolist(), ends.tolist(), strict=True)


class SymbolEncoder:
    """Collects batches of symbols; `finish` gives the bytes.

    Attributes:
        estimated_bits: what the tables say that the symbols so far cost; real streams are within a few bytes.
    """

    def __init__(self) -> None:
        self.estimated_bits = 0.0
        self._batches: list[tuple[Int32s, Model]] = []

    def put(self, symbols: Integers, tables: FrequencyTables, index: Index) -> None:
        """Code integers of any shape, each by the table that `index` names.

        Args:
            symbols: integers in the range of int32; none is ever clipped.
            tables: the tables.
            index: table of each symbol (same shape), or one for all.

        Raises:
            ValueError: shapes differ, or a symbol is not in the range of int32.
            IndexError: no such table.
        """
        values = np.asarray(symbols)
        if values.dtype.kind not in "iu":
            raise ValueError(f"expected integer symbols, got {values.dtype}")
        if values.size and (int(values.min()) < _INT32.min or int(values.max()) > _INT32.max):
            raise ValueError(f"symbols {values.min()}..{values.max()} are outside the range of int32")
        if not isinstance(index, int):
            index = np.asarray(index)
            if index.shape != values.shape:
                raise ValueError(f"{index.shape} indices for {values.shape} symbols")
            index = index.reshape(-1)
        values = values.reshape(-1)
        if not len(values):
            return
        entries = tables.entries(values.astype(np.int32, copy=False), index)
        models = _models(tables)
        self.estimated_bits += tables.total_bits(entries, index)
        if isinstance(index, int):
            self._batches.append((entries, models[index]))
        else:
            order, groups = _order(index, len(tables))
            in_order = entries[order]
            self._batches.extend((in_order[start:end], models[table]) for table, start, end in groups)
        escaped = np.flatnonzero(entries == tables.sizes[index] - 1)
        if len(escaped):
            self._put_escapes(*tables.escapes(values[escaped], index if isinstance(index, int) else index[escaped]))

    def _put_escapes(self, side: Integers, length: Integers, rest: Integers) -> None:
        self.estimated_bits += float(escape_bits(length).sum())
        self._append_uniform(side, 2)
        self._batches.append(((length - 1).astype(np.int32), _models(LENGTH_TABLE)[0]))
        for bits, which in _by_length(length):
            value = rest[which]
            for low, n in _chunks(bits):
                self._append_uniform((value >> low) & ((1 << n) - 1), 1 << n)

    def put_uniform(self, values: Integers, size: int) -> None:
        """Code integers in [0, size), all equally likely, any shape; size up to 2**24.

        Raises:
            ValueError: a value or the size is out of range.
        """
        values = np.asarray(values)
        _check_uniform(size)
        if values.size and (int(values.min()) < 0 or int(values.max()) >= size):
            raise ValueError(f"values {values.min()}..{values.max()} are outside 0..{size - 1}")
        self.estimated_bits += values.size * float(np.log2(size))
        self._append_uniform(values.reshape(-1), size)

    def _append_uniform(self, values: Integers, size: int) -> None:
        if size > 1 and len(values):
            self._batches.append((values.astype(np.int32), _uniform(size)))

    def finish(self) -> bytes:
        """The stream; b"" when nothing that carries information was put."""
        import constriction

        coder = constriction.stream.stack.AnsCoder()
        for values, model in reversed(self._batches):  # what goes in last comes out first
            coder.encode_reverse(values, model)
        words = coder.get_compressed().astype("<u4")
        # The last word is never zero, and the decoder pads it again.
        return bytes(words.tobytes().rstrip(b"\0"))


class SymbolDecoder:
    """Reads batches of symbols in the order in which they were put.

    Args:
        data: what `SymbolEncoder.finish` gave.

    Raises:
        BitstreamError: the data cannot be such a stream.
    """

    def __init__(self, data: bytes) -> None:
        import constriction

        if data and data[-1] == 0:
            raise BitstreamError("symbol stream ends in a zero byte, which no encoder writes")
        padded = data + b"\0" * (-len(data) % _WORD_BYTES)
        try:
            self._coder: Any = constriction.stream.stack.AnsCoder(np.frombuffer(padded, "<u4").astype(np.uint32))
        except ValueError as error:
            raise BitstreamError(f"symbol stream is damaged: {error}") from None

    def get(self, tables: FrequencyTables, index: Index, shape: int | tuple[int, ...] | None = None) -> Int32s:
        """The next batch.

        Args:
            tables: the tables that it was put with.
            index: table of each symbol, or one for all.
            shape: of the batch, when `index` is one for all.

        Returns:
            Symbols, in the shape of `index` or in `shape`.

        Raises:
            BitstreamError: the stream holds a symbol that no encoder writes.
            IndexError: no such table.
            ValueError: one index for all, and no shape.
        """
        tables.check_index(index)
        models = _models(tables)
        if isinstance(index, int):
            if shape is None:
                raise ValueError("one table for all symbols needs the shape of the batch")
            entries = self._decode(models[index], int(np.prod(shape)))
            flat: Index = index
        else:
            index = np.asarray(index)
            flat, shape = index.reshape(-1), index.shape
            entries = np.empty(len(flat), np.int32)
            order, groups = _order(flat, len(tables)) if len(flat) else (flat, iter(()))
            parts = [self._decode(models[table], end - start) for table, start, end in groups]
            if parts:
                entries[order] = np.concatenate(parts)
        # Never beyond int32: `FrequencyTables` checked that a table's last symbol is in its range.
        symbols = entries + tables.minimum[flat]
        escaped = np.flatnonzero(entries == tables.sizes[flat] - 1)
        if len(escaped):
            symbols[escaped] = self._get_escapes(
                tables, flat if isinstance(flat, int) else flat[escaped], len(escaped)
            )
        return symbols.reshape(shape)

    def _get_escapes(self, tables: FrequencyTables, index: Index, n: int) -> Integers:
        side = self._uniform(n, 2)
        length = self._decode(_models(LENGTH_TABLE)[0], n).astype(np.int64) + 1
        if int(length.max()) > MAX_LENGTH:
            raise BitstreamError("symbol stream is damaged: an escape without length")
        rest = np.zeros(n, np.int64)
        for bits, which in _by_length(length):
            for low, chunk in _chunks(bits):
                rest[which] |= self._uniform(len(which), 1 << chunk).astype(np.int64) << low
        symbols = tables.from_escapes(side, length, rest, index)
        if int(symbols.min()) < _INT32.min or int(symbols.max()) > _INT32.max:
            raise BitstreamError("symbol stream is damaged: a symbol beyond the range of int32")
        return symbols

    def get_uniform(self, shape: int | tuple[int, ...], size: int) -> Int32s:
        """What `put_uniform` wrote."""
        _check_uniform(size)
        return self._uniform(int(np.prod(shape)), size).reshape(shape)

    def _uniform(self, n: int, size: int) -> Int32s:
        return self._decode(_uniform(size), n) if size > 1 else np.zeros(n, np.int32)

    def _decode(self, model: Any, n: int) -> Int32s:
        if not n:
            return np.zeros(0, np.int32)
        try:
            symbols: Int32s = self._coder.decode(model, n)
        except (AssertionError, ValueError) as error:
            raise BitstreamError(f"symbol stream is damaged: {error}") from None
        return symbols

    def finish(self) -> None:
        """Check that the stream is used up to its last bit.

        Finds nearly all damage, but not a flip among the raw bits of an escape: streams also need a checksum, which
        `container` gives them.

        Raises:
            BitstreamError: it is not: damage that the symbols did not show.
        """
        if not self._coder.is_empty():
            raise BitstreamError("symbol stream is damaged: it does not end where its symbols end")


def _check_uniform(size: int) -> None:
    if not 1 <= size <= MAX_UNIFORM:
        raise ValueError(f"expected 1 to {MAX_UNIFORM} equally likely values, got {size}")


def _uniform(size: int) -> Any:
    import constriction

    return constriction.stream.model.Uniform(size)


def _by_length(length: Integers) -> Iterator[tuple[int, Integers]]:
    """(lower bits, places) of each bit length above 1, rising."""
    for bits in np.unique(length):
        if bits > 1:
            yield int(bits) - 1, np.flatnonzero(length == bits)


def _chunks(bits: int) -> Iterator[tuple[int, int]]:
    """(position, size) of the pieces of a number of `bits` bits."""
    for low in range(0, bits, _CHUNK_BITS):
        yield low, min(_CHUNK_BITS, bits - low)
