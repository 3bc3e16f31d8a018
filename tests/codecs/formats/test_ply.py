"""PLY: what plyfile writes is read, what is written plyfile reads, and damage is told in one line."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plyfile import PlyData, PlyElement

from pccbench.codecs.cloud import PointCloud
from pccbench.codecs.errors import CloudError
from pccbench.codecs.formats import read_cloud, read_mesh, write_cloud
from pccbench.codecs.formats.ply import read_ply

ENCODINGS = ["ascii", "binary_little_endian", "binary_big_endian"]
SCALARS = ["i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8"]


def written_by_plyfile(path, rows, encoding, *others, order=()):
    vertex = PlyElement.describe(rows, "vertex")
    byte_order = {"binary_big_endian": ">"}.get(encoding, "<")
    elements = {"vertex": vertex, **{other.name: other for other in others}}
    names = order or tuple(elements)
    PlyData([elements[name] for name in names], text=encoding == "ascii", byte_order=byte_order).write(str(path))
    return path


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("scalar", SCALARS)
def test_coordinates_of_any_scalar_type(tmp_path, encoding, scalar):
    rows = np.array([(1, 2, 3), (4, 0, 6), (100, 8, 9)], [(axis, scalar) for axis in "xyz"])
    cloud = read_cloud(written_by_plyfile(tmp_path / "a.ply", rows, encoding))
    assert cloud.points.tolist() == [[1, 2, 3], [4, 0, 6], [100, 8, 9]]
    assert (cloud.points.dtype, cloud.bit_depth) == (np.int32, 7)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_real_coordinates_keep_their_precision(tmp_path, encoding):
    values = np.random.default_rng(0).normal(size=(50, 3)) * 1e3
    for scalar in ("f4", "f8"):
        rows = np.array([tuple(value) for value in values], [(axis, scalar) for axis in "xyz"])
        cloud = read_cloud(written_by_plyfile(tmp_path / "a.ply", rows, encoding))
        assert cloud.bit_depth is None
        assert cloud.points.dtype == scalar
        tolerance = 1e-5 if encoding == "ascii" and scalar == "f4" else 0  # plyfile prints few digits
        np.testing.assert_allclose(cloud.points, values.astype(scalar), rtol=tolerance)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_other_properties_and_elements_are_kept_or_skipped(tmp_path, encoding):
    kinds = [
        ("red", "u1"), ("x", "f8"), ("nx", "f4"), ("y", "f4"), ("z", "u2"), ("ny", "f4"), ("nz", "f4"),
        ("label", "i2"), ("green", "u1"), ("blue", "u1"),
    ]  # fmt: skip
    rows = np.array([(10, 1, 0, 2, 3, 1, 0, -7, 20, 30), (11, 4, 1, 5, 6, 0, 0, 8, 21, 31)], kinds)
    cameras = PlyElement.describe(np.array([(1.5,), (2.5,)], [("view", "f8")]), "camera")
    faces = PlyElement.describe(
        np.array([([0, 1, 0],), ([1, 0],)], [("vertex_indices", object)]), "face", val_types={"vertex_indices": "i4"}
    )
    path = written_by_plyfile(tmp_path / "a.ply", rows, encoding, cameras, faces, order=("camera", "face", "vertex"))
    cloud = read_cloud(path)
    assert cloud.points.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert cloud.normals.tolist() == [[0, 1, 0], [1, 0, 0]]
    assert cloud.colors.tolist() == [[10, 20, 30], [11, 21, 31]]
    assert {name: column.tolist() for name, column in cloud.attributes.items()} == {"label": [-7, 8]}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_plyfile_reads_what_is_written(tmp_path, encoding):
    generator = np.random.default_rng(1)
    cloud = PointCloud(
        generator.integers(0, 1 << 21, (40, 3)).astype(np.int32),
        21,
        normals=generator.normal(size=(40, 3)).astype(np.float32),
        colors=generator.integers(0, 256, (40, 3)).astype(np.uint8),
        attributes={"t": generator.normal(size=40), "id": np.arange(40, dtype=np.uint16)},
    )
    write_cloud(cloud, tmp_path / "a.ply", encoding=encoding)
    rows = PlyData.read(str(tmp_path / "a.ply"))["vertex"].data
    assert np.array_equal(np.stack([rows[axis] for axis in "xyz"], axis=1), cloud.points)
    np.testing.assert_array_equal(rows["t"], cloud.attributes["t"])
    again = read_cloud(tmp_path / "a.ply")
    assert again.bit_depth == 21
    for name in ("points", "normals", "colors"):
        np.testing.assert_array_equal(getattr(again, name), getattr(cloud, name))
    assert again.attributes.keys() == cloud.attributes.keys()
    np.testing.assert_array_equal(again.attributes["id"], cloud.attributes["id"])


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_line_ends_of_every_system(ending):
    header = ending.join(["ply", "format ascii 1.0", "comment by hand", "element vertex 2"])
    body = ending.join(["", *(f"property float {axis}" for axis in "xyz"), "end_header", "1 2 3", "4 5 6", ""])
    columns = read_ply((header + body).encode()).columns
    assert [columns[axis].tolist() for axis in "xyz"] == [[1, 4], [2, 5], [3, 6]]
    binary = (header.replace("ascii", "binary_little_endian") + body.partition("1 2 3")[0]).encode()
    data = np.array([[10, 13, 3], [4, 5, 6]], "<f4").tobytes()
    columns = read_ply(binary + data).columns
    assert [columns[axis].tolist() for axis in "xyz"] == [[10, 4], [13, 5], [3, 6]]


def header(*lines, encoding="ascii", count=1):
    properties = [f"property float {axis}" for axis in "xyz"]
    return "\n".join(
        ["ply", f"format {encoding} 1.0", f"element vertex {count}", *properties, *lines, "end_header", ""]
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"solid cube", "unsupported|not a PLY"),
        (b"ply\nformat ascii 1.0\n", "no end_header"),
        (b"ply\nelement vertex 1\nproperty float x\nend_header\n1\n", "no format line"),
        (header().replace("1.0", "2.0").encode(), "format ascii 2.0"),
        (header("property float x").encode() + b"1 2 3 4\n", "two properties 'x'"),
        (header("property real w").encode(), "unknown type"),
        (header("property list float int w").encode(), "unknown type"),
        (header(count=-1).encode(), "element vertex -1"),
        (header(count=2).encode() + b"1 2 3\n", "truncated"),
        (header(count=10**15, encoding="binary_little_endian").encode() + bytes(12), "truncated"),
        (header().encode() + b"1 2\n", "2 values, expected 3"),
        (header().encode() + b"1 2 x\n", "."),
        (header().encode() + b"1 2 inf\n", "NaN or infinite"),
        (header(count=0).encode(), "no points"),
        (header().replace("vertex", "point").encode() + b"1 2 3\n", "no element 'vertex'"),
        (header().replace("float z", "float w").encode() + b"1 2 3\n", "no z"),
    ],
)
def test_bad_files(refuses, content, message):
    refuses("bad.ply", content, message)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_is_refused_or_read_never_worse(survives, data):
    encoding = data.draw(st.sampled_from(ENCODINGS))
    rows = b"1 2 3\n4 5 6\n" if encoding == "ascii" else np.arange(6, dtype="<f4").tobytes()
    whole = header("element face 1", "property list uchar int v", encoding=encoding, count=2).encode() + rows
    survives(data.draw, read_ply, whole)


def test_meshes(tmp_path):
    path = tmp_path / "quad.ply"
    lines = ["element face 2", "property list uchar int vertex_indices"]
    path.write_text(header(*lines, count=4) + "0 0 0\n1 0 0\n1 1 0\n0 1 0\n4 0 1 2 3\n3 0 1 2\n")
    mesh = read_mesh(path)
    assert mesh.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    assert sorted(map(sorted, mesh.faces.tolist())) == [[0, 1, 2], [0, 1, 2], [0, 2, 3]]
    path.write_text(header(*lines, count=4) + "0 0 0\n1 0 0\n1 1 0\n0 1 0\n3 0 1 4\n3 0 1 2\n")
    with pytest.raises(CloudError, match=r"quad\.ply"):
        read_mesh(path)
