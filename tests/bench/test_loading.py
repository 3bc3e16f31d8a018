"""Clouds are loaded within limits, by a process of their own, and come over as they were."""

import errno
import os
import signal
from dataclasses import dataclass

import numpy as np
import pytest

from pccbench.bench.datasets import CloudFile, open_dataset
from pccbench.bench.loading import load_cloud
from pccbench.codecs.cloud import PointCloud
from pccbench.codecs.errors import CloudError
from pccbench.codecs.formats import CloudWarning, write_cloud

GIB = 1 << 30


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A working folder with a file that has the name of a module, and relative paths."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "numpy.py").write_text("raise RuntimeError('a file of the user')")


def ref(path, kind=CloudFile):
    return kind("a", "folder:x", path)


def test_everything_comes_over(tmp_path):
    points = np.array([[1, 2, 3], [4, 5, 6], [1, 2, 3]], np.int32)
    whole = PointCloud(points, 4, np.eye(3, dtype=np.float32), points.astype(np.uint8), {"t": np.array([1.5, 2, 3])})
    write_cloud(whole, tmp_path / "a.npz")
    here, there = (load_cloud(ref(tmp_path / "a.npz"), limit) for limit in (None, GIB))
    for cloud in (here, there):
        assert (cloud.bit_depth, cloud.declared_peak, cloud.repeats_dropped) == (4, None, 1)
        assert cloud.attributes["t"].tolist() == [1.5, 2]
    for name in ("points", "normals", "colors"):
        np.testing.assert_array_equal(getattr(there, name), getattr(here, name))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.npz", "numpy.py"]


def test_errors_and_warnings_come_over(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", points=np.ones((4, 3)) / 2, scale=1)
    with pytest.warns(CloudWarning, match=r"left out: scale \(\)"):
        assert len(load_cloud(ref((tmp_path / "a.npz").relative_to(tmp_path)), GIB)) == 4
    with pytest.raises(CloudError, match="nothing.ply: cannot be read|no such file"):
        load_cloud(ref(tmp_path / "nothing.ply"), GIB)
    (tmp_path / "b.ply").write_text("ply\nformat ascii 1.0\n")
    with pytest.raises(CloudError, match="no end_header") as caught:
        load_cloud(ref(tmp_path / "b.ply"), GIB)
    assert caught.value.__cause__ is None


def test_a_cloud_beyond_the_limit_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(600_000, 3)))
    with pytest.raises(CloudError, match=r"a\.npy: needs more than the memory limit of 0\.00781 GiB"):
        load_cloud(ref(tmp_path / "a.npy"), 1 << 23)
    assert len(load_cloud(ref(tmp_path / "a.npy"), 1 << 27)) == 600_000


def test_a_cloud_that_takes_too_long_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((4, 3)))
    with pytest.raises(CloudError, match="longer than 0.001 s"):
        load_cloud(ref(tmp_path / "a.npy"), GIB, timeout_s=0.001)


@dataclass(frozen=True)
class Ending(CloudFile):
    """What ends the process that unpacks it."""

    signal: int = 0

    def __reduce__(self):
        return signal.raise_signal, (self.signal,)


@pytest.mark.parametrize(("number", "is_passing"), [(signal.SIGKILL, True), (signal.SIGSEGV, False)])
def test_a_process_that_is_ended_is_told_by_its_signal(tmp_path, number, is_passing):
    np.save(tmp_path / "a.npy", np.ones((4, 3)))
    with pytest.raises(CloudError, match=f"ended by {number.name}") as caught:
        load_cloud(Ending("a", "folder:x", tmp_path / "a.npy", signal=number), GIB)
    cause = caught.value.__cause__
    assert (isinstance(cause, OSError) and cause.errno == errno.EAGAIN) is is_passing


def test_what_needs_no_file_is_made_here():
    [tiny] = open_dataset("synthetic").select(["tiny-gown"]).found
    assert len(load_cloud(tiny, 1)) == tiny.points


def test_the_harness_loads_under_its_limit(tmp_path):
    """A cloud beyond the limit costs its own rows, whichever the codec."""
    from pccbench.bench.lane import Lane
    from pccbench.bench.plan import make_plan
    from pccbench.bench.spec import RunSpec

    (tmp_path / "data").mkdir()
    np.save(tmp_path / "data" / "large.npy", np.random.default_rng(0).normal(size=(5_000_000, 3)).astype(np.float32))
    spec = RunSpec.make(codecs=["raw"], datasets=[f"folder:{tmp_path / 'data'}"], memory_limit_gb=0.05)
    [job, *_] = make_plan(spec, lambda text: None).jobs
    lane = Lane(spec, cores=None, threads=len(os.sched_getaffinity(0)), shares_cores=False, scratch=tmp_path)
    try:
        row, stream = lane.run(job)
    finally:
        lane.close()
    assert "needs more than the memory limit of 0.05 GiB" in row.reason
    assert stream == b""
