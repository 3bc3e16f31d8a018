"""PointCloud: what it refuses, what it knows, and a hash that does not depend on order or storage."""

import numpy as np
import pytest

from pccbench.codecs.cloud import MAX_BIT_DEPTH, PointCloud
from pccbench.codecs.errors import CloudError

POINTS = np.array([[5, 0, 9], [1, 2, 3], [5, 0, 9], [7, 7, 7]], np.int32)


@pytest.mark.parametrize(
    ("points", "bit_depth", "message"),
    [
        (np.zeros((4, 2)), None, r"shape \(n, 3\)"),
        (np.zeros(3), None, r"shape \(n, 3\)"),
        (POINTS, None, "float32 or float64"),
        (POINTS, 3, r"0\.\.9 do not fit the grid 0\.\.7"),
        (-POINTS, 4, "do not fit"),
        (POINTS.astype(float), 4, "integer points"),
        (POINTS, 0, "1 to 21"),
        (POINTS, MAX_BIT_DEPTH + 1, "1 to 21"),
        (np.array([[0, 0, np.nan], [0, np.inf, 0], [0, 0, 0]]), None, "2 of 3 points"),
    ],
)
def test_what_is_no_cloud_is_refused(points, bit_depth, message):
    with pytest.raises(CloudError, match=message):
        PointCloud(points, bit_depth)


def test_columns_of_another_length_are_refused():
    for column in ("normals", "colors"):
        with pytest.raises(CloudError, match=f"{column} has 3 rows, but there are 4"):
            PointCloud(POINTS, 4, **{column: np.zeros((3, 3), np.float32)})
    with pytest.raises(CloudError, match="time has 5 rows"):
        PointCloud(POINTS, 4, attributes={"time": np.zeros(5)})


def test_peak_and_bounds():
    assert PointCloud(POINTS, 10).peak == 1023
    assert PointCloud(POINTS, 10, declared_peak=59.7).peak == 59.7
    real = PointCloud(POINTS - 0.5)
    assert real.peak is None
    assert not real.is_voxelised
    assert [side.tolist() for side in real.bounds] == [[0.5, -0.5, 2.5], [6.5, 6.5, 8.5]]
    with pytest.raises(CloudError, match="no bounds"):
        _ = PointCloud(POINTS[:0], 4).bounds


def test_the_hash_is_of_the_bag_of_points():
    digest = PointCloud(POINTS, 4).geometry_sha256()
    assert PointCloud(POINTS[::-1], 4).geometry_sha256() == digest
    assert PointCloud(POINTS, 20).geometry_sha256() == digest
    assert PointCloud(POINTS.astype(np.float32)).geometry_sha256() == digest
    assert PointCloud(np.where(POINTS == 0, -0.0, POINTS)).geometry_sha256() == digest
    assert PointCloud(POINTS, 4).merged().geometry_sha256() != digest
    assert PointCloud(POINTS + 1, 4).geometry_sha256() != digest


@pytest.mark.parametrize("points", [POINTS, POINTS.astype(np.float64)])
def test_merging_keeps_the_first_of_each(points):
    bit_depth = 4 if points.dtype == np.int32 else None
    cloud = PointCloud(points, bit_depth, attributes={"row": np.arange(4)})
    merged = cloud.merged()
    assert merged.points.tolist() == [[5, 0, 9], [1, 2, 3], [7, 7, 7]]
    assert merged.attributes["row"].tolist() == [0, 1, 3]
    assert merged.repeats_dropped == 1
    assert merged.merged() is merged
