"""PLY header: encoding, elements and their properties."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ..errors import CloudError
from .bounds import refuse_columns

Encoding = Literal["binary_little_endian", "binary_big_endian", "ascii"]

#: A header larger than this is damage, not a header.
_MAX_HEADER_BYTES = 1 << 20
_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
_REMARKS = ("comment", "obj_info")


@dataclass(frozen=True)
class Property:
    """A value of each row, or a list of values.

    Attributes:
        dtype: of the value or of each item, as numpy writes it, without byte order.
        count_dtype: of a list's length; None for a single value.
    """

    name: str
    dtype: str
    count_dtype: str | None = None


@dataclass(frozen=True)
class Element:
    """So many rows of properties."""

    name: str
    count: int
    properties: tuple[Property, ...]

    @property
    def lists(self) -> tuple[Property, ...]:
        """The properties that are lists."""
        return tuple(prop for prop in self.properties if prop.count_dtype)


@dataclass(frozen=True)
class Header:
    """What stands before the data, and how many bytes it takes."""

    encoding: Encoding
    elements: tuple[Element, ...]
    comments: tuple[str, ...]
    n_bytes: int

    @property
    def byte_order(self) -> str:
        """As numpy writes it."""
        return ">" if self.encoding == "binary_big_endian" else "<"


def parse_header(data: bytes) -> Header:
    """The header of a PLY file.

    Lines end as the first one does, so that a stray carriage return stays within its line, and a binary body that
    begins with a line feed is whole.

    Raises:
        CloudError: not a PLY, or a header that makes no sense.
    """
    start = re.match(rb"ply[ \t]*(\r\n|\n|\r)", data[:64])
    if start is None:
        raise CloudError(f"not a PLY: expected it to start with 'ply', it starts with {data[:12]!r}")
    ending = rb"\r" if start.group(1) == b"\r" else rb"\r?\n"
    end = re.search(rb"(?:\r|\n)end_header[ \t]*(?:" + ending + rb"|$)", data[:_MAX_HEADER_BYTES])
    if end is None:
        raise CloudError(f"the PLY header has no end_header line within {_MAX_HEADER_BYTES:,} bytes")
    lines = re.split(ending.decode(), data[: end.start()].decode("latin-1"))[1:]
    words = [line.split(maxsplit=1)[:1] for line in lines]
    comments = tuple(line for line, first in zip(lines, words, strict=True) if first and first[0] in _REMARKS)
    rest = (line for line, first in zip(lines, words, strict=True) if first and first[0] not in _REMARKS)
    encoding, elements = _parse_elements(rest)
    return Header(encoding, elements, comments, end.end())


def _parse_elements(lines: Iterable[str]) -> tuple[Encoding, tuple[Element, ...]]:
    encoding: Encoding | None = None
    elements: list[tuple[str, int, dict[str, Property]]] = []
    for line in lines:
        match line.split():
            case ["format", "ascii" | "binary_little_endian" | "binary_big_endian" as name, "1.0"]:
                encoding = name
            case ["element", name, count] if count.isascii() and count.isdigit() and len(count) < 20:
                elements.append((name, int(count), {}))
            case ["property", *words] if elements:
                prop = _parse_property(line, words)
                if prop.name in elements[-1][2]:
                    raise CloudError(f"the PLY element {elements[-1][0]!r} has two properties {prop.name!r}")
                elements[-1][2][prop.name] = prop
                refuse_columns(len(elements[-1][2]))
            case _:
                raise CloudError(f"the PLY header has a line that means nothing here: {line[:80]!r}")
    if encoding is None:
        raise CloudError("the PLY header has no format line (ascii, binary_little_endian, binary_big_endian)")
    return encoding, tuple(Element(name, count, tuple(props.values())) for name, count, props in elements)


def _parse_property(line: str, words: list[str]) -> Property:
    match words:
        case ["list", count_type, item_type, name] if count_type in _TYPES and item_type in _TYPES:
            if not _TYPES[count_type].startswith("f"):
                return Property(name, _TYPES[item_type], _TYPES[count_type])
        case [item_type, name] if item_type in _TYPES:
            return Property(name, _TYPES[item_type])
    raise CloudError(f"the PLY header has a property of unknown type: {line[:80]!r}")
