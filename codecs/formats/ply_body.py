"""PLY body: the rows of elements, in text or in binary, with lists of any length.

Both forms are a run of values that a cursor walks over: numbers in a text, bytes in a binary file.  A row without
lists has a fixed width; the lengths of lists are read row after row, unless all rows are as long as the first.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CloudError
from .ply_header import Element, Header, Property
from .text import parse_numbers, typed

#: numpy's limit of the bytes of one row.
_MAX_ROW_BYTES = (1 << 31) - 1


@dataclass(frozen=True)
class Field:
    """Where a property lies in rows that are all equal.

    Attributes:
        n: values of it in a row.
        offset: of the first one from the start of the row.
        is_length: it is the length of the property's list, not its items.
    """

    prop: Property
    n: int
    offset: int
    is_length: bool = False


@dataclass(frozen=True)
class Rows:
    """The rows of an element.

    Attributes:
        values: (count,) column of each property that is no list.
        lists: length of each row's list, (count,), and all items one after the other, by property.
        end: of the element, in the units of the body.
    """

    values: dict[str, npt.NDArray[Any]]
    lists: dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[Any]]]
    end: int


class Body(ABC):
    """A run of values.

    Attributes:
        end: behind the last one.
        unit: what positions count, in the plural.
    """

    end: int
    unit: str

    @abstractmethod
    def width(self, dtype: str) -> int:
        """Units that a value takes."""

    @abstractmethod
    def reader(self, dtype: str) -> Callable[[int], float]:
        """A function that gives the value at a position."""

    @abstractmethod
    def take(self, positions: npt.NDArray[np.int64], prop: Property) -> npt.NDArray[Any]:
        """The values of a property, or the items of its lists, at positions."""

    @abstractmethod
    def column(self, start: int, count: int, width: int, field: Field) -> npt.NDArray[Any]:
        """One field of `count` rows of `width` units that start at `start`: (count, n) values."""


class Text(Body):
    """Numbers of an ascii file; lines mean nothing, as in rply and thus in Open3D."""

    unit = "numbers"

    def __init__(self, data: bytes) -> None:
        self._values = parse_numbers(data)
        self.end = len(self._values)

    def width(self, dtype: str) -> int:
        """As in `Body`."""
        return 1

    def reader(self, dtype: str) -> Callable[[int], float]:
        """As in `Body`."""
        return self._values.data.__getitem__

    def take(self, positions: npt.NDArray[np.int64], prop: Property) -> npt.NDArray[Any]:
        """As in `Body`."""
        return typed(self._values[positions], np.dtype(prop.dtype), prop.name)

    def column(self, start: int, count: int, width: int, field: Field) -> npt.NDArray[Any]:
        """As in `Body`."""
        block = self._values[start : start + count * width].reshape(count, width)
        flat = np.ascontiguousarray(block[:, field.offset : field.offset + field.n]).reshape(-1)
        kind = np.dtype(np.float64 if field.is_length else field.prop.dtype)
        return typed(flat, kind, field.prop.name).reshape(count, field.n)


class Binary(Body):
    """Bytes of a binary file behind its header."""

    unit = "bytes"

    def __init__(self, data: bytes, byte_order: str) -> None:
        self._data, self._order = data, byte_order
        self.end = len(data)

    def width(self, dtype: str) -> int:
        """As in `Body`."""
        return int(dtype[1:])

    def reader(self, dtype: str) -> Callable[[int], float]:
        """As in `Body`."""
        if dtype == "u1":
            return self._data.__getitem__
        unpack, data = struct.Struct(self._order + np.dtype(dtype).char).unpack_from, self._data
        return lambda position: unpack(data, position)[0]

    def take(self, positions: npt.NDArray[np.int64], prop: Property) -> npt.NDArray[Any]:
        """As in `Body`."""
        octets = np.frombuffer(self._data, np.uint8)
        size = self.width(prop.dtype)
        found = np.empty((len(positions), size), np.uint8)
        for index in range(size):
            found[:, index] = octets[positions + index]
        return found.reshape(-1).view(self._order + prop.dtype)

    def column(self, start: int, count: int, width: int, field: Field) -> npt.NDArray[Any]:
        """As in `Body`."""
        prop = field.prop
        kind = np.dtype((self._order + str(prop.count_dtype if field.is_length else prop.dtype), (field.n,)))
        row = np.dtype({"names": ["it"], "formats": [kind], "offsets": [field.offset], "itemsize": width})
        return np.frombuffer(self._data, row, count, start)["it"]


def open_body(header: Header, data: bytes) -> tuple[Body, int]:
    """The body of a file, and where it starts in it.

    Raises:
        CloudError: a word of a text is no number.
    """
    if header.encoding == "ascii":
        return Text(data[header.n_bytes :]), 0
    return Binary(data, header.byte_order), header.n_bytes


def read_rows(body: Body, element: Element, start: int, wanted: Sequence[str] | None = None) -> Rows:
    """The rows of an element that starts at `start`.

    Args:
        body: of the file.
        element: as the header describes it.
        start: its first unit.
        wanted: names of the lists whose items are wanted; None for no values at all, only the end.

    Raises:
        CloudError: fewer units than the header promises, a length that is none, a value that is not of its type.
    """
    least = sum(body.width(prop.count_dtype or prop.dtype) for prop in element.properties)
    _promised(body, element, start, element.count * least)
    if not element.properties or not element.count:
        columns = {prop.name: np.empty(0, prop.dtype) for prop in element.properties}
        none = np.empty(0, np.int64)
        lists = {prop.name: (none, columns[prop.name]) for prop in element.lists}
        return Rows({name: column for name, column in columns.items() if name not in lists}, lists, start)
    if not element.lists:
        end = start + element.count * least
        return Rows({} if wanted is None else _values(body, element, start, *_fields(body, element, {})), {}, end)
    equal = _equal_rows(body, element, start, wanted)
    return equal if equal is not None else _ragged_rows(body, element, start, wanted)


def _promised(body: Body, element: Element, start: int, expected: int) -> None:
    if body.end - start < expected:
        what = "points" if element.name == "vertex" else f"rows of {element.name[:40]}"
        raise CloudError(
            f"truncated: the header promises {element.count:,} {what} ({expected:,} {body.unit} or more), "
            f"but only {max(body.end - start, 0):,} {body.unit} came"
        )


def _fields(body: Body, element: Element, lengths: Mapping[Property, int]) -> tuple[list[Field], int]:
    """The fields of equal rows whose lists have these lengths, and the width of a row."""
    fields, width = [], 0
    for prop in element.properties:
        if prop.count_dtype:
            fields.append(Field(prop, 1, width, is_length=True))
            width += body.width(prop.count_dtype)
        fields.append(Field(prop, lengths.get(prop, 1), width))
        width += body.width(prop.dtype) * fields[-1].n
    return fields, width


def _values(
    body: Body, element: Element, start: int, fields: Sequence[Field], width: int
) -> dict[str, npt.NDArray[Any]]:
    single = [field for field in fields if not field.prop.count_dtype]
    return {field.prop.name: body.column(start, element.count, width, field)[:, 0] for field in single}


def _equal_rows(body: Body, element: Element, start: int, wanted: Sequence[str] | None) -> Rows | None:
    """The rows if all lists are as long as those of the first row (as in meshes of triangles), else None."""
    first = _list_lengths(body, element, start, 1)[0][0].tolist()
    fields, width = _fields(body, element, dict(zip(element.lists, first, strict=True)))
    end = start + element.count * width
    if end > body.end or width > _MAX_ROW_BYTES:
        return None
    for field in fields:
        if field.is_length:
            counts = body.column(start, element.count, width, field)
            if (counts != counts[0]).any():
                return None
    if wanted is None:
        return Rows({}, {}, end)
    lists = {
        field.prop.name: (
            np.full(element.count, field.n, np.int64),
            body.column(start, element.count, width, field).reshape(-1),
        )
        for field in fields
        if field.prop.count_dtype and not field.is_length and field.prop.name in wanted
    }
    return Rows(_values(body, element, start, fields, width), lists, end)


def _ragged_rows(body: Body, element: Element, start: int, wanted: Sequence[str] | None) -> Rows:
    """The rows where lists differ in length."""
    lengths, end = _list_lengths(body, element, start, element.count)
    if wanted is None:
        return Rows({}, {}, end)
    sizes = dict(zip(element.lists, lengths.T, strict=True))
    spans = []  # units of each property in each row
    for prop in element.properties:
        width = body.width(prop.dtype)
        spans.append(sizes[prop] * width + body.width(prop.count_dtype) if prop.count_dtype else np.int64(width))
    starts = start + np.concatenate([[0], np.cumsum(sum(spans))[:-1]])
    values, lists = {}, {}
    for prop, span in zip(element.properties, spans, strict=True):
        if prop.count_dtype is None:
            values[prop.name] = body.take(starts, prop)
        elif prop.name in wanted:
            n_each, width = sizes[prop], body.width(prop.dtype)
            within = np.arange(int(n_each.sum())) - np.repeat(np.cumsum(n_each) - n_each, n_each)
            first = np.repeat(starts + body.width(prop.count_dtype), n_each)
            lists[prop.name] = (n_each, body.take(first + within * width, prop))
        starts = starts + span
    return Rows(values, lists, end)


def _list_lengths(body: Body, element: Element, start: int, n_rows: int) -> tuple[npt.NDArray[np.int64], int]:
    """Lengths of the lists of the first rows, (n_rows, lists), and the end of those rows.

    Every list takes at least its length, so that an absurd number of rows ends with the data.
    """
    steps: list[tuple[int, Callable[[int], float], int, int]] = []
    gap = 0  # units of the single values since the list before
    for prop in element.properties:
        if prop.count_dtype:
            steps.append((gap, body.reader(prop.count_dtype), body.width(prop.count_dtype), body.width(prop.dtype)))
            gap = 0
        else:
            gap += body.width(prop.dtype)
    found = array("q")
    position, end = start, body.end
    for row in range(n_rows):
        for before, read, count_width, width in steps:
            position += before
            if position + count_width > end:
                raise _cut_short(body, element, row)
            length = read(position)
            position += count_width
            if not 0 <= length * width <= end - position or length != int(length):
                raise CloudError(
                    f"row {row} of {element.name[:40]} has a list of {length:g} items, but only "
                    f"{end - position:,} {body.unit} are left"
                )
            found.append(int(length))
            position += int(length) * width
        position += gap
        if position > end:
            raise _cut_short(body, element, row)
    return np.frombuffer(found, np.int64).reshape(n_rows, len(steps)), position


def _cut_short(body: Body, element: Element, row: int) -> CloudError:
    return CloudError(
        f"truncated: the header promises {element.count:,} rows of {element.name[:40]}, "
        f"but the {body.unit} end in row {row:,}"
    )
