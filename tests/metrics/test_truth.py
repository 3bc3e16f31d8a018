"""Truth: figures equal those of float64 brute force at any offset, scale and number type."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from pccbench.metrics import distortion as module
from pccbench.metrics import plain
from pccbench.metrics.distortion import Reference, distortion
from pccbench.metrics.errors import MetricError


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


def truth(points, decoded, normals):
    """Definitions for clouds without ties and repeats, in float64."""
    points, decoded = np.asarray(points, np.float64), np.asarray(decoded, np.float64)
    d_ab, to = cKDTree(decoded).query(points)
    d_ba, back = cKDTree(points).query(decoded)
    sums = np.zeros((len(decoded), 3))
    np.add.at(sums, to, normals)
    counts = np.bincount(to, minlength=len(decoded))
    lonely = counts == 0
    sums[lonely], counts[lonely] = normals[back[lonely]], 1
    means = sums / counts[:, None]
    plane_ab = ((points - decoded[to]) * means[to]).sum(axis=1) ** 2
    plane_ba = ((decoded - points[back]) * normals[back]).sum(axis=1) ** 2
    return {
        "d1_mse_ab": (d_ab**2).mean(),
        "d1_mse_ba": (d_ba**2).mean(),
        "d2_mse_ab": plane_ab.mean(),
        "d2_mse_ba": plane_ba.mean(),
        "hausdorff_d1_sq": max(d_ab.max(), d_ba.max()) ** 2,
        "hausdorff_d2_sq": max(plane_ab.max(), plane_ba.max()),
        "chamfer_mean_sum": d_ab.mean() + d_ba.mean(),
        "chamfer_sq_mean_sum": (d_ab**2).mean() + (d_ba**2).mean(),
    }


PLACES = {
    "UTM": ([500_000, 5_000_000, 300], 20.0),
    "UTM, asymmetric": ([0, 5_000_000, -200], 20.0),
    "Earth's centre, millimetres": ([3_980_000, -102_000, 4_966_000], 0.05),
    "millimetres": ([4e8, 5e9, 3e5], 2e4),
    "tiny": ([0, 0, 0], 1e-6),
    "tiny and far": ([1, 0, 0], 1e-6),
    "huge": ([0, 0, 0], 1e30),
    "beyond float32": ([1e60, 0, 0], 1e60),
}


@pytest.mark.parametrize("types", [(np.float64, np.float64), (np.float32, np.float64), (np.float64, np.float32)])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("large", [False, True], ids=["all with all", "tree"])
def test_figures_are_those_of_float64(clouds, generator, monkeypatch, place, types, large):
    if large:
        monkeypatch.setattr(plain, "MOST_PAIRS", 0)
    offset, size = PLACES[place]
    if place == "beyond float32" and np.float32 in types:
        pytest.skip("float32 does not hold it")
    points = (generator.random((900, 3)) * size + offset).astype(types[0])
    decoded = (generator.random((700, 3)) * size + offset).astype(types[1])
    points, decoded = np.unique(points, axis=0), np.unique(decoded, axis=0)
    normals = clouds.unit_vectors(generator, len(points))
    result = distortion(points, decoded, normals=normals, peak=size)
    ties = np.float32 in types and "tiny and far" not in place and any(offset)
    for name, value in truth(points, decoded, normals.astype(float)).items():
        if ties and "d2" in name:
            continue  # rounding to float32 makes neighbours at one distance
        assert getattr(result, name) == pytest.approx(value, rel=2e-7), name


@pytest.mark.parametrize("offset", [[5e5, 5e6, 100], [6e6, -3e6, 4e6], [0.3, 0.7, 0.1]])
@pytest.mark.parametrize("step", [1.0, 0.05])
def test_ties_of_a_lattice_stay_ties_at_an_offset(clouds, generator, offset, step):
    points = clouds.voxel_surface(generator)
    normals = clouds.unit_vectors(generator, len(points))
    decoded = np.unique(points // 2 * 2, axis=0)
    expected = distortion(points, decoded, normals=normals, peak=63).columns()
    result = distortion(points * step + offset, decoded * step + offset, normals=normals, peak=63 * step).columns()
    for name, value in expected.items():
        scale = step**2 if "mse" in name or "sq" in name else step if "mean" in name else 1.0
        assert result[name] == pytest.approx(value * scale, rel=1e-6), name


def test_large_integers_keep_their_digits():
    points = np.array([[0, 0, 0], [3, 0, 0], [0, 4, 0]])
    decoded = points + np.array([0, 0, 2])
    expected = distortion(points, decoded, peak=7)
    for offset, kind in (
        (1 << 40, np.int64),
        (1 << 61, np.int64),
        ((1 << 64) - 10, np.uint64),
        (-(1 << 62), np.int64),
    ):
        moved, other = (np.array(cloud.astype(object) + offset, dtype=kind) for cloud in (points, decoded))
        result = distortion(moved, other, peak=7)
        assert result.columns() == expected.columns()
    mixed = distortion(points + (1 << 31), (decoded + (1 << 31)).astype(np.float64), peak=7)
    assert mixed.columns() == expected.columns()


@pytest.mark.parametrize("kind", [np.float16, np.int8, np.uint16, np.longdouble, ">f4", ">i4"])
def test_other_number_types(kind):
    points, decoded = np.array([[0, 0, 0], [3, 0, 0]]), np.array([[0, 0, 1], [3, 0, 2]])
    expected = distortion(points, decoded, peak=7)
    assert distortion(points.astype(kind), decoded.astype(kind), peak=7) == expected


@pytest.mark.parametrize(
    "points",
    [
        [[1.5, 2, 3]],
        [[0.1, 0.2, 0.3]] * 9,
        [[i * 0.1, 0, 0] for i in range(40)],
        [[1e-120, 0, 0], [2e-120, 0, 0]],
        [[1e120, 0, 0], [2e120, 0, 0]],
        [[1e300, 0, 0], [1e300, 0, 0]],
        [[5e-324, 0, 0], [0, 0, 1.0]],
    ],
    ids=["one", "one, repeated", "a line", "narrow", "wide", "a place far out", "a denormal number"],
)
def test_odd_clouds_have_figures(points):
    points = np.array(points)
    assert set(distortion(points, points, peak=1.0).missing.values()) == {
        "identical: mse is 0",
        "the input cloud has no normals",
    }
    extent = np.ptp(points, axis=0).max() or np.abs(points).max()
    if extent < 1e150:
        moved = points + np.array([0, 0, extent])
        # The peak of clouds so wide or narrow has squares outside float64, its decibels have not.
        result = distortion(points, moved, peak=extent)
        assert 0 < result.d1_mse < math.inf and -20 < result.d1_psnr_db < 400


@pytest.mark.parametrize("value", [1e300, 1e-310, 5e-324])
def test_coordinates_whose_squares_leave_float64_are_refused(value):
    with pytest.raises(MetricError, match="spread over"):
        distortion([[0, 0, 0], [value, 0, 0]], [[0, 0, 0], [0, value, 0]])


def test_points_that_differ_by_next_to_nothing_are_not_identical():
    points = np.array([[0.0, 0, 0], [1, 1, 1]])
    result = distortion(points, points + np.array([[1e-200, 0, 0], [0, 0, 0]]), peak=1)
    assert result.missing["d1_psnr_db"] == "all errors are within the rounding of the coordinates"


def test_peak_of_a_tiny_cloud():
    points = np.array([[0, 0, 0], [1, 0, 0], [5, 0, 0]]) * 1e-7
    assert distortion(points, points).peak == pytest.approx(4e-7)
    assert Reference(points.astype(np.float32)).spacing == pytest.approx((1e-7, 4e-7))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 60),
    m=st.integers(1, 60),
    size=st.sampled_from([2, 5, 30, 1000]),
    kind=st.sampled_from(["voxels", "thirds", "halves", "reals"]),
    negative=st.booleans(),
    with_normals=st.booleans(),
)
def test_small_pairs_have_the_figures_of_the_compiled_search(seed, n, m, size, kind, negative, with_normals):
    generator = np.random.default_rng(seed)
    points = generator.integers(-size if negative else 0, size, (n, 3))
    decoded = generator.integers(-size if negative else 0, size, (m, 3))
    if kind == "thirds":
        decoded = np.round(decoded * 0.75) / 0.75
    elif kind == "halves":
        points, decoded = points * 0.5, decoded * 0.25
    elif kind == "reals":
        points, decoded = (np.float32(generator.normal(size=cloud.shape)) for cloud in (points, decoded))
    normals = None
    if with_normals:
        normals = generator.normal(size=(n, 3))
        normals = np.float32(normals / np.linalg.norm(normals, axis=1, keepdims=True))
    quick = distortion(points, decoded, normals=normals)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MOST_PAIRS", 0)
        compiled = distortion(points, decoded, normals=normals)
    assert quick.missing == compiled.missing and quick.passport == compiled.passport
    for name, value in quick.columns().items():
        other = compiled.columns()[name]
        assert value == other or value == pytest.approx(other, rel=1e-13), name
