"""The command line: what scripts rely on, and one clear line for every kind of bad input."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from pccbench.codecs.cloud import PointCloud
from pccbench.codecs.formats import read_cloud, write_cloud

MAIN = [sys.executable, "-c", "from pccbench.bench.cli import main; main()"]


def bench(*arguments, cwd, **environment):
    return subprocess.run(
        [*MAIN, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PCCBENCH_DATA": "", "XDG_CONFIG_HOME": str(cwd), **environment},
    )


def refused(*arguments, cwd, code=2, **environment):
    """The one line of a refusal."""
    done = bench(*arguments, cwd=cwd, **environment)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert lines, "nothing was said"
    return lines[-1]


@pytest.fixture
def cloud(tmp_path):
    points = np.unique(np.random.default_rng(1).integers(0, 64, (400, 3)), axis=0).astype(np.int32)
    path = tmp_path / "cloud.ply"
    write_cloud(PointCloud(points, bit_depth=6), path)
    return path


PLY = "ply\nformat ascii 1.0\nelement vertex {count}\n{properties}end_header\n{body}"
XYZ = "".join(f"property float {axis}\n" for axis in "xyz")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not a point cloud", "bad.ply"),
        (PLY.format(count=3, properties=XYZ, body="1 2 3\n"), "3"),
        (PLY.format(count=0, properties=XYZ, body=""), "empty"),
        (PLY.format(count=1, properties=XYZ, body="1 nan 3\n"), "NaN"),
        (PLY.format(count=1, properties=XYZ.replace("z", "w"), body="1 2 3\n"), "z"),
        (PLY.format(count=10**12, properties=XYZ, body="1 2 3\n"), "bad.ply"),
        ("", "bad.ply"),
    ],
)
def test_bad_files_are_one_line_that_names_them(tmp_path, cloud, content, message):
    bad = tmp_path / "bad.ply"
    bad.write_text(content)
    line = refused("metrics", bad, cloud, cwd=tmp_path)
    assert "bad.ply" in line
    assert message in line
    assert "bad.ply" in refused("encode", "raw", "lossless", bad, "out.bin", cwd=tmp_path)
    assert not (tmp_path / "out.bin").exists()


def test_missing_files_and_folders(tmp_path, cloud):
    assert "nothing.ply" in refused("metrics", "nothing.ply", cloud, cwd=tmp_path)
    assert str(tmp_path) in refused("metrics", tmp_path, cloud, cwd=tmp_path)
    assert "nothing" in refused("report", "nothing", cwd=tmp_path)
    assert "nothing.bin" in refused("decode", "nothing.bin", "out.ply", cwd=tmp_path)


def test_normals_of_another_length(tmp_path, cloud):
    points = np.zeros((3, 3), np.float32)
    write_cloud(PointCloud(points, normals=np.eye(3, dtype=np.float32)), tmp_path / "normals.ply")
    line = refused("metrics", cloud, cloud, "--normals", "normals.ply", cwd=tmp_path)
    assert "3 normals" in line
    assert "no normals" in refused("metrics", cloud, cloud, "--normals", cloud, cwd=tmp_path)


def test_unknown_names_show_near_ones(tmp_path, cloud):
    assert "octree" in refused("run", "--codecs", "octre", cwd=tmp_path)
    assert "synthetic" in refused("run", "--dataset", "syntetic", cwd=tmp_path)
    assert "lossless" in refused("run", "--codecs", "raw", "--rates", "losless", cwd=tmp_path)
    assert "tiny" in refused("run", "--codecs", "raw", "--clouds", "tny-figure", cwd=tmp_path)
    assert "lossless" in refused("encode", "raw", "r99", cloud, "out.bin", cwd=tmp_path)
    assert "expected one of raw, octree" in refused("encode", "all", "r03", cloud, "out.bin", cwd=tmp_path)
    assert "No such option" in refused("run", "--codex", "raw", cwd=tmp_path)
    assert "No such command" in refused("rum", cwd=tmp_path)


def test_a_missing_data_set_says_where_it_is_published(tmp_path):
    line = refused("run", "--codecs", "raw", "--dataset", "8ivfb", "--data-root", tmp_path, cwd=tmp_path)
    text = bench("run", "--codecs", "raw", "--dataset", "8ivfb", "--data-root", tmp_path, cwd=tmp_path).stderr
    assert line in text
    for expected in ("8iVFBv2/SEQ/Ply/SEQ_vox10_NNNN.ply", "longdress_vox10_1300", str(tmp_path), "licence"):
        assert expected in text


def test_a_missing_tool_is_named_with_its_remedy(tmp_path):
    done = bench("run", "--codecs", "gpcc-octree", cwd=tmp_path, PATH="/usr/bin:/bin", PCCBENCH_TMC3="")
    assert done.returncode == 2
    assert "mpeg-pcc-tmc13" in done.stderr
    line = refused("run", "--codecs", "gpcc-octree", "--tmc3", tmp_path / "tmc3", cwd=tmp_path)
    assert "tmc3" in line


def test_folders_that_cannot_be_used(tmp_path, cloud):
    (tmp_path / "file").write_text("")
    arguments = ("run", "--codecs", "raw", "--clouds", "tiny-*")
    assert "file" in refused(*arguments, "--out", "file", cwd=tmp_path)
    assert "not a run folder" in refused(*arguments, "--out", ".", cwd=tmp_path)
    assert "/proc" in refused(*arguments, "--out", "/proc/run", cwd=tmp_path)
    line = refused("encode", "raw", "lossless", cloud, "nowhere/out.bin", cwd=tmp_path)
    assert "nowhere/out.bin: cannot be written: No such file" in line


def test_damaged_run_folders(tmp_path):
    (tmp_path / "run").mkdir()
    record = tmp_path / "run" / "run.json"
    for text in ("{garbage", "[]", '{"schema_version": 1, "sessions": 3}'):
        record.write_text(text)
        assert "run.json: not readable as a run" in refused("report", "run", cwd=tmp_path)
    record.write_text('{"schema_version": 99, "sessions": []}')
    assert "schema version 99" in refused("report", "run", cwd=tmp_path)
    assert "neither" in refused("repair", tmp_path / "nothing", cwd=tmp_path)


def test_a_damaged_store_is_told_repaired_and_run_on(tmp_path):
    arguments = ("run", "--codecs", "raw", "--clouds", "tiny-gown", "--out", "run", "--no-report")
    assert bench(*arguments, cwd=tmp_path).returncode == 0
    rows = tmp_path / "run" / "rows.jsonl"
    sound = rows.read_bytes()
    rows.write_bytes(b"\x1b[2J{broken\n" + sound + sound)
    status = bench("status", "run", cwd=tmp_path)
    assert status.returncode == 0
    assert "skipped 1 line that is no row (1: " in status.stderr
    assert "bench repair run" in status.stderr
    assert "\x1b" not in status.stderr
    report = bench("report", "run", cwd=tmp_path)
    assert report.returncode == 0, report.stderr
    assert "bench repair run" in report.stderr
    repaired = bench("repair", "run", cwd=tmp_path)
    assert "dropped 1 line that is no row" in repaired.stdout
    assert "1 rows that later ones replace; 1 rows kept" in repaired.stdout
    assert rows.read_bytes() == sound
    assert "nothing to repair" in bench("repair", "run", cwd=tmp_path).stdout
    rows.write_bytes(b"{broken\n" + sound)
    again = bench(*arguments, cwd=tmp_path)
    assert again.returncode == 0
    assert "dropped 1 line that is no row" in again.stderr
    assert "1 of 1 job ok, 1 of them from before" in again.stdout


MODULE = """
from pccbench.codecs.base import Codec, CodecCard, Rate
from pccbench.codecs.cloud import PointCloud
from pccbench.codecs.errors import NotApplicableError
import numpy as np

class Mine(Codec):
    name = "mine"
    def rates(self): return [Rate("only"), Rate("lossless", lossless=True)]
    def encode(self, cloud, rate):
        if rate.lossless: raise NotApplicableError("real numbers")
        if len(cloud) == 3: raise ValueError("\\x1b[2J\\u202ethree")
        return cloud.points.astype("<i4").tobytes()
    def decode(self, data): return PointCloud(np.frombuffer(data, "<i4").reshape(-1, 3), bit_depth=10)
    def card(self): return CodecCard("1")
"""


@pytest.fixture
def project(tmp_path):
    """A folder with a codec, a folder of clouds, one with a comma in its name, and a YAML that names both."""
    project = tmp_path / "project"
    (project / "scans").mkdir(parents=True)
    (project / "mine.py").write_text(MODULE)
    generator = np.random.default_rng(3)
    for name in ("a,b", "c"):
        points = generator.integers(0, 64, (200, 3)).astype(np.int32)
        np.save(project / "scans" / f"{name}.npy", np.concatenate([points, points[:20]]))
    (project / "run.yaml").write_text("codecs: mine\ndatasets: 'folder:scans'\ncodec_modules: mine.py\n")
    return project


def test_a_run_repeats_from_any_folder(tmp_path, project):
    first = bench("run", "--config", "project/run.yaml", "--out", "run", "--no-report", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "2 of 2 jobs ok, 2 not applicable; rows" in first.stdout
    session = json.loads((tmp_path / "run" / "run.json").read_text())["sessions"][0]
    assert session["cwd"] == str(tmp_path)
    arguments = ("--codecs", "mine", "--dataset", "folder:scans", "--codec-module", "mine.py", "--no-report")
    typed = bench("run", *arguments, "--out", "../run", cwd=project)
    assert "2 of 2 jobs ok, 2 not applicable, 4 of them from before" in typed.stdout, typed.stderr
    (tmp_path / "elsewhere").mkdir()
    config = tmp_path / "run" / "run.yaml"
    again = bench("run", "--config", config, "--out", tmp_path / "run", "--no-report", cwd=tmp_path / "elsewhere")
    assert "4 of them from before" in again.stdout, again.stderr
    status = bench("status", tmp_path / "run", cwd=tmp_path / "elsewhere")
    assert "2 of 2 jobs ok, 2 not applicable (" in status.stdout
    assert "complete" in status.stdout


def test_names_with_commas_and_options_given_twice(tmp_path, project):
    arguments = ("run", "--config", "project/run.yaml", "--rates", "only", "--no-report", "--out", "run")
    for clouds in ([r"a\,b,c"], [r"a\,b", "c"]):
        options = [word for value in clouds for word in ("--clouds", value)]
        done = bench(*arguments, *options, cwd=tmp_path)
        assert "2 of 2 jobs ok" in done.stdout, done.stderr
    assert "'a'" in refused(*arguments, "--clouds", "a,b", cwd=tmp_path)


def test_a_failing_job_is_tried_again_when_asked_and_steers_no_terminal(tmp_path, project):
    np.save(project / "scans" / "three.npy", np.eye(3, dtype=np.int32))
    arguments = ("run", "--config", "project/run.yaml", "--rates", "only", "--no-report", "--out", "run")
    first = bench(*arguments, cwd=tmp_path)
    assert first.returncode == 1
    assert "2 of 3 jobs ok; rows" in first.stdout
    assert r"ValueError: \x1b[2J\u202ethree" in first.stderr
    assert "\x1b" not in first.stderr
    assert "\u202e" not in first.stderr
    assert "3 of them from before" in bench(*arguments, cwd=tmp_path).stdout
    again = bench(*arguments, "--retry", "failed", cwd=tmp_path)
    assert "2 of 3 jobs ok, 2 of them from before" in again.stdout
    assert "'fail'; did you mean failed?" in refused(*arguments, "--retry", "fail", cwd=tmp_path)
    status = bench("status", "run", cwd=tmp_path)
    assert "2 of 3 jobs ok (2 ok, 1 encode_failed)" in status.stdout
    more = bench(*arguments, "--repeats", "2", "--clouds", "c", cwd=tmp_path)
    assert "1 of 1 job ok; rows" in more.stdout
    assert "mine only c: repeat 2 ok" in more.stderr


def test_an_unreadable_cloud_is_told_once(tmp_path, project):
    np.save(project / "scans" / "nan.npy", np.array([[0.0, 1, np.nan]]))
    arguments = ("--config", "project/run.yaml", "--no-report", "--out", "run")
    done = bench("run", *arguments, "--clouds", "nan", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("NaN") == 2  # while it runs, and at the end
    assert "bench: unreadable: nan, 2 jobs: " in done.stderr
    assert "0 of 2 jobs ok" in done.stdout


def test_a_run_folder_that_vanishes_is_an_error(tmp_path, project):
    code = (
        "import shutil, sys\n"
        "from pccbench.bench.lane import Lane\n"
        "original = Lane.run\n"
        f"Lane.run = lambda *job: (shutil.rmtree({str(tmp_path / 'run')!r}), original(*job))[1]\n"
        "from pccbench.bench.cli import main; main()\n"
    )
    arguments = ["run", "--config", str(project / "run.yaml"), "--rates", "only", "--out", "run"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "deleted or moved" in done.stderr.splitlines()[-1]
    assert "rows are lost" in done.stderr
    assert "jobs ok" not in done.stdout
    assert not (tmp_path / "run").exists()


def test_encode_counts_points_as_a_run_does(tmp_path, project):
    source = project / "scans" / "c.npy"
    done = bench("encode", "mine", "only", source, "out.bin", "--codec-module", project / "mine.py", cwd=tmp_path)
    bench("run", "--config", "project/run.yaml", "--rates", "only", "--no-report", "--out", "run", cwd=tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "run" / "rows.jsonl").read_text().splitlines()]
    (row,) = (row for row in rows if row["cloud"] == "c")
    points, dropped = row["points_in"], row["repeats_dropped"]
    assert (points + dropped, dropped >= 20) == (220, True)
    rate = f"{row['size_bytes']} bytes, {row['rate_bpp']:.4f} bpp of {points} points ({dropped} repeats merged)"
    assert rate in done.stdout


def test_a_missing_configuration_is_one_line(tmp_path):
    line = refused("run", "--config", "nothing.yaml", cwd=tmp_path)
    assert line == "bench: nothing.yaml: no such file; expected a YAML file that describes a run"


def test_ctrl_c_during_the_imports_is_no_traceback(tmp_path):
    code = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "class Finder:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'click': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from pccbench.bench.entry import main; main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (130, "bench: interrupted\n")
    module = [sys.executable, "-m", "pccbench", "--version"]
    assert "pccbench" in subprocess.run(module, capture_output=True, text=True, cwd=tmp_path).stdout


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a file system of its own cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_one_line_and_keeps_what_was_written(tmp_path, small_disk, cloud):
    out = small_disk / "run"
    bench("encode", "raw", "lossless", cloud, "raw.bin", cwd=tmp_path)
    arguments = ("run", "--codecs", "raw", "--clouds", "tiny-*", "--out", out, "--no-report")
    assert bench(*arguments, cwd=tmp_path).returncode == 0
    rows = (out / "rows.jsonl").read_bytes()
    free = os.statvfs(small_disk).f_bfree * os.statvfs(small_disk).f_bsize
    (small_disk / "ballast").write_bytes(bytes(free))
    assert "No space left on device" in refused(*arguments, "--peak", 99, cwd=tmp_path, code=1)
    assert (out / "rows.jsonl").read_bytes()[: len(rows)] == rows
    for command in (
        ("encode", "raw", "lossless", cloud, small_disk / "out.bin"),
        ("decode", "raw.bin", small_disk / "out.ply"),
        ("report", out, "--out", small_disk / "report"),
    ):
        line = refused(*command, cwd=tmp_path, code=1)
        assert str(small_disk) in line
        assert line.endswith("cannot be written: No space left on device")
    assert not list(small_disk.glob("*out.*"))
    (small_disk / "ballast").unlink()
    assert bench(*arguments, "--peak", 99, cwd=tmp_path).returncode == 0


def test_encode_and_decode_are_inverse_and_the_stream_names_its_codec(tmp_path, cloud):
    for codec in ("raw", "octree", "draco"):
        assert bench("encode", codec, "lossless", cloud, "out.bin", cwd=tmp_path).returncode == 0
        done = bench("decode", "out.bin", f"{codec}.ply", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert read_cloud(tmp_path / f"{codec}.ply").geometry_sha256() == read_cloud(cloud).geometry_sha256()


def test_damaged_and_foreign_streams(tmp_path, cloud):
    bench("encode", "octree", "lossless", cloud, "out.bin", cwd=tmp_path)
    data = (tmp_path / "out.bin").read_bytes()
    (tmp_path / "short.bin").write_bytes(data[: len(data) // 2])
    (tmp_path / "foreign.bin").write_bytes(b"GIF89a" + bytes(100))
    (tmp_path / "empty.bin").write_bytes(b"")
    assert "short.bin: stream is " in refused("decode", "short.bin", "out.ply", cwd=tmp_path)
    refused("decode", "short.bin", "out.ply", "--codec", "octree", cwd=tmp_path)
    assert "--codec" in refused("decode", "foreign.bin", "out.ply", cwd=tmp_path)
    refused("decode", "empty.bin", "out.ply", cwd=tmp_path)
    assert not (tmp_path / "out.ply").exists()


def test_metrics_print_what_pc_error_prints(tmp_path, cloud):
    moved = read_cloud(cloud)
    write_cloud(PointCloud(moved.points + 1, bit_depth=7), tmp_path / "moved.ply")
    done = bench("metrics", cloud, "moved.ply", "--peak", 63, cwd=tmp_path)
    assert done.returncode == 0
    lines = dict(line.strip().split(": ") for line in done.stdout.splitlines() if "p2point)" in line)
    values = json.loads(bench("metrics", cloud, "moved.ply", "--peak", 63, "--json", cwd=tmp_path).stdout)
    assert float(lines["mseF,PSNR (p2point)"]) == pytest.approx(values["d1_psnr_db"], rel=1e-6)
    assert values["passport"]["peak"] == 63


def test_a_run_of_all_codecs_ends_with_a_report_and_another_run_does_nothing(tmp_path):
    arguments = ("run", "--codecs", "all", "--clouds", "tiny-gown", "--rates", "r01,r02,lossless")
    first = bench(*arguments, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    page = first.stdout.splitlines()[-1].removeprefix("report: ")
    assert (tmp_path / page).stat().st_size > 10_000
    again = bench(*arguments, cwd=tmp_path)
    assert "from before" in again.stdout
    status = bench("status", "runs/synthetic", cwd=tmp_path)
    assert "complete" in status.stdout
    same = bench("compare", "runs/synthetic", "runs/synthetic", cwd=tmp_path)
    assert same.returncode == 0, same.stdout


def test_a_failing_job_is_exit_code_1(tmp_path):
    module = tmp_path / "bad.py"
    module.write_text(
        "from pccbench.codecs.base import Codec, CodecCard, Rate\n"
        "class Bad(Codec):\n"
        "    name = 'bad'\n"
        "    def rates(self): return [Rate('r01')]\n"
        "    def encode(self, cloud, rate): raise ValueError('no')\n"
        "    def decode(self, data): raise ValueError('no')\n"
        "    def card(self): return CodecCard('1')\n"
    )
    done = bench(
        *("run", "--codecs", "bad,raw", "--codec-module", module, "--clouds", "tiny-*", "--no-report"), cwd=tmp_path
    )
    assert done.returncode == 1
    assert "encode_failed: bad r01" in done.stderr
    (tmp_path / "broken.py").write_text("def broken(:\n")
    assert "broken.py:1" in refused("run", "--codec-module", "broken.py", cwd=tmp_path)


def test_lists(tmp_path):
    assert "octree" in bench("codecs", cwd=tmp_path).stdout
    assert "r01" in bench("codecs", "octree", cwd=tmp_path).stdout
    assert "8ivfb" in bench("datasets", cwd=tmp_path).stdout
    assert "cores" in bench("doctor", cwd=tmp_path).stdout


def test_variants_run_when_named_and_not_with_all(tmp_path):
    from pccbench.codecs.registry import VARIANTS, find

    assert not VARIANTS & {spec.name for spec in find(("all",))}
    assert {spec.name for spec in find(("deepcompress-*",))} == VARIANTS
    assert "deepcompress-hybrid" in bench("codecs", cwd=tmp_path).stdout


def test_training_that_cannot_start_is_one_line(tmp_path):
    assert "deepcompress" in refused("train", "octree", cwd=tmp_path)
    assert "nowhere.yml" in refused("train", "deepcompress", "--config", "nowhere.yml", cwd=tmp_path)
    assert "data/blocks" in refused("train", "deepcompress", cwd=tmp_path)
    (tmp_path / "bad.yml").write_text("{data: {modelnet40_path: x}, training: {checkpoint_dir: run, epoch: 3}}")
    assert "epoch" in refused("train", "deepcompress", "--config", "bad.yml", cwd=tmp_path)
    assert "nowhere" in refused("prepare", "blocks", "--source", "nowhere", cwd=tmp_path)


def test_start_up_imports_nothing_heavy(tmp_path):
    code = (
        "import sys; sys.argv = ['bench', 'codecs']\n"
        "from pccbench.bench.cli import main\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'open3d', 'matplotlib', 'pandas', 'numba', 'DracoPy'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "[]"
