"""Reading on the command line: columns of headerless files, what is left out, and names with commas."""

import subprocess
import sys

import numpy as np
import pytest


def bench(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-c", "from pccbench.bench.cli import main; main()", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def folder(tmp_path):
    """A sweep of five columns, and the same points with a name of its own."""
    rng = np.random.default_rng(0)
    rows = np.zeros((400, 5), "<f4")
    rows[:, :3] = rng.normal(size=(400, 3)) * [20, 20, 1]
    rows[:, 3], rows[:, 4] = rng.integers(0, 256, 400), rng.integers(0, 32, 400)
    (tmp_path / "data").mkdir()
    rows.tofile(tmp_path / "data" / "five.bin")
    np.save(tmp_path / "truth.npy", rows[:, :3])
    return tmp_path


def test_metrics_and_columns(folder):
    refused = bench("metrics", "truth.npy", "data/five.bin", "--peak", 60, cwd=folder)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "--columns 5 reads them so" in refused.stderr
    done = bench("metrics", "truth.npy", "data/five.bin", "--peak", 60, "--columns", 5, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert '"d1_mse": 0.0' in done.stdout
    assert bench("metrics", "truth.npy", "truth.npy", "--columns", 2, cwd=folder).returncode == 2


def test_what_is_left_out_is_one_line(folder):
    points = np.load(folder / "truth.npy")
    np.savez(folder / "more.npz", points=points, loc=np.zeros(3), scale=1.0)
    done = bench("metrics", "truth.npy", "more.npz", "--peak", 60, cwd=folder)
    assert done.returncode == 0
    [line] = [line for line in done.stderr.splitlines() if "left out" in line]
    assert line == "bench: more.npz: no part of the cloud, left out: loc (3,), scale ()"


def test_a_run_reads_columns_and_names_with_commas(folder):
    (folder / "data" / "five.bin").rename(folder / "data" / "a,b.bin")
    np.save(folder / "data" / "a.npy", np.load(folder / "truth.npy"))
    arguments = (
        "run",
        "--codecs",
        "octree",
        "--rates",
        "r03",
        "--dataset",
        "folder:data",
        "--peak",
        60,
        "--out",
        "out",
    )
    done = bench(*arguments, "--clouds", r"a\,b, a", "--columns", 5, "--no-report", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 jobs ok" in done.stdout
    from pccbench.bench.store import Store

    rows = {row.cloud: row for row in Store.open(folder / "out").rows()}
    assert rows.keys() == {"a,b", "a"}
    assert rows["a,b"].cloud_sha256 == rows["a"].cloud_sha256
    assert "columns: 5" in (folder / "out" / "run.yaml").read_text()


def test_a_cloud_that_cannot_be_read_costs_its_rows_alone(folder):
    (folder / "data" / "bad.ply").write_text("ply\nformat ascii 1.0\n")
    np.save(folder / "data" / "good.npy", np.load(folder / "truth.npy"))
    arguments = (
        "run",
        "--codecs",
        "octree",
        "--rates",
        "r03",
        "--dataset",
        "folder:data",
        "--peak",
        60,
        "--out",
        "out",
    )
    done = bench(*arguments, "--no-report", "--memory-limit", 4, cwd=folder)
    assert done.returncode == 1
    assert "1 of 3 jobs ok" in done.stdout
    for text in ("bad.ply: the PLY header has no end_header", "five.bin: not a KITTI sweep", "--columns 5"):
        assert text in done.stderr
    assert "Traceback" not in done.stderr
