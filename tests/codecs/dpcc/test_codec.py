import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
import torch

from pccbench.codecs.cloud import PointCloud
from pccbench.codecs.conformance import check_codec, failures
from pccbench.codecs.container import pack, unpack
from pccbench.codecs.dpcc.codec import DpccCodec, Header
from pccbench.codecs.dpcc.coding import MAX_SHIFT, best_shift
from pccbench.codecs.dpcc.model import children_of
from pccbench.codecs.errors import BitstreamError, CodecError, CodecUnavailableError
from pccbench.codecs.octree.grid import RealGrid, VoxelGrid

DECODE = """
import sys, torch
from pathlib import Path
from pccbench.codecs.dpcc.codec import DpccCodec
codec = DpccCodec(Path(sys.argv[1]))
for threads in (1, 2):
    torch.set_num_threads(threads)
    for name in sys.argv[3:]:
        print(codec.decode((Path(sys.argv[2]) / name).read_bytes()).geometry_sha256())
"""


THREE = ((1, 1.25, 0.2), (2, 1.0, 0.0), (3, 0.6, 0.1))


def named(rates):
    return [{"point": point, "grid_share": share, "towards_zero": zero} for point, share, zero in rates]


@pytest.fixture(autouse=True)
def _three_points(monkeypatch):
    monkeypatch.setattr("pccbench.codecs.dpcc.codec.named_rates", lambda folder: named(THREE))


def test_a_fresh_process_decodes_what_the_encoder_expects(codec, weights, cloud, real_cloud, tmp_path):
    expected = []
    rates = [codec.rates()[0], codec.rates()[-1]]
    for kind, one in (("voxels", cloud), ("real", real_cloud)):
        for rate in rates:
            data = codec.encode(one, rate)
            (tmp_path / f"{kind}-{rate.name}").write_bytes(data)
            expected.append(data.reconstruction_sha256)
            assert sum(codec.sections(data).values()) == len(data)
    names = [f"{kind}-{rate.name}" for kind in ("voxels", "real") for rate in rates]
    done = subprocess.run(
        [sys.executable, "-c", DECODE, str(weights), str(tmp_path), *names],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert done.stdout.split() == expected * 2


def test_a_b_a_and_threads_give_the_same_bytes(codec, cloud, real_cloud):
    rate = codec.rates()[1]
    first, other = codec.encode(cloud, rate), codec.encode(real_cloud, rate)
    assert codec.encode(cloud, rate) == first
    assert codec.encode(real_cloud, rate) == other
    shuffled = PointCloud(np.random.default_rng(0).permutation(cloud.points), cloud.bit_depth)
    assert codec.encode(shuffled, rate) == first
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert codec.decode(first).geometry_sha256() == first.reconstruction_sha256
        assert codec.decode(codec.encode(cloud, rate)).bit_depth == 7
    finally:
        torch.set_num_threads(threads)


def test_rows_worked_on_at_a_time_change_nothing(codec, cloud, monkeypatch):
    data = codec.encode(cloud, codec.rates()[0])
    monkeypatch.setattr("pccbench.codecs.dpcc.model._ROWS", 37)
    assert codec.decode(data).geometry_sha256() == data.reconstruction_sha256


def test_voxels_stay_on_the_grid_and_none_is_there_twice(codec, cloud):
    decoded = codec.decode(codec.encode(cloud, codec.rates()[-1]))
    assert decoded.bit_depth == cloud.bit_depth
    assert len(decoded.merged()) == len(decoded)
    assert decoded.points.dtype == np.int32


def test_the_number_of_points_is_met_by_the_shift():
    counts = 1 + 7 * torch.rand(500, generator=torch.Generator().manual_seed(0))
    for points in (1500, 2000, 2500):
        shift = best_shift(counts, points, 8)
        made = [int(children_of(counts, s / 64, 8).sum()) for s in (shift - 1, shift, shift + 1)]
        assert abs(made[1] - points) == min(abs(m - points) for m in made)
    assert best_shift(counts, 10**6, 8) == MAX_SHIFT


def test_estimated_bits_are_the_real_ones(codec, cloud):
    data = codec.encode(cloud, codec.rates()[-1])
    assert data.estimated_bits == pytest.approx(8 * len(data), rel=0.01, abs=128)
    sections = codec.sections(data)
    assert sections["features"] > 0
    assert sections["latents"] > 0


def real(points):
    return PointCloud(np.asarray(points, np.float32))


def outlier():
    plane = np.random.default_rng(1).random((3000, 3)) * [30, 30, 0.1]
    return real(np.concatenate([plane, [[3e8, -3e8, 1.0]]]))


EDGES = {
    "empty": PointCloud(np.zeros((0, 3), np.int32), 10),
    "one": PointCloud(np.array([[5, 6, 7]], np.int32), 10),
    "fifteen": PointCloud(np.random.default_rng(0).integers(0, 1024, (15, 3)).astype(np.int32), 10),
    "collinear": PointCloud(np.stack([np.arange(900), np.full(900, 4), np.full(900, 9)], 1).astype(np.int32), 10),
    "duplicates": PointCloud(np.full((3000, 3), 9, np.int32), 10),
    "far voxel": PointCloud(
        np.concatenate([np.argwhere(np.ones((40, 40, 1))), [[2**21 - 1] * 3]]).astype(np.int32), 21
    ),
    "real empty": real(np.zeros((0, 3))),
    "real one": real([[1.5, -2.5, 1e6]]),
    "real fifteen": real(np.random.default_rng(0).normal(size=(15, 3))),
    "real collinear": real(np.linspace(0, 1, 900)[:, None] * [[1, 2, 3]]),
    "real duplicates": real(np.ones((3000, 3)) * 0.1),
    "real tiny": real(np.random.default_rng(0).random((900, 3)) * 1e-6),
    "double far": PointCloud(np.random.default_rng(0).random((900, 3)) + 1e9),
    "outlier": outlier(),
}


@pytest.mark.parametrize("name", EDGES)
def test_edge_clouds_are_coded(codec, name):
    cloud = EDGES[name]
    for rate in (codec.rates()[0], codec.rates()[-1]):
        data = codec.encode(cloud, rate)
        decoded = codec.decode(data)
        assert decoded.geometry_sha256() == data.reconstruction_sha256
        assert decoded.bit_depth == cloud.bit_depth
        assert (len(decoded) == 0) == (len(cloud) == 0)


def test_small_voxel_clouds_are_lossless(codec):
    for name in ("empty", "one", "fifteen"):
        decoded = codec.decode(codec.encode(EDGES[name], codec.rates()[0]))
        assert decoded.geometry_sha256() == EDGES[name].geometry_sha256()


def test_a_far_outlier_is_kept_exactly_and_spoils_nothing(codec):
    cloud = EDGES["outlier"]
    data = codec.encode(cloud, codec.rates()[-1])
    assert data.notes["strays"] == 1
    decoded = np.asarray(codec.decode(data).points)
    assert (decoded == cloud.points[-1]).all(1).sum() == 1
    assert data.notes["latent_step"] < 5


def test_what_cannot_be_coded_is_one_line(codec, tmp_path):
    with pytest.raises(CodecError, match="expected at most 1e"):
        codec.encode(PointCloud(np.array([[1e200, 0, 0], [0, 0, 0]])), codec.rates()[0])
    with pytest.raises(CodecError, match="needs point 1 to 3 in rate 'r09', got 9"):
        codec.encode(EDGES["one"], type(codec.rates()[0])("r09", {"point": 9}))
    with pytest.raises(CodecError, match="grid_share above 0"):
        codec.encode(EDGES["one"], type(codec.rates()[0])("r01", {"point": 1, "grid_share": 0}))
    with pytest.raises(CodecError, match="towards_zero from 0 to below 0.5"):
        codec.encode(EDGES["one"], type(codec.rates()[0])("r01", {"point": 1, "towards_zero": 0.5}))
    with pytest.raises(CodecUnavailableError, match="bench train dpcc"):
        DpccCodec(tmp_path)


def resealed(data, number, section):
    """The stream with another section, and a checksum that fits."""
    name, sections = unpack(data)
    sections[number] = bytes(section)
    return pack(name, sections)


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_damage_behind_a_right_checksum_is_found_quickly(codec, cloud, number):
    data = codec.encode(cloud, codec.rates()[0])
    rng = np.random.default_rng(number)
    section = unpack(data)[1][number]
    started = time.monotonic()
    told = 0
    for _ in range(12):
        broken = bytearray(section or b"\0")
        for _ in range(int(rng.integers(1, 4))):
            broken[int(rng.integers(len(broken)))] = int(rng.integers(256))
        if rng.random() < 0.3:
            broken = broken[: int(rng.integers(len(broken)))]
        try:
            codec.decode(resealed(data, number, broken))
        except BitstreamError as error:
            assert "\n" not in str(error)
            told += 1
    assert told or number == 3
    assert time.monotonic() - started < 30


def test_any_damage_of_the_bytes_is_told(codec, real_cloud):
    data = codec.encode(real_cloud, codec.rates()[0])
    rng = np.random.default_rng(9)
    for _ in range(40):
        broken = bytearray(data)
        broken[int(rng.integers(len(broken)))] ^= 1 << int(rng.integers(8))
        with pytest.raises(BitstreamError):
            codec.decode(bytes(broken))
    for length in (0, 1, 7, len(data) // 2, len(data) - 1):
        with pytest.raises(BitstreamError):
            codec.decode(data[:length])


def test_declared_numbers_are_not_believed(codec, cloud):
    data = codec.encode(cloud, codec.rates()[0])
    header = Header.from_bytes(unpack(data)[1][0])
    for change in ({"points": header.points - 1}, {"points": 1}, {"points": 1 << 27}, {"tag": b"xx"}, {"point": 60}):
        false = Header(**{**header.__dict__, **change})
        with pytest.raises(BitstreamError):
            codec.decode(resealed(data, 0, false.to_bytes()))
    strays = zlib.compress(np.zeros((2, 3), "<f4").tobytes())
    with pytest.raises(BitstreamError, match="no strays"):
        codec.decode(resealed(data, 3, strays))


@pytest.mark.parametrize(
    "header",
    [
        Header(VoxelGrid(10), 2, 5, -MAX_SHIFT, 123456, b"ab"),
        Header(VoxelGrid(21), None),
        Header(RealGrid((0.5, -1.0, 2.0), 0.25, False), 0, 1, MAX_SHIFT, 7, b"\0\xff"),
        Header(RealGrid((0.1, 1e9, 2.0), 0.25, True), 0, 1, 0, 0, b"zz"),
    ],
)
def test_headers_come_back(header):
    assert Header.from_bytes(header.to_bytes()) == header


def test_the_card_tells_of_the_weights(codec):
    card = codec.card()
    assert not card.trained  # of a dozen steps
    assert card.parameters > 1000
    assert card.macs_per_point > 100
    assert len(card.weights_sha256) == 64
    assert card.training_files_sha256


def test_conformance(monkeypatch):
    monkeypatch.setattr("pccbench.codecs.dpcc.codec.named_rates", lambda folder: named(THREE[1:2]))
    results = check_codec(DpccCodec(), n_flipped_bits=6)
    assert not failures(results)


def test_features_rounded_towards_zero_cost_less(codec, cloud):
    rate = type(codec.rates()[0])
    sizes = [
        codec.sections(codec.encode(cloud, rate("r", {"point": 3, "towards_zero": share})))["features"]
        for share in (0.0, 0.2, 0.4)
    ]
    assert sizes[0] > sizes[1] > sizes[2]
