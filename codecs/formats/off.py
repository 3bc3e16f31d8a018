"""OFF: meshes of ModelNet, with and without a line break after the magic word."""

from __future__ import annotations

import re

import numpy as np

from ..errors import CloudError
from .mesh import Mesh, triangles

_START = re.compile(rb"\s*(?:#[^\n]*\n\s*)*OFF")


def is_off(data: bytes) -> bool:
    """Whether the bytes start as OFF files do."""
    return _START.match(data[:4096]) is not None


def read_off(data: bytes) -> Mesh:
    """The mesh of an OFF file; polygons become fans of triangles.

    Many files of ModelNet40 lack the line break behind the magic word (`OFF490 518 0`); both forms are read.

    Raises:
        CloudError: not an OFF file, a damaged header, fewer numbers than it promises, a face without vertex.
    """
    start = _START.match(data[:4096])
    if start is None:
        raise CloudError(f"not an OFF file: expected it to start with 'OFF', it starts with {data[:12]!r}")
    body = re.sub(rb"#[^\n]*", b"", data[start.end() :]) if b"#" in data else data[start.end() :]
    # Counts and vertices are a stream of words; only faces care for lines, as they may end in a colour.
    head = re.match(rb"\s*(\d{1,12})\s+(\d{1,12})(?:[ \t]+\d+)?[ \t]*\r?\n", body)
    if head is None:
        raise CloudError(f"the OFF header states no number of vertices and faces: {body[:40]!r}")
    n_vertices, n_faces = int(head.group(1)), int(head.group(2))
    lines = [line for line in body[head.end() :].split(b"\n") if line.strip()]
    if len(lines) < n_vertices + n_faces:
        raise CloudError(
            f"truncated: the header promises {n_vertices:,} vertices and {n_faces:,} faces, {len(lines):,} lines came"
        )
    try:
        values = np.array(b" ".join(lines[:n_vertices]).split(), dtype=np.float64)
        vertices = values.reshape(n_vertices, -1)[:, :3]
        sizes, indices = _faces(lines[n_vertices : n_vertices + n_faces])
    except (ValueError, IndexError, OverflowError) as error:
        raise CloudError(f"damaged OFF file: {str(error).splitlines()[0][:120]}") from None
    if vertices.shape != (n_vertices, 3):
        raise CloudError(f"expected {n_vertices:,} vertices of 3 numbers, got {values.size:,} numbers")
    return Mesh(np.ascontiguousarray(vertices), triangles(sizes, indices))


def _faces(lines: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    words = [line.split() for line in lines]
    sizes = np.array([int(row[0]) for row in words], dtype=np.int64)
    short = [index for index, row in enumerate(words) if not 0 <= int(row[0]) < len(row)]
    if short:
        raise ValueError(f"face {short[0]} says {words[short[0]][0].decode('latin-1')} corners")
    flat = [word for row in words for word in row[1 : 1 + int(row[0])]]
    return sizes, np.array(flat, dtype=np.int64)
