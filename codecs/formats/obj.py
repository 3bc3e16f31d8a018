"""OBJ: meshes of modelling programs; vertices and faces, all else is passed over."""

from __future__ import annotations

import re
from array import array

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
    if b"\n" not in text:
        text = text.replace(b"\r", b"\n")  # line ends of old
    coordinates = array("d")
    sizes, corners = array("q"), array("q")
    n_vertices = 0
    try:
        for element in _ELEMENT.finditer(text):
            kind, rest = element.groups()
            words = rest.split(b"#", 1)[0].split()
            if kind == b"v":
                if len(words) < 3:
                    raise ValueError(f"vertex {n_vertices} has {len(words)} coordinates")
                coordinates.extend(map(float, words[:3]))
                n_vertices += 1
                continue
            sizes.append(len(words))
            for word in words:
                number = int(word.split(b"/", 1)[0])
                if not number:
                    raise ValueError(f"face {len(sizes) - 1} names vertex 0, but numbers start at 1")
                corners.append(number - 1 if number > 0 else n_vertices + number)
    except (ValueError, OverflowError) as error:
        raise CloudError(f"damaged OBJ file: {(str(error).splitlines() or [''])[0][:120]}") from None
    if not n_vertices:
        raise CloudError("no vertices: expected an OBJ mesh")
    faces = triangles(np.frombuffer(sizes, np.int64), np.frombuffer(corners, np.int64))
    return Mesh(np.frombuffer(coordinates, np.float64).reshape(-1, 3), faces)
