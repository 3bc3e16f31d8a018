"""Draco: aligned with the grid, no bias, lossless at full depth, safe on damage."""

import numpy as np
import pytest

from pccbench.codecs.base import Rate
from pccbench.codecs.cloud import MAX_BIT_DEPTH, PointCloud
from pccbench.codecs.conformance import check_codec, failures, surface_cloud
from pccbench.codecs.container import pack, unpack
from pccbench.codecs.errors import BitstreamError, CodecError, NotApplicableError

DracoPy = pytest.importorskip("DracoPy")

from pccbench.codecs.draco import REAL_DEPTH, DracoCodec  # noqa: E402

codec = DracoCodec()
rates = {rate.name: rate for rate in codec.rates()}
LOSSY = [rate for rate in codec.rates() if not rate.lossless]


def full_cube(bit_depth):
    axes = [np.arange(1 << bit_depth)] * 3
    return PointCloud(np.array(np.meshgrid(*axes)).reshape(3, -1).T.astype(np.int32), bit_depth)


def sorted_rows(points):
    return points[np.lexsort(points.T[::-1])]


@pytest.mark.parametrize("rate", LOSSY, ids=lambda rate: rate.name)
def test_the_error_has_no_mean_and_the_smallest_bound(rate):
    """On a full cube each cell has all its voxels: the signed error is zero on average, exactly, and never larger
    than half a cell."""
    cloud = full_cube(5)
    width = 1 << rate.parameters["dropped_bits"]
    decoded = codec.decode(codec.encode(cloud, rate)).points.astype(np.float64)
    assert len(decoded) == len(cloud) // width**3
    # The decoded point of each voxel's cell: both sides are regular grids.
    cells = sorted_rows(decoded)
    index = cloud.points // width
    side = 32 // width
    nearest = cells[(index[:, 0] * side + index[:, 1]) * side + index[:, 2]]
    error = nearest - cloud.points
    assert np.array_equal(error.mean(axis=0), np.zeros(3))
    assert np.abs(error).max() == (width - 1) / 2


@pytest.mark.parametrize("rate", LOSSY, ids=lambda rate: rate.name)
def test_points_in_one_cell_are_merged_to_its_centre(rate):
    cloud = surface_cloud(3)
    shift = rate.parameters["dropped_bits"]
    decoded = codec.decode(codec.encode(cloud, rate))
    expected = (np.unique(cloud.points >> shift, axis=0) << shift) + ((1 << shift) - 1) / 2
    assert np.array_equal(sorted_rows(decoded.points), expected.astype(np.float32))


@pytest.mark.parametrize("bit_depth", [1, 2, 5, 10, 12, 13, 16, 20, MAX_BIT_DEPTH])
def test_lossless_at_every_depth(bit_depth):
    points = np.random.default_rng(bit_depth).integers(0, 1 << bit_depth, (3000, 3))
    points = np.unique(np.vstack([points, [[0, 0, 0]], [[(1 << bit_depth) - 1] * 3]]), axis=0).astype(np.int32)
    cloud = PointCloud(points, bit_depth)
    decoded = codec.decode(codec.encode(cloud, rates["lossless"]))
    assert decoded.bit_depth == bit_depth
    assert np.array_equal(sorted_rows(decoded.points), points)


def test_lossless_keeps_repeats_by_the_other_coder():
    cloud = PointCloud(np.repeat([[1, 2, 3], [9, 9, 9], [0, 15, 7]], [3, 1, 5], axis=0).astype(np.int32), 4)
    stream = codec.encode(cloud, rates["lossless"])
    assert stream.notes["coder"] == "sequential"
    assert codec.decode(stream).geometry_sha256() == cloud.geometry_sha256()
    assert len(codec.decode(codec.encode(cloud, rates["r04"]))) == 3


def test_the_bytes_are_those_of_draco_called_plainly():
    """The units that spare the binding's hash map change nothing but the time."""
    cloud = surface_cloud(1)
    _, (_, payload) = unpack(codec.encode(cloud, rates["lossless"]))
    points = sorted_rows(cloud.points).astype(np.float32)
    plain = DracoPy.encode(
        points, quantization_bits=7, quantization_range=127.0, quantization_origin=(0, 0, 0), compression_level=10
    )
    assert len(plain) == len(payload)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rate", LOSSY, ids=lambda rate: rate.name)
def test_real_coordinates_are_within_half_a_step(rate, dtype):
    points = np.random.default_rng(1).normal(scale=30, size=(2000, 3)).astype(dtype)
    decoded = codec.decode(codec.encode(PointCloud(points), rate)).points
    assert decoded.dtype == dtype
    step = np.ptp(points, axis=0).max() / (2 ** (REAL_DEPTH - rate.parameters["dropped_bits"]) - 1)
    distance = np.abs(decoded[None, :, :].astype(np.float64) - points[:, None, :].astype(np.float64)).max(axis=2)
    assert distance.min(axis=1).max() <= step / 2 * 1.001


def test_real_coordinates_have_no_lossless_rate():
    with pytest.raises(NotApplicableError, match="lossless for voxelised clouds only"):
        codec.encode(PointCloud(np.ones((4, 3), np.float32)), rates["lossless"])


def test_conformance():
    assert not failures(check_codec(DracoCodec()))


def test_damage_behind_a_right_checksum_is_told_or_decoded():
    """Somebody may pack anything: Draco's own errors, wrong sizes and points beyond the grid are bitstream errors."""
    _, (header, payload) = unpack(codec.encode(surface_cloud(0, bit_depth=5), rates["lossless"]))
    for bad in (b"", b"DRACO", payload[:-20], payload[: len(payload) // 2], b"\0" * 100):
        with pytest.raises(BitstreamError):
            codec.decode(pack("draco", [header, bad]))
    with pytest.raises(BitstreamError, match="5 bits and 2402 points, not up to 6, 4"):
        codec.decode(pack("draco", [bytes([4, 0]), payload]))


@pytest.mark.parametrize(
    "header", [b"", b"\5", b"\0\0", b"\x16\0", b"\5\5", b"\5\1\1", b"\x20" + bytes(17), b"\xff" * 18]
)
def test_unsound_headers_are_refused(header):
    _, (_, payload) = unpack(codec.encode(surface_cloud(0, bit_depth=5), rates["lossless"]))
    with pytest.raises(BitstreamError):
        codec.decode(pack("draco", [header, payload]))


@pytest.mark.parametrize("dropped", [-1, 5, "1", None, 1.0])
def test_foreign_rates_are_refused(dropped):
    with pytest.raises(CodecError, match="dropped_bits"):
        codec.encode(surface_cloud(0, 5), Rate("r", {"dropped_bits": dropped}))


def test_the_card_names_the_binding():
    assert codec.card().version.startswith("DracoPy ")


def test_size_on_longdress(shared):
    """The kd-tree coder's own size (DracoPy 2.2), with an envelope of a few bytes."""
    from pccbench.codecs.formats import read_cloud

    cloud = read_cloud(shared / "data/8iVFBv2/longdress/Ply/longdress_vox10_1300.ply")
    stream = codec.encode(cloud, rates["r03"])
    assert codec.sections(stream)["container"] + codec.sections(stream)["header"] <= 12
    assert abs(len(stream) - 28909) < 300
    assert len(codec.decode(stream)) == len(np.unique(cloud.points // 4 @ np.array([1 << 20, 1 << 10, 1])))
