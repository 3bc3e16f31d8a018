"""The codec: sealed round trips, honest sizes, damaged streams, odd clouds."""

import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from pccbench.codecs.base import Rate
from pccbench.codecs.cloud import PointCloud
from pccbench.codecs.conformance import check_codec, failures
from pccbench.codecs.errors import BitstreamError, CodecError, CodecUnavailableError
from pccbench.codecs.octree import OctreeCodec
from pccbench.codecs.octree.occupancy import keys_of
from pccbench.codecs.sparse.codec import SparseCodec
from pccbench.codecs.sparse.files import SHIPPED, weights_path
from pccbench.metrics.distortion import distortion

RATES = [
    Rate("coarse", {"step": 12}),
    Rate("middle", {"step": 4}),
    Rate("odd", {"step": 3}),
    Rate("fine", {"step": 2}),
    Rate("refined", {"step": 2, "refine": 0.4, "error": 0.2, "block_bits": 0}),
    Rate("told", {"step": 2, "latents": 2}),
    Rate("told and refined", {"step": 2, "latents": 1, "refine": 0.3, "error": 0.1, "block_bits": 0}),
    Rate("lossless", {"step": 1}, lossless=True),
]
shipped = pytest.mark.skipif(not weights_path(SHIPPED).exists(), reason="no weights in this checkout")


@pytest.fixture(scope="module")
def codec(weights):
    return SparseCodec(weights)


@pytest.fixture(scope="module")
def cloud(surface):
    """Two shells beside each other, so that there are several blocks."""
    return PointCloud(np.concatenate([surface, surface + np.array([64, 0, 40], np.int32)]), bit_depth=7)


@pytest.mark.parametrize("rate", RATES, ids=lambda rate: rate.name)
def test_round_trip_is_what_the_encoder_said(rate, codec, cloud, weights):
    data = codec.encode(cloud, rate)
    decoded = SparseCodec(weights).decode(bytes(data))
    assert decoded.geometry_sha256() == data.reconstruction_sha256
    assert decoded.bit_depth == cloud.bit_depth
    assert sum(codec.sections(data).values()) == len(data)
    assert abs(8 * len(data) - data.estimated_bits) <= max(0.01 * data.estimated_bits, 16)
    if rate.lossless:
        assert decoded.geometry_sha256() == cloud.geometry_sha256()


def test_refinement_makes_the_error_smaller(codec, cloud):
    errors, sizes = [], []
    for share in (0.0, 0.4, 1.0):
        data = codec.encode(cloud, Rate("x", {"step": 2, "refine": share, "block_bits": 0}))
        errors.append(distortion(cloud.points, codec.decode(bytes(data)).points, peak=127.0).d1_mse)
        sizes.append(len(data))
    assert errors[0] > errors[1] > errors[2] == 0
    assert sizes == sorted(sizes)


def test_optimising_d2(codec, cloud):
    """Against normals of its own: point-to-plane errors fall, whatever becomes of point-to-point ones."""
    normals = np.asarray(cloud.points, np.float32) % 64 - 31.5
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9
    given = PointCloud(cloud.points, bit_depth=7, normals=normals)
    found = {}
    for goal in ("d1", "d2"):
        data = codec.encode(given, Rate("x", {"step": 4, "optimise": goal}))
        decoded = codec.decode(bytes(data)).points
        found[goal] = distortion(given.points, decoded, normals=normals, peak=127.0)
    assert found["d2"].d2_mse <= 1.02 * found["d1"].d2_mse


def test_expected_error_is_the_real_one(codec, cloud):
    data = codec.encode(cloud, Rate("x", {"step": 2}))
    real = distortion(cloud.points, codec.decode(bytes(data)).points, peak=127.0).d1_mse
    assert data.notes["expected_mse"] == pytest.approx(real, rel=0.1)


def test_lossless_keeps_repeated_points(codec, surface):
    twice = PointCloud(np.concatenate([surface, surface[::3]]), bit_depth=6)
    data = codec.encode(twice, RATES[-1])
    assert codec.decode(bytes(data)).geometry_sha256() == twice.geometry_sha256() == data.reconstruction_sha256


@pytest.mark.parametrize("bit_depth", [1, 2, 3, 10, 21])
@pytest.mark.parametrize("n", [0, 1, 400])
def test_odd_clouds(bit_depth, n, codec, rng):
    points = rng.integers(0, 1 << bit_depth, (n, 3)).astype(np.int32)
    if n:
        points[-1] = (1 << bit_depth) - 1
    cloud = PointCloud(points, bit_depth=bit_depth)
    for rate in RATES:
        data = codec.encode(cloud, rate)
        decoded = codec.decode(bytes(data))
        assert decoded.geometry_sha256() == data.reconstruction_sha256
        assert bool(len(decoded)) == bool(n)
        assert not len(decoded) or int(np.max(decoded.points)) < 1 << bit_depth


def test_a_scattered_cloud_falls_back_to_the_octree(codec, rng):
    cloud = PointCloud(rng.integers(0, 1 << 14, (4000, 3)).astype(np.int32), bit_depth=14)
    lossless = Rate("lossless", {}, lossless=True)
    assert len(codec.encode(cloud, RATES[-1])) == len(OctreeCodec().encode(cloud, lossless))
    data = codec.encode(cloud, RATES[3])
    decoded = codec.decode(bytes(data))
    assert decoded.geometry_sha256() == data.reconstruction_sha256
    assert data.notes["centred_share"] == 1
    error = distortion(cloud.points, decoded.points, peak=1.0).d1_mse
    assert error == pytest.approx(0.75, rel=0.05)  # a quarter an axis: half a voxel away


def test_each_region_has_what_suits_it(codec, cloud, rng):
    """A shell in one corner, scattered points in another."""
    points = np.concatenate([cloud.points, rng.integers(300, 500, (3000, 3))]).astype(np.int32)
    mixed = PointCloud(points, bit_depth=9).merged()
    sizes = []
    for rate in (
        RATES[3],
        Rate("some", {"step": 2, "refine": 0.5, "error": 0.3}),
        Rate("all", {"step": 2, "refine": 1.0}),
    ):
        data = codec.encode(mixed, rate)
        decoded = codec.decode(bytes(data))
        assert decoded.geometry_sha256() == data.reconstruction_sha256
        if rate.name != "all":  # then no block is left for centres
            assert 0.1 < data.notes["centred_share"] < 0.9
        sizes.append(len(data))
        far = distortion(mixed.points[-3000:], decoded.points, peak=1.0).d1_mse_ab
        assert far <= (0.751, 0.5, 0)[len(sizes) - 1]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("rate", [RATES[1], RATES[3], RATES[5]], ids=lambda rate: rate.name)
def test_memory_is_bounded_on_both_sides(rate, codec, cloud, monkeypatch):
    """Where candidates would take too much, some blocks get centres; a stream that asks for more is refused."""
    from pccbench.codecs.sparse import completion, regions

    points = np.concatenate([cloud.points, cloud.points + np.array([512, 512, 512], np.int32)])
    wide = PointCloud(points, bit_depth=10)
    whole = codec.encode(wide, rate)
    cells = len(completion.cells_touched(np.unique(keys_of(points // 8 * 8)), 1))
    assert "centred_share" not in whole.notes
    monkeypatch.setattr(regions, "_MAX_CELLS", int(0.8 * cells))
    data = codec.encode(wide, rate)
    assert 0.1 < data.notes["centred_share"] < 1
    monkeypatch.setattr(completion, "MAX_CELLS", int(0.9 * cells))
    monkeypatch.setattr(regions, "_MAX_CELLS", cells)
    halved = codec.encode(wide, rate)  # finds out on the way
    assert halved.notes["centred_share"] > 0.1
    assert codec.decode(bytes(halved)).geometry_sha256() == halved.reconstruction_sha256
    assert codec.decode(bytes(data)).geometry_sha256() == data.reconstruction_sha256
    with pytest.raises(BitstreamError, match="cells"):
        codec.decode(bytes(whole))


def test_a_sealed_decoder_with_other_threads(codec, cloud, weights, tmp_path):
    data = codec.encode(cloud, RATES[1])
    (tmp_path / "stream").write_bytes(data)
    script = (
        "import sys, torch; torch.set_num_threads(int(sys.argv[2])); from pathlib import Path\n"
        "from pccbench.codecs.sparse.codec import SparseCodec\n"
        "print(SparseCodec(Path(sys.argv[1])).decode(Path('stream').read_bytes()).geometry_sha256())"
    )
    threads = 1 if torch.get_num_threads() > 1 else 2
    command = [sys.executable, "-c", script, str(weights.resolve()), str(threads)]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == data.reconstruction_sha256


def test_order_of_points_and_history_do_not_matter(codec, cloud, rng):
    first = bytes(codec.encode(cloud, RATES[1]))
    codec.encode(PointCloud(np.asarray(cloud.points)[:50], bit_depth=7), RATES[3])
    shuffled = PointCloud(rng.permutation(np.asarray(cloud.points)), bit_depth=7)
    assert bytes(codec.encode(shuffled, RATES[1])) == first


@pytest.mark.parametrize("rate", [RATES[0], RATES[4], RATES[6], RATES[7]], ids=lambda rate: rate.name)
def test_damaged_streams_are_refused_quickly(rate, codec, cloud, rng):
    data = bytes(codec.encode(cloud, rate))
    for _ in range(30):
        broken = bytearray(data)
        broken[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        begun = time.monotonic()
        with pytest.raises(BitstreamError):
            codec.decode(bytes(broken))
        assert time.monotonic() - begun < 5
    for size in rng.integers(0, len(data), 15):
        with pytest.raises(BitstreamError):
            codec.decode(data[:size])


def test_damage_behind_the_checksum_is_a_bitstream_error(codec, cloud, rng):
    from pccbench.codecs.container import pack, unpack

    for rate in (RATES[0], RATES[4], RATES[6]):
        _, sections = unpack(bytes(codec.encode(cloud, rate)))
        for _ in range(12):
            number = int(rng.integers(len(sections)))
            broken = bytearray(sections[number])
            if not broken:
                continue
            broken[int(rng.integers(len(broken)))] ^= 1 << int(rng.integers(8))
            changed = [bytes(broken) if i == number else one for i, one in enumerate(sections)]
            try:
                codec.decode(pack("sparse", changed))
            except BitstreamError:
                continue


def test_streams_of_other_weights_are_refused(codec, cloud):
    from pccbench.codecs.container import pack, unpack

    _, sections = unpack(bytes(codec.encode(cloud, RATES[3])))
    sections[0] = sections[0][:-2] + bytes(byte ^ 1 for byte in sections[0][-2:])
    with pytest.raises(BitstreamError, match="other weights"):
        codec.decode(pack("sparse", sections))


@pytest.mark.parametrize(
    "parameters",
    [{}, {"step": 0}, {"step": 65}, {"step": 7}, {"step": 4, "refine": 0.5}, {"step": 2, "refine": 2.0},
     {"step": 2, "refine": 1.0, "error": 0.5}, {"step": 2, "optimise": "d3"}, {"step": 2, "block_bits": 9},
     {"step": 2, "latents": 3}, {"step": 2, "latents": -1}, {"step": 4, "latents": 1}, {"step": 2, "latents": "1"}],
)  # fmt: skip
def test_rates_are_checked(parameters, codec, cloud):
    with pytest.raises(CodecError):
        codec.encode(cloud, Rate("x", parameters))


def test_real_coordinates_and_missing_weights_are_refused(codec, tmp_path):
    with pytest.raises(CodecError, match="voxelised"):
        codec.encode(PointCloud(np.random.default_rng(0).random((5, 3))), RATES[0])
    with pytest.raises(CodecUnavailableError, match="bench train sparse"):
        SparseCodec(tmp_path)


@shipped
def test_a_laser_scan_costs_less_than_with_the_octree():
    """Lossless, and at equal distortion; more rate is always worth it."""
    from pccbench.bench.datasets import open_dataset
    from pccbench.metrics.bjontegaard import certified_bd

    cloud = open_dataset("synthetic").available()["tiny-street"].load()
    curves = []
    for codec in (SparseCodec(), OctreeCodec()):
        sizes, quality = [], []
        for rate in codec.rates():
            data = codec.encode(cloud, rate)
            decoded = codec.decode(bytes(data))
            sizes.append(len(data))
            quality.append(distortion(cloud.points, decoded.points, peak=1023.0).d1_psnr_db)
            assert len(decoded) < 16 * len(cloud)  # where no surface is, space is not filled
        assert quality[-1] is None
        curves.append((sizes, quality))
    sparse, octree = curves
    assert sparse[0] == sorted(sparse[0])
    assert sparse[1][:-1] == sorted(sparse[1][:-1])
    assert sparse[0][-1] < octree[0][-1]
    assert certified_bd(*octree, *sparse).bd_rate_pct < -10


@shipped
def test_conformance():
    results = check_codec(SparseCodec(), n_flipped_bits=9)
    assert not failures(results)
    refused = {result.check for result in results if result.status == "refused"}
    assert {name.partition("/")[0] for name in refused} == {
        *("real_numbers", "real_one_point", "real_large", "real_far")
    }


@shipped
def test_shipped_weights_on_a_surface(surface):
    codec = SparseCodec()
    cloud = PointCloud(surface, bit_depth=6)
    sizes, errors = [], []
    # The cloud is one block: refined, it would be lossless, and by the more costly way.
    for rate in (rate for rate in codec.rates()[3:] if "refine" not in rate.parameters):
        data = codec.encode(cloud, rate)
        decoded = codec.decode(bytes(data))
        assert decoded.geometry_sha256() == data.reconstruction_sha256
        sizes.append(len(data))
        errors.append(distortion(cloud.points, decoded.points, peak=63.0).d1_mse)
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)
    assert errors[0] < 2.0
    assert errors[-1] == 0
    card = codec.card()
    assert card.trained
    assert card.training_files_sha256
    assert weights_path(SHIPPED).stat().st_size < 10_000_000


def test_latents_are_left_out_where_coding_children_puts_more_right(codec, cloud, monkeypatch):
    from pccbench.codecs.sparse.lossy import LossyEncoder

    rate, worth = RATES[6], LossyEncoder._is_worth_it
    told = {}
    for verdict in (False, True):
        monkeypatch.setattr(LossyEncoder, "_is_worth_it", lambda *of, verdict=verdict: told.update(of=of) or verdict)
        data = codec.encode(cloud, rate)
        assert (codec.sections(bytes(data)).get("latents", 0) > 0) == verdict
        assert codec.decode(bytes(data)).geometry_sha256() == data.reconstruction_sha256
    encoder, prepared = told["of"]
    latents = encoder.weights.with_latents
    for trade_off, verdict in ((1e-6, False), (1e6, True)):
        monkeypatch.setattr(latents, "trade_offs", (trade_off, trade_off))
        assert worth(encoder, prepared) == verdict
