"""Other systems than Linux: macOS as far as it can be imitated, and Windows refused."""

import subprocess
import sys
import time

import pytest

from pccbench.bench import system
from pccbench.bench.errors import UsageError

#: Put into every Python process, workers included: what macOS lacks is taken away.
MACOS = """
import os, pathlib, resource, sys
for name in ("sched_getaffinity", "sched_setaffinity", "sched_getparam"):
    if hasattr(os, name):
        delattr(os, name)
sysconf = os.sysconf
def macos_sysconf(name):
    if name == "SC_AVPHYS_PAGES":
        raise ValueError("unrecognized configuration name")
    return sysconf(name)
os.sysconf = macos_sysconf
setrlimit = resource.setrlimit
def macos_setrlimit(kind, limits):
    if kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        raise ValueError("current limit exceeds maximum limit")
    setrlimit(kind, limits)
resource.setrlimit = macos_setrlimit
def hidden(function):
    def outside(self, *arguments, **options):
        if str(self).startswith("/proc"):
            raise FileNotFoundError(2, "No such file or directory", str(self))
        return function(self, *arguments, **options)
    return outside
for name in ("open", "read_text", "read_bytes", "write_text"):
    setattr(pathlib.Path, name, hidden(getattr(pathlib.Path, name)))
glob, exists = pathlib.Path.glob, pathlib.Path.exists
pathlib.Path.glob = lambda self, *a, **k: iter(()) if str(self).startswith("/proc") else glob(self, *a, **k)
pathlib.Path.exists = lambda self, *a, **k: not str(self).startswith("/proc") and exists(self, *a, **k)
"""

WINDOWS = """
import sys
for name in ("fcntl", "resource"):
    sys.modules[name] = None
"""


def run_on(imitation, tmp_path, *arguments):
    """`bench ARGUMENTS` in a process, and processes below it, that lack what another system lacks."""
    (tmp_path / "sitecustomize.py").write_text(imitation)
    code = "import sys; from pccbench.bench.cli import main; main()"
    if imitation is WINDOWS:
        # Once all that Python itself needs is imported: its own modules look at the platform, too.
        code = f"import sys, click; from pccbench.bench import system; sys.platform = 'win32'; {code}"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path), "HOME": str(tmp_path)},
    )


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clouds")
    points = "\n".join(f"{x} {y} {(x * y) % 7}" for x in range(12) for y in range(12))
    header = "ply\nformat ascii 1.0\nelement vertex 144\nproperty int x\nproperty int y\nproperty int z\nend_header\n"
    (folder / "wave.ply").write_text(header + points + "\n")
    return folder


def test_a_run_and_its_report_without_what_macos_lacks(tmp_path, cloud):
    from pccbench import load_run

    arguments = ("--codecs", "raw,octree", "--dataset", f"folder:{cloud}", "--out", "out", "--memory-limit", "4")
    done = run_on(MACOS, tmp_path, "run", *arguments, "--rates", "lossless", "--jobs", "2", "--share-cores")
    assert done.returncode == 0, done.stderr
    assert "report: " in done.stdout
    rows = load_run(tmp_path / "out")
    assert (rows["status"] == "ok").all()
    assert rows["shares_cores"].all(), "jobs that cannot be kept to cores of their own share them"
    again = run_on(MACOS, tmp_path, "report", "out")
    assert again.returncode == 0, again.stderr


def test_doctor_without_what_macos_lacks(tmp_path):
    done = run_on(MACOS, tmp_path, "doctor")
    assert "internal error" not in done.stderr
    assert "not known on this system" in done.stdout
    assert "jobs cannot be kept to cores of their own" in done.stdout


@pytest.mark.parametrize("arguments", [("run", "--codecs", "raw"), ("report", "out"), ("doctor",), ("codecs",)])
def test_windows_is_refused_in_one_line(tmp_path, arguments):
    done = run_on(WINDOWS, tmp_path, *arguments)
    assert done.returncode == 2
    assert done.stderr == "bench: pccbench runs on Linux and macOS; on Windows use WSL (wsl --install)\n"
    assert not done.stdout


def test_windows_is_refused_from_python(monkeypatch, tmp_path):
    from pccbench.bench.api import run

    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(UsageError, match="Linux and macOS"):
        run(out=tmp_path / "out", codecs=("raw",))


def test_all_cores_count_where_the_system_does_not_say(monkeypatch):
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    assert system.usable_cores() == [0, 1, 2]
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert system.usable_cores() == [0]


def test_memory_and_load_that_are_not_told_are_none(monkeypatch):
    def refuse(name):
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr("os.sysconf", refuse)
    monkeypatch.delattr("os.getloadavg", raising=False)
    assert system.total_memory_gb() is None
    assert system.free_memory_gb() is None
    assert system.load_1min() is None


def test_a_lock_belongs_to_one(tmp_path):
    with (tmp_path / "lock").open("w") as one, (tmp_path / "lock").open("w") as other:
        assert system.lock_alone(one)
        assert not system.lock_alone(other)


def test_work_of_others_is_told_from_ones_own():
    if system.busy_s(None) is None:
        pytest.skip("the system does not say how busy its cores are")
    loop = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        before = system.busy_s(None), system.cpu_s(loop.pid)
        deadline = time.monotonic() + 60
        while system.cpu_s(loop.pid) < before[1] + 0.3 and time.monotonic() < deadline:
            time.sleep(0.02)
        own = system.cpu_s(loop.pid) - before[1]
        assert own >= 0.3
        assert system.busy_s(None) - before[0] > own - 0.1
    finally:
        loop.kill()
        loop.wait()
    assert system.cpu_s(loop.pid) == 0


def test_time_asleep_is_told_from_time_awake():
    clock = system.ThreadClock()
    if clock.awake_s() is None:
        pytest.skip("the system does not say how long a thread waited for a core")
    start, awake = time.perf_counter(), clock.awake_s()
    time.sleep(0.2)
    slept = time.perf_counter() - start - (clock.awake_s() - awake)
    assert slept == pytest.approx(0.2, abs=0.02)
    start, awake = time.perf_counter(), clock.awake_s()
    while clock.awake_s() < awake + 0.2:
        pass
    assert time.perf_counter() - start - (clock.awake_s() - awake) < 0.05
