"""From surfaces to training blocks: geometry of the samples, selection, manifest, refusals."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from pccbench.bench.errors import UsageError
from pccbench.bench.prepare.command import prepare as command
from pccbench.bench.prepare.pipeline import (
    Recipe,
    cloud_of,
    largest_blocks,
    octree_blocks,
    prepare,
    random_of,
    whole_cloud,
)
from pccbench.bench.prepare.procedural import figure, thing
from pccbench.bench.prepare.scan import Scan, Wave, random_rotation, random_scan, sample, voxelised
from pccbench.bench.prepare.sources import Drawn, find_meshes, refuse_evaluation_data, select_largest, split
from pccbench.codecs.blocks import Blocks, cut
from pccbench.codecs.errors import CloudError
from pccbench.codecs.formats.files import read_cloud
from pccbench.codecs.formats.mesh import Mesh

TETRAHEDRON = b"OFF4 4 6\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 2 1\n3 0 1 3\n3 0 3 2\n3 1 2 3\n"
#: A square of 4 x 1, of two triangles of very different size: half of it in 7 of 8 parts and 1.
SLAB = b"OFF\n5 3 0\n0 0 0\n4 0 0\n4 1 0\n0 1 0\n2 1 0\n3 0 1 4\n3 0 4 3\n3 1 2 4\n"


def write_tree(folder: Path) -> Path:
    """Two categories of three meshes, with licences, one mesh damaged."""
    for category, names in (("chair", "abc"), ("humans", "xyz")):
        (folder / category).mkdir(parents=True)
        for name in names:
            (folder / category / f"{name}.off").write_bytes(SLAB if name in "bx" else TETRAHEDRON)
    (folder / "chair" / "c.off").write_bytes(b"OFF\n4 4 0\n0 0 0\n")
    (folder / "INDEX.csv").write_text("file,licence\nchair/a.off,CC0\nhumans/x.off,CC BY 4.0\n")
    return folder


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "meshes")


def mesh_of(data: bytes) -> Mesh:
    from pccbench.codecs.formats.off import read_off

    return read_off(data)


SMALL = Recipe(vg_size=64, level=1, samples=20_000, min_points=1)


def test_samples_lie_on_the_surface_in_proportion_to_area():
    points = sample(mesh_of(SLAB), 40_000, np.random.default_rng(0))
    assert (points[:, 2] == 0).all()
    assert ((points >= 0) & (points <= [4, 1, 0])).all()
    counts, _, _ = np.histogram2d(points[:, 0], points[:, 1], bins=(8, 2), range=((0, 4), (0, 1)))
    assert np.abs(counts / 2500 - 1).max() < 0.1  # 2,500 expected in each, deviation 50


def test_a_plain_cloud_fills_its_grid():
    mesh = mesh_of(TETRAHEDRON)
    cloud = voxelised(mesh, Scan(512.0, samples=300_000), np.random.default_rng(0))
    assert cloud.min() == 0
    assert cloud.max() >= 510
    assert len(np.unique(cloud, axis=0)) == len(cloud)
    faces = (cloud == 0).any(axis=1) | (np.abs(cloud.sum(axis=1) - 511) <= 2)
    assert faces.all()  # three faces on the axes' planes, the fourth has x + y + z = 511


def test_a_rotation_keeps_the_size_and_no_voxel_is_negative():
    mesh, rng = mesh_of(TETRAHEDRON), np.random.default_rng(1)
    for _ in range(5):
        rotation = random_rotation(rng)
        assert np.array(rotation) @ np.array(rotation).T == pytest.approx(np.eye(3), abs=1e-12)
        assert np.linalg.det(rotation) == pytest.approx(1)
        cloud = voxelised(mesh, Scan(100.0, 20.0, rotation, shift=(3.0, 0.0, 7.0)), rng)
        assert cloud.min() >= 0
        # The longest edge of the tetrahedron, sqrt(2) of its longest axis, is still there.
        ends = cloud[np.linalg.norm(cloud - cloud.mean(axis=0), axis=1).argsort()[-1000:]]
        longest = np.linalg.norm(ends[:, None] - ends[None], axis=2).max()
        assert longest == pytest.approx(99 * 2**0.5, abs=3)


def test_waves_move_the_surface_by_their_amplitude():
    mesh = mesh_of(SLAB)
    wave = Wave(40.0, 5.0, (1.0, 0.0, 0.0), (0.0, 0.0, 1.0), 0.0)
    cloud = voxelised(mesh, Scan(400.0, 8.0, waves=(wave,)), np.random.default_rng(0))
    x, z = cloud[:, 0] - 5, cloud[:, 2] - 5  # the margin for the wave is its amplitude
    assert (z.min(), z.max()) == (-5, 5)
    assert np.abs(z - 5 * np.sin(2 * np.pi * x / 40)).max() < 1.0


def test_noise_and_density_thicken_a_cloud():
    mesh = mesh_of(SLAB)
    clean, noisy = (voxelised(mesh, Scan(200.0, 6.0, noise=noise), np.random.default_rng(0)) for noise in (0.0, 0.35))
    assert len(np.unique(clean[:, 2])) == 1
    assert len(np.unique(noisy[:, 2])) >= 3
    sparse = voxelised(mesh, Scan(200.0, 0.5), np.random.default_rng(0))
    # Voxels hit at density d: 1 - exp(-d) of them.
    assert len(sparse) == pytest.approx(len(clean) * (1 - np.exp(-0.5)), rel=0.03)


def test_scans_vary_within_their_limits():
    rng = np.random.default_rng(0)
    scans = [random_scan(rng, (300.0, 1023.0)) for _ in range(300)]
    assert {len(scan.waves) for scan in scans} == set(range(7))
    assert all(300 <= scan.longest_axis <= 1023 and 2.5 <= scan.samples_per_area <= 10 for scan in scans)
    assert {scan.noise for scan in scans} == {0.0, 0.1, 0.2, 0.35}
    waves = [wave for scan in scans for wave in scan.waves]
    assert all(10 <= w.wavelength <= 150 and 0.005 <= w.amplitude / w.wavelength <= 0.07 for w in waves)


def test_flat_and_absurd_meshes_are_refused():
    rng = np.random.default_rng(0)
    point = Mesh(np.zeros((3, 3)), np.array([[0, 1, 2]]))
    line = Mesh(np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]]), np.array([[0, 1, 2]]))
    with pytest.raises(CloudError, match="no extent"):
        voxelised(point, Scan(100.0), rng)
    with pytest.raises(CloudError, match="no area"):
        voxelised(line, Scan(100.0), rng)
    with pytest.raises(CloudError, match="expected below"):
        voxelised(mesh_of(SLAB), Scan(5000.0, samples=10), rng)


def test_meshes_of_a_folder(tree):
    meshes = find_meshes(tree)
    assert [mesh.name for mesh in meshes] == [
        "chair/a.off", "chair/b.off", "chair/c.off", "humans/x.off", "humans/y.off", "humans/z.off",
    ]  # fmt: skip
    assert [mesh.licence for mesh in meshes] == ["CC0", "", "", "CC BY 4.0", "", ""]
    assert [mesh.vertex_count() for mesh in meshes] == [4, 5, 4, 5, 4, 4]
    assert [mesh.name for mesh in select_largest(meshes, 2)] == [
        "chair/b.off", "chair/a.off", "humans/x.off", "humans/y.off",
    ]  # fmt: skip
    training, held = split(meshes, ["humans/[yz].off"])
    assert [mesh.name for mesh in held] == ["humans/y.off", "humans/z.off"]
    assert len(training) == 4
    with pytest.raises(UsageError, match="no surface matches 'cat"):
        split(meshes, ["cat*"])
    with pytest.raises(UsageError, match="hold out all 6"):
        split(meshes, ["*"])


def test_headers_count_vertices_of_all_formats(tmp_path):
    (tmp_path / "a.obj").write_bytes(b"# v\nv 0 0 0\nv 1 0 0\nvn 0 0 1\nv 0 1 0\nf 1 2 3\n")
    (tmp_path / "b.ply").write_bytes(b"ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nend_header\n")
    (tmp_path / "c.off").write_bytes(b"OFF\n# text\n12 1 0\n")
    assert [mesh.vertex_count() for mesh in find_meshes(tmp_path)] == [3, 3, 12]


@pytest.mark.parametrize(
    "name",
    ["8iVFBv2/longdress/Ply/a.ply", "x/loot_vox10_1200.ply", "MVUB/andrew9/f.ply", "owlii/a.ply", "KITTI/a"],
)
def test_evaluation_data_is_never_trained_on(name):
    with pytest.raises(UsageError, match="never for training"):
        refuse_evaluation_data([name])
    refuse_evaluation_data(["meshes/household/lootbox.ply", "exploits/8iv.ply"])


def test_evaluation_data_is_refused_by_the_command(tmp_path):
    folder = tmp_path / "8iVFBv2" / "loot"
    folder.mkdir(parents=True)
    (folder / "frame.off").write_bytes(TETRAHEDRON)
    with pytest.raises(UsageError, match="evaluation only"):
        prepare(tmp_path / "8iVFBv2", tmp_path / "out", SMALL)


def test_block_selection(tree):
    surface = find_meshes(tree)[0]
    cloud = cloud_of(surface, SMALL)
    blocks = octree_blocks(cloud, SMALL, np.random.default_rng(0))
    assert blocks.size == 32
    assert int(blocks.counts.sum()) == len(cloud)
    some = octree_blocks(cloud, Recipe(vg_size=64, level=1, min_points=1, per_cloud=3), np.random.default_rng(0))
    assert len(some) == 3
    labels = ["a", "b"] * 4
    eight = Blocks.join([blocks, cut(cloud[::7], 32)]).take(np.arange(8))
    best = largest_blocks(eight, labels, 2, per_category=True)
    for label, part in (("a", best.take(np.arange(2))), ("b", best.take(np.arange(2, 4)))):
        counts = eight.counts[[i for i in range(8) if labels[i] == label]]
        assert part.counts.tolist() == sorted(counts.tolist(), reverse=True)[:2]
    assert largest_blocks(eight, labels, 3, per_category=False).counts.tolist() == sorted(eight.counts)[::-1][:3]


def test_a_folder_with_its_manifest(tree, tmp_path):
    recipe = Recipe(
        vg_size=64, level=1, samples=20_000, min_points=50, blocks=9, hold_out=("humans/z.off",), hold_out_clouds=1
    )
    seen = []
    prepared = prepare(tree, tmp_path / "out", recipe, command="bench prepare ...", progress=seen.append)
    assert len(seen) == 6
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest == prepared.manifest
    assert manifest["splits"]["train"]["blocks"] == prepared.blocks == 9
    assert manifest["licences"] == ["CC BY 4.0", "CC0"]
    assert manifest["command"] == "bench prepare ..."
    assert manifest["recipe"]["vg_size"] == 64
    for entry in manifest["splits"].values():
        assert entry["blocks"] == sum(shard["blocks"] for shard in entry["shards"])
        for shard in entry["shards"]:
            path = tmp_path / "out" / shard["file"]
            assert hashlib.sha256(path.read_bytes()).hexdigest() == shard["sha256"]
            assert len(Blocks.load(path)) == shard["blocks"]
    sources = {source["file"]: source for source in manifest["sources"]}
    assert "truncated" in sources["chair/c.off"]["skipped"]
    assert sources["humans/z.off"]["split"] == "held-out"
    for mesh in find_meshes(tree):
        assert sources[mesh.name]["sha256"] == hashlib.sha256(mesh.path.read_bytes()).hexdigest()
    # Every block says where it came from, and nothing held out is among the training blocks.
    blocks = Blocks.load(tmp_path / "out" / "train-000.npz")
    numbers = [source["file"] for source in manifest["sources"]]
    assert "humans/z.off" not in {numbers[i] for i in blocks.sources}
    for number, source in enumerate(manifest["sources"][:5]):
        assert source["blocks"] == int((blocks.sources == number).sum())
    assert sum(manifest["categories"].values()) == 9
    cloud = manifest["clouds"]["humans/z.off"]
    whole = read_cloud(tmp_path / "out" / cloud["file"])
    assert whole.bit_depth == 10
    assert len(whole) == cloud["points"]


def test_processes_and_repeats_change_nothing(tree, tmp_path):
    recipe = Recipe(
        min_points=30, per_cloud=4, human_clouds_per_mesh=2, longest_axis=(60.0, 120.0), block_size=32, seed=5
    )
    first = prepare(tree, tmp_path / "a", recipe)
    second = prepare(tree, tmp_path / "b", recipe, jobs=2)
    other = prepare(tree, tmp_path / "c", Recipe(**{**recipe.__dict__, "seed": 6}))

    def shards(prepared):
        return [shard["sha256"] for shard in prepared.manifest["splits"]["train"]["shards"]]

    assert shards(first) == shards(second) != shards(other)
    assert [source["clouds"] for source in first.manifest["sources"]] == [1, 1, 0, 2, 2, 2]
    # A folder that is ours is replaced, another's is not touched.
    prepare(tree, tmp_path / "a", recipe)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "thesis.tex").write_text("precious")
    with pytest.raises(UsageError, match="not empty"):
        prepare(tree, tmp_path / "d", recipe)


def test_recipes_that_make_no_sense_are_refused(tree, tmp_path):
    for wrong, reason in (
        ({"vg_size": 100, "level": 3}, "whole blocks"),
        ({"vg_size": 2048, "level": 1}, "1 to 256"),
        ({"vg_size": 4}, "8 to 2048"),
        ({"block_size": 300}, "1 to 256"),
        ({"longest_axis": (200.0, 100.0)}, "shortest first"),
    ):
        with pytest.raises(UsageError, match=reason):
            Recipe(**wrong)
    with pytest.raises(UsageError, match="no folder"):
        prepare(tree / "nothing", tmp_path / "out", SMALL)
    with pytest.raises(UsageError, match="nothing to train on"):
        prepare(tree, tmp_path / "out", Recipe(vg_size=64, level=1, samples=10, min_points=500))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no mesh in"):
        prepare(tmp_path / "empty", tmp_path / "out", SMALL)


@pytest.fixture(scope="module")
def drawn_figure() -> Mesh:
    return figure(np.random.default_rng(5))


def test_procedural_surfaces_have_the_density_of_scans(drawn_figure):
    """The level ratio of 8iVFB's frames is 3.6: points, over points on the grid of half the resolution."""
    for mesh in (drawn_figure, thing(np.random.default_rng(3))):
        cloud = voxelised(mesh, Scan(500.0, 6.0), np.random.default_rng(0)).astype(np.int64)
        halved = np.unique((cloud // 2) @ np.array([1 << 42, 1 << 21, 1]))
        assert 3.4 < len(cloud) / len(halved) < 3.8


def test_procedural_surfaces_are_drawn_by_their_name_and_seed():
    first, again = (Drawn("things/0003", "things", 1) for _ in range(2))
    assert first.sha256() == again.sha256() != Drawn("things/0003", "things", 2).sha256()
    assert (first.mesh().vertices == again.mesh().vertices).all()
    assert (first.mesh().faces == again.mesh().faces).all()
    assert not np.array_equal(first.mesh().vertices, Drawn("things/0004", "things", 1).mesh().vertices)


def test_parts_of_a_figure_that_lie_inside_are_cut_away(drawn_figure):
    """From the middle of the trunk, nothing is hit before the skin: no shoulder, thigh or neck within."""
    cloud = voxelised(drawn_figure, Scan(500.0, 8.0), np.random.default_rng(0))
    axis = np.array([np.median(cloud[:, 0]), 0.66 * cloud[:, 1].max(), np.median(cloud[:, 2])])
    near = np.abs(cloud - axis) @ np.array([1.0, 1.0, 1.0]) < 12
    assert not near.any()


def test_whole_clouds_fit_their_grid():
    cloud = whole_cloud(Drawn("things/0001", "things", 1), seed=1, bit_depth=8)
    assert cloud.min() == 0
    assert 128 < cloud.max() < 256


def test_random_streams_depend_on_name_variant_and_seed_alone():
    draws = {random_of(name, variant, seed).random() for name in "ab" for variant in (0, 1) for seed in (1, 2)}
    assert len(draws) == 8
    assert random_of("a", 0, 1).random() == random_of("a", 0, 1).random()


def test_command_on_a_tree(tree, tmp_path):
    arguments = ["--source", tree, "--largest", 2, "--vg-size", 64, "--level", 1, "--blocks", 6, "--min-points", 20]
    result = CliRunner().invoke(command, [*map(str, arguments), str(tmp_path / "out")], standalone_mode=False)
    assert result.exception is None
    assert "6 train blocks of 32 voxels from 4 surfaces" in result.output


def test_command_without_meshes_draws_surfaces(tmp_path):
    arguments = [
        "--surfaces",
        3,
        "--per-cloud",
        3,
        "--longest-axis",
        100,
        200,
        "--hold-out",
        "things/*",
        str(tmp_path / "out"),
    ]
    result = CliRunner().invoke(command, [*map(str, arguments)], standalone_mode=False)
    assert result.exception is None
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [source["file"] for source in manifest["sources"]] == [
        "figures/0000", "figures/0001", "things/0000",
    ]  # fmt: skip
    assert [source["split"] for source in manifest["sources"]] == ["train", "train", "held-out"]


def test_modelnet_tree(shared, tmp_path):
    """The four steps of the seed, on its own layout; the meshes have both kinds of header."""
    source = shared / "data" / "ModelNet40"
    if not source.is_dir():
        pytest.skip(f"{source} is not here")
    recipe = Recipe(largest=1, vg_size=512, level=3, samples=100_000, blocks=20, min_points=100)
    manifest = prepare(source, tmp_path / "out", recipe).manifest
    assert [entry["category"] for entry in manifest["sources"]] == ["bathtub", "chair", "toilet"]
    assert manifest["splits"]["train"]["blocks"] == 20
    assert manifest["block_size"] == 64
    assert not any("skipped" in entry for entry in manifest["sources"])


def test_the_command_is_light():
    code = (
        "import sys, pccbench.bench.prepare.command\n"
        "assert not {'torch', 'numba', 'scipy', 'joblib', 'tqdm', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_linked_folders_hold_meshes_too_but_no_data_of_evaluation(tmp_path):
    mesh = "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n"
    for place in ("far/chairs/one.off", "8iVFBv2/longdress/longdress_mesh.off", "meshes/tables/two.off"):
        (tmp_path / place).parent.mkdir(parents=True)
        (tmp_path / place).write_text(mesh)
    (tmp_path / "meshes" / "chairs").symlink_to(tmp_path / "far" / "chairs")
    (tmp_path / "meshes" / "chairs" / "round").symlink_to(tmp_path / "meshes")
    assert [one.name for one in find_meshes(tmp_path / "meshes")] == ["chairs/one.off", "tables/two.off"]
    (tmp_path / "meshes" / "people").mkdir()
    (tmp_path / "meshes" / "people" / "a.off").symlink_to(tmp_path / "8iVFBv2/longdress/longdress_mesh.off")
    with pytest.raises(UsageError, match="evaluation only"):
        find_meshes(tmp_path / "meshes")
