"""Time of the metrics on a synthetic surface: voxels, a decode on a coarser lattice, one off the grid, LiDAR-like.

python -m pytest tests/performance/test_metrics_speed.py
"""

import numpy as np
import pytest

from pccbench.metrics.distortion import Reference, distortion

PEAK = 1023
KINDS = ["shaken", "half scale", "3/4 scale", "1/8 scale"]


@pytest.fixture(scope="module")
def surface():
    """Some 300,000 voxels of a wavy closed surface, and their normals about."""
    u, v = np.meshgrid(np.linspace(0, 2 * np.pi, 2200), np.linspace(0.02, np.pi - 0.02, 1100), indexing="ij")
    direction = np.stack((np.cos(u) * np.sin(v), np.sin(u) * np.sin(v), np.cos(v)), axis=-1)
    radius = 160 + 9 * np.sin(7 * u) * np.sin(v) ** 2 + 6 * np.cos(11 * v)
    points = np.rint(500 + direction * radius[..., None]).astype(np.int32).reshape(-1, 3)
    points, first = np.unique(points, axis=0, return_index=True)
    return points, direction.reshape(-1, 3)[first].astype(np.float32)


def decode(points, kind):
    generator = np.random.default_rng(1)
    return {
        "shaken": lambda: points + generator.integers(-1, 2, points.shape),
        "half scale": lambda: np.unique(points // 2 * 2, axis=0),
        "3/4 scale": lambda: np.unique(np.round(points * 0.75), axis=0) / 0.75,
        "1/8 scale": lambda: np.unique(points // 8 * 8, axis=0),
    }[kind]()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.benchmark(group="metrics: D1, D2, Hausdorff against a prepared input")
def test_prepared_input(benchmark, surface, kind):
    points, normals = surface
    reference = Reference(points, normals, peak=PEAK)
    result = benchmark(reference.measure, decode(points, kind))
    assert result.d2_psnr_db is not None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.benchmark(group="metrics: D1, D2, Hausdorff of two arrays")
def test_pair(benchmark, surface, kind):
    points, normals = surface
    result = benchmark(distortion, points, decode(points, kind), normals=normals, peak=PEAK)
    assert result.d2_psnr_db is not None


@pytest.mark.benchmark(group="metrics: D1, D2, Hausdorff of two arrays")
def test_uneven_density(benchmark):
    """As in a LiDAR sweep: rings of points, dense near the sensor."""
    generator = np.random.default_rng(2)
    angle, ring = np.meshgrid(np.linspace(0, 2 * np.pi, 1900), np.arange(64), indexing="ij")
    distance = 3 / np.sin(0.02 + ring / 150) + generator.normal(size=ring.shape) * 0.02
    points = np.stack((distance * np.cos(angle), distance * np.sin(angle), ring / 60), axis=-1).reshape(-1, 3)
    result = benchmark(distortion, points, np.round(points / 0.02) * 0.02, peak=59.7)
    assert result.d1_psnr_db is not None
