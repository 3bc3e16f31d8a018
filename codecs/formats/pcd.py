"""PCD: the file format of the Point Cloud Library, versions 0.5 to 0.7."""

from __future__ import annotations

import re
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from ..cloud import PointCloud
from ..errors import CloudError
from .table import Table
from .text import parse_rows

_MAX_HEADER_BYTES = 1 << 16
_TYPES = {"I": "i", "U": "u", "F": "f"}
_NAMES = {"normal_x": "nx", "normal_y": "ny", "normal_z": "nz"}


def read_pcd(data: bytes) -> Table:
    """All fields of a PCD file; packed `rgb` becomes red, green and blue.

    Raises:
        CloudError: not a PCD, a damaged header, or fewer bytes than the header promises.
    """
    entries, encoding, body = _parse_header(data)
    fields = entries.get("FIELDS", entries.get("COLUMNS", []))
    if not fields:
        raise CloudError("the PCD header has no FIELDS line")
    sizes = entries.get("SIZE", ["4"] * len(fields))
    kinds = entries.get("TYPE", ["F"] * len(fields))
    counts = _integers(entries, "COUNT", ["1"] * len(fields))
    if not len(fields) == len(sizes) == len(kinds) == len(counts):
        raise CloudError(
            f"the PCD header names {len(fields)} fields, {len(sizes)} sizes, {len(kinds)} types, {len(counts)} counts"
        )
    n_points = _n_points(entries)
    columns: list[tuple[str, np.dtype[Any]]] = []
    for index, (name, kind, size, count) in enumerate(zip(fields, kinds, sizes, counts, strict=True)):
        if kind not in _TYPES or size not in {"F": ("4", "8")}.get(kind, ("1", "2", "4", "8")):
            raise CloudError(f"the PCD field {name!r} has type {kind} of {size} bytes")
        if not 1 <= count <= 4096:
            raise CloudError(f"the PCD field {name!r} has count {count}, expected 1 to 4096")
        names = [name] if count == 1 else [f"{name}[{item}]" for item in range(count)]
        # "_" is padding, which may occur more than once.
        names = [f"_{index}.{item}" for item in range(count)] if name == "_" else names
        columns += [(column, np.dtype("<" + _TYPES[kind] + size)) for column in names]
    if len({name for name, _ in columns}) < len(columns):
        raise CloudError(f"the PCD header names a field twice: {' '.join(fields)}")
    if encoding == "ascii":
        arrays = _from_text(body, n_points, columns)
    elif encoding == "binary":
        arrays = _from_rows(body, n_points, columns)
    else:
        arrays = _from_lzf(body, n_points, columns)
    kept = {name: column for name, column in arrays.items() if not name.startswith("_")}
    return Table(_unpacked({_NAMES.get(name, name): column for name, column in kept.items()}))


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


def _from_text(body: bytes, n_points: int, columns: list[tuple[str, np.dtype[Any]]]) -> dict[str, npt.NDArray[Any]]:
    # A packed colour may be written as the number of its bits although its type says float.
    dtypes = [np.dtype(np.float64) if name in ("rgb", "rgba") else dtype for name, dtype in columns]
    arrays = parse_rows(body, n_points, [dtype.newbyteorder("=") for dtype in dtypes])
    out = {}
    for (name, dtype), array in zip(columns, arrays, strict=True):
        if name in ("rgb", "rgba"):
            as_float = dtype.kind == "f" and not bool((np.rint(array) == array).all() and (array >= 1).any())
            out[name] = array.astype(np.float32).view(np.uint32) if as_float else _as_uint32(name, array)
        else:
            out[name] = array
    return out


def _as_uint32(name: str, array: npt.NDArray[Any]) -> npt.NDArray[np.uint32]:
    if not ((array >= 0) & (array < 2**32)).all():
        raise CloudError(f"the PCD field {name!r} holds a value that is no packed colour")
    return array.astype(np.uint32)


def _from_rows(body: bytes, n_points: int, columns: list[tuple[str, np.dtype[Any]]]) -> dict[str, npt.NDArray[Any]]:
    row = np.dtype(columns)
    _promised(n_points, n_points * row.itemsize, len(body))
    rows = np.frombuffer(body, row, n_points)
    return {name: rows[name] for name, _ in columns}


def _from_lzf(body: bytes, n_points: int, columns: list[tuple[str, np.dtype[Any]]]) -> dict[str, npt.NDArray[Any]]:
    if len(body) < 8:
        raise CloudError(f"truncated: {len(body)} bytes after the PCD header, expected the two sizes")
    n_packed, n_plain = struct.unpack_from("<II", body)
    expected = n_points * sum(dtype.itemsize for _, dtype in columns)
    if n_plain != expected:
        raise CloudError(f"{n_points:,} points take {expected:,} bytes, the compressed data hold {n_plain:,}")
    if n_packed > len(body) - 8:
        raise CloudError(
            f"truncated: the header promises {n_points:,} points in {n_packed:,} compressed bytes, "
            f"but only {len(body) - 8:,} bytes came"
        )
    from .lzf import decompress

    plain = decompress(body[8 : 8 + n_packed], n_plain) if n_plain else b""
    arrays, offset = {}, 0
    for name, dtype in columns:  # column after column, not row after row
        arrays[name] = np.frombuffer(plain, dtype, n_points, offset) if n_plain else np.empty(0, dtype)
        offset += n_points * dtype.itemsize
    return arrays


def _promised(n_points: int, expected: int, came: int) -> None:
    if came < expected:
        raise CloudError(
            f"truncated: the header promises {n_points:,} points ({expected:,} bytes), but only {came:,} bytes came"
        )


def _unpacked(columns: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    for name in ("rgb", "rgba"):
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
