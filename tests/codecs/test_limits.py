"""The rule of what a stream may expand to: real streams stay below it, and each decoder asks it."""

import numpy as np
import pytest

from pccbench.codecs import limits
from pccbench.codecs.cloud import PointCloud
from pccbench.codecs.container import pack, put_varint, unpack
from pccbench.codecs.errors import BitstreamError, CodecError
from pccbench.codecs.octree.occupancy import encode_keys, encode_multiplicities, keys_of
from pccbench.codecs.registry import codec_class


def cube(side, bit_depth=10):
    points = np.array(np.meshgrid(*[np.arange(side)] * 3)).reshape(3, -1).T
    return PointCloud(points.astype(np.int32), bit_depth)


def plane(side, bit_depth=10):
    points = np.array(np.meshgrid(np.arange(side), np.arange(side), [5])).reshape(3, -1).T
    return PointCloud(points.astype(np.int32), bit_depth)


def test_the_rule_rises_with_the_size():
    sizes = [1, 22, 100, 1000, 100_000, 10**6, 10**8]
    for function in (limits.most_points, limits.most_coded, limits.most_nodes):
        values = [function(size) for size in sizes]
        assert values == sorted(values)
    # What decoders of 100 kB take a few seconds for, and below 1 GiB.
    assert limits.most_points(100_000) < 1.3e7
    # 22 bytes once held 21 million points.
    assert limits.most_coded(22) < 10**6


@pytest.mark.parametrize("name", ["raw", "octree", "draco", "sparse", "deepcompress"])
@pytest.mark.parametrize(
    "cloud", [cube(64), plane(256), plane(1), cube(1, 1)], ids=["cube", "plane", "point", "corner"]
)
def test_solids_planes_and_points_decode_at_all_rates(name, cloud):
    codec = codec_class(name)()
    for rate in codec.rates():
        decoded = codec.decode(codec.encode(cloud, rate))
        assert 1 <= len(decoded) <= 32 * len(cloud), rate.name
        if rate.lossless:
            assert decoded.geometry_sha256() == cloud.geometry_sha256()


def test_a_dense_body_decodes_at_the_lowest_rates(shared):
    from pccbench.codecs.formats import read_cloud

    cloud = read_cloud(shared / "data/8iVFBv2/longdress/Ply/longdress_vox10_1300.ply")
    for name in ("octree", "draco", "sparse", "deepcompress"):
        codec = codec_class(name)()
        assert len(codec.decode(codec.encode(cloud, codec.rates()[0]))) > 1000


def test_repeats_are_bounded_by_the_size():
    voxels, bits = encode_keys(keys_of(np.array([[1, 2, 3]])))
    assert bits
    repeats = encode_multiplicities(np.array([1 << 34]))
    data = pack("octree", [bytes([10]), voxels, repeats])
    with pytest.raises(BitstreamError, match=f"{1 << 34} coded points are too many for {len(data)} bytes"):
        codec_class("octree")().decode(data)
    with pytest.raises(BitstreamError, match="coded points are too many"):
        codec_class("sparse")().decode(pack("sparse", [bytes([10]), voxels, b"", b"", repeats]))


def test_declared_voxels_are_bounded_by_the_size():
    occupancy, _ = encode_keys(keys_of(cube(8).points))
    count, rest = occupancy[:1], occupancy[3:]
    assert occupancy[1:3] == put_varint(512)
    with pytest.raises(BitstreamError, match="cannot be in"):
        codec_class("octree")().decode(pack("octree", [bytes([10]), b"\x0a" + put_varint(10**8) + rest]))
    assert count


def test_dracos_count_is_looked_at_before_draco_is():
    codec = codec_class("draco")()
    _, (header, payload) = unpack(codec.encode(cube(8), codec.rates()[-1]))
    for place, says in ((11, "coded points are too many"), (27, "points, not up to 6")):
        for large in (b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\x00\x00\x00\x10"):
            hurt = payload[:place] + large + payload[place + 4 :]
            with pytest.raises(BitstreamError, match=says):
                codec.decode(pack("draco", [header, hurt]))


def test_an_encoder_refuses_what_its_decoder_would(monkeypatch):
    monkeypatch.setattr(limits, "FREE_POINTS", 1000)
    for name, rate in (("octree", -1), ("sparse", 0), ("deepcompress", 0)):
        codec = codec_class(name)()
        with pytest.raises(CodecError, match=r"no decoder would take the stream: .* use a higher rate, or cut"):
            codec.encode(cube(48), codec.rates()[rate])
