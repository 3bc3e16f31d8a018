"""Rows: arithmetic on rows of a table of integers, in vector instructions, for kernels.

Written out as vectors because numba does not tell LLVM that its arrays lie apart: a loop over one short row is
compiled with tests for overlap that take several times as long as the sums.  All arrays are in C order, and nothing
is checked: rows must exist, and have a multiple of `LANES` entries.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

Ints = npt.NDArray[np.int32]

#: Entries of a vector; a row has a multiple of this many.
LANES = 16
_LONG = ir.IntType(64)
_VECTOR = ir.VectorType(ir.IntType(32), LANES)


class _Row:
    """A row of an int32 array of one or two dimensions, in numba's hands."""

    def __init__(
        self, context: Any, builder: ir.IRBuilder, kind: types.Array, array: ir.Value, row: Any = None
    ) -> None:
        made = context.make_array(kind)(context, builder, array)
        self.builder = builder
        self.length = cgutils.unpack_tuple(builder, made.shape, kind.ndim)[-1]
        self.first = made.data if row is None else builder.gep(made.data, [builder.mul(row, self.length)])

    def vectors(self) -> Any:
        """A loop over the first entries of its vectors."""
        return cgutils.for_range_slice(self.builder, _LONG(0), self.length, _LONG(LANES), _LONG)

    def load(self, entry: ir.Value) -> ir.Value:
        """The vector that begins with an entry."""
        return self.builder.load(self._place(entry), align=4)

    def store(self, entry: ir.Value, vector: ir.Value) -> None:
        """Put a vector there."""
        self.builder.store(vector, self._place(entry), align=4)

    def _place(self, entry: ir.Value) -> ir.Value:
        return self.builder.bitcast(self.builder.gep(self.first, [entry]), _VECTOR.as_pointer())


def _are_int32(*kinds: Any) -> bool:
    return all(isinstance(kind, types.Array) and kind.layout == "C" and kind.dtype == types.int32 for kind in kinds)


def _sum_rows(_, table, rows, total):  # type: ignore[no-untyped-def]  # numba calls it with types
    if not _are_int32(table, total) or rows != types.Array(types.int64, 1, "C"):
        return None

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        out = _Row(context, builder, signature.args[2], arguments[2])
        chosen = context.make_array(signature.args[1])(context, builder, arguments[1])
        (count,) = cgutils.unpack_tuple(builder, chosen.shape, 1)
        sums = cgutils.alloca_once(builder, _VECTOR)
        with out.vectors() as (entry, _count):
            builder.store(ir.Constant(_VECTOR, None), sums)
            with cgutils.for_range(builder, count, intp=_LONG) as each:
                row = builder.load(builder.gep(chosen.data, [each.index]))
                weights = _Row(context, builder, signature.args[0], arguments[0], row).load(entry)
                builder.store(builder.add(builder.load(sums), weights), sums)
            out.store(entry, builder.load(sums))
        return context.get_dummy_value()

    return types.void(table, rows, total), generate


#: sum_rows(table, rows, total): total[:] = sum of table[row] over rows; (m, n) int32, (k,) int64, (n,) int32.
sum_rows: Callable[[Ints, npt.NDArray[np.int64], Ints], None] = cast("Any", intrinsic(_sum_rows))


def _add_to_row(_, table, row, values):  # type: ignore[no-untyped-def]  # numba calls it with types
    if not _are_int32(table, values) or row != types.int64:
        return None

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        weights = _Row(context, builder, signature.args[0], arguments[0], arguments[1])
        added = _Row(context, builder, signature.args[2], arguments[2])
        with added.vectors() as (entry, _count):
            weights.store(entry, builder.add(weights.load(entry), added.load(entry)))
        return context.get_dummy_value()

    return types.void(table, row, values), generate


#: add_to_row(table, row, values): table[row] += values; (m, n) int32, int64, (n,) int32.
add_to_row: Callable[[Ints, int, Ints], None] = cast("Any", intrinsic(_add_to_row))
