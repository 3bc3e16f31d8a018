"""npy, npz and headerless sweeps."""

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pccbench.codecs.cloud import PointCloud
from pccbench.codecs.errors import CloudError
from pccbench.codecs.formats import CloudWarning, read_cloud, write_cloud
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
        (
            "a.npz",
            npz(a=np.zeros((4, 3)), b=np.zeros(4)),
            r"named points of 3 numbers a row, got a \(4, 3\), b \(4,\)",
        ),
        ("a.npz", npz(points=np.zeros((4, 3)), normals=np.zeros((5, 3))), "different lengths"),
        ("a.npz", npz(points=np.zeros((4, 3)), xyz=np.zeros((4, 3))), "several .* points .4, 3., xyz .4, 3."),
        ("a.npz", npz(normals=np.zeros((4, 3))), "named points"),
        ("a.npz", npz(points=np.array([[1, 2, None]], object)), "Python objects"),
        ("a.npz", npz(points=np.float64(3)), r"named points|shape \(\)"),
        ("a.npz", npz(points=np.zeros((4, 6))), r"shape \(4, 6\)"),
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


def test_further_arrays_are_kept_where_they_are_a_row_a_point_and_named_where_not(tmp_path):
    """As occupancy networks write them: loc and scale are no rows."""
    extra = {
        "normals": np.eye(3)[:2], "rgb": np.array([[1, 2, 3], [4, 5, 255]]), "label": np.array([7, 8]),
        "height": np.array([[0.5], [1.5]]), "loc": np.zeros(3), "scale": np.float64(2), "features": np.ones((2, 16)),
        "made": np.array({"by": "hand"}, object), "category": np.array("chair"),
    }  # fmt: skip
    np.savez(tmp_path / "a.npz", points=POINTS.astype(np.float16) + np.float16(0.5), **extra)
    with pytest.warns(CloudWarning) as caught:
        cloud = read_cloud(tmp_path / "a.npz")
    [text] = [str(one.message) for one in caught]
    for part in ("loc (3,)", "scale ()", "features (2, 16)", "made () of Python objects", "category ()"):
        assert part in text
    assert "\n" not in text
    assert cloud.points.tolist() == (POINTS + 0.5).tolist()
    assert cloud.normals.tolist() == np.eye(3)[:2].tolist()
    assert cloud.colors.tolist() == [[1, 2, 3], [4, 5, 255]]
    assert {name: column.tolist() for name, column in cloud.attributes.items()} == {
        "label": [7, 8],
        "height": [0.5, 1.5],
    }


@pytest.mark.parametrize("name", ["points", "xyz", "pts", "positions", "coords", "pos", "arr_0", "Vertices", "sole"])
def test_points_have_many_names(tmp_path, name):
    np.savez(tmp_path / "a.npz", **{name: POINTS})
    assert read_cloud(tmp_path / "a.npz").points.tolist() == POINTS.tolist()


def test_what_is_not_wanted_is_not_unpacked(tmp_path):
    """Half a gigabyte of zeros beside the points costs nothing; as points it is refused."""
    big = np.zeros((20_000_000, 3))
    np.savez_compressed(tmp_path / "a.npz", points=POINTS, other=big)
    with pytest.warns(CloudWarning, match=r"other \(20000000, 3\)"):
        assert len(read_cloud(tmp_path / "a.npz")) == 2
    np.savez_compressed(tmp_path / "b.npz", points=big)
    assert (tmp_path / "b.npz").stat().st_size < 1 << 20
    with pytest.raises(CloudError, match="more than any cloud shrinks"):
        read_cloud(tmp_path / "b.npz")


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_other_compression_is_refused(refuses, method):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr("points.npy", npy(POINTS))
    refuses("a.npz", stream.getvalue(), "expected deflate")


# Headerless sweeps


def lidar(n, columns, seed=0):
    """Rows of x, y, z, intensity, ring and so on."""
    rng = np.random.default_rng(seed)
    angle, distance = rng.uniform(0, 6.28, n), rng.gamma(2, 10, n)
    rows = np.zeros((n, columns), "<f4")
    rows[:, 0], rows[:, 1], rows[:, 2] = distance * np.cos(angle), distance * np.sin(angle), rng.normal(-1, 0.8, n)
    for column, part in enumerate((rng.random(n), rng.integers(0, 32, n)), start=3):
        if column < columns:
            rows[:, column] = part
    for column in range(5, columns):
        rows[:, column] = rng.random(n) * 10**column
    return rows


@pytest.mark.parametrize("n", [20, 80, 4000])
@pytest.mark.parametrize("columns", [3, 5, 6, 7, 8])
def test_rows_of_another_width_are_no_kitti_sweep(tmp_path, n, columns):
    rows = lidar(n * 4, columns)  # a length that four columns divide
    rows.tofile(tmp_path / "a.bin")
    with pytest.raises(CloudError, match=f"--columns {columns} reads them so"):
        read_cloud(tmp_path / "a.bin")
    cloud = read_cloud(tmp_path / "a.bin", columns=columns)
    np.testing.assert_array_equal(cloud.points, rows[:, :3])
    if columns > 3:
        np.testing.assert_array_equal(cloud.attributes["intensity"], rows[:, 3])


@pytest.mark.parametrize("n", [1, 2, 3, 40, 39, 4000])
def test_the_name_says_that_a_sweep_is_of_nuscenes(tmp_path, n):
    rows = lidar(n, 5)
    rows[:, 3] = np.rint(rows[:, 3] * 255)
    rows.tofile(tmp_path / "n015__LIDAR_TOP__1531.pcd.bin")
    cloud = read_cloud(tmp_path / "n015__LIDAR_TOP__1531.pcd.bin")
    np.testing.assert_array_equal(cloud.points, rows[:, :3])
    np.testing.assert_array_equal(cloud.attributes["ring"], rows[:, 4])


def test_a_kitti_sweep_under_the_name_of_nuscenes_is_refused(tmp_path):
    lidar(500, 4).tofile(tmp_path / "a.pcd.bin")
    with pytest.raises(CloudError, match="--columns 4 reads them so"):
        read_cloud(tmp_path / "a.pcd.bin")


@pytest.mark.parametrize("n", [1, 5, 64, 4000])
@pytest.mark.parametrize("kind", ["reflectance", "bytes", "zero", "voxels"])
def test_four_columns_are_believed(tmp_path, n, kind):
    rows = lidar(n, 4, seed=n)
    if kind == "bytes":
        rows[:, 3] = np.rint(rows[:, 3] * 255)
    if kind in ("zero", "voxels"):
        rows[:, 3] = 0
    if kind == "voxels":
        rows = np.rint(np.abs(rows))
    rows.tofile(tmp_path / "000000.bin")
    np.testing.assert_array_equal(read_cloud(tmp_path / "000000.bin").points, rows[:, :3])


@pytest.mark.parametrize("kind", ["<f8", "<i4", "<u2", "<i8", ">f4", "V16"])
def test_other_data_are_no_sweep(tmp_path, kind):
    rng = np.random.default_rng(1)
    data = rng.bytes(16_000) if kind == "V16" else (np.abs(lidar(1000, 4)) * 100).astype(kind).tobytes()
    (tmp_path / "a.bin").write_bytes(data)
    with pytest.raises(CloudError, match="not a KITTI sweep.*--columns"):
        read_cloud(tmp_path / "a.bin")


@pytest.mark.parametrize("columns", [0, 2, 257])
def test_columns_out_of_range(tmp_path, columns):
    lidar(4, 4).tofile(tmp_path / "a.bin")
    with pytest.raises(CloudError, match="3 to 256 columns"):
        read_cloud(tmp_path / "a.bin", columns=columns)


def test_the_sweeps_of_kitti_and_nuscenes(shared):
    for path in sorted((shared / "data" / "SemanticKITTI").rglob("*.bin")):
        assert len(read_cloud(path)) == path.stat().st_size // 16
    case = shared / "cases" / "nuscenes"
    if not case.is_dir():
        pytest.skip("no case nuscenes here")
    [path] = (case / "folder").iterdir()
    np.testing.assert_array_equal(read_cloud(path).points, np.load(case / "truth.npy"))
