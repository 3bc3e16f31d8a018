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
        (POINTS, None, "without a bit depth"),
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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bit_depth": "10"}, "bit depth must be an integer of 1 to 21, got '10'"),
        ({"bit_depth": 10.0}, "bit depth must be an integer .* got 10.0"),
        ({"bit_depth": True}, "bit depth must be an integer .* got True"),
        ({"bit_depth": np.bool_(1)}, "bit depth must be an integer"),
        ({"bit_depth": [10]}, r"bit depth must be an integer .* got \[10\]"),
        ({"bit_depth": np.float64("nan")}, "bit depth must be an integer"),
        ({"bit_depth": None}, "int32 without a bit depth: give bit_depth for voxels"),
        ({"points": POINTS.astype(np.int64), "bit_depth": None}, "int64 without a bit depth"),
        ({"points": POINTS.astype(object)}, "points must be numbers, got object"),
        ({"points": [[1, 2, 3], [4, 5]]}, "points is no array"),
        ({"points": [["a", "b", "c"]]}, "points must be numbers, got <U1"),
        ({"points": POINTS > 3}, "points must be numbers, got bool"),
        ({"points": POINTS * 1j, "bit_depth": None}, "points must be numbers, got complex128"),
        ({"points": None}, "points must be numbers"),
        ({"points": np.ma.masked_greater(POINTS, 6)}, "points has 5 masked values"),
        ({"points": POINTS.astype(np.float16), "bit_depth": None}, "float32 or float64 points, got float16"),
        ({"normals": np.zeros((4, 2))}, r"normals must have shape \(4, 3\), got \(4, 2\)"),
        ({"normals": np.zeros((3, 4))}, "normals has 3 rows, but there are 4 points"),
        ({"normals": np.zeros(4)}, r"normals must have shape \(4, 3\), got \(4,\)"),
        ({"normals": 5}, r"normals must have shape \(4, 3\), got \(\)"),
        ({"normals": np.zeros((4, 3), object)}, "normals must be numbers, got object"),
        ({"normals": [["x"] * 3] * 4}, "normals must be numbers"),
        ({"colors": np.zeros((4, 4), np.uint8)}, r"colors must have shape \(4, 3\)"),
        ({"colors": np.zeros((4, 3))}, "colors must be integers from 0 to 255, got float64"),
        ({"colors": np.full((4, 3), 256)}, "colors must be integers from 0 to 255"),
        ({"colors": np.full((4, 3), -1)}, "colors must be integers from 0 to 255"),
        ({"attributes": {"time": 5}}, r"an attribute must be a name and \(4,\) plain values, got 'time' with \(\)"),
        ({"attributes": {"time": np.zeros((4, 2))}}, "an attribute must be"),
        ({"attributes": {1: np.zeros(4)}}, "an attribute must be a name"),
        ({"attributes": {"time": [[1], 2, 3, 4]}}, "time is no array"),
        ({"attributes": [1, 2]}, "attributes must be columns by name, got list"),
        ({"declared_peak": "1"}, "declared peak must be a finite number above 0, got '1'"),
        ({"declared_peak": float("nan")}, "declared peak"),
        ({"declared_peak": 0}, "declared peak"),
        ({"declared_peak": True}, "declared peak"),
    ],
)
def test_each_wrong_part_is_said_in_one_line(settings, message):
    with pytest.raises(CloudError, match=message) as caught:
        PointCloud(**{"points": POINTS, "bit_depth": 4, **settings})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


def test_what_has_one_meaning_is_converted():
    cloud = PointCloud(
        POINTS.astype(">i8"),
        np.int64(4),
        normals=np.full((4, 3), 1e300),
        colors=np.full((4, 3), 7).tolist(),
        attributes={"time": [1, 2, 3, 4]},
        declared_peak=np.float32(3),
    )
    assert type(cloud.bit_depth) is int
    assert cloud.points.dtype == np.int32
    assert cloud.normals.dtype == np.float32
    assert np.isinf(cloud.normals).all(), "as the file gives them"
    assert cloud.colors.dtype == np.uint8
    assert cloud.attributes["time"].tolist() == [1, 2, 3, 4]
    assert type(cloud.declared_peak) is float
    assert len(cloud.take(np.array([True, False, True, False]))) == 2
    assert PointCloud(np.ma.array(POINTS), 4).geometry_sha256() == PointCloud(POINTS, 4).geometry_sha256()
