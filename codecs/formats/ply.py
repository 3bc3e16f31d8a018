"""PLY: the polygon file format, ascii and binary.

plyfile was measured and left: it reads binary as fast, but ascii in 20 s (858k points; here 0.4 s), and it
allocates what a header promises before it looks whether the bytes are there.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..cloud import PointCloud
from ..errors import CloudError
from .mesh import Mesh, triangles
from .table import Table, together
from .text import parse_rows

Encoding = Literal["binary_little_endian", "binary_big_endian", "ascii"]

#: A header larger than this is damage, not a header.
_MAX_HEADER_BYTES = 1 << 20
_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
_NAMES = {
    "i1": "char",
    "u1": "uchar",
    "i2": "short",
    "u2": "ushort",
    "i4": "int",
    "u4": "uint",
    "f4": "float",
}
_ALIASES = {"diffuse_red": "red", "diffuse_green": "green", "diffuse_blue": "blue"}
_DEPTH_COMMENT = re.compile(r"pccbench bit_depth (\d{1,2})$")


@dataclass(frozen=True)
class _Property:
    name: str
    dtype: str
    count_dtype: str | None = None  # of a list


@dataclass(frozen=True)
class _Element:
    name: str
    count: int
    properties: tuple[_Property, ...]

    @property
    def has_lists(self) -> bool:
        return any(prop.count_dtype for prop in self.properties)


@dataclass(frozen=True)
class _Header:
    encoding: Encoding
    elements: tuple[_Element, ...]
    comments: tuple[str, ...]
    n_bytes: int

    @property
    def byte_order(self) -> str:
        return ">" if self.encoding == "binary_big_endian" else "<"


def read_ply(data: bytes) -> Table:
    """The vertices of a PLY file with all their scalar properties.

    Raises:
        CloudError: not a PLY, a damaged header, or fewer bytes than the header promises.
    """
    header = _parse_header(data)
    columns = _element_columns(header, data, "vertex")
    found = [_DEPTH_COMMENT.search(comment) for comment in header.comments]
    depths = [int(match.group(1)) for match in found if match]
    named = {_ALIASES.get(name, name): column for name, column in columns.items()}
    return Table(named, depths[0] if depths and 1 <= depths[0] <= 21 else None)


def read_ply_mesh(data: bytes) -> Mesh:
    """The vertices and faces of a PLY file; polygons become fans of triangles.

    Raises:
        CloudError: as `read_ply`, or no faces, or a face that names no vertex.
    """
    header = _parse_header(data)
    columns = _element_columns(header, data, "vertex")
    missing = [name for name in ("x", "y", "z") if name not in columns]
    if missing:
        raise CloudError(f"no {', '.join(missing)} among its properties ({', '.join(columns) or 'none'})")
    vertices = together([columns[name] for name in ("x", "y", "z")], np.float64)
    faces = next((element for element in header.elements if element.name == "face"), None)
    lists = [] if faces is None else [prop for prop in faces.properties if prop.count_dtype]
    if faces is None or not lists:
        raise CloudError("no faces: expected a mesh")
    sizes, indices = _read_lists(header, data, faces, lists[0])
    return Mesh(vertices, triangles(sizes, indices))


def _parse_header(data: bytes) -> _Header:
    if not re.match(rb"ply[ \t]*\r?\n|ply[ \t]*\r", data[:64]):
        raise CloudError(f"not a PLY: expected it to start with 'ply', it starts with {data[:12]!r}")
    end = re.search(rb"(?:\r\n|\n|\r)end_header[ \t]*(\r\n|\n|\r|$)", data[:_MAX_HEADER_BYTES])
    if end is None:
        raise CloudError("the PLY header has no end_header line")
    length = end.end()
    if end.group(1) == b"\r\n" and re.match(rb"ply[ \t]*\r[^\n]", data[:64]):
        length -= 1  # lines end in a bare \r here, so this \n is the first byte of the data
    lines = re.split(r"\r\n|\n|\r", data[: end.start()].decode("latin-1"))[1:]
    remarks = ("comment", "obj_info")
    comments = tuple(line for line in lines if line.startswith(remarks))
    encoding, elements = _parse_elements(line for line in lines if line.strip() and not line.startswith(remarks))
    return _Header(encoding, elements, comments, length)


def _parse_elements(lines: Iterable[str]) -> tuple[Encoding, tuple[_Element, ...]]:
    encoding: Encoding | None = None
    elements: list[tuple[str, int, dict[str, _Property]]] = []
    for line in lines:
        match line.split():
            case ["format", "ascii" | "binary_little_endian" | "binary_big_endian" as name, "1.0"]:
                encoding = name
            case ["element", name, count] if count.isascii() and count.isdigit() and len(count) < 19:
                elements.append((name, int(count), {}))
            case ["property", *words] if elements:
                prop = _parse_property(line, words)
                if prop.name in elements[-1][2]:
                    raise CloudError(f"the PLY element {elements[-1][0]!r} has two properties {prop.name!r}")
                elements[-1][2][prop.name] = prop
            case _:
                raise CloudError(f"the PLY header has a line that means nothing here: {line[:80]!r}")
    if encoding is None:
        raise CloudError("the PLY header has no format line (ascii, binary_little_endian, binary_big_endian)")
    return encoding, tuple(_Element(name, count, tuple(props.values())) for name, count, props in elements)


def _parse_property(line: str, words: list[str]) -> _Property:
    match words:
        case ["list", count_type, item_type, name] if count_type in _TYPES and item_type in _TYPES:
            if not _TYPES[count_type].startswith("f"):
                return _Property(name, _TYPES[item_type], _TYPES[count_type])
        case [item_type, name] if item_type in _TYPES:
            return _Property(name, _TYPES[item_type])
    raise CloudError(f"the PLY header has a property of unknown type: {line[:80]!r}")


def _element_columns(header: _Header, data: bytes, name: str) -> dict[str, npt.NDArray[Any]]:
    """Scalar properties of the first element of that name; what stands before it is skipped."""
    offset = header.n_bytes
    for element in header.elements:
        if element.name == name:
            return _scalars(header, data, offset, element)
        offset = _skip(header, data, offset, element)
    known = ", ".join(element.name for element in header.elements) or "none"
    raise CloudError(f"the PLY file has no element {name!r} (elements: {known})")


def _scalars(header: _Header, data: bytes, offset: int, element: _Element) -> dict[str, npt.NDArray[Any]]:
    scalars = [prop for prop in element.properties if prop.count_dtype is None]
    if header.encoding == "ascii":
        if element.has_lists:
            return _ragged_text(data[offset:], element)
        dtypes = [np.dtype(prop.dtype) for prop in scalars]
        columns = parse_rows(data[offset:], element.count, dtypes)
        return {prop.name: column for prop, column in zip(scalars, columns, strict=True)}
    if element.has_lists:
        return _ragged_binary(header, data, offset, element)[0]
    row = np.dtype([(prop.name, header.byte_order + prop.dtype) for prop in scalars])
    _promised(element, element.count * row.itemsize, len(data) - offset)
    rows = np.frombuffer(data, row, element.count, offset) if row.itemsize else np.empty(0, row)
    return {prop.name: rows[prop.name] for prop in scalars}


def _promised(element: _Element, expected: int, came: int) -> None:
    if came < expected:
        what = "points" if element.name == "vertex" else f"{element.name} rows"
        raise CloudError(
            f"truncated: the header promises {element.count:,} {what} ({expected:,} bytes), "
            f"but only {max(came, 0):,} bytes came"
        )


def _skip(header: _Header, data: bytes, offset: int, element: _Element) -> int:
    """Offset behind an element."""
    if header.encoding == "ascii":
        body = np.frombuffer(data, np.uint8, offset=offset)
        ends = np.flatnonzero(body == ord("\n"))
        if len(ends) < element.count:
            raise CloudError(
                f"truncated: the header promises {element.count:,} lines of {element.name}, {len(ends):,} came"
            )
        return offset + (int(ends[element.count - 1]) + 1 if element.count else 0)
    if element.has_lists:
        return _ragged_binary(header, data, offset, element)[1]
    size = element.count * sum(np.dtype(prop.dtype).itemsize for prop in element.properties)
    _promised(element, size, len(data) - offset)
    return offset + size


def _ragged_binary(
    header: _Header, data: bytes, offset: int, element: _Element
) -> tuple[dict[str, npt.NDArray[Any]], int]:
    """Scalar columns of an element with lists, and the offset behind it."""
    if not element.count:
        return {prop.name: np.empty(0, prop.dtype) for prop in element.properties if not prop.count_dtype}, offset
    first = next(_walk(header, data, offset, element, 1))
    row = _uniform_row(header, element, first)
    size = element.count * row.itemsize
    if size <= len(data) - offset:
        rows = np.frombuffer(data, row, element.count, offset)
        lists = [prop for prop in element.properties if prop.count_dtype]
        if all((rows[_count_name(prop)] == rows[_count_name(prop)][0]).all() for prop in lists):
            names = [prop.name for prop in element.properties if not prop.count_dtype]
            return {name: rows[name] for name in names}, offset + size
    found: dict[str, list[Any]] = {prop.name: [] for prop in element.properties if not prop.count_dtype}
    end = offset
    for fields, end in _walk(header, data, offset, element, element.count):  # noqa: B007
        for name, column in found.items():
            column.append(fields[name])
    dtypes = {prop.name: prop.dtype for prop in element.properties}
    return {name: np.array(column, dtypes[name]) for name, column in found.items()}, end


def _count_name(prop: _Property) -> str:
    return f"number of {prop.name}"


def _uniform_row(header: _Header, element: _Element, first: tuple[dict[str, Any], int]) -> np.dtype[Any]:
    """Row type if all rows had lists as long as the first's (as meshes of triangles have)."""
    fields: list[Any] = []
    for prop in element.properties:
        if prop.count_dtype is None:
            fields.append((prop.name, header.byte_order + prop.dtype))
        else:
            fields.append((_count_name(prop), header.byte_order + prop.count_dtype))
            fields.append((prop.name, header.byte_order + prop.dtype, (len(first[0][prop.name]),)))
    return np.dtype(fields)


def _walk(
    header: _Header, data: bytes, offset: int, element: _Element, n_rows: int
) -> Iterator[tuple[dict[str, Any], int]]:
    """Row after row: values by property name (a list as an array), and the offset behind the row.

    Each row takes at least the bytes of its list lengths, so an absurd count ends with the data.
    """
    order = header.byte_order
    steps = [
        (
            prop.name,
            struct.Struct(order + np.dtype(prop.count_dtype or prop.dtype).char),
            np.dtype(order + prop.dtype) if prop.count_dtype else None,
        )
        for prop in element.properties
    ]
    for row in range(n_rows):
        fields: dict[str, Any] = {}
        for name, scalar, items in steps:
            if offset + scalar.size > len(data):
                raise CloudError(
                    f"truncated: the header promises {element.count:,} rows of {element.name}, {row:,} came"
                )
            value = scalar.unpack_from(data, offset)[0]
            offset += scalar.size
            if items is not None:
                if value < 0 or offset + value * items.itemsize > len(data):
                    raise CloudError(
                        f"{element.name} {row} has a list {name!r} of {value:,} items, "
                        f"but only {len(data) - offset:,} bytes are left"
                    )
                fields[name] = np.frombuffer(data, items, value, offset)
                offset += value * items.itemsize
            else:
                fields[name] = value
        yield fields, offset


def _ragged_text(body: bytes, element: _Element) -> dict[str, npt.NDArray[Any]]:
    found: dict[str, list[float]] = {prop.name: [] for prop in element.properties if not prop.count_dtype}
    for fields in _walk_text(body, element):
        for name, column in found.items():
            column.append(fields[name][0])
    dtypes = {prop.name: np.dtype(prop.dtype) for prop in element.properties}
    return {name: np.array(column).astype(dtypes[name]) for name, column in found.items()}


def _walk_text(body: bytes, element: _Element) -> Iterator[dict[str, list[float]]]:
    lines = (line for line in body.splitlines() if line.strip())
    for row in range(element.count):
        line = next(lines, None)
        if line is None:
            raise CloudError(
                f"truncated: the header promises {element.count:,} lines of {element.name}, {row:,} came"
            )
        try:
            values = [float(word) for word in line.split()]
            fields, start = {}, 0
            for prop in element.properties:
                size = 1
                if prop.count_dtype:
                    size, start = int(values[start]), start + 1
                fields[prop.name] = values[start : start + size]
                if size < 0 or len(fields[prop.name]) < size:
                    raise IndexError
                start += size
        except (ValueError, IndexError, OverflowError):
            raise CloudError(f"line {row} of {element.name} is damaged: {line[:80]!r}") from None
        yield fields


def _read_lists(
    header: _Header, data: bytes, element: _Element, prop: _Property
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Lengths of each row's list, and all items one after the other."""
    offset = header.n_bytes
    for other in header.elements:
        if other is element:
            break
        offset = _skip(header, data, offset, other)
    rows: Iterable[Any]
    if header.encoding == "ascii":
        rows = [np.array(fields[prop.name]) for fields in _walk_text(data[offset:], element)]
    else:
        if element.count:
            row = _uniform_row(header, element, next(_walk(header, data, offset, element, 1)))
            if element.count * row.itemsize <= len(data) - offset:
                table = np.frombuffer(data, row, element.count, offset)
                sizes = table[_count_name(prop)].astype(np.int64)
                if (sizes == sizes[0]).all():
                    return sizes, table[prop.name].astype(np.int64).ravel()
        rows = [fields[prop.name] for fields, _ in _walk(header, data, offset, element, element.count)]
    rows = list(rows)
    sizes = np.array([len(items) for items in rows], np.int64)
    items = np.concatenate(rows) if rows else np.empty(0)
    return sizes, items.astype(np.int64)


def format_ply(cloud: PointCloud, encoding: Encoding = "binary_little_endian") -> bytes:
    """A PLY file of the cloud with normals, colours and attributes.

    Coordinates of a voxelised cloud are written as `float`, which holds 21 bits exactly and which MPEG's
    tools read; the depth stands in a comment, so that reading gives the same cloud back.
    """
    columns: list[tuple[str, npt.NDArray[Any]]] = []
    points = cloud.points.astype(np.float32) if cloud.is_voxelised else cloud.points
    columns += [(name, points[:, axis]) for axis, name in enumerate(("x", "y", "z"))]
    if cloud.normals is not None:
        columns += [(name, cloud.normals[:, axis]) for axis, name in enumerate(("nx", "ny", "nz"))]
    if cloud.colors is not None:
        columns += [(name, cloud.colors[:, axis]) for axis, name in enumerate(("red", "green", "blue"))]
    columns += [(name, _storable(name, column)) for name, column in cloud.attributes.items()]
    lines = ["ply", f"format {encoding} 1.0"]
    if cloud.bit_depth is not None:
        lines.append(f"comment pccbench bit_depth {cloud.bit_depth}")
    lines.append(f"element vertex {len(cloud)}")
    lines += [f"property {_NAMES.get(column.dtype.str[1:], 'double')} {name}" for name, column in columns]
    head = "\n".join([*lines, "end_header", ""]).encode()
    if encoding == "ascii":
        return head + _text_rows([column for _, column in columns])
    order = ">" if encoding == "binary_big_endian" else "<"
    row = np.dtype([(name, order + column.dtype.str[1:]) for name, column in columns])
    rows = np.empty(len(cloud), row)
    for name, column in columns:
        rows[name] = np.ascontiguousarray(column)  # as in `together`
    return head + rows.tobytes()


def _storable(name: str, column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Attributes in a type that PLY has: 64-bit integers and half precision become double."""
    if not name or name.split() != [name] or not name.isascii():
        raise CloudError(f"the attribute name {name!r} cannot stand in a PLY header")
    if column.ndim != 1 or column.dtype.kind not in "iufb":
        raise CloudError(f"PLY holds one number a point, attribute {name!r} has {column.dtype} {column.shape}")
    if column.dtype.kind == "b":
        return column.astype(np.uint8)
    return column if column.dtype.str[1:] in (*_NAMES, "f8") else column.astype(np.float64)


def _text_rows(columns: list[npt.NDArray[Any]]) -> bytes:
    """Decimals that read back as the same numbers; whole columns of integers without a point."""
    whole = [column.dtype.kind != "f" or _are_small_integers(column) for column in columns]
    widths = [
        "%d" if is_whole else f"%.{9 if column.dtype == np.float32 else 17}g"
        for column, is_whole in zip(columns, whole, strict=True)
    ]
    row = " ".join(widths) + "\n"
    blocks, step = [], 1 << 16  # one formatting call for many rows: 20 times as fast as row after row
    for start in range(0, len(columns[0]), step):
        parts = [column[start : start + step].tolist() for column in columns]
        values = [value for values in zip(*parts, strict=True) for value in values]
        blocks.append((row * len(parts[0])) % tuple(values))
    return "".join(blocks).encode()


def _are_small_integers(column: npt.NDArray[Any]) -> bool:
    return bool(((np.rint(column) == column) & (np.abs(column) < 2**53)).all())
