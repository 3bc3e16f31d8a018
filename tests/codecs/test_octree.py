"""The octree codec: round trips, exact rates, damage, and its bytes beside tmc3's."""

import itertools
import json
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pccbench.codecs.base import Rate
from pccbench.codecs.cloud import PointCloud
from pccbench.codecs.container import pack, unpack
from pccbench.codecs.errors import BitstreamError, CodecError, NotApplicableError
from pccbench.codecs.octree import OctreeCodec
from pccbench.codecs.octree.occupancy import decode_occupancy, encode_occupancy

CODEC = OctreeCodec()
RATES = {rate.name: rate for rate in CODEC.rates()}
LOSSLESS = RATES["lossless"]
CTC_SCALES = {"r01": "1/8", "r02": "1/4", "r03": "1/2", "r04": "3/4", "r05": "7/8", "r06": "15/16"}


def as_bag(points):
    return np.asarray(points)[np.lexsort(np.asarray(points).T)]


def surface(bit_depth=7, seed=3):
    """A closed wavy surface with a plane through it, voxelised; int32, distinct."""
    generator = np.random.default_rng(seed)
    direction = generator.normal(size=(40_000, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    radius = 0.35 + 0.04 * np.sin(9 * direction[:, 0]) * np.cos(7 * direction[:, 1])
    ball = 0.5 + radius[:, None] * direction
    plane = np.c_[generator.random((20_000, 2)), np.full(20_000, 0.3)]
    points = np.r_[ball, plane] * ((1 << bit_depth) - 1)
    return np.unique(np.rint(points).astype(np.int32), axis=0)


def clouds(bit_depth, size):
    coordinate = st.integers(0, (1 << bit_depth) - 1)
    return st.lists(st.tuples(coordinate, coordinate, coordinate), max_size=size)


@settings(deadline=None, max_examples=60)
@given(data=st.data(), bit_depth=st.integers(1, 21))
def test_lossless_round_trip_of_any_bag(data, bit_depth):
    listed = data.draw(clouds(bit_depth, 60))
    listed += data.draw(st.lists(st.sampled_from(listed), max_size=20)) if listed else []
    cloud = PointCloud(np.array(listed, np.int32).reshape(-1, 3), bit_depth)
    decoded = CODEC.decode(bytes(CODEC.encode(cloud, LOSSLESS)))
    assert decoded.bit_depth == bit_depth
    assert decoded.points.dtype == np.int32
    np.testing.assert_array_equal(as_bag(decoded.points), as_bag(cloud.points))


@pytest.mark.parametrize("bit_depth", range(1, 22))
def test_lossless_round_trip_at_every_depth(bit_depth):
    generator = np.random.default_rng(bit_depth)
    scattered = generator.integers(0, 1 << bit_depth, (300, 3))
    clustered = (generator.integers(0, 1 << bit_depth, 3) + generator.integers(0, 6, (300, 3))) % (1 << bit_depth)
    points = np.r_[scattered, clustered].astype(np.int32)
    stream = CODEC.encode(PointCloud(points, bit_depth), LOSSLESS)
    np.testing.assert_array_equal(as_bag(CODEC.decode(bytes(stream)).points), as_bag(points))


def corners(bit_depth):
    return np.array(list(itertools.product([0, (1 << bit_depth) - 1], repeat=3)), np.int32)


EDGES = {
    "empty": (np.empty((0, 3), np.int32), 10),
    "one point": (np.array([[5, 0, 1023]], np.int32), 10),
    "the origin": (np.zeros((1, 3), np.int32), 21),
    "one point many times": (np.full((1000, 3), 77, np.int32), 8),
    "opposite corners": (np.array([[0, 0, 0], [2**21 - 1] * 3], np.int32), 21),
    "all corners": (corners(21), 21),
    "two neighbours across the middle": (np.array([[2**20 - 1] * 3, [2**20] * 3], np.int32), 21),
    "full cube": (np.indices((32, 32, 32)).reshape(3, -1).T.astype(np.int32), 5),
    "a line": (np.c_[np.arange(2**12), np.zeros(2**12), np.full(2**12, 9)].astype(np.int32), 12),
}


@pytest.mark.parametrize("case", EDGES)
@pytest.mark.parametrize("rate", RATES)
def test_edge_cases(case, rate):
    points, bit_depth = EDGES[case]
    stream = CODEC.encode(PointCloud(points, bit_depth), RATES[rate])
    decoded = CODEC.decode(bytes(stream))
    assert decoded.geometry_sha256() == stream.reconstruction_sha256
    if rate == "lossless":
        np.testing.assert_array_equal(as_bag(decoded.points), as_bag(points))


def test_small_things_cost_little():
    assert len(CODEC.encode(PointCloud(np.array([[5, 0, 1023]], np.int32), 10), LOSSLESS)) <= 18
    far = PointCloud(EDGES["opposite corners"][0], 21)
    assert len(CODEC.encode(far, LOSSLESS)) <= 36
    assert len(CODEC.encode(PointCloud(np.full((1000, 3), 77, np.int32), 8), LOSSLESS)) <= 24
    assert len(CODEC.encode(PointCloud(*EDGES["full cube"]), LOSSLESS)) < 200


def test_scattered_points_cost_little_more_than_their_entropy():
    points = np.random.default_rng(1).integers(0, 1 << 18, (5_000, 3)).astype(np.int32)
    ideal_bits = 5_000 * 3 * 18 - np.log2(np.arange(1, 5_001)).sum()
    assert 8 * len(encode_occupancy(points)) < 1.04 * ideal_bits


#: Rates of vox10 at which the G-PCC test model's fractional points are closer to the input than rounded ones.
KEEP_FRACTIONS = {"r04", "r05"}


@pytest.mark.parametrize("rate", CTC_SCALES)
def test_lossy_rates_are_the_ctcs_quantisation(rate):
    points = surface(10)
    scale = float(Fraction(CTC_SCALES[rate]))
    coded = np.unique(np.floor(points * scale + 0.5).astype(np.int64), axis=0)
    expected = np.minimum(coded / scale if rate in KEEP_FRACTIONS else np.floor(coded / scale + 0.5), 1023)
    stream = CODEC.encode(PointCloud(points, 10), RATES[rate])
    decoded = CODEC.decode(bytes(stream))
    np.testing.assert_array_equal(as_bag(decoded.points), as_bag(expected))
    assert decoded.geometry_sha256() == stream.reconstruction_sha256


def test_more_rate_means_more_bytes_and_points():
    cloud = PointCloud(surface(10), 10)
    streams = [bytes(CODEC.encode(cloud, rate)) for rate in CODEC.rates()]
    sizes = [len(stream) for stream in streams]
    counts = [len(CODEC.decode(stream)) for stream in streams]
    assert sizes == sorted(sizes)
    assert counts == sorted(counts)


def test_estimated_bits_are_the_actual_ones():
    stream = CODEC.encode(PointCloud(surface(8), 8), LOSSLESS)
    assert 8 * len(stream) == pytest.approx(stream.estimated_bits, rel=2e-3, abs=64)


def test_sections_sum_to_the_stream():
    plain = CODEC.encode(PointCloud(surface(6), 6), LOSSLESS)
    repeated = CODEC.encode(PointCloud(np.repeat(surface(6), 2, axis=0), 6), LOSSLESS)
    assert CODEC.sections(plain).keys() == {"container", "header", "occupancy"}
    assert CODEC.sections(repeated).keys() == {"container", "header", "occupancy", "multiplicity"}
    assert sum(CODEC.sections(plain).values()) == len(plain)
    assert sum(CODEC.sections(repeated).values()) == len(repeated)


def test_the_stream_depends_on_the_set_alone():
    points = surface(7)
    shuffled = np.random.default_rng(0).permutation(points)
    first = CODEC.encode(PointCloud(points, 7), LOSSLESS)
    CODEC.encode(PointCloud(surface(5), 5), RATES["r03"])
    assert CODEC.encode(PointCloud(shuffled, 7), LOSSLESS) == first


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset", [0.0, 4.5e5])
def test_real_clouds_keep_their_shape_to_half_a_step(dtype, offset):
    generator = np.random.default_rng(4)
    points = (generator.normal(size=(2_000, 3)) * [30, 30, 2] + offset).astype(dtype)
    side = float((points.max(axis=0) - points.min(axis=0)).max())
    errors = []
    for index, rate in enumerate(CODEC.rates()[:-1]):
        stream = CODEC.encode(PointCloud(points), rate)
        decoded = CODEC.decode(bytes(stream))
        assert decoded.points.dtype == dtype
        assert decoded.bit_depth is None
        assert decoded.geometry_sha256() == stream.reconstruction_sha256
        distance = np.abs(points[:200, None].astype(np.float64) - decoded.points[None]).max(axis=2).min(axis=1)
        errors.append(distance.max())
        rounding = np.finfo(dtype).eps * (offset + side)
        assert errors[-1] <= 0.5001 * side / (2 ** (8 + index) - 1) + rounding
    assert errors[-1] < errors[0] / 8


def test_real_clouds_wider_than_single_precision_are_refused_without_a_warning():
    with pytest.raises(CodecError, match="less than 2\\*\\*128 steps"):
        CODEC.encode(PointCloud(np.array([[0.0, 0, 0], [1e300, 0, 0]])), RATES["r03"])


@pytest.mark.parametrize("count", [0, 1, 5])
def test_real_clouds_without_extent(count):
    points = np.full((count, 3), -3.25, np.float32)
    decoded = CODEC.decode(bytes(CODEC.encode(PointCloud(points), RATES["r01"])))
    np.testing.assert_array_equal(decoded.points, points[:1])


def test_what_it_cannot_do_is_said():
    with pytest.raises(NotApplicableError, match="lossless for voxelised clouds only, and these are real numbers"):
        CODEC.encode(PointCloud(np.zeros((1, 3), np.float32)), LOSSLESS)
    with pytest.raises(CodecError, match="ctc_rate 1 to 6"):
        CODEC.encode(PointCloud(np.zeros((1, 3), np.int32), 5), Rate("r99", {"ctc_rate": 99}))
    with pytest.raises(CodecError, match="do not fit"):
        encode_occupancy(np.array([[0, 0, 2**21]]))


def test_occupancy_is_a_self_contained_string():
    points = surface(6)
    data = encode_occupancy(np.r_[points, points[:50]])
    np.testing.assert_array_equal(as_bag(decode_occupancy(data)), as_bag(points))
    assert len(encode_occupancy(points[:1])) <= 6


# Damage


def decodes_or_refuses(data, seconds=20):
    """The decoder's cloud, or None for a BitstreamError; anything else fails, a long run too."""
    begin = time.process_time()
    try:
        cloud = CODEC.decode(data)
    except BitstreamError:
        cloud = None
    assert time.process_time() - begin < seconds
    return cloud


def test_truncated_and_flipped_streams_are_refused():
    stream = bytes(CODEC.encode(PointCloud(surface(6), 6), LOSSLESS))
    generator = np.random.default_rng(7)
    for length in generator.integers(0, len(stream), 50):
        assert decodes_or_refuses(stream[:length]) is None
    for bit in generator.integers(0, 8 * len(stream), 200):
        damaged = bytearray(stream)
        damaged[bit // 8] ^= 1 << bit % 8
        assert decodes_or_refuses(bytes(damaged)) is None


@pytest.mark.parametrize("kind", ["dense", "sparse", "repeated", "real"])
def test_damage_behind_a_right_checksum_is_bounded(kind):
    generator = np.random.default_rng(11)
    sparse = generator.integers(0, 1 << 16, (400, 3)).astype(np.int32)
    cloud, rate = {
        "dense": (PointCloud(surface(6), 6), LOSSLESS),
        "sparse": (PointCloud(sparse, 16), LOSSLESS),
        "repeated": (PointCloud(np.repeat(sparse, 3, axis=0), 16), LOSSLESS),
        "real": (PointCloud(sparse.astype(np.float32)), RATES["r04"]),
    }[kind]
    _, sections = unpack(CODEC.encode(cloud, rate))
    sizes = [len(section) for section in sections]
    for trial in range(80):
        damaged = [bytearray(section) for section in sections]
        which = int(generator.integers(len(sections)))
        place = int(generator.integers(min(sizes[which], 8 if trial % 2 else sizes[which])))
        if trial % 4 == 3:
            del damaged[which][place:]
        else:
            damaged[which][place] ^= 1 << int(generator.integers(8))
        decodes_or_refuses(pack("octree", [bytes(section) for section in damaged]))


@pytest.mark.parametrize(
    ("header", "occupancy", "said"),
    [
        (b"", b"\0\0", "header is empty"),
        (b"\x00", b"\0\0", "bit depth 0"),
        (b"\x4a\x03", b"\0\0", "scale is truncated"),
        (b"\x4a\x03\x08", b"\0\0", "not between 0 and 1"),
        (b"\x20" + b"\0" * 16, b"\0\0", "is impossible"),
        (b"\x0a", b"", "occupancy is empty"),
        (b"\x0a", b"\x0a", "ends inside a number"),
        (b"\x0a", b"\x1f\x01\x00", "depth 31"),
        (b"\x0a", b"\x0a\xff\xff\xff\xff\x7f\x00", "cannot be in 1 bytes"),
        (b"\x0a", encode_occupancy(np.array([[0, 1024, 0]])), "beyond the grid's end"),
    ],
)
def test_impossible_headers_are_refused_with_the_reason(header, occupancy, said):
    with pytest.raises(BitstreamError, match=said):
        CODEC.decode(pack("octree", [header, occupancy]))


def test_a_wrong_count_is_noticed():
    occupancy = encode_occupancy(surface(5))
    count = len(surface(5))
    for wrong in (count - 1, count + 1):
        changed = bytes([occupancy[0], wrong & 127 | 128, wrong >> 7]) + occupancy[3:]
        with pytest.raises(BitstreamError):
            decode_occupancy(changed)


# Beside tmc3


def frame(shared, name):
    from pccbench.codecs.formats import read_cloud

    return read_cloud(next((shared / "data" / "8iVFBv2").glob(f"*/Ply/{name}.ply")))


@pytest.mark.parametrize("sequence", ["longdress_vox10_1300", "loot_vox10_1200"])
def test_fewer_bytes_than_tmc3_for_the_same_points(shared, sequence):
    """G-PCC v23's octree at every rate of the CTC; the number of decoded points tells that they are the same."""
    rows = json.loads((shared / "golden" / "tmc3_v23_ctc.json").read_text())["rows"]
    golden = {row["rate"]: row for row in rows if row["sequence"] == sequence and row["codec"] == "gpcc-octree"}
    cloud = PointCloud(frame(shared, sequence).points.astype(np.int32), 10)
    for name in ("r01", "r02", "r03", "lossless") if "loot" in sequence else ("r04", "r05", "r06"):
        stream = CODEC.encode(cloud, RATES[name])
        decoded = CODEC.decode(bytes(stream))
        assert len(decoded) == golden[name]["decoded_points"]
        assert len(stream) < golden[name]["bytes"]
        assert decoded.geometry_sha256() == stream.reconstruction_sha256
