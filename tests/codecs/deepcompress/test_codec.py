"""The shipped codecs: sealed round trips, honest sizes, damaged streams."""

import subprocess
import sys

import numpy as np
import pytest

from pccbench.codecs import registry
from pccbench.codecs.base import Rate
from pccbench.codecs.cloud import PointCloud
from pccbench.codecs.deepcompress.codec import PRIOR_NUMBERS, Header
from pccbench.codecs.deepcompress.files import SHIPPED, weights_sha256
from pccbench.codecs.errors import BitstreamError, CodecError
from pccbench.codecs.weights import read_record
from pccbench.metrics.distortion import distortion

NAMES = ["deepcompress", *(f"deepcompress-{prior}" for prior in PRIOR_NUMBERS)]
pytestmark = pytest.mark.skipif(not (SHIPPED / "record.json").exists(), reason="no weights in this checkout")


def made(name):
    (spec,) = registry.find((name,))
    return spec.create()


@pytest.fixture
def cloud(surface):
    return PointCloud(surface, bit_depth=6)


@pytest.mark.parametrize("name", NAMES)
def test_round_trip_is_what_the_encoder_said(name, cloud):
    codec = made(name)
    data = codec.encode(cloud, codec.rates()[4])
    decoded = made(name).decode(bytes(data))
    assert decoded.geometry_sha256() == data.reconstruction_sha256
    assert decoded.bit_depth == cloud.bit_depth
    assert sum(codec.sections(data).values()) == len(data)
    assert distortion(cloud.points, decoded.points, peak=63.0).d1_mse < 2.0
    # Containers and headers are a few dozen bytes.
    assert abs(8 * len(data) - data.estimated_bits) < 0.01 * data.estimated_bits + 8 * 40
    assert registry.identify(bytes(data)) == "deepcompress"


def test_all_entropy_models_code_the_same_cloud(cloud):
    found = {name: made(name) for name in NAMES}
    rate = found["deepcompress"].rates()[5]
    streams = {name: codec.encode(cloud, rate) for name, codec in found.items()}
    assert len({stream.reconstruction_sha256 for stream in streams.values()}) == 1
    assert len(streams["deepcompress-hyperprior"]) < len(streams["deepcompress-gaussian"])


def test_more_rate_more_quality(cloud):
    codec = made("deepcompress")
    points = []
    for rate in codec.rates():
        data = bytes(codec.encode(cloud, rate))
        points.append((len(data), distortion(cloud.points, codec.decode(data).points, peak=63.0).d1_mse))
    sizes, errors = zip(*points, strict=True)
    assert sizes[0] < sizes[-1]
    assert errors[0] > errors[-1]


def test_sealed_decode_in_another_process(cloud, tmp_path):
    codec = made("deepcompress")
    data = codec.encode(cloud, codec.rates()[3])
    (tmp_path / "stream").write_bytes(data)
    script = (
        "import sys; from pathlib import Path; from pccbench.codecs import registry\n"
        "(spec,) = registry.find(('deepcompress',))\n"
        "print(spec.create().decode(Path('stream').read_bytes()).geometry_sha256())"
    )
    ran = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == data.reconstruction_sha256


@pytest.mark.parametrize("bit_depth", [1, 2, 3, 10, 21])
def test_any_bit_depth(bit_depth, rng):
    codec = made("deepcompress-channel")
    top = 1 << bit_depth
    points = np.unique(rng.integers(max(0, top - 40), top, (60, 3)), axis=0).astype(np.int32)
    cloud = PointCloud(points, bit_depth=bit_depth)
    data = codec.encode(cloud, codec.rates()[-1])
    decoded = codec.decode(bytes(data))
    assert decoded.bit_depth == bit_depth
    assert decoded.geometry_sha256() == data.reconstruction_sha256


def test_clouds_of_no_and_of_one_point():
    codec = made("deepcompress")
    empty = PointCloud(np.empty((0, 3), np.int32), bit_depth=9)
    assert len(codec.decode(bytes(codec.encode(empty, codec.rates()[0])))) == 0
    one = PointCloud(np.array([[511, 0, 7]], np.int32), bit_depth=9)
    decoded = codec.decode(bytes(codec.encode(one, codec.rates()[-1])))
    assert len(decoded) > 0


def test_repeated_points_and_order_do_not_matter(cloud, rng):
    codec = made("deepcompress-hyperprior")
    rate = codec.rates()[2]
    order = rng.permutation(len(cloud))
    shuffled = PointCloud(np.r_[cloud.points[order], cloud.points[:9]], bit_depth=6)
    assert bytes(codec.encode(shuffled, rate)) == bytes(codec.encode(cloud, rate))


def test_state_does_not_leak(cloud):
    codec = made("deepcompress")
    other = PointCloud(np.asarray(cloud.points)[::7], bit_depth=6)
    rate = codec.rates()[3]
    first = bytes(codec.encode(cloud, rate))
    codec.encode(other, rate)
    assert bytes(codec.encode(cloud, rate)) == first


def test_d2_can_be_what_counts(cloud):
    codec = made("deepcompress-channel")
    normals = np.asarray(cloud.points) - np.array([30, 33, 31])
    normals = (normals / np.linalg.norm(normals, axis=1, keepdims=True)).astype(np.float32)
    with_normals = PointCloud(cloud.points, bit_depth=6, normals=normals)
    found = {}
    for aim in ("d1", "d2"):
        data = codec.encode(with_normals, Rate(aim, {"rate_weight": 16.0, "optimise": aim}))
        decoded = codec.decode(bytes(data))
        found[aim] = distortion(cloud.points, decoded.points, normals=normals, peak=63.0)
    assert found["d2"].d2_mse <= found["d1"].d2_mse * 1.02


@pytest.mark.parametrize(
    "parameters",
    [{"rate_weight": 1e-9}, {"rate_weight": 1.0, "coarsening": 9}, {"rate_weight": 1.0, "optimise": "d3"}],
)
def test_rates_out_of_range_are_refused(cloud, parameters):
    with pytest.raises(CodecError, match="must be"):
        made("deepcompress").encode(cloud, Rate("x", parameters))


def test_real_coordinates_are_refused():
    with pytest.raises(CodecError, match="voxelised"):
        codec = made("deepcompress")
        codec.encode(PointCloud(np.zeros((3, 3), np.float32)), codec.rates()[0])


def test_damaged_streams_are_refused(cloud, rng):
    codec = made("deepcompress-channel")
    data = bytes(codec.encode(cloud, codec.rates()[2]))
    for _ in range(150):
        broken = bytearray(data)
        broken[rng.integers(len(data))] ^= 1 << rng.integers(8)
        with pytest.raises(BitstreamError):
            codec.decode(bytes(broken))
    for length in rng.integers(0, len(data), 50):
        with pytest.raises(BitstreamError):
            codec.decode(data[:length])


def test_damage_under_a_right_checksum_is_refused_or_harmless(cloud, rng):
    """A forger can make the checksum fit: then the decoder may return a wrong cloud, but nothing worse."""
    from pccbench.codecs.container import pack, unpack

    codec = made("deepcompress-channel")
    _, sections = unpack(bytes(codec.encode(cloud, codec.rates()[2])))
    for _ in range(60):
        which = rng.integers(len(sections))
        broken = [bytearray(section) for section in sections]
        broken[which][rng.integers(len(broken[which]))] ^= 1 << rng.integers(8)
        try:
            decoded = codec.decode(pack("deepcompress", [bytes(section) for section in broken]))
        except BitstreamError:
            continue
        assert len(decoded) < 50 * len(cloud)


def test_headers_are_checked():
    good = Header(10, "hybrid", 20, 0, b"ab")
    assert Header.from_bytes(good.to_bytes()) == good
    for bad in (b"", b"\x00\x06\x14\x00ab", b"\x0a\x07\x14\x00ab", b"\x0a\x06\x7f\x00ab", good.to_bytes() + b"x"):
        with pytest.raises(BitstreamError):
            Header.from_bytes(bad)


def test_streams_of_other_weights_are_refused(cloud, monkeypatch):
    codec = made("deepcompress-hyperprior")
    data = bytes(codec.encode(cloud, codec.rates()[0]))
    monkeypatch.setattr(type(codec), "_tag", lambda self, prior: b"\x00\x00")
    with pytest.raises(BitstreamError, match="other weights"):
        codec.decode(data)


def test_cards_tell_what_was_trained():
    record = read_record(SHIPPED)
    for name in NAMES:
        card = made(name).card()
        assert card.trained
        assert card.weights_sha256 == weights_sha256(SHIPPED, made(name).prior)
        assert len(card.training_files_sha256) > 50
        assert card.parameters > 10**6
        assert card.macs_per_point > 0
    total = sum(path.stat().st_size for path in SHIPPED.glob("*.safetensors"))
    assert total < 15e6
    assert record["files_sha256"]


def test_names_cost_nothing_to_look_up():
    script = (
        "import sys; from pccbench.codecs import registry\n"
        "registry.find(('deepcompress',))[0].create().card()\n"
        "print('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


@pytest.mark.parametrize("count", [1, 2, 253])
def test_few_points_neither_vanish_nor_fill_space(count):
    """One point once decoded to none (r08) or to 1,277 (r01), 253 to 353,159."""
    generator = np.random.default_rng(count)
    codec = registry.codec_class("deepcompress")()
    for reach, bit_depth in ((1024, 10), (20, 10), (2, 1)):
        points = np.unique(generator.integers(0, reach, (count, 3)), axis=0)
        cloud = PointCloud(points.astype(np.int32), bit_depth)
        for rate in codec.rates():
            stream = codec.encode(cloud, rate)
            decoded = codec.decode(stream)
            assert 1 <= len(decoded) <= 32 * len(cloud), rate.name
            assert decoded.geometry_sha256() == stream.reconstruction_sha256


def test_each_occupied_cell_gives_a_point():
    """Far from each other: on the grid that the lowest rates code, too."""
    points = np.array(np.meshgrid(*[np.arange(4) * 200 + 5] * 3)).reshape(3, -1).T
    codec = registry.codec_class("deepcompress")()
    for rate in codec.rates():
        decoded = codec.decode(codec.encode(PointCloud(points.astype(np.int32), 10), rate))
        assert len(np.unique(decoded.points // 16, axis=0)) == 64, rate.name
