"""OBJ: meshes of modelling programs; vertices and faces, all else is passed over."""

from __future__ import annotations

import re

import numpy as np

from ..errors import CloudError
from .mesh import Mesh, triangles

_VERTEX = re.compile(rb"^[ \t]*v[ \t]+(.*)$", re.MULTILINE)
_ELEMENT = re.compile(rb"^[ \t]*([vf])[ \t]+(.*)$", re.MULTILINE)


def is_obj(data: bytes) -> bool:
    """Whether the bytes hold a vertex line as OBJ files do, within their first 64 KiB."""
    return _VERTEX.search(data[:65536]) is not None


def read_obj(data: bytes) -> Mesh:
    """The mesh of an OBJ file; polygons become fans of triangles.

    Faces may name vertices from the end (-1 is the last one before the face), and carry texture and normal numbers
    (`7/1/3`), which are ignored, as are lines, points, free-form surfaces, groups and materials.

    Raises:
        CloudError: no vertices or faces, a damaged line, a face without vertex.
    """
    text = data.replace(b"\\\r\n", b" ").replace(b"\\\n", b" ")  # a backslash continues a line
    rows: list[list[bytes]] = []
    sizes: list[int] = []
    corners: list[int] = []
    try:
        for kind, rest in _ELEMENT.findall(text):
            words = rest.split(b"#", 1)[0].split()
            if kind == b"v":
                if len(words) < 3:
                    raise ValueError(f"vertex {len(rows)} has {len(words)} coordinates")
                rows.append(words[:3])
                continue
            sizes.append(len(words))
            for word in words:
                number = int(word.split(b"/", 1)[0])
                if not number:
                    raise ValueError(f"face {len(sizes) - 1} names vertex 0, but numbers start at 1")
                corners.append(number - 1 if number > 0 else len(rows) + number)
        if not rows:
            raise CloudError("no vertices: expected an OBJ mesh")
        vertices = np.array(rows, dtype=np.float64)
        faces = triangles(np.array(sizes, np.int64), np.array(corners, np.int64))
    except (ValueError, OverflowError) as error:
        if isinstance(error, CloudError):
            raise
        raise CloudError(f"damaged OBJ file: {str(error).splitlines()[0][:120]}") from None
    return Mesh(vertices, faces)
