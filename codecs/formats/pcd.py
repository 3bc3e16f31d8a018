"""PCD: the file format of the Point Cloud Library, versions 0.5 to 0.7."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..cloud import PointCloud
from ..errors import CloudError
from .bounds import refuse_columns, refuse_growth
from .table import Table
from .text import parse_numbers, typed

_MAX_HEADER_BYTES = 1 << 16
_TYPES = {"I": "i", "U": "u", "F": "f"}
#: A point takes some dozens of bytes; with features, thousands.
_MAX_POINT_BYTES = 1 << 20
_PACKED = ("rgb", "rgba")
_NAMES = {"normal_x": "nx", "normal_y": "ny", "normal_z": "nz"}


@dataclass(frozen=True)
class _Field:
    """A field of each point.

    Attributes:
        dtype: of each of its values.
        count: values a point; none for some writers' padding.
    """

    name: str
    dtype: np.dtype[Any]
    count: int

    @property
    def is_padding(self) -> bool:
        """Bytes that mean nothing."""
        return self.name == "_"

    @property
    def size(self) -> int:
        """Bytes a point."""
        return self.dtype.itemsize * self.count

    @property
    def columns(self) -> list[str]:
        """What its columns are called."""
        return [self.name] if self.count == 1 else [f"{self.name}[{item}]" for item in range(self.count)]


def read_pcd(data: bytes) -> Table:
    """All fields of a PCD file; packed `rgb` becomes red, green and blue.

    Raises:
        CloudError: not a PCD, a damaged header, or another number of values than the header promises.
    """
    entries, encoding, body = _parse_header(data)
    fields = _fields(entries)
    n_points = _n_points(entries)
    if encoding == "ascii":
        arrays = _from_text(body, n_points, fields)
    elif encoding == "binary":
        arrays = _from_rows(body, n_points, fields)
    else:
        arrays = _from_lzf(body, n_points, fields, len(data))
    return Table(_unpacked({_NAMES.get(name, name): column for name, column in arrays.items()}))


def _fields(entries: dict[str, list[str]]) -> list[_Field]:
    names = entries.get("FIELDS", entries.get("COLUMNS", []))
    if not names:
        raise CloudError("the PCD header has no FIELDS line")
    sizes = entries.get("SIZE", ["4"] * len(names))
    kinds = [kind.upper() for kind in entries.get("TYPE", ["F"] * len(names))]  # some programs write f
    counts = _integers(entries, "COUNT", ["1"] * len(names))
    if not len(names) == len(sizes) == len(kinds) == len(counts):
        raise CloudError(
            f"the PCD header names {len(names)} fields, {len(sizes)} sizes, {len(kinds)} types, {len(counts)} counts"
        )
    fields = []
    for name, kind, size, count in zip(names, kinds, sizes, counts, strict=True):
        if kind not in _TYPES or size not in {"F": ("4", "8")}.get(kind, ("1", "2", "4", "8")):
            raise CloudError(f"the PCD field {name[:40]!r} has type {kind[:8]} of {size[:8]} bytes")
        fields.append(_Field(name, np.dtype("<" + _TYPES[kind] + size), count))
    if sum(field.size for field in fields) > _MAX_POINT_BYTES:
        raise CloudError(f"the PCD header promises more than {_MAX_POINT_BYTES:,} bytes a point")
    refuse_columns(sum(field.count for field in fields if not field.is_padding))
    named = [field.name for field in fields if not field.is_padding]
    if len(set(named)) < len(named):
        twice = next(name for name in named if named.count(name) > 1)
        raise CloudError(f"the PCD header names the field {twice[:40]!r} twice")
    return fields


def _parse_header(data: bytes) -> tuple[dict[str, list[str]], str, bytes]:
    found = re.search(rb"^DATA[ \t]+(\S+)[ \t]*(?:\r?\n|$)", data[:_MAX_HEADER_BYTES], re.MULTILINE)
    if found is None:
        raise CloudError(f"not a PCD: expected a header with a DATA line, it starts with {data[:12]!r}")
    entries: dict[str, list[str]] = {}
    for line in data[: found.start()].decode("latin-1").splitlines():
        words = line.split()
        if words and not words[0].startswith("#"):
            entries[words[0].upper()] = words[1:]
    encoding = found.group(1).decode("latin-1").lower()
    if encoding not in ("ascii", "binary", "binary_compressed"):
        raise CloudError(f"the PCD data are {encoding[:40]!r}, expected ascii, binary or binary_compressed")
    return entries, encoding, data[found.end() :]


def _integers(entries: dict[str, list[str]], key: str, default: list[str]) -> list[int]:
    words = entries.get(key, default)
    if not all(word.isascii() and word.isdigit() and len(word) < 19 for word in words):
        raise CloudError(f"the PCD header line {key} holds {' '.join(words)[:60]!r}, expected whole numbers")
    return [int(word) for word in words]


def _n_points(entries: dict[str, list[str]]) -> int:
    size = _integers(entries, "WIDTH", []) + _integers(entries, "HEIGHT", ["1"])
    points = _integers(entries, "POINTS", [])
    if points[1:] or len(size) > 2 or not (points or len(size) == 2):
        raise CloudError("the PCD header states no number of points (WIDTH and HEIGHT, or POINTS)")
    if not points:
        return size[0] * size[1]
    if len(size) == 2 and size[0] * size[1] != points[0]:
        raise CloudError(f"the PCD header promises {points[0]:,} points, but {size[0]:,} x {size[1]:,}")
    return points[0]


def _from_text(body: bytes, n_points: int, fields: list[_Field]) -> dict[str, npt.NDArray[Any]]:
    values = parse_numbers(body)
    width = sum(field.count for field in fields)
    if n_points * width != len(values):
        what = "truncated: " if n_points * width > len(values) else ""
        raise CloudError(
            f"{what}the header promises {n_points:,} points of {width:,} values, {n_points * width:,} in all, "
            f"but {len(values):,} came"
        )
    rows = values.reshape(n_points, width) if width else np.empty((0, 0))
    out: dict[str, npt.NDArray[Any]] = {}
    place = 0
    for field in fields:
        for item, name in enumerate([] if field.is_padding else field.columns):
            column = np.ascontiguousarray(rows[:, place + item])
            out[name] = _packed(name, column, field) if name in _PACKED else typed(column, field.dtype, name)
        place += field.count
    return out


def _packed(name: str, column: npt.NDArray[Any], field: _Field) -> npt.NDArray[Any]:
    """A packed colour may be written as the number of its bits although its type says float."""
    as_float = field.dtype.kind == "f" and not bool((np.rint(column) == column).all() and (column >= 1).any())
    return column.astype(np.float32).view(np.uint32) if as_float else _as_uint32(name, column)


def _as_uint32(name: str, array: npt.NDArray[Any]) -> npt.NDArray[np.uint32]:
    if not ((array >= 0) & (array < 2**32)).all():
        raise CloudError(f"the PCD field {name!r} holds a value that is no packed colour")
    return array.astype(np.uint32)


def _from_rows(body: bytes, n_points: int, fields: list[_Field]) -> dict[str, npt.NDArray[Any]]:
    width = sum(field.size for field in fields)
    _promised(n_points, n_points * width, len(body))
    if width and len(body) - n_points * width >= width:
        raise CloudError(
            f"the header promises {n_points:,} points of {width:,} bytes, but {len(body) - n_points * width:,} bytes "
            "more than these take came: a wrong count, or other fields than the header names"
        )
    if not n_points:
        return {name: np.empty(0, field.dtype) for field in fields if not field.is_padding for name in field.columns}
    out: dict[str, npt.NDArray[Any]] = {}
    offset = 0
    for field in fields:
        if not field.is_padding:
            kind = np.dtype((field.dtype, (field.count,)))
            row = np.dtype({"names": ["it"], "formats": [kind], "offsets": [offset], "itemsize": width})
            values = np.frombuffer(body, row, n_points)["it"] if field.count else np.empty((0, 0))
            out.update({name: values[:, item] for item, name in enumerate(field.columns)})
        offset += field.size
    return out


def _from_lzf(body: bytes, n_points: int, fields: list[_Field], n_file: int) -> dict[str, npt.NDArray[Any]]:
    if len(body) < 8:
        raise CloudError(f"truncated: {len(body)} bytes after the PCD header, expected the two sizes")
    n_packed, n_plain = struct.unpack_from("<II", body)
    if n_plain == n_points * sum(field.size for field in fields if not field.is_padding):
        fields = [field for field in fields if not field.is_padding]  # PCL leaves padding out here
    expected = n_points * sum(field.size for field in fields)
    if n_plain != expected:
        raise CloudError(f"{n_points:,} points take {expected:,} bytes, the compressed data hold {n_plain:,}")
    if n_packed > len(body) - 8:
        raise CloudError(
            f"truncated: the header promises {n_points:,} points in {n_packed:,} compressed bytes, "
            f"but only {len(body) - 8:,} bytes came"
        )
    refuse_growth(n_plain, n_file)
    plain = b""
    if n_plain:
        from .lzf import decompress

        plain = decompress(body[8 : 8 + n_packed], n_plain)
    out: dict[str, npt.NDArray[Any]] = {}
    offset = 0
    for field in fields:  # field after field, not point after point
        if not field.is_padding and field.count:
            values = np.frombuffer(plain, field.dtype, n_points * field.count, offset).reshape(n_points, field.count)
            out.update({name: values[:, item] for item, name in enumerate(field.columns)})
        offset += n_points * field.size
    return out


def _promised(n_points: int, expected: int, came: int) -> None:
    if came < expected:
        raise CloudError(
            f"truncated: the header promises {n_points:,} points ({expected:,} bytes), but only {came:,} bytes came"
        )


def _unpacked(columns: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    for name in _PACKED:
        column = columns.get(name)
        if column is None or column.dtype.itemsize != 4:
            continue
        del columns[name]
        packed = np.ascontiguousarray(column).view("<u4" if column.dtype.byteorder == "<" else np.uint32)
        for shift, color in ((16, "red"), (8, "green"), (0, "blue")):
            columns[color] = ((packed >> shift) & 255).astype(np.uint8)
    return columns


def format_pcd(cloud: PointCloud) -> bytes:
    """A binary PCD file of the points, normals and colours (other attributes have no agreed form there)."""
    points = cloud.points.astype(np.float32) if cloud.is_voxelised else cloud.points
    columns = [(name, points[:, axis]) for axis, name in enumerate(("x", "y", "z"))]
    if cloud.normals is not None:
        columns += [(name, cloud.normals[:, axis]) for axis, name in enumerate(_NAMES)]
    if cloud.colors is not None:
        red, green, blue = cloud.colors.T.astype(np.uint32)
        columns.append(("rgb", (red << 16 | green << 8 | blue).view(np.float32)))
    rows = np.empty(len(cloud), [(name, "<" + column.dtype.str[1:]) for name, column in columns])
    for name, column in columns:
        rows[name] = column
    lines = [
        "# .PCD v0.7 - Point Cloud Data file format",
        "VERSION 0.7",
        f"FIELDS {' '.join(name for name, _ in columns)}",
        f"SIZE {' '.join(str(column.dtype.itemsize) for _, column in columns)}",
        f"TYPE {' '.join(column.dtype.kind.upper() for _, column in columns)}",
        f"COUNT {' '.join('1' for _ in columns)}",
        f"WIDTH {len(cloud)}",
        "HEIGHT 1",
        "VIEWPOINT 0 0 0 1 0 0 0",
        f"POINTS {len(cloud)}",
        "DATA binary",
        "",
    ]
    return "\n".join(lines).encode() + rows.tobytes()
