"""PCD: what Open3D writes is read, what is written Open3D reads, and damage is told in one line."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pccbench.codecs.cloud import PointCloud
from pccbench.codecs.formats import read_cloud, write_cloud
from pccbench.codecs.formats.pcd import read_pcd

open3d = pytest.importorskip("open3d", exc_type=ImportError)


@pytest.fixture(scope="module")
def cloud():
    generator = np.random.default_rng(2)
    normals = generator.normal(size=(60, 3)).astype(np.float32)
    return PointCloud(
        generator.normal(size=(60, 3)).astype(np.float32),
        normals=normals / np.linalg.norm(normals, axis=1, keepdims=True),
        colors=generator.integers(0, 256, (60, 3)).astype(np.uint8),
    )


@pytest.mark.parametrize(("ascii_text", "compressed"), [(True, False), (False, False), (False, True)])
def test_open3d_files_are_read(tmp_path, cloud, ascii_text, compressed):
    path = tmp_path / "a.pcd"
    made = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(cloud.points.astype(np.float64)))
    made.normals = open3d.utility.Vector3dVector(cloud.normals.astype(np.float64))
    made.colors = open3d.utility.Vector3dVector(cloud.colors / 255)
    assert open3d.io.write_point_cloud(str(path), made, write_ascii=ascii_text, compressed=compressed)
    read = read_cloud(path)
    assert read.bit_depth is None
    np.testing.assert_allclose(read.points, cloud.points, atol=1e-6)
    np.testing.assert_allclose(read.normals, cloud.normals, atol=1e-6)
    np.testing.assert_array_equal(read.colors, cloud.colors)


def test_open3d_reads_what_is_written(tmp_path, cloud):
    write_cloud(cloud, tmp_path / "a.pcd")
    read = open3d.io.read_point_cloud(str(tmp_path / "a.pcd"))
    np.testing.assert_allclose(np.asarray(read.points), cloud.points, atol=1e-6)
    np.testing.assert_allclose(np.asarray(read.normals), cloud.normals, atol=1e-6)
    np.testing.assert_array_equal(np.rint(np.asarray(read.colors) * 255), cloud.colors)
    again = read_cloud(tmp_path / "a.pcd")
    for name in ("points", "normals", "colors"):
        np.testing.assert_array_equal(getattr(again, name), getattr(cloud, name))


def pcd(body, *, fields="x y z", size="4 4 4", kind="F F F", count="1 1 1", points=2, data="ascii", rest=""):
    lines = [f"FIELDS {fields}", f"SIZE {size}", f"TYPE {kind}", f"COUNT {count}"]
    return "\n".join(["VERSION .7", *lines, f"WIDTH {points}", "HEIGHT 1", f"{rest}DATA {data}", ""]).encode() + body


def test_fields_of_every_kind_padding_and_arrays():
    row = np.dtype([("pad", "u1", 2), ("x", "<f8"), ("y", "<i2"), ("z", "<u1"), ("h", "<f4", 3), ("ring", "<u2")])
    rows = np.array([((9, 9), 1.5, -2, 3, (1, 2, 3), 7), ((9, 9), 4.5, 5, 6, (4, 5, 6), 8)], row)
    content = pcd(
        rows.tobytes(),
        fields="_ x y z h ring",
        size="1 8 2 1 4 2",
        kind="U F I U F U",
        count="2 1 1 1 3 1",
        data="binary",
    )
    columns = {name: column.tolist() for name, column in read_pcd(content).columns.items()}
    assert columns == {
        "x": [1.5, 4.5], "y": [-2, 5], "z": [3, 6], "h[0]": [1, 4], "h[1]": [2, 5], "h[2]": [3, 6], "ring": [7, 8],
    }  # fmt: skip


def test_packed_colours_as_text_are_bits_of_an_integer_or_of_a_float():
    bits = (10 << 16) | (20 << 8) | 30
    as_float = repr(float(np.uint32(bits).view(np.float32)))
    for kind, word in (("U", str(bits)), ("F", as_float), ("F", str(bits))):
        content = pcd(
            f"1 2 3 {word}\n".encode(),
            fields="x y z rgb",
            size="4 4 4 4",
            kind=f"F F F {kind}",
            count="1 1 1 1",
            points=1,
        )
        columns = read_pcd(content).columns
        assert [int(columns[name][0]) for name in ("red", "green", "blue")] == [10, 20, 30]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"# .PCD v0.7\nFIELDS x y z\n", "no|expected a header with a DATA line"),
        (pcd(b"", data="zipped"), "zipped"),
        (pcd(b"1 2 3\n"), "truncated"),
        (pcd(bytes(23), data="binary"), "truncated"),
        (pcd(b"", data="binary", points=10**15), "truncated"),
        (pcd(bytes(4), data="binary_compressed"), "truncated"),
        (pcd(np.array([1, 24], "<u4").tobytes() + b"\xff", data="binary_compressed"), "LZF"),
        (pcd(np.array([9, 24], "<u4").tobytes() + bytes(3), data="binary_compressed"), "truncated"),
        (pcd(np.array([3, 25], "<u4").tobytes() + bytes(3), data="binary_compressed"), "24 bytes"),
        (pcd(b"1 2 3\n4 5 6\n", size="4 4"), "3 fields, 2 sizes"),
        (pcd(b"1 2 3\n4 5 6\n", kind="F F Q"), "type Q"),
        (pcd(b"1 2 3\n4 5 6\n", size="4 4 2"), "of 2 bytes"),
        (pcd(b"1 2 3\n4 5 6\n", count="1 1 0"), "2 points of 2 values, 4 in all, but 6 came"),
        (pcd(b"1 2\n4 5\n", count="1 1 0"), "no z"),
        (pcd(b"1 2 3\n4 5 6\n7 8 9\n"), "2 points of 3 values, 6 in all, but 9 came"),
        (pcd(bytes(48), data="binary"), "24 bytes more"),
        (pcd(b"", count="1 1 4097"), "4,099 columns"),
        (pcd(bytes(24), data="binary", fields="x y " + "q" * 40_000), "no z"),
        (pcd(b"", fields="x y " + "q" * 40_000), "truncated"),
        (pcd(b"1 2 3\n4 5 6\n", count="1 1 x"), "whole numbers"),
        (pcd(b"1 2 3\n4 5 6\n", fields="x y x"), "twice"),
        (pcd(b"1 2 3\n4 5 6\n", rest="POINTS 3\n"), "3 points, but 2 x 1"),
        (pcd(b"1 2 3\n4 5 6\n", fields="x y w"), "no z"),
    ],
)
def test_bad_files(refuses, content, message):
    refuses("bad.pcd", content, message)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_is_refused_or_read_never_worse(survives, data):
    kind = data.draw(st.sampled_from(["ascii", "binary", "binary_compressed"]))
    literals = bytes([23]) + np.arange(6, dtype="<f4").tobytes()
    body = {
        "ascii": b"1 2 3\n4 5 6\n",
        "binary": literals[1:],
        "binary_compressed": np.array([len(literals), 24], "<u4").tobytes() + literals,
    }[kind]
    whole = pcd(body, data=kind)
    assert len(read_pcd(whole).columns["x"]) == 2
    survives(data.draw, read_pcd, whole)


@pytest.mark.parametrize("kind", ["F F F", "f f f"])
@pytest.mark.parametrize("data", ["ascii", "binary", "binary_compressed"])
def test_types_in_lower_case_and_padding_of_any_count(data, kind):
    """Padding has bytes in the rows, except in compressed files of PCL, which leave it out."""
    points = np.array([[1.5, 2, 3], [4, 5.5, 6]], "<f4")
    row = np.dtype([("x", "<f4"), ("y", "<f4"), ("pad", "u1", 3), ("z", "<f4")])
    rows = np.zeros(2, row)
    for axis, name in enumerate("xyz"):
        rows[name] = points[:, axis]
    literals = b"".join(rows[name].tobytes() for name in ("x", "y", "z"))
    packed = bytes([len(literals) - 1]) + literals
    body = {
        "ascii": b"1.5 2 0 0 0 3\n4 5.5 0 0 0 6\n",
        "binary": rows.tobytes(),
        "binary_compressed": np.array([len(packed), len(literals)], "<u4").tobytes() + packed,
    }[data]
    first, second, third = kind.split()
    options = {"size": "4 4 1 1 4 1", "kind": f"{first} {second} U U {third} U", "count": "1 1 3 0 1 0"}
    columns = read_pcd(pcd(body, fields="x y _ _ z _", data=data, **options)).columns
    assert {name: column.tolist() for name, column in columns.items()} == {
        "x": [1.5, 4],
        "y": [2, 5.5],
        "z": [3, 6],
    }


def test_a_field_without_values_is_no_column():
    content = pcd(b"1 2 3\n4 5 6\n", fields="x y z none", size="4 4 4 4", kind="F F F F", count="1 1 1 0")
    assert list(read_pcd(content).columns) == ["x", "y", "z"]


def test_text_is_read_by_words():
    for body in (b"1 2 3 4 5 6", b"\n1 2\n3\n\n4\t5 6\n", b"1 2 3\r4 5 6\r", b"1 2 3\r\n\r\n4 5 6\r\n"):
        columns = read_pcd(pcd(body)).columns
        assert [columns[axis].tolist() for axis in "xyz"] == [[1, 4], [2, 5], [3, 6]]


def test_points_that_are_nan_are_counted(refuses):
    refuses("organised.pcd", pcd(b"nan nan nan\n1 2 3\n"), "1 of 2 points have a coordinate that is NaN")


def test_compressed_data_grow_within_bounds(refuses):
    """A stream of references makes 88 bytes of each, and 32 are believed beyond the first 64 MiB."""
    n_points = 25_000_000
    n_plain = 12 * n_points
    packed = bytes([0, 0]) + b"\xe0\xff\x00" * (n_plain // 264 + 1)
    body = np.array([len(packed), n_plain], "<u4").tobytes() + packed
    refuses("a.pcd", pcd(body, points=n_points, data="binary_compressed"), "more than any cloud shrinks")


@pytest.mark.parametrize(
    ("case", "truth"), [("pdal2572/count0.pcd", "pcdref/ref.npy"), ("open3d6925/lower.pcd", "open3d6925/truth.npy")]
)
def test_files_of_the_field(shared, case, truth):
    if not (shared / "cases" / case).is_file():
        pytest.skip(f"no {case} here")
    read = read_cloud(shared / "cases" / case)
    np.testing.assert_allclose(read.points, np.load(shared / "cases" / truth), rtol=1e-6)
