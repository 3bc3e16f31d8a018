"""npy, npz and KITTI sweeps."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pccbench.codecs.cloud import PointCloud
from pccbench.codecs.errors import CloudError
from pccbench.codecs.formats import read_cloud, write_cloud
from pccbench.codecs.formats.arrays import read_npy, read_npz
from pccbench.codecs.formats.sweep import read_sweep

POINTS = np.array([[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize("kind", ["u1", "i2", ">i4", "<u8", "f2", "f4", ">f8"])
def test_arrays_of_any_number_type(tmp_path, kind):
    np.save(tmp_path / "a.npy", np.asfortranarray(POINTS.astype(kind)))
    cloud = read_cloud(tmp_path / "a.npy")
    assert (cloud.points.tolist(), cloud.bit_depth) == (POINTS.tolist(), 3)


def test_a_fourth_column_is_intensity_and_fields_have_names(tmp_path):
    np.save(tmp_path / "a.npy", np.c_[POINTS + 0.5, [7, 8]])
    cloud = read_cloud(tmp_path / "a.npy")
    assert cloud.points.dtype == np.float64
    assert cloud.attributes["intensity"].tolist() == [7, 8]
    rows = np.array([(1, 2, 3, 9)], [("x", "f4"), ("y", "f4"), ("z", "f4"), ("t", "u1")])
    np.save(tmp_path / "b.npy", rows)
    assert read_cloud(tmp_path / "b.npy").attributes["t"].tolist() == [9]


def test_an_archive_keeps_all_that_a_cloud_holds(tmp_path):
    cloud = PointCloud(
        POINTS.astype(np.int32),
        12,
        np.eye(3, dtype=np.float32)[:2],
        POINTS.astype(np.uint8),
        {"t": np.array([1.5, 2])},
    )
    write_cloud(cloud, tmp_path / "a.npz")
    again = read_cloud(tmp_path / "a.npz")
    assert again.bit_depth == 12
    for name in ("points", "normals", "colors"):
        np.testing.assert_array_equal(getattr(again, name), getattr(cloud, name))
    assert again.attributes["t"].tolist() == [1.5, 2]


def test_a_sweep_keeps_its_intensity(tmp_path):
    sweep = np.random.default_rng(0).normal(size=(30, 4)).astype("<f4")
    sweep.tofile(tmp_path / "000000.bin")
    cloud = read_cloud(tmp_path / "000000.bin")
    np.testing.assert_array_equal(cloud.points, sweep[:, :3])
    np.testing.assert_array_equal(cloud.attributes["intensity"], sweep[:, 3])
    write_cloud(cloud, tmp_path / "again.bin")
    assert (tmp_path / "again.bin").read_bytes() == sweep.tobytes()
    with pytest.raises(CloudError, match="float32"):
        write_cloud(PointCloud(np.array([[0.1, 0, 0]])), tmp_path / "double.bin")


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def npz(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", npy(np.zeros((4, 2))), r"shape \(4, 2\)"),
        ("a.npy", npy(np.zeros(12)), r"shape \(12,\)"),
        ("a.npy", npy(np.zeros((0, 3))), "no points"),
        ("a.npy", npy(np.array([[1, 2, None]], object)), "Python objects"),
        ("a.npy", npy(np.array([["a", "b", "c"]])), "real numbers"),
        ("a.npy", npy(np.zeros((4, 3), complex)), "real numbers"),
        ("a.npy", npy(np.full((4, 3), np.nan)), "4 of 4 points"),
        ("a.npy", npy(np.zeros((4, 3)))[:-1], "truncated"),
        ("a.npy", npy(np.zeros((4, 3))).replace(b"(4, 3)", b"(9**9,3)"[:6]), "npy file|truncated"),
        ("a.npy", b"\x93NUMPY\x09\x00", "npy"),
        ("a.npz", b"PK\x03\x04 and no more", "npz"),
        ("a.npz", npz(points=np.zeros((4, 3)))[:-30], "npz"),
        ("a.npz", npz(a=np.zeros((4, 3)), b=np.zeros(4)), "named points, got a, b"),
        ("a.npz", npz(points=np.zeros((4, 3)), normals=np.zeros((5, 3))), "different lengths"),
        ("a.npz", npz(points=np.zeros((4, 3)), faces=np.zeros((5, 2))), "one row a point"),
        ("a.bin", bytes(17), "1 too many"),
        ("a.bin", b"", "empty"),
    ],
)
def test_bad_files(refuses, name, content, message):
    refuses(name, content, message)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_is_refused_or_read_never_worse(survives, data):
    reader, content = data.draw(
        st.sampled_from(
            [
                (read_npy, npy(POINTS)),
                (read_npz, npz(points=POINTS, colors=POINTS.astype(np.uint8))),
                (read_sweep, np.zeros((3, 4), "<f4").tobytes()),
            ]
        )
    )
    survives(data.draw, reader, content)
