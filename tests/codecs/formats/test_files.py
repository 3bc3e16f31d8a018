"""The two calls that everybody uses: which reader reads what, depths, and files that cannot be read or written."""

import numpy as np
import pytest

from pccbench.codecs.cloud import PointCloud
from pccbench.codecs.errors import CloudError
from pccbench.codecs.formats import READABLE, WRITABLE, read_cloud, write_cloud
from pccbench.codecs.formats.grid import named_bit_depth

CLOUD = PointCloud(np.array([[0, 1, 2], [3, 4, 500]], np.int32), 10)


@pytest.mark.parametrize("suffix", WRITABLE)
def test_every_format_gives_the_points_back(tmp_path, suffix):
    assert set(WRITABLE) <= set(READABLE)
    path = tmp_path / f"a_vox10{suffix.upper()}"
    write_cloud(CLOUD, path)
    again = read_cloud(path)
    assert again.geometry_sha256() == CLOUD.geometry_sha256()
    assert again.bit_depth == 10
    assert read_cloud(path, bit_depth=None).bit_depth is None
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_the_content_decides_not_the_name(tmp_path):
    for suffix in (".ply", ".pcd", ".npy", ".npz"):
        write_cloud(CLOUD, tmp_path / f"a{suffix}")
        named_otherwise = tmp_path / f"a{suffix}.download"
        (tmp_path / f"a{suffix}").rename(named_otherwise)
        assert read_cloud(named_otherwise).points.tolist() == CLOUD.points.tolist()


def test_names_that_state_a_depth():
    assert named_bit_depth("loot_vox10_1200.ply") == 10
    assert named_bit_depth("statue_VOX12.ply") == 12
    assert named_bit_depth("loot_vox99.ply") is None
    assert named_bit_depth("vox10.ply") is None


def test_depths(tmp_path):
    """Integers are voxels, of the depth that the name states unless they need more."""
    points = np.array([[0.0, 1, 1030]])
    np.save(tmp_path / "a_vox12.npy", points)
    np.save(tmp_path / "a_vox10.npy", points)
    np.save(tmp_path / "negative.npy", -points)
    np.save(tmp_path / "real.npy", points + 0.5)
    np.save(tmp_path / "huge.npy", points * 1e9)
    assert read_cloud(tmp_path / "a_vox12.npy").bit_depth == 12
    assert read_cloud(tmp_path / "a_vox10.npy").bit_depth == 11
    for name in ("negative", "real", "huge"):
        assert read_cloud(tmp_path / f"{name}.npy").bit_depth is None
        with pytest.raises(CloudError, match=r"expected a voxelised cloud of 11 bits|not all coordinates"):
            read_cloud(tmp_path / f"{name}.npy", bit_depth=11)


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "mesh.off").write_text("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n")
    (tmp_path / "text.csv").write_text("1,2,3\n")
    (tmp_path / "nothing.ply").touch()
    for name, message in {
        "absent.ply": "no such file",
        "": "a folder",
        "mesh.off": "a mesh, expected a cloud",
        "text.csv": "unsupported extension '.csv'",
        "nothing.ply": "empty",
        "a\0b.ply": "cannot be read",
    }.items():
        with pytest.raises(CloudError, match=message):
            read_cloud(tmp_path / name)


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.ply"
    path.write_text("before")
    with pytest.raises(CloudError, match="cannot hold|does not hold|real"):
        write_cloud(PointCloud(np.array([[1e-9, 0, 0]])), tmp_path / "a.bin")
    with pytest.raises(CloudError, match="unsupported extension"):
        write_cloud(CLOUD, tmp_path / "a.xyz")
    with pytest.raises(CloudError, match="cannot be written"):
        write_cloud(CLOUD, tmp_path / "absent" / "a.ply")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.ply"]
    assert path.read_text() == "before"
