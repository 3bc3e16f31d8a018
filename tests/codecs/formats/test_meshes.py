"""OFF, OBJ and PLY meshes in the forms that programs write, and hostile ones."""

import numpy as np
import pytest

from pccbench.codecs.errors import CloudError
from pccbench.codecs.formats import read_mesh

CORNERS = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
SQUARE = "0 0 0\n1 0 0\n1 1 0\n0 1 0\n"
PAIR = [[0, 1, 2], [0, 2, 3]]

OFF = {
    "plain": f"OFF\n4 2 0\n{SQUARE}3 0 1 2\n3 0 2 3\n",
    "joined": f"OFF4 2 0\n{SQUARE}3 0 1 2\n3 0 2 3\n",
    "no edges": f"OFF\n4 2\n{SQUARE}3 0 1 2\n3 0 2 3\n",
    "counts over lines": f"OFF\n4\n2\n0\n{SQUARE}3 0 1 2\n3 0 2 3",
    "comments and blank lines": f"# made\nOFF # by hand\n\n4 2 0 # counts\n\n{SQUARE}# faces\n3 0 1 2\n\n3 0 2 3\n",
    "colours of faces": f"OFF\n4 2 0\n{SQUARE}3 0 1 2 255 0 0\n3 0 2 3 0.5 0.5 0.5 1\n",
    "colours of vertices": "OFF\n4 2 0\n" + SQUARE.replace("\n", " 255 0 0\n") + "3 0 1 2\n3 0 2 3\n",
    "polygon": f"OFF\n4 1 0\n{SQUARE}4 0 1 2 3\n",
    "crlf": f"OFF\n4 2 0\n{SQUARE}3 0 1 2\n3 0 2 3\n".replace("\n", "\r\n"),
    "cr": f"OFF\n4 2 0\n{SQUARE}3 0 1 2\n3 0 2 3\n".replace("\n", "\r"),
    "lines that mean nothing": "OFF\n4 2 0\n0 0 0 1 0 0\n1 1\n0 0 1 0 3 0 1\n2 3 0 2 3",
    "one line": "OFF 4 2 0 0 0 0 1 0 0 1 1 0 0 1 0 3 0 1 2 3 0 2 3",
}


@pytest.mark.parametrize("form", OFF)
def test_forms_of_off(tmp_path, form):
    (tmp_path / "a.off").write_text(OFF[form], newline="")
    mesh = read_mesh(tmp_path / "a.off")
    assert mesh.vertices.tolist() == CORNERS
    assert mesh.faces.tolist() == PAIR


OBJ = {
    "plain": "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1 2 3\nf 1 3 4\n",
    "from the end": "v 0 0 0\nv 1 0 0\nv 1 1 0\nf -3 -2 -1\nv 0 1 0\nf -4 -2 -1\n",
    "cr": "v 0 0 0\rv 1 0 0\rv 1 1 0\rv 0 1 0\rf 1 2 3\rf 1 3 4\r",
    "colours and normals": "v 0 0 0 1 1 1\nv 1 0 0 1 1 1\nv 1 1 0\nv\t0 1 0\nvn 0 0 1\nf 1//1 2//1 3//1 4//1\n",
}


@pytest.mark.parametrize("form", OBJ)
def test_forms_of_obj(tmp_path, form):
    (tmp_path / "a.obj").write_text(OBJ[form], newline="")
    mesh = read_mesh(tmp_path / "a.obj")
    assert mesh.vertices.tolist() == CORNERS
    assert mesh.faces.tolist() == PAIR


def ply(encoding, faces, name="vertex_indices", kind="int"):
    head = (
        f"ply\nformat {encoding} 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
        f"element face {len(faces)}\nproperty list uchar float texcoord\nproperty list uchar {kind} {name}\n"
        "property uchar flags\nend_header\n"
    )
    if encoding == "ascii":
        return (head + SQUARE + "".join(f"2 0.5 0.5 {len(f)} {' '.join(map(str, f))} 0\n" for f in faces)).encode()
    order = "<" if "little" in encoding else ">"
    body = np.array(CORNERS, f"{order}f4").tobytes()
    for face in faces:
        body += b"\2" + np.array([0.5, 0.5], f"{order}f4").tobytes() + bytes([len(face)])
        body += np.array(face, f"{order}i4").tobytes() + b"\0"
    return head.encode() + body


@pytest.mark.parametrize("encoding", ["ascii", "binary_little_endian", "binary_big_endian"])
@pytest.mark.parametrize("faces", [PAIR, [[0, 1, 2, 3]], [[0, 1, 2], [0, 2, 3], [0, 1], []]])
def test_forms_of_ply(tmp_path, encoding, faces):
    """The corners are known by their name, not by their place."""
    (tmp_path / "a.ply").write_bytes(ply(encoding, faces))
    mesh = read_mesh(tmp_path / "a.ply")
    assert mesh.vertices.tolist() == CORNERS
    assert mesh.faces.tolist() == PAIR


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.off", f"OFF\n4 2 0\n{SQUARE}3 0 1 2\n", "truncated"),
        ("a.off", f"OFF\n4 2 0\n{SQUARE}3 0 1 9\n3 0 1 2\n", "vertices 0..9"),
        ("a.off", f"OFF\n999999999999 2 0\n{SQUARE}", "truncated"),
        ("a.off", f"OFF\n4 999999999999 0\n{SQUARE}", "truncated"),
        ("a.off", f"OFF\n4 1 0\n{SQUARE}99999999999 0 1 2\n", "face 0 is damaged"),
        ("a.off", f"OFF\n4 1 0\n{SQUARE}3 0 1 -1\n", "vertices -1..1"),
        ("a.off", "OFF\n4 1 0\n0 0 x\n1 0 0\n1 1 0\n0 1 0\n3 0 1 2\n", "no number"),
        ("a.off", f"OFF\n4 1 0\n{SQUARE.replace('1 1 0', '1 nan 0')}3 0 1 2\n", "not finite"),
        ("a.off", "OFF\nmany\n", "no number of vertices"),
        ("a.obj", "v 0 0 0\nv 1 0 0\nv 1 1 0\nf 1 2 4\n", "vertices 0..3"),
        ("a.obj", "v 0 0 0\nv 1 0 0\nv 1 1 0\nf 1 2 -4\n", "vertices -1..1"),
        ("a.obj", "v 0 0 0\nv 1 0 0\nv 1 1 0\nf 1 2 99999999999999999999\n", "damaged OBJ"),
        ("a.obj", "v 0 0 0\nv 1 0\n", "vertex 1 has 2 coordinates"),
        ("a.ply", ply("ascii", [[0, 1, 7]]).decode(), "vertices 0..7"),
        ("a.ply", ply("ascii", PAIR).decode()[:-9], "truncated|list of"),
        ("a.txt", "nothing", "expected a mesh"),
    ],
)
def test_bad_meshes(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(CloudError, match=message) as raised:
        read_mesh(tmp_path / name)
    assert str(raised.value).startswith(str(tmp_path / name))
    assert "\n" not in str(raised.value)
