"""OFF: meshes of ModelNet, with and without a line break after the magic word."""

from __future__ import annotations

import re
from array import array

import numpy as np
import numpy.typing as npt

from ..errors import CloudError
from .mesh import Mesh, triangles
from .text import parse_numbers

_START = re.compile(rb"\s*(?:#[^\n]*\n\s*)*OFF")


def is_off(data: bytes) -> bool:
    """Whether the bytes start as OFF files do."""
    return _START.match(data[:4096]) is not None


def read_off(data: bytes) -> Mesh:
    """The mesh of an OFF file; polygons become fans of triangles.

    Many files of ModelNet40 lack the line break behind the magic word (`OFF490 518 0`); both forms are read.  Lines
    matter where vertices or faces carry more than coordinates and corners (colours); where they do not fit the counts
    they are ignored, and the file is read as a run of numbers.

    Raises:
        CloudError: not an OFF file, a damaged header, fewer numbers than it promises, a face without vertex.
    """
    start = _START.match(data[:4096])
    if start is None:
        raise CloudError(f"not an OFF file: expected it to start with 'OFF', it starts with {data[:12]!r}")
    body = data[start.end() :].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    body = re.sub(rb"#[^\n]*", b"", body) if b"#" in body else body
    head = re.match(rb"\s*(\d{1,12})\s+(\d{1,12})(?:[ \t]+\d+[ \t]*\n|[ \t]*\n(?:\s*\d+[ \t]*\n)?|\s+\d+\s)", body)
    if head is None:
        raise CloudError(f"the OFF header states no number of vertices and faces: {body[:40]!r}")
    n_vertices, n_faces = int(head.group(1)), int(head.group(2))
    body = body[head.end() :]
    least = 3 * n_vertices + n_faces  # numbers, of two bytes each but the last
    if least > len(body) // 2 + 1:
        raise CloudError(
            f"truncated: the header promises {n_vertices:,} vertices and {n_faces:,} faces, {len(body):,} bytes came"
        )
    try:
        return _by_lines(body, n_vertices, n_faces)
    except CloudError as error:
        try:
            return _by_words(body, n_vertices, n_faces)
        except CloudError:
            raise error from None


def _by_lines(body: bytes, n_vertices: int, n_faces: int) -> Mesh:
    """A vertex or a face on each line, and whatever else behind it."""
    lines = [line for line in body.split(b"\n") if line.strip()]
    if len(lines) < n_vertices + n_faces:
        raise CloudError(
            f"truncated: the header promises {n_vertices:,} vertices and {n_faces:,} faces, {len(lines):,} lines came"
        )
    values = parse_numbers(b"\n".join(lines[:n_vertices]))
    width = len(lines[0].split()) if n_vertices else 3
    if width < 3 or len(values) != n_vertices * width:
        raise CloudError(f"expected {n_vertices:,} vertices of {max(width, 3)} numbers, got {len(values):,} numbers")
    vertices = values.reshape(n_vertices, width)[:, :3]
    sizes, corners = array("q"), array("q")
    for index, line in enumerate(lines[n_vertices : n_vertices + n_faces]):
        words = line.split()
        try:
            size = int(words[0])
            if not 0 <= size < len(words):
                raise ValueError
            corners.extend(map(int, words[1 : 1 + size]))
            sizes.append(size)
        except (ValueError, OverflowError):
            raise CloudError(f"face {index} is damaged: {line[:60]!r}") from None
    return _mesh(vertices, np.frombuffer(sizes, np.int64), np.frombuffer(corners, np.int64))


def _by_words(body: bytes, n_vertices: int, n_faces: int) -> Mesh:
    """Coordinates and corners, wherever the lines end."""
    values = parse_numbers(body)
    position = 3 * n_vertices
    sizes, starts = [], []
    for index in range(n_faces):
        size = values[position] if position < len(values) else -1.0
        if not 0 <= size < len(values) - position or size != int(size):
            raise CloudError(f"face {index} is damaged")
        sizes.append(int(size))
        starts.append(position + 1)
        position += 1 + int(size)
    if position != len(values):
        raise CloudError(f"{len(values) - position:,} numbers too many")
    n_each = np.array(sizes, np.int64)
    within = np.arange(int(n_each.sum())) - np.repeat(np.cumsum(n_each) - n_each, n_each)
    corners = values[np.repeat(np.array(starts, np.int64), n_each) + within]
    if not (np.rint(corners) == corners).all():
        raise CloudError("a corner is no whole number")
    with np.errstate(invalid="ignore"):
        return _mesh(values[: 3 * n_vertices].reshape(n_vertices, 3), n_each, corners.astype(np.int64))


def _mesh(vertices: npt.NDArray[np.float64], sizes: npt.NDArray[np.int64], corners: npt.NDArray[np.int64]) -> Mesh:
    return Mesh(np.ascontiguousarray(vertices), triangles(sizes, corners))
