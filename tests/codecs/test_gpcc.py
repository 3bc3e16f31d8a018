"""G-PCC by tmc3: MPEG's own bytes and points; and what happens when the program fails."""

import json
import os
import subprocess
import sys
import textwrap
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from pccbench.codecs import gpcc, tlv, tmc3
from pccbench.codecs.base import Rate
from pccbench.codecs.cloud import PointCloud
from pccbench.codecs.conformance import check_codec, failures, surface_cloud
from pccbench.codecs.errors import BitstreamError, CodecError, CodecUnavailableError, NotApplicableError
from pccbench.codecs.formats import read_cloud
from pccbench.codecs.registry import CodecSpec, fingerprint, unavailable_reason

VERSION = "release-v23.0-rc2-0-ga3d15c5"
CLASSES = {"gpcc-octree": gpcc.GpccOctreeCodec, "gpcc-trisoup": gpcc.GpccTrisoupCodec}
#: Where the golden row's distortion is measured too, and not only its bytes: each kind of scale, and trisoup.
MEASURED = [("gpcc-octree", "r02"), ("gpcc-octree", "r04"), ("gpcc-octree", "lossless"), ("gpcc-trisoup", "r01")]


@pytest.fixture
def octree(tmc3):
    return gpcc.GpccOctreeCodec(str(tmc3))


@pytest.fixture
def trisoup(tmc3):
    return gpcc.GpccTrisoupCodec(str(tmc3))


def rate_of(codec, name):
    return {rate.name: rate for rate in codec.rates()}[name]


@cache
def golden_cloud(shared, sequence):
    return read_cloud(shared / f"data/8iVFBv2/{sequence.split('_')[0]}/Ply/{sequence}.ply")


@pytest.fixture
def golden(shared, octree):
    if octree.card().version != VERSION:
        pytest.skip(f"the golden bytes are those of tmc3 {VERSION}")
    rows = json.loads((shared / "golden/tmc3_v23_ctc.json").read_text())["rows"]
    return {(row["sequence"], row["codec"], row["rate"]): row for row in rows}


@pytest.mark.parametrize("sequence", ["longdress_vox10_1300", "loot_vox10_1200"])
@pytest.mark.parametrize("name", CLASSES)
def test_every_stream_has_the_bytes_that_mpegs_has(golden, shared, tmc3, sequence, name):
    codec = CLASSES[name](str(tmc3))
    cloud = golden_cloud(shared, sequence)
    sizes = {rate.name: len(codec.encode(cloud, rate)) for rate in codec.rates()}
    expected = {rate: row["bytes"] for (s, c, rate), row in golden.items() if (s, c) == (sequence, name)}
    assert sizes == expected


@pytest.mark.parametrize(("name", "rate"), MEASURED)
def test_points_and_distortion_are_those_of_mpeg(golden, shared, tmc3, name, rate):
    sequence = "loot_vox10_1200"
    row = golden[sequence, name, rate]
    codec = CLASSES[name](str(tmc3))
    cloud = golden_cloud(shared, sequence)
    decoded = codec.decode(bytes(codec.encode(cloud, rate_of(codec, rate))))
    assert len(decoded) == row["decoded_points"]
    one, other = (points.astype(np.float64) for points in (cloud.points, decoded.points))
    mse = max(np.mean(cKDTree(b).query(a)[0] ** 2) for a, b in ((one, other), (other, one)))
    assert mse == pytest.approx(row["d1_mse"], rel=1e-6)
    assert decoded.is_voxelised == (rate != "r04")  # a scale of 3/4 puts points between the voxels


def test_conformance_of_octree(octree, tmc3):
    def fresh():
        return gpcc.GpccOctreeCodec(str(tmc3))

    spec = CodecSpec("gpcc-octree", tmc3=str(tmc3))
    results = check_codec(octree, fresh=fresh, spec=spec, is_checksummed=False, n_flipped_bits=3, is_thorough=False)
    assert not failures(results)
    refused = {result.check for result in results if result.status == "refused"}
    # Real numbers are coded in steps of a millimetre, up to two kilometres.
    real = {f"{name}/lossless" for name in ("real_numbers", "real_one_point", "real_large", "real_far")}
    assert refused == {"empty/r01", "empty/lossless", "real_large/r01", "real_far/r01", *real}


def test_conformance_of_trisoup(trisoup, tmc3):
    def fresh():
        return gpcc.GpccTrisoupCodec(str(tmc3))

    spec = CodecSpec("gpcc-trisoup", tmc3=str(tmc3))
    results = check_codec(trisoup, fresh=fresh, spec=spec, is_checksummed=False, n_flipped_bits=3, is_thorough=False)
    assert not failures(results)
    passed = {result.check.partition("/")[0] for result in results if result.status == "passed"}
    # What is no surface is refused; tmc3 would crash on it, or decode it to another cloud each time.
    assert {"surface", "solid_cube", "collinear", "diagonal", "permutation", "flipped_bits"} <= passed
    assert not passed & {"one_point", "two_points", "grid_corners", "scattered"}


def test_scale_and_planar_mode_follow_the_content(octree):
    dense = surface_cloud(0)
    sparse = PointCloud(np.unique(dense.points, axis=0)[::20] * 8, 10)
    for cloud, planar in ((dense, "0"), (sparse, "1")):
        options = octree.encode(cloud, rate_of(octree, "r03")).notes["tool_options"]
        assert f"planarEnabled={planar}" in options
    assert "positionQuantizationScale=0.5 " in octree.encode(sparse, rate_of(octree, "r03")).notes["tool_options"]


def test_trisoup_is_scaled_to_where_the_surface_is_dense(trisoup):
    dense = surface_cloud(0)
    blown_up = PointCloud(dense.points * 8 + 3, 10)
    for cloud, scale in ((dense, "1.0"), (blown_up, "0.125")):
        stream = trisoup.encode(cloud, rate_of(trisoup, "r04"))
        assert f"positionQuantizationScale={scale} " in stream.notes["tool_options"]
    decoded = trisoup.decode(stream)
    assert np.median(cKDTree(decoded.points).query(blown_up.points)[0]) < 10


def test_real_coordinates_come_back_in_their_unit(octree):
    points = np.random.default_rng(3).normal(scale=8, size=(3000, 3)).astype(np.float32) - 100
    stream = octree.encode(PointCloud(points), rate_of(octree, "r06"))
    decoded = octree.decode(bytes(stream))
    assert decoded.bit_depth is None
    # The CTC's r06 is a quarter at this width: at most 2 mm off on each axis, and half a millimetre before.
    assert cKDTree(decoded.points).query(points)[0].max() <= np.sqrt(3) * 0.0025 + 1e-6
    with pytest.raises(NotApplicableError, match="real numbers"):
        octree.encode(PointCloud(points), rate_of(octree, "lossless"))


@pytest.mark.parametrize("points", [[[0, 0, 0], [3000, 0, 0]], [[3e6, 0, 0]]])
def test_coordinates_beyond_the_grid_are_refused(octree, points):
    with pytest.raises(CodecError, match=r"expected at most 2097\.15 and 2\.14748e"):
        octree.encode(PointCloud(np.array(points, np.float64)), rate_of(octree, "r01"))


def test_a_foreign_rate_is_refused(octree, trisoup):
    cloud = surface_cloud(0, 5)
    with pytest.raises(CodecError, match="octree rate must be 1 to 6, got 9"):
        octree.encode(cloud, Rate("r09", {"ctc_rate": 9}))
    with pytest.raises(CodecError, match="needs ctc_rate"):
        octree.encode(cloud, Rate("r09"))
    with pytest.raises(CodecError, match="needs node_size_log2"):
        trisoup.encode(cloud, Rate("r09", {"node_size_log2": 9}))


def test_the_stream_is_tmc3s_and_its_ledger_is_complete(octree):
    stream = octree.encode(surface_cloud(0), rate_of(octree, "lossless"))
    sections = octree.sections(stream)
    assert sum(sections.values()) == len(stream)
    assert sections["geometry"] > 0.9 * len(stream)
    assert stream.notes["tool_positions_bytes"] <= sections["geometry"]
    assert 0 <= stream.notes["tool_user_s"] < 60


def test_the_card_and_the_fingerprint_name_the_program(octree, tmc3):
    card = octree.card()
    assert card.tool == str(Path(tmc3).resolve())
    assert len(card.tool_sha256) == 64
    recorded = fingerprint(CodecSpec("gpcc-octree", tmc3=str(tmc3)))
    assert recorded["tool_sha256"] == card.tool_sha256
    assert recorded["version"] == card.version
    assert str(tmc3) not in json.dumps(recorded)


def test_temporary_files_are_gone(octree, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    cloud = surface_cloud(0, 5)
    stream = bytes(octree.encode(cloud, rate_of(octree, "r01")))
    octree.decode(stream)
    with pytest.raises(BitstreamError):
        octree.decode(stream[:-30])
    assert list(tmp_path.iterdir()) == []


# What follows needs no tmc3: programs that fail in their own ways stand in for it.


@pytest.fixture
def program(tmp_path):
    """Writes a shell script that says it is tmc3 and then does something else."""

    def write(body):
        path = tmp_path / "tmc3"
        path.write_text(
            "#!/bin/sh\n"
            'for a in "$@"; do case "$a" in\n'
            '  --help) echo "MPEG PCC tmc3 version fake-1"; exit;;\n'
            '  --compressedStreamPath=*) stream="${a#*=}";;\n'
            '  --reconstructedDataPath=*) cloud="${a#*=}";;\n'
            "esac; done\n" + textwrap.dedent(body)
        )
        path.chmod(0o755)
        return str(path)

    return write


SOUND = b"".join(bytes([kind, 0, 0, 0, 3]) + b"abc" for kind in (0, 1, 2))


def test_without_the_program_there_is_a_remedy(monkeypatch, tmp_path):
    monkeypatch.delenv(tmc3.VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in CLASSES:
        reason = unavailable_reason(CodecSpec(name))
        assert "tmc3 was not found" in reason
        assert "mpeg-pcc-tmc13" in reason
        assert "--tmc3" in reason
    nothing = tmp_path / "nothing"
    assert f"--tmc3 names {nothing}" in unavailable_reason(CodecSpec("gpcc-octree", tmc3=str(nothing)))
    monkeypatch.setenv(tmc3.VARIABLE, str(nothing))
    assert f"PCCBENCH_TMC3 names {nothing}" in unavailable_reason(CodecSpec("gpcc-octree"))


def test_the_named_program_goes_before_the_variable_and_the_path(monkeypatch, program, tmp_path):
    path = program("")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv(tmc3.VARIABLE, raising=False)
    assert tmc3.find_program() == Path(path).resolve()
    other = tmp_path / "other"
    other.write_bytes(Path(path).read_bytes())
    other.chmod(0o755)
    monkeypatch.setenv(tmc3.VARIABLE, str(other))
    assert tmc3.find_program() == other.resolve()
    assert tmc3.find_program(path) == Path(path).resolve()


def test_another_program_is_not_tmc3(tmp_path):
    path = tmp_path / "tmc3"
    path.write_text("#!/bin/sh\necho hello\n")
    path.chmod(0o755)
    with pytest.raises(CodecUnavailableError, match="does not say 'tmc3 version'"):
        gpcc.GpccOctreeCodec(str(path)).card()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("echo it does not fit >&2; exit 3", "encoder ended with exit code 3; it wrote: …it does not fit"),
        ("echo no such option", "encoder ended well, but wrote no stream; it wrote: …no such option"),
        ("kill -SEGV $$", "encoder was ended by SIGSEGV"),
    ],
)
def test_a_failing_encoder_is_told_with_its_last_words(program, body, says):
    codec = gpcc.GpccOctreeCodec(program(body))
    with pytest.raises(CodecError, match=says):
        codec.encode(surface_cloud(0, 5), rate_of(codec, "r01"))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("exit 255", "decoder ended with exit code 255"),
        ("kill -ABRT $$", "decoder was ended by SIGABRT"),
        ("true", "ended well, but wrote no cloud"),
        ('printf "ply\\nformat ascii 1.0\\nelement vertex 2\\n" > "$cloud"', "wrote no sound cloud"),
        (
            'printf "ply\\nformat ascii 1.0\\nelement vertex 0\\nproperty float x\\nproperty float y\\n'
            'property float z\\nend_header\\n" > "$cloud"',
            "decoded 0 points",
        ),
    ],
)
def test_a_failing_decoder_is_a_bad_stream(program, body, says):
    with pytest.raises(BitstreamError, match=says):
        gpcc.GpccOctreeCodec(program(body)).decode(SOUND)


def test_an_endless_decoder_is_ended(program):
    start = time.monotonic()
    with pytest.raises(BitstreamError, match="did not end within 1 s of CPU time"):
        tmc3.decode(Path(program("while :; do :; done")), SOUND, tmc3.Limits(cpu_s=1))
    assert time.monotonic() - start < 60


def test_the_program_dies_with_the_worker(program, tmp_path):
    """A worker that is killed leaves no tmc3 running."""
    path = program(f'echo $$ > "{tmp_path}/pid"; sleep 300')
    code = (
        "import sys; from pathlib import Path; from pccbench.codecs import tmc3;"
        "tmc3.decode(Path(sys.argv[1]), b'', tmc3.Limits())"
    )
    with subprocess.Popen([sys.executable, "-c", code, path]) as worker:
        pid_file = tmp_path / "pid"
        deadline = time.monotonic() + 30
        while not (pid_file.exists() and pid_file.read_text().strip()) and time.monotonic() < deadline:
            time.sleep(0.02)
        pid = int(pid_file.read_text())
        worker.kill()
        worker.wait()
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split(")")[1]:
        assert time.monotonic() < deadline, "the program outlived its worker"
        time.sleep(0.02)


def test_units_are_checked_before_the_program_is_asked(program):
    codec = gpcc.GpccOctreeCodec(program("echo asked >&2; exit 1"))
    for data in (b"", b"\0", SOUND[:-1], SOUND + b"\0", SOUND[:8], SOUND[8:], b"\x0b" + SOUND[1:], bytes(200)):
        with pytest.raises(BitstreamError, match="G-PCC stream"):
            codec.decode(data)
    long = bytes([0]) + (1 << 31).to_bytes(4, "big") + bytes(100)
    with pytest.raises(BitstreamError, match="not a G-PCC stream"):
        codec.decode(long)
    assert tlv.ledger(SOUND) == {
        "unit_headers": 15,
        "sequence_parameters": 3,
        "geometry_parameters": 3,
        "geometry": 3,
    }
