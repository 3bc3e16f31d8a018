"""OBJ meshes."""

import numpy as np
import pytest

from pccbench.codecs.errors import CloudError
from pccbench.codecs.formats.files import read_mesh

CUBE_CORNER = b"""# a comment
mtllib none.mtl
o thing
v 0 0 0
v 1 0 0 1.0
v 1 1 0 0.5 0.5 0.5
v 0 1 0
vt 0.5 0.5
vn 0 0 1
f 1/1/1 2/1/1 3//1 4
v 0 0 1e0
usemtl paint
f -1 1 \\
 2
l 1 2
"""


def test_an_obj_mesh(tmp_path):
    path = tmp_path / "a.obj"
    path.write_bytes(CUBE_CORNER)
    mesh = read_mesh(path)
    assert mesh.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3], [4, 0, 1]]
    assert float(mesh.areas().sum()) == pytest.approx(1.5)
    path.write_bytes(CUBE_CORNER.replace(b"\n", b"\r\n"))
    assert (read_mesh(path).faces == mesh.faces).all()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"v 0 0 0\n", "no faces"),
        (b"v 0 0\nf 1 1 1\n", "vertex 0 has 2 coordinates"),
        (b"v 0 0 0\nf 0 1 1\n", "names vertex 0"),
        (b"v 0 0 0\nf 1 2 3\n", "name vertices 0..2"),
        (b"v 0 0 0\nf -2 1 1\n", "name vertices -1..0"),
        (b"v 0 0 x\nf 1 1 1\n", "damaged OBJ"),
        (b"v 0 0 nan\nf 1 1 1\n", "not finite"),
        (b"v 0 0 0\nf 1 1 99999999999999999999999\n", "damaged OBJ"),
        (b"hello\n", "expected a mesh in OFF, PLY or OBJ"),
    ],
)
def test_damaged_obj_files_are_refused(tmp_path, text, reason):
    path = tmp_path / "a.obj"
    path.write_bytes(text)
    with pytest.raises(CloudError, match=reason) as caught:
        read_mesh(path)
    assert str(path) in str(caught.value)
    assert np.all([len(line) < 300 for line in str(caught.value).splitlines()])
