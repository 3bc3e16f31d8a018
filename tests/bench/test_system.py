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


def usage(pid):
    return system.Usage.of(pid, (), None)


@pytest.fixture
def process():
    """Starts Python code in a process, and ends it."""
    started = []

    def start(code):
        started.append(subprocess.Popen([sys.executable, "-c", code]))
        return started[-1].pid

    yield start
    for one in started:
        one.kill()
        one.wait()


def later(pid, condition):
    """The first usage that fulfils a condition."""
    deadline = time.monotonic() + 60
    while not condition(found := usage(pid)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


needs_proc = pytest.mark.skipif(usage(1).ran_s is None, reason="the system does not say what its processes do")


@needs_proc
def test_work_of_others_is_told_from_ones_own(process):
    loop, idle = process("while True: pass"), process("import time; time.sleep(100)")
    before, idle_before = later(loop, lambda now: now.cpu_s > 0.1), usage(idle)
    after = later(loop, lambda now: now.cpu_s > before.cpu_s + 0.3)
    idle_after = usage(idle)
    share = (after.cpu_s - before.cpu_s) / (idle_after.at_s - idle_before.at_s)
    assert after.others_load(before) + share == pytest.approx(idle_after.others_load(idle_before), abs=0.3)
    assert idle_after.others_load(idle_before) >= share - 0.1


@needs_proc
def test_time_asleep_is_told_from_time_awake(process):
    sleeper, loop = process("import time; time.sleep(100)"), process("while True: pass")
    sleeping, looping = later(sleeper, lambda now: now.cpu_s > 0), later(loop, lambda now: now.cpu_s > 0.1)
    time.sleep(0.3)
    while usage(sleeper).cpu_s > sleeping.cpu_s:  # Python is still starting
        sleeping = usage(sleeper)
        time.sleep(0.3)
    after, looped = usage(sleeper), usage(loop)
    # On a busy machine the reading itself is interrupted, so that the parts do not add up to the last tenth.
    assert after.asleep_s(sleeping) > 0.5 * (after.at_s - sleeping.at_s)
    assert looped.asleep_s(looping) < 0.5 * (looped.at_s - looping.at_s)


def test_sleep_is_not_known_where_other_threads_worked():
    before = system.Usage(0.0, 0.0, 0.0, 0.0, 0.0)
    assert system.Usage(1.0, 1.0, 0.5, 0.5, 0.2).asleep_s(before) == pytest.approx(0.3)
    assert system.Usage(1.0, 1.0, 1.0, 0.5, 0.2).asleep_s(before) is None
    assert system.Usage(1.0, 1.0, 0.5, None, None).asleep_s(before) is None
    assert system.Usage(1.0, 1.5, 0.5, 0.5, 0.2).others_load(before) == 1.0
    assert system.Usage(1.0, None, 0.5, 0.5, 0.2).others_load(before) is None
