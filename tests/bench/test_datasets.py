"""Data sets by name: found, missing, checked, selected; where their root comes from."""

import os
import socket
from pathlib import Path

import numpy as np
import pytest

from pccbench.bench.datasets import (
    CloudFile,
    DatasetMissingError,
    data_root,
    list_datasets,
    open_dataset,
    without_repeats,
)
from pccbench.bench.datasets.published import published_sets
from pccbench.bench.datasets.root import ENVIRONMENT, config_path
from pccbench.bench.errors import UsageError
from pccbench.codecs.cloud import PointCloud
from pccbench.codecs.errors import CloudError
from pccbench.codecs.formats import CloudWarning, read_cloud, read_mesh, write_cloud

PUBLISHED = [dataset.name for dataset in published_sets(None)]


@pytest.fixture(autouse=True)
def no_settings(monkeypatch, tmp_path):
    """Neither the user's environment nor their configuration file counts."""
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def put(path: Path, n: int = 4, bit_depth: int = 10) -> Path:
    """A cloud of n voxels in a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    index = np.arange(n, dtype=np.int32)
    points = np.stack([index % 512, index // 512 % 512, index // 2**18], axis=1)
    write_cloud(PointCloud(points, bit_depth=bit_depth), path)
    return path


def put_8i(root: Path, frame: str, n: int = 4) -> Path:
    return put(root / "8iVFBv2" / frame.split("_", maxsplit=1)[0] / "Ply" / f"{frame}.ply", n)


def names(selection) -> list[str]:
    return [ref.name for ref in selection.found]


# The registry


@pytest.mark.parametrize(
    ("given", "near"), [("8ivbf", "8ivfb"), ("syntetic", "synthetic"), ("kitti", "semantickitti"), ("owli", "owlii")]
)
def test_an_unknown_name_shows_near_ones(given, near):
    with pytest.raises(UsageError, match=f"unknown data set '{given}'; did you mean .*{near}"):
        open_dataset(given)


def test_a_name_like_nothing_shows_all():
    with pytest.raises(UsageError) as caught:
        open_dataset("zzzz")
    for name in ("synthetic", *PUBLISHED, "folder:PATH"):
        assert name in str(caught.value)


def test_the_list_says_what_is_there(root):
    put_8i(root, "loot_vox10_1200")
    put_8i(root, "loot_vox10_1201")
    rows = {name: (there, text) for name, there, text in list_datasets(root)}
    assert set(rows) == {"synthetic", *PUBLISHED, "folder:PATH"}
    assert rows["synthetic"][0] == "yes"
    assert rows["8ivfb"][0] == "yes"
    assert rows["8ivfb"][1].startswith("2 clouds")
    assert rows["owlii"][0] == "no"
    assert "mpeg-pcc.org" in rows["owlii"][1]


# What is not there


@pytest.mark.parametrize("name", PUBLISHED)
def test_missing_data_says_where_it_is_to_be_had(name, root):
    dataset = open_dataset(name, root)
    with pytest.raises(DatasetMissingError) as caught:
        dataset.select(None)
    text = str(caught.value)
    assert "\n" not in text
    assert name in text
    assert f"looked in {root}" in text
    for fact in (dataset.published, dataset.terms, f"DATA_ROOT/{dataset.layout}"):
        assert fact
        assert fact in text
    assert "http" in dataset.published


def test_without_a_root_the_message_says_how_to_give_one():
    with pytest.raises(DatasetMissingError, match="--data-root, PCCBENCH_DATA or the configuration file"):
        open_dataset("8ivfb").select(None)


def test_missing_data_is_wrong_use():
    assert issubclass(DatasetMissingError, UsageError)  # for which the command exits with 2


def test_partial_data_runs_what_is_there_and_lists_the_rest(root):
    put_8i(root, "loot_vox10_1200")
    put_8i(root, "soldier_vox10_0690")
    selection = open_dataset("8ivfb", root).select(None)
    assert names(selection) == ["loot_vox10_1200", "soldier_vox10_0690"]
    assert selection.missing == ["longdress_vox10_1300", "redandblack_vox10_1550"]


# Frames against what was published


def test_a_frame_with_another_number_of_points_is_refused(root):
    put_8i(root, "loot_vox10_1200", 1000)
    [ref] = open_dataset("8ivfb", root).select(["loot"]).found
    with pytest.raises(CloudError, match="1,000 points, the published frame has 805,285"):
        ref.load()


def test_a_frame_with_the_published_number_is_taken(root):
    put_8i(root, "loot_vox10_1200", 805_285)
    [ref] = open_dataset("8ivfb", root).select(["loot"]).found
    cloud = ref.load()
    assert len(cloud) == 805_285
    assert cloud.bit_depth == 10
    assert cloud.peak == 1023


def test_the_customary_frames_and_their_numbers():
    counts = {name: n for dataset in published_sets(None) for name, n in dataset.frames.items() if n is not None}
    assert counts == {
        "longdress_vox10_1300": 857_966,
        "loot_vox10_1200": 805_285,
        "redandblack_vox10_1550": 757_691,
        "soldier_vox10_0690": 1_089_091,
        "ricardo10_frame0000": 960_703,
        "basketball_player_vox11_00000200": 2_925_514,
        "dancer_vox11_00000001": 2_592_758,
    }


def test_a_frame_without_a_published_number_is_taken(root):
    put_8i(root, "loot_vox10_1201", 7)
    [ref] = open_dataset("8ivfb", root).select(["loot_vox10_1201"]).found
    assert len(ref.load()) == 7


def test_a_cloud_beyond_the_declared_grid_is_refused(root):
    path = put(root / "8iVFBv2/loot/Ply/loot_vox10_1201.ply", 4)
    write_cloud(PointCloud(np.array([[0, 0, 1024]], np.int32), bit_depth=11), path)
    [ref] = open_dataset("8ivfb", root).select(["loot*"]).found
    with pytest.raises(CloudError, match="1024"):
        ref.load()


def test_repeated_points_are_merged_and_counted(root):
    path = put(root / "Owlii/model_vox11/model_vox11_00000001.ply")
    twice = np.array([[1, 2, 3], [4, 5, 6], [1, 2, 3]], np.int32)
    write_cloud(PointCloud(twice, bit_depth=11), path)
    [ref] = open_dataset("owlii", root).select(["model"]).found
    cloud = ref.load()
    assert cloud.points.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert cloud.repeats_dropped == 1


def test_the_real_frames_are_the_published_ones(shared):
    if not (shared / "data" / "8iVFBv2").is_dir():
        pytest.skip("no 8iVFB here")
    selection = open_dataset("8ivfb", shared / "data").select(None)
    for ref in selection.found:
        assert len(ref.load()) == ref.points


# Selection


@pytest.fixture
def frames(root):
    for frame in ("longdress_vox10_1300", "longdress_vox10_1051", "soldier_vox10_0700", "soldier_vox10_0690"):
        put_8i(root, frame)
    return open_dataset("8ivfb", root)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["longdress"], ["longdress_vox10_1300"]),  # a sequence alone means its customary frame
        (["longdress_vox10_1051"], ["longdress_vox10_1051"]),
        (["longdress*"], ["longdress_vox10_1300", "longdress_vox10_1051"]),
        (["soldier_vox10_07*"], ["soldier_vox10_0700"]),
        (["soldier", "longdress", "soldier"], ["soldier_vox10_0690", "longdress_vox10_1300"]),
        (["*_1?00"], ["longdress_vox10_1300"]),
    ],
)
def test_clouds_by_name_sequence_and_pattern(frames, patterns, expected):
    selection = frames.select(patterns)
    assert names(selection) == expected


def test_a_customary_frame_that_is_not_there_is_listed(frames):
    selection = frames.select(["longdress", "loot"])
    assert names(selection) == ["longdress_vox10_1300"]
    assert selection.missing == ["loot_vox10_1200"]


def test_an_unknown_cloud_shows_near_ones(frames):
    with pytest.raises(UsageError, match="8ivfb has no cloud 'longdres'; did you mean .*longdress"):
        frames.select(["longdres"])


# Layouts


def test_mvub_takes_the_bit_depth_from_the_sequence(root):
    for sequence in ("phil9", "phil10", "andrew10"):
        for frame in ("frame0000", "frame0139"):
            put(root / "MVUB" / sequence / "ply" / f"{frame}.ply")
    dataset = open_dataset("mvub", root)
    selection = dataset.select(None)
    assert names(selection) == ["andrew10_frame0000", "phil10_frame0000"]
    assert selection.missing == ["david10_frame0000", "ricardo10_frame0000", "sarah10_frame0000"]
    depths = {ref.name: ref.load().bit_depth for ref in dataset.select(["phil*"]).found}
    assert depths == {
        "phil9_frame0000": 9,
        "phil9_frame0139": 9,
        "phil10_frame0000": 10,
        "phil10_frame0139": 10,
    }
    assert names(dataset.select(["phil9"])) == ["phil9_frame0000", "phil9_frame0139"]


def test_the_root_may_be_the_folder_of_the_set_itself(root):
    put_8i(root, "loot_vox10_1200")
    assert names(open_dataset("8ivfb", root / "8iVFBv2").select(None)) == ["loot_vox10_1200"]


def test_sweeps_of_semantickitti(root):
    rows = np.array([[1.5, -2.25, 0.5, 0.1], [1.5, -2.25, 0.5, 0.7], [70.0, 3.0, -1.5, 0.0]], "<f4")
    for sequence, sweep in (("00", "000000"), ("00", "000001"), ("11", "000004")):
        path = root / "SemanticKITTI" / "sequences" / sequence / "velodyne" / f"{sweep}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows.tofile(path)
    dataset = open_dataset("semantickitti", root)
    assert names(dataset.select(None)) == ["00_000000", "11_000004"]  # a sweep of each sequence, not thousands
    assert names(dataset.select(["00_*"])) == ["00_000000", "00_000001"]
    cloud = dataset.select(["11"]).found[0].load()
    np.testing.assert_array_equal(cloud.points, rows[:, :3])  # repeats stay: they are measurements
    assert cloud.bit_depth is None
    assert cloud.peak == 59.70


def test_sweeps_voxelised_at_2_cm(root):
    path = root / "SemanticKITTI" / "sequences" / "00" / "velodyne" / "000000.bin"
    path.parent.mkdir(parents=True)
    points = np.array([[-3, 1, 0, 0.5], [-2.995, 1.001, 0.001, 0.1], [-3, 1.25, 0.4, 0], [7, 1, 0, 0]], np.float32)
    path.write_bytes(points.tobytes())
    [ref] = open_dataset("semantickitti-2cm", root).select(None).found
    cloud = ref.load()
    assert cloud.bit_depth == 9
    assert cloud.peak == pytest.approx(59.70 / 0.02)
    assert cloud.repeats_dropped == 1
    away = np.asarray(cloud.points) * 0.02 + 0.01 - (points[[0, 2, 3], :3] - points[:, :3].min(axis=0))
    assert np.abs(away).max() < 0.0101
    assert ref.fingerprint()["step"] == 0.02
    [raw] = open_dataset("semantickitti", root).select(None).found
    assert raw.fingerprint() != ref.fingerprint()


def test_real_sweeps_of_semantickitti(shared):
    if not (shared / "data" / "SemanticKITTI").is_dir():
        pytest.skip("no SemanticKITTI here")
    for ref in open_dataset("semantickitti", shared / "data").select(None).found:
        cloud = ref.load()
        assert len(cloud) > 100_000
        assert np.abs(cloud.points).max() < 100


def write_box(path: Path, sides=(2.0, 1.0, 0.5)) -> None:
    corners = [(x * sides[0], y * sides[1], z * sides[2]) for x in (0, 1) for y in (0, 1) for z in (0, 1)]
    faces = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    triangles = [t for a, b, c, d in faces for t in ((a, b, c), (a, c, d))]
    text = ["OFF", f"{len(corners)} {len(triangles)} 0"]
    text += [" ".join(map(str, corner)) for corner in corners]
    text += [f"3 {a} {b} {c}" for a, b, c in triangles]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(text) + "\n")


def test_meshes_of_modelnet40_are_sampled_alike_every_time(root, monkeypatch):
    monkeypatch.setattr("pccbench.bench.datasets.modelnet.SAMPLES", 50_000)
    folder = root / "ModelNet40"
    write_box(folder / "night_stand" / "train" / "night_stand_0001.off")
    write_box(folder / "night_stand" / "test" / "night_stand_0201.off", (1.0, 1.0, 1.0))
    write_box(folder / "chair" / "train" / "chair_0001.off")
    dataset = open_dataset("modelnet40", root)
    assert names(dataset.select(None)) == ["chair_0001", "night_stand_0201"]  # test meshes come first
    assert names(dataset.select(["night_stand_*"])) == ["night_stand_0201", "night_stand_0001"]
    [ref] = dataset.select(["chair"]).found
    cloud = ref.load()
    assert cloud.bit_depth == 10
    assert ref.load().geometry_sha256() == cloud.geometry_sha256()
    assert np.ptp(cloud.points, axis=0).tolist() == [1023, 512, 256]  # 2 : 1 : 0.5, spanning the grid
    assert len(np.unique(cloud.points, axis=0)) == len(cloud)
    on_a_face = ((cloud.points == 0) | (np.abs(cloud.points - [1023, 511.5, 255.75]) < 1)).any(axis=1)
    assert on_a_face.all()
    # By area: a face's share of the samples, less those that fell into a voxel twice.
    assert (cloud.points[:, 2] == 0).mean() == pytest.approx(2 / 7, abs=0.03)


def test_real_meshes_of_modelnet40(shared):
    if not (shared / "data" / "ModelNet40").is_dir():
        pytest.skip("no ModelNet40 here")
    dataset = open_dataset("modelnet40", shared / "data")
    cloud = dataset.select(None).found[0].load()
    assert 10_000 < len(cloud) <= 500_000
    assert cloud.points.max() == 1023


# Folders


def test_a_folder_is_a_data_set(tmp_path):
    put(tmp_path / "scans" / "a.ply")
    put(tmp_path / "scans" / "deep" / "b.npy")
    (tmp_path / "scans" / "notes.txt").write_text("not a cloud")
    dataset = open_dataset(f"folder:{tmp_path / 'scans'}")
    assert names(dataset.select(None)) == ["a", "b"]
    assert names(dataset.select(["b"])) == ["b"]
    assert len(dataset.select(["a"]).found[0].load()) == 4


def test_files_of_the_same_stem_go_by_their_paths(tmp_path):
    put(tmp_path / "x" / "same.ply")
    put(tmp_path / "y" / "same.ply")
    put(tmp_path / "y" / "other.ply")
    assert names(open_dataset(f"folder:{tmp_path}").select(None)) == ["other", "x/same.ply", "y/same.ply"]


@pytest.mark.parametrize(("below", "message"), [("nothing", "no such folder"), ("", "no cloud in it .*ply")])
def test_a_folder_without_clouds(tmp_path, below, message):
    with pytest.raises(DatasetMissingError, match=message):
        open_dataset(f"folder:{tmp_path / below}").select(None)


def test_an_empty_cloud_is_refused(tmp_path):
    write_cloud(PointCloud(np.empty((0, 3), np.int32), bit_depth=3), tmp_path / "empty.ply")
    with pytest.raises(CloudError, match=r"empty\.ply: .*empty"):
        open_dataset(f"folder:{tmp_path}").select(None).found[0].load()


# What lies in folders besides plain files


def test_linked_folders_and_files_are_followed(tmp_path):
    scans = tmp_path / "scans"
    put(scans / "plain" / "a.ply")
    put(tmp_path / "elsewhere" / "one" / "b.ply")
    put(tmp_path / "elsewhere" / "c.ply")
    put(tmp_path / "elsewhere" / "d.npy")
    (scans / "linked").symlink_to(tmp_path / "elsewhere" / "one")
    (scans / "more").mkdir()
    (scans / "more" / "again").symlink_to(tmp_path / "elsewhere")
    (scans / "file.npy").symlink_to(tmp_path / "elsewhere" / "d.npy")
    (tmp_path / "root").symlink_to(scans)
    expected = ["a", "c", "d", "file", "linked/b.ply", "more/again/one/b.ply"]
    assert names(open_dataset(f"folder:{tmp_path / 'root'}").select(None)) == expected


def test_links_that_go_in_circles_end(tmp_path):
    put(tmp_path / "x" / "a.ply")
    (tmp_path / "x" / "up").symlink_to(tmp_path)
    (tmp_path / "x" / "self").symlink_to(tmp_path / "x" / "self")
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "x").symlink_to(tmp_path / "x")
    assert names(open_dataset(f"folder:{tmp_path}").select(None)) == ["x/a.ply", "y/x/a.ply"]


def test_links_upon_links_do_not_multiply_without_end(tmp_path):
    folder = tmp_path
    for _ in range(20):  # a million ways down
        folder = folder / "next"
        folder.mkdir()
        (folder.parent / "also").symlink_to(folder)
    put(folder / "a.ply")
    assert 1 <= len(open_dataset(f"folder:{tmp_path}").select(None).found) <= 32


def test_what_is_no_file_is_left_out_and_said(tmp_path):
    put(tmp_path / "a.ply")
    put(tmp_path / ".hidden" / "b.ply")
    put(tmp_path / "._a.ply")
    (tmp_path / "gone.ply").symlink_to(tmp_path / "nothing.ply")
    (tmp_path / "folder.ply").mkdir()
    os.mkfifo(tmp_path / "pipe.ply")
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.warns(CloudWarning) as caught:
        assert names(open_dataset(f"folder:{tmp_path}").select(None)) == ["a"]
    assert sorted(str(one.message) for one in caught) == [
        f"{tmp_path}/gone.ply: a link to nothing, left out",
        f"{tmp_path}/pipe.ply: a device or pipe, left out",
    ]


def test_neither_pipes_nor_links_to_nothing_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.ply")
    (tmp_path / "gone.ply").symlink_to(tmp_path / "nothing.ply")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.ply"))
        for name, message in (
            ("pipe.ply", "a device or pipe"),
            ("gone.ply", "a link to nothing"),
            ("socket.ply", "cannot be read"),
            ("/dev/zero", "a device or pipe"),
        ):
            for reader in (read_cloud, read_mesh, lambda path: CloudFile("a", "b", path).source_sha256):
                with pytest.raises(CloudError, match=message):
                    reader(tmp_path / name)


def test_layouts_are_found_through_links(root, tmp_path):
    put(tmp_path / "far" / "model_vox11_00000001.ply")
    (root / "Owlii").mkdir()
    (root / "Owlii" / "model_vox11").symlink_to(tmp_path / "far")
    assert names(open_dataset("owlii", root).select(["model*"])) == ["model_vox11_00000001"]
    put(tmp_path / "frames" / "loot_vox10_1200.ply")
    (root / "8iVFBv2" / "loot").mkdir(parents=True)
    (root / "8iVFBv2" / "loot" / "Ply").symlink_to(tmp_path / "frames")
    assert names(open_dataset("8ivfb", root).select(None)) == ["loot_vox10_1200"]


def test_no_name_is_taken_twice(tmp_path):
    """`x.pcd.bin` has the stem of a file that goes by its path."""
    for name in ("x.pcd", "x.bin", "x.pcd.bin", "y.ply"):
        put(tmp_path / name)
    found = open_dataset(f"folder:{tmp_path}").available()
    assert {ref.path.name for ref in found.values()} == {"x.pcd", "x.bin", "x.pcd.bin", "y.ply"}


@pytest.mark.parametrize("raw", [b"a\xff.ply", "a\u202eb\n.ply".encode(), b"\x1b[31m.ply"])
def test_names_can_be_shown(tmp_path, raw):
    put(tmp_path / "a.ply").rename(tmp_path / os.fsdecode(raw))
    [name] = names(open_dataset(f"folder:{tmp_path}").select(None))
    assert name.isprintable()
    name.encode()


# Literal names and patterns


ODD = ("scan[1]", "scan1", "*", "what?", "whats", "a,b", "[", "a b")


@pytest.fixture
def odd(tmp_path):
    for name in ODD:
        put(tmp_path / f"{name}.ply")
    return open_dataset(f"folder:{tmp_path}")


@pytest.mark.parametrize("name", ODD)
def test_a_name_means_its_cloud_whatever_else_it_may_mean(odd, name):
    assert names(odd.select([name])) == [name]


def test_patterns_still_match(odd):
    assert names(odd.select(["scan*"])) == ["scan1", "scan[1]"]
    assert names(odd.select(["what?"])) == ["what?"]
    assert names(odd.select(["wha??"])) == ["what?", "whats"]
    assert len(odd.select(["?*"]).found) == len(ODD)


def test_no_name_is_suggested_for_itself(odd):
    with pytest.raises(UsageError, match=r"no cloud 'scan\[2\]'; did you mean .*scan\[1\]"):
        odd.select(["scan[2]"])


def test_a_pattern_without_match_may_be_a_fact(odd):
    selection = odd.select(["scan[2]", "a b"], must_match=False)
    assert names(selection) == ["a b"]
    assert list(selection.unmatched) == ["scan[2]"]
    assert "scan[1]" in selection.unmatched["scan[2]"]
    assert names(odd.select(["nothing at all"], must_match=False)) == []


# Headerless files


def test_columns_of_headerless_files(tmp_path):
    rows = np.random.default_rng(0).normal(size=(12, 6)).astype("<f4")
    rows.tofile(tmp_path / "a.BIN")
    put(tmp_path / "b.ply")
    dataset = open_dataset(f"folder:{tmp_path}", columns=6)
    [sweep, other] = dataset.select(None).found
    np.testing.assert_array_equal(sweep.load().points, rows[:, :3])
    assert len(other.load()) == 4
    assert sweep.fingerprint() != open_dataset(f"folder:{tmp_path}").select(["a"]).found[0].fingerprint()


# Repeated points


def test_one_policy_for_repeated_points(tmp_path, root):
    """Voxels are merged and counted, points of real coordinates are kept, in every data set."""
    voxels = np.array([[1, 2, 3], [1, 2, 3], [4, 5, 6], [1, 2, 3]], np.int32)
    write_cloud(PointCloud(voxels, 4), tmp_path / "voxels.ply")
    write_cloud(PointCloud(voxels + 0.5), tmp_path / "real.ply")
    real, merged = (ref.load() for ref in open_dataset(f"folder:{tmp_path}").select(None).found)
    assert (len(real), real.repeats_dropped) == (4, 0)
    assert (len(merged), merged.repeats_dropped) == (2, 2)
    again = without_repeats(read_cloud(tmp_path / "voxels.ply"))
    assert (len(again), again.repeats_dropped) == (2, 2)
    sweep = root / "SemanticKITTI" / "sequences" / "11" / "velodyne" / "000000.bin"
    sweep.parent.mkdir(parents=True)
    np.c_[voxels * 0.3, np.zeros(4)].astype("<f4").tofile(sweep)
    kept, voxelised = (
        open_dataset(n, root).select(None).found[0].load() for n in ("semantickitti", "semantickitti-2cm")
    )
    assert (len(kept), kept.repeats_dropped) == (4, 0)
    assert (len(voxelised), voxelised.repeats_dropped) == (2, 2)


def test_a_changed_file_is_another_job(tmp_path):
    path = put(tmp_path / "a.ply", 4)
    before = open_dataset(f"folder:{tmp_path}").select(None).found[0].fingerprint()
    put(path, 5)
    assert open_dataset(f"folder:{tmp_path}").select(None).found[0].fingerprint() != before


# The root


def write_config(text: str) -> Path:
    path = config_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_option_wins_over_the_environment_and_that_over_the_file(tmp_path, monkeypatch):
    folders = [tmp_path / name for name in ("option", "environment", "file")]
    for folder in folders:
        folder.mkdir()
    assert data_root() is None
    write_config(f"data_root: {folders[2]}\n")
    assert data_root() == folders[2]
    monkeypatch.setenv(ENVIRONMENT, str(folders[1]))
    assert data_root() == folders[1]
    assert data_root(folders[0]) == folders[0]


def test_the_environment_leads_to_the_data(root, monkeypatch):
    put_8i(root, "loot_vox10_1200")
    monkeypatch.setenv(ENVIRONMENT, str(root))
    assert names(open_dataset("8ivfb").select(None)) == ["loot_vox10_1200"]


def test_a_root_that_is_not_there_is_named_with_its_source(tmp_path, monkeypatch):
    nowhere = tmp_path / "nowhere"
    with pytest.raises(UsageError, match=f"--data-root: no folder {nowhere}"):
        data_root(nowhere)
    monkeypatch.setenv(ENVIRONMENT, str(nowhere))
    with pytest.raises(UsageError, match=f"{ENVIRONMENT}: no folder"):
        open_dataset("owlii")
    open_dataset("synthetic")  # needs none


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data_rot: /tmp\n", "only the key data_root"),
        ("data_root: [1, 2]\n", "must be a path"),
        ("data_root: {", "not YAML"),
        ("- data_root\n", "only the key data_root"),
        ("data_root: /nowhere/at/all\n", "no folder /nowhere/at/all"),
    ],
)
def test_a_wrong_configuration_file_is_one_line_that_names_it(text, message):
    path = write_config(text)
    with pytest.raises(UsageError, match=message) as caught:
        data_root()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_configuration_file_is_none():
    write_config("")
    assert data_root() is None
