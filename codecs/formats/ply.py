"""PLY: the polygon file format, ascii and binary.

plyfile was measured and left: it reads binary as fast, but ascii in 20 s (858k points; here 0.7 s), and it
allocates what a header promises before it looks whether the bytes are there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..cloud import PointCloud
from ..errors import CloudError
from .mesh import Mesh, triangles
from .ply_body import Binary, Body, Rows, open_body, read_rows
from .ply_header import Element, Encoding, Header, parse_header
from .table import Table, together

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


def read_ply(data: bytes) -> Table:
    """The vertices of a PLY file with all their scalar properties.

    Raises:
        CloudError: not a PLY, a damaged header, or another number of values than the header promises.
    """
    header = parse_header(data)
    rows = _read_elements(header, data, {"vertex": ()})["vertex"]
    found = [_DEPTH_COMMENT.search(comment) for comment in header.comments]
    depths = [int(match.group(1)) for match in found if match]
    named = {_ALIASES.get(name, name): column for name, column in rows.values.items()}
    return Table(named, depths[0] if depths and 1 <= depths[0] <= 21 else None)


def read_ply_mesh(data: bytes) -> Mesh:
    """The vertices and faces of a PLY file; polygons become fans of triangles.

    Raises:
        CloudError: as `read_ply`, or no faces, or a face that names no vertex.
    """
    header = parse_header(data)
    faces = next((element for element in header.elements if element.name == "face"), None)
    lists = () if faces is None else faces.lists
    if not lists:
        raise CloudError("no faces: expected a mesh")
    corners = next((prop.name for prop in lists if prop.name in _CORNERS), lists[0].name)
    found = _read_elements(header, data, {"vertex": (), "face": (corners,)})
    columns = found["vertex"].values
    missing = [name for name in ("x", "y", "z") if name not in columns]
    if missing:
        known = [name[:40] for name in columns][:12]
        raise CloudError(f"no {', '.join(missing)} among its properties ({', '.join(known) or 'none'})")
    vertices = together([columns[name] for name in ("x", "y", "z")], np.float64)
    sizes, indices = found["face"].lists[corners]
    return Mesh(vertices, triangles(sizes, indices.astype(np.int64)))


#: What the list of a face's corners is called.
_CORNERS = ("vertex_indices", "vertex_index")


def _read_elements(header: Header, data: bytes, wanted: dict[str, Sequence[str]]) -> dict[str, Rows]:
    """The first element of each name in `wanted`, with those lists; what stands before them is passed over.

    Raises:
        CloudError: an element is missing, or the file holds fewer or more values than the header promises.
    """
    names = [element.name for element in header.elements]
    for name in wanted:
        if name not in names:
            known = ", ".join(name[:40] for name in names[:8]) or "none"
            raise CloudError(f"the PLY file has no element {name!r} (elements: {known})")
    body, position = open_body(header, data)
    found: dict[str, Rows] = {}
    for element in header.elements:
        if isinstance(body, Binary) and found.keys() == wanted.keys():
            return found  # nothing that follows can be taken for what was wanted
        is_wanted = element.name in wanted and element.name not in found
        rows = read_rows(body, element, position, wanted[element.name] if is_wanted else None)
        position = rows.end
        if is_wanted:
            found[element.name] = rows
    _refuse_surplus(header.elements, body, position)
    return found


def _refuse_surplus(elements: Sequence[Element], body: Body, position: int) -> None:
    """More values than promised: a wrong count, or rows of more values than properties.

    Then what was read may be anything.  In a binary file less than a row is filling that some programs add.
    """
    surplus = body.end - position
    last = elements[-1]
    row = sum(body.width(prop.count_dtype or prop.dtype) for prop in last.properties)
    if surplus > 0 and (not isinstance(body, Binary) or (row and surplus >= row)):
        promised = " and ".join(f"{element.count:,} {element.name[:40]}" for element in elements[:4])
        raise CloudError(
            f"the header promises {promised} rows, but {surplus:,} {body.unit} more than these take came: "
            "a wrong count, or other properties than the header names"
        )


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
