"""However a run ends, nothing of it stays: no process, and after the next run no temporary folder."""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pccbench.bench import pool as pool_module
from pccbench.bench import scratch as scratch_module
from pccbench.bench import signals
from pccbench.bench.pool import LostError, Pool
from pccbench.bench.scratch import scratch, sweep

FAULTY = Path(__file__).with_name("faulty_codecs.py")
PATIENCE_S = 60

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux ends workers with the harness")


@pytest.fixture
def folder(tmp_path):
    """A folder for temporary files, and one cloud."""
    (tmp_path / "clouds").mkdir()
    (tmp_path / "temporary").mkdir()
    points = np.random.default_rng(5).integers(0, 256, (200, 3))
    np.save(tmp_path / "clouds" / "one.npy", np.unique(points, axis=0).astype(np.int32))
    return tmp_path


def start(folder, codecs, *options):
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from pccbench.bench.cli import main; main()"
    return subprocess.Popen(
        [
            *(sys.executable, "-c", code, "run", "--codecs", codecs, "--dataset", f"folder:{folder / 'clouds'}"),
            *("--out", str(folder / "run"), "--codec-module", str(FAULTY), "--no-report", "--share-cores", *options),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder / "temporary")},
    )


def processes(folder, but=()):
    """Live processes that were started with the run's temporary folder in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            is_live = path.joinpath("stat").read_text().rpartition(")")[2].split()[0] != "Z"
            if is_live and str(folder / "temporary").encode() in path.joinpath("environ").read_bytes():
                found.append(int(path.name))
    return [number for number in found if number not in but]


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


@pytest.mark.parametrize(
    ("number", "count", "jobs"),
    [
        (signal.SIGKILL, 1, 2),
        (signal.SIGHUP, 1, 1),
        (signal.SIGQUIT, 1, 1),
        (signal.SIGINT, 2, 2),
    ],
)
def test_no_process_and_no_folder_stays(folder, number, count, jobs):
    harness = start(folder, "hangs,honest", "--jobs", str(jobs), "--threads", "1")
    # Each lane has an encoder and a decoder, of one process at least.
    assert wait_until(lambda: len(processes(folder, but=[harness.pid])) >= 2 * jobs)
    for _ in range(count):
        harness.send_signal(number)
    _, stderr = harness.communicate(timeout=PATIENCE_S)
    assert "Traceback" not in stderr
    assert harness.returncode == (-9 if number == signal.SIGKILL else 130), stderr
    assert wait_until(lambda: not processes(folder))
    again = start(folder, "honest")
    _, stderr = again.communicate(timeout=PATIENCE_S)
    assert again.returncode == 0, stderr
    assert not list((folder / "temporary").iterdir())


def test_a_second_signal_ends_at_once_and_a_first_interrupts(folder):
    code = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from pccbench.bench import signals\n"
        "signals.treat_as_interrupts()\n"
        "try:\n    os.kill(os.getpid(), signal.SIGHUP)\n    time.sleep(60)\n"
        "except KeyboardInterrupt:\n    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S)
    assert (done.returncode, done.stderr) == (130, "\nbench: interrupted\n")


def test_what_is_ignored_stays_ignored(monkeypatch):
    before = {number: signal.getsignal(number) for number in map(lambda n: getattr(signal, n), signals.NAMES)}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signals.treat_as_interrupts()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is not before[signal.SIGTERM]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_only_folders_of_dead_runs_are_swept(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch_module.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(scratch_module.tempfile, "tempdir", str(tmp_path))
    prefix = scratch_module._prefix()
    dead, new, foreign, link = (tmp_path / f"{prefix}{name}" for name in ("dead", "new", "foreign", "link"))
    for made in (dead, new, tmp_path / "other"):
        made.mkdir()
    (dead / "lock").touch()
    (dead / "file").touch()
    foreign.write_text("no folder")
    link.symlink_to(tmp_path / "other")
    with scratch() as live:
        sweep()
        assert live.is_dir()
        assert not dead.exists()
        assert new.exists()  # it may be about to get its lock
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([new.name, foreign.name, link.name, "other"])
    os.utime(new, (0, 0))
    sweep()
    assert not new.exists()
    lane = tmp_path / f"{prefix}lanes" / "x"
    lane.mkdir(parents=True)
    with (lane / "lane-0").open("w") as lock:  # of a process on another machine of a cluster
        fcntl.flock(lock, fcntl.LOCK_EX)
        sweep()
        assert lane.is_dir()
    sweep()
    assert not lane.exists()


def test_a_pool_gives_results_as_they_come_and_survives_a_killed_process():
    calls = [(divmod, (7, 2), {}), (os._exit, (3,), {}), (divmod, (9, 2), {}), (divmod, (11, 2), {})]
    with Pool(2) as pool:
        results = list(pool.unordered(calls))
        assert [one[0] for one in pool.unordered([(divmod, (8, 2), {})])] == [4]
    lost = [one for one in results if isinstance(one, LostError)]
    assert [one.call for one in lost] == [calls[1]]
    assert "code 3" in str(lost[0])
    assert sorted(one for one in results if one not in lost) == [(3, 1), (4, 1), (5, 1)]


def test_a_pool_raises_what_a_call_raised():
    with Pool(1) as pool, pytest.raises(ZeroDivisionError):
        list(pool.unordered([(divmod, (1, 0), {})]))


def test_a_pool_leaves_a_chosen_backend_its_work():
    import joblib

    assert not pool_module._chosen_backend()
    with joblib.parallel_config(backend="threading"):
        assert pool_module._chosen_backend()
        assert sorted(Pool(2).unordered([joblib.delayed(divmod)(7, 2), joblib.delayed(divmod)(9, 2)])) == [
            (3, 1),
            (4, 1),
        ]
