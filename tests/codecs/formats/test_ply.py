"""PLY: what plyfile writes is read, what is written plyfile reads, and damage is told in one line."""

import struct

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
        (header().encode() + b"1 2\n", "promises 1 points .3 numbers or more., but only 2 numbers came"),
        (header().encode() + b"1 2 x\n", "value 2 is no number: b'x'"),
        (header().encode() + b"1 2 1_0\n", "no number"),
        (header().encode() + b"1,5 2 3\n", "value 0 is no number"),
        (header().encode() + b"1 2 3 4\n", "promises 1 vertex rows, but 1 numbers more"),
        (header(count=2, encoding="binary_big_endian").encode() + bytes(36), "12 bytes more"),
        (header("element face 1", "property list int int v").encode() + b"1 2 3 -1\n", "list of -1 items"),
        (header("element face 1", "property list int int v").encode() + b"1 2 3 2147483648\n", "list of 2.14748e"),
        (header(count=2**60).encode() + b"1 2 3\n", "truncated"),
        (header(*(f"property uchar p{i}" for i in range(4100))).encode(), "4,097 columns"),
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


# Text is read by words


FORMS = {
    "plain": "1 2 3\n4 5 6\n",
    "blank lines": "\n\n1 2 3\n\n4 5 6\n\n",
    "one line": "1 2 3 4 5 6",
    "one number a line": "1\n2\n3\n4\n5\n6\n",
    "over lines": "1 2\n3 4\n5\n6",
    "tabs and blanks": "\t1  2\t3 \n 4 5\v6\f\n",
    "crlf": "\r\n1 2 3\r\n\r\n4 5 6\r\n",
    "cr": "1 2 3\r4 5 6\r",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("n_more", [0, 300_000])  # the second is parsed by pandas
def test_lines_mean_nothing(form, n_more):
    filling = "7 8 9\n" * n_more
    columns = read_ply((header(count=2 + n_more) + filling + FORMS[form]).encode()).columns
    assert [columns[axis][n_more:].tolist() for axis in "xyz"] == [[1, 4], [2, 5], [3, 6]]
    assert len(columns["x"]) == 2 + n_more


BEFORE = {
    "single values": (["element origin 1", *(f"property float {axis}" for axis in "xyz")], "-900 -900 -900", "<f4"),
    "a list": (["element chain 1", "property list uchar float item"], "3 7 8 9", None),
    "lists of other lengths": (["element face 3", "property list uchar float v", "property float w"], None, None),
    "nothing": (["element origin 0", "property float x", f"element none {2**60}"], "", None),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("gap", ["", "\n", "\n\n"])
def test_elements_before_and_after_the_vertices(before, encoding, gap):
    order = ">" if "big" in encoding else "<"
    f4, u1 = np.dtype(f"{order}f4"), np.dtype("u1")

    def numbers(*parts):
        """Parts of a type each, as text or as bytes."""
        if encoding == "ascii":
            return gap + gap.join(" ".join(map(str, values)) + "\n" for _, values in parts)
        return b"".join(np.array(values, kind).tobytes() for kind, values in parts).decode("latin-1")

    first = {
        "single values": numbers((f4, [-900, -900, -900])),
        "a list": numbers((u1, [3]), (f4, [7, 8, 9])),
        "lists of other lengths": numbers(
            (u1, [1]), (f4, [7, 5]), (u1, [0]), (f4, [5]), (u1, [3]), (f4, [7, 8, 9, 5])
        ),
        "nothing": "",
    }[before]
    vertices = numbers((f4, [1, 2, 3]), (f4, [4, 5, 6]))
    last = numbers((u1, [2]), (f4, [0, 1]), (u1, [3]), (f4, [0, 1, 0]))
    lines = ["ply", f"format {encoding} 1.0", *BEFORE[before][0], "element vertex 2"]
    lines += [*(f"property float {axis}" for axis in "xyz"), "element face 2", "property list uchar float v"]
    content = "\n".join([*lines, "end_header", ""]) + first + vertices + last
    columns = read_ply(content.encode("latin-1")).columns
    assert [columns[axis].tolist() for axis in "xyz"] == [[1, 4], [2, 5], [3, 6]]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("lengths", [(2, 2, 2), (0, 3, 1), (0, 0, 0)])
def test_vertices_with_lists_of_their_own(tmp_path, encoding, lengths):
    """Packed by hand: plyfile writes such rows in little-endian whatever it says."""
    order = ">" if "big" in encoding else "<"
    body = b""
    for i, n in enumerate(lengths):
        parts = [("f", [1 + i]), ("H", [n]), ("i", range(n)), ("d", [2.5]), ("h", [3 - i])]
        parts += [("i", [n + i]), ("d", range(n + i))]
        for kind, values in parts:
            if encoding == "ascii":
                body += "".join(f"{value}\n" for value in values).encode()
            else:
                body += struct.pack(f"{order}{len(values)}{kind}", *values)
    lines = ["ply", f"format {encoding} 1.0", "element vertex 3", "property float x", "property list ushort int near"]
    lines += ["property double y", "property short z", "property list int double far", "end_header", ""]
    (tmp_path / "a.ply").write_bytes("\n".join(lines).encode() + body)
    assert read_cloud(tmp_path / "a.ply").points.tolist() == [[1, 2.5, 3], [2, 2.5, 2], [3, 2.5, 1]]


def test_comments_may_say_anything():
    comments = (
        "comment element vertex 9\ncomment end_header follows\r not here\nobj_info property float w\n\ncomment\n"
    )
    content = header(count=2).replace("element", f"{comments}element", 1) + "1 2 3\n4 5 6\n"
    assert read_ply(content.encode()).columns["z"].tolist() == [3, 6]


def test_integers_too_large_for_their_type_are_named(refuses):
    content = header("property uchar red", count=2) + "1 2 3 4\n1 2 3 256\n"
    refuses("a.ply", content.encode(), "row 1, red: 256 is not of type uint8")


def test_headers_of_damage_cost_nothing(refuses):
    many = "".join(f"element e{i} 0\nproperty list int int v\n" for i in range(20_000))
    columns = read_ply(header().replace("element", f"{many}element", 1).encode() + b"1 2 3\n").columns
    assert columns["x"].tolist() == [1]
    refuses("a.ply", header().encode().replace(b"end_header", b"comment " + b"x" * 5_000_000), "no end_header")
    refuses("b.ply", header(f"element {'e' * 100_000} 5", "property int i").encode() + b"1 2 3\n", "truncated")
    refuses("c.ply", header().replace("vertex", "v" * 900_000).encode(), "no element 'vertex'")
    refuses("d.ply", header().encode() + b"9" * 600_000, "a word of|truncated")
    refuses("e.ply", header("comment \x1b[31m").encode() + b"1 2 \x1b[31m\n", "no number")


@pytest.mark.parametrize(
    ("case", "truth"),
    [
        ("precede/blank.ply", "precede/good.ply"),
        ("precede/blank2.ply", "precede/good.ply"),
        ("precede/cr.ply", "precede/good.ply"),
        ("precede/crlf_blank.ply", "precede/good.ply"),
        ("happly45/blank_after_header.ply", "ref/ok.ply"),
        ("happly45/blank_between.ply", "ref/ok.ply"),
        ("happly45/crlf_blank.ply", "ref/ok.ply"),
    ],
)
def test_files_of_the_field(shared, case, truth):
    if not (shared / "cases" / case).is_file():
        pytest.skip(f"no {case} here")
    assert read_cloud(shared / "cases" / case).points.tolist() == read_cloud(shared / "cases" / truth).points.tolist()


def test_files_of_the_realsense_viewer(shared):
    """A vertex over two or three lines."""
    for case, attributes in (("rs14706", (False, True)), ("rsmulti", (True, True))):
        path = shared / "cases" / case / "rs.ply"
        if not path.is_file():
            pytest.skip(f"no {case} here")
        cloud = read_cloud(path)
        words = path.read_text().partition("end_header")[2].split()
        width = 9 if attributes[0] else 6
        rows = np.array(words[: 20 * width], np.float32).reshape(20, width)
        np.testing.assert_array_equal(cloud.points, rows[:, :3])
        np.testing.assert_array_equal(cloud.colors, rows[:, -3:])
        assert (cloud.normals is not None, cloud.colors is not None) == attributes
