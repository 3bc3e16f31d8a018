"""The embedded data set: the recorded clouds, whatever the machine, and what they claim to be."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from pccbench.bench.datasets import open_dataset
from pccbench.bench.errors import UsageError
from pccbench.codecs.errors import CloudError

TINY = ("tiny-coat", "tiny-gown", "tiny-shrub", "tiny-street")


@pytest.fixture(scope="module")
def loaded():
    """The small clouds by name."""
    return {ref.name: ref.load() for ref in open_dataset("synthetic").select(["tiny-*"]).found}


def halved(points):
    return np.unique(points >> 1, axis=0)


@pytest.mark.parametrize("name", TINY)
def test_a_cloud_is_the_recorded_one(loaded, name):
    [ref] = open_dataset("synthetic").select([name]).found
    cloud = loaded[name]
    assert len(cloud) == ref.points
    assert cloud.bit_depth == ref.bit_depth
    assert cloud.geometry_sha256() == ref.geometry_sha256 == ref.source_sha256
    assert len(np.unique(cloud.points, axis=0)) == len(cloud)
    assert cloud.merged() is cloud


@pytest.mark.parametrize("name", ["amphora", "street"])
def test_a_large_cloud_is_the_recorded_one(name):
    [ref] = open_dataset("synthetic").select([name]).found
    cloud = ref.load()  # checks the hash
    assert len(cloud) == ref.points
    assert len(np.unique(cloud.points, axis=0)) == len(cloud)


def test_another_process_makes_the_same_cloud(loaded):
    code = (
        "from pccbench.bench.datasets import open_dataset;"
        "print(open_dataset('synthetic').select(['tiny-gown']).found[0].load().geometry_sha256())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == loaded["tiny-gown"].geometry_sha256()


@pytest.mark.parametrize("name", ["tiny-coat", "tiny-street"])
def test_a_cloud_that_comes_out_differently_is_refused(name):
    [ref] = open_dataset("synthetic").select([name]).found
    changed = dataclasses.replace(ref, geometry_sha256="0" * 64)
    with pytest.raises(CloudError, match=f"{name}: expected {ref.points:,} points with hash 000000000000") as caught:
        changed.load()
    assert "\n" not in str(caught.value)


def test_a_changed_recipe_is_another_job():
    refs = open_dataset("synthetic").select(["*"]).found
    prints = {ref.fingerprint()["source_sha256"] for ref in refs}
    assert len(prints) == len(refs)


def test_the_default_is_all_but_the_tiny_ones():
    dataset = open_dataset("synthetic")
    names = [ref.name for ref in dataset.select(None).found]
    assert names == ["gown", "coat", "hiker", "amphora", "shrub", "street"]
    assert set(names) | set(TINY) == set(dataset.available())


def test_an_unknown_cloud_shows_near_ones():
    with pytest.raises(UsageError, match="tiny-coat"):
        open_dataset("synthetic").select(["tiny-cot"])


@pytest.mark.parametrize("name", ["tiny-gown", "tiny-coat"])
def test_a_dense_scan_is_a_surface_one_voxel_thick(loaded, name):
    points = loaded[name].points
    # Voxels of a surface, halved: a plane gives 4, thicker shells more; 8iVFB gives 3.6 to 4.1 down its levels.
    assert 3.4 < len(points) / len(halved(points)) < 4.1
    # It stands within the grid, with room around.
    assert (points.min(axis=0) >= 0).all()
    assert (points.max(axis=0) < 1 << loaded[name].bit_depth).all()
    assert np.ptp(points[:, 1]) > 2 * np.ptp(points[:, 2])


def test_sparse_clouds_are_sparse(loaded):
    shrub, street = loaded["tiny-shrub"].points, loaded["tiny-street"].points
    assert len(shrub) / len(halved(shrub)) < 2.2
    assert len(street) / len(halved(street)) < 1.8


def test_a_sweep_has_beams_as_a_laser_scanner_has():
    from pccbench.bench.datasets.synthetic.street import sweep

    points = sweep(beams=16, columns=90, seed=7)
    distance = np.linalg.norm(points, axis=1)
    assert 0.8 * 16 * 90 < len(points) <= 16 * 90
    assert 2.4 < distance.min() < 5 < 30 < distance.max() < 60.1
    pitch = np.degrees(np.arcsin(points[:, 2] / distance))
    assert len(np.unique(pitch.round(3))) == 16
    assert -24.4 < pitch.min() < -20 < 1.9 < pitch.max() < 2.2
    # What is below the horizon lies on the road or stands on it.
    assert points[:, 2].min() > -1.73 - 0.25
