"""Speed of reading and writing 800,000 points, as 8iVFB has them: coordinates and colours.

    python -m pytest tests/performance/test_io_speed.py

Well under 0.2 s is wanted of reading a binary PLY.
"""

import numpy as np
import pytest

from pccbench.codecs.cloud import PointCloud
from pccbench.codecs.formats import read_cloud, write_cloud

POINTS = 800_000
KINDS = ["binary ply", "big-endian ply", "ascii ply", "npy"]
ENCODINGS = {
    "binary ply": "binary_little_endian",
    "big-endian ply": "binary_big_endian",
    "ascii ply": "ascii",
    "npy": "binary_little_endian",
}


@pytest.fixture(scope="module")
def cloud():
    generator = np.random.default_rng(0)
    points = generator.integers(0, 1024, (POINTS, 3)).astype(np.int32)
    return PointCloud(points, bit_depth=10, colors=generator.integers(0, 256, (POINTS, 3)).astype(np.uint8))


def path_of(folder, kind):
    return folder / f"cloud_vox10.{kind.split()[-1]}"


def options(kind):
    return {"encoding": ENCODINGS[kind]}


def rounds(kind):
    return 3 if kind == "ascii ply" else 10


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.benchmark(group="files: read 800 k points")
def test_read(benchmark, cloud, tmp_path, kind):
    path = path_of(tmp_path, kind)
    write_cloud(cloud, path, **options(kind))
    result = benchmark.pedantic(read_cloud, (path,), rounds=rounds(kind), warmup_rounds=1)
    assert (result.points == cloud.points).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.benchmark(group="files: write 800 k points")
def test_write(benchmark, cloud, tmp_path, kind):
    path = path_of(tmp_path, kind)
    benchmark.pedantic(write_cloud, (cloud, path), options(kind), rounds=rounds(kind), warmup_rounds=1)
    assert path.stat().st_size > 3 * POINTS
