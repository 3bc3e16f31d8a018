"""Runner: executes a plan, writes every row as it comes, and leaves a run that can be continued."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from . import system
from .errors import UsageError
from .lane import Lane
from .plan import Job, Plan, digest, stale_reasons
from .row import Row
from .spec import RunSpec
from .store import IDENTITY, Store


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        rows: one row a job of the plan, new or found in the store; rows of unavailable codecs included.
        repeated: jobs that the store already answered.
    """

    rows: list[Row]
    repeated: int

    @property
    def failed(self) -> list[Row]:
        """Rows of available jobs that are not ok."""
        return [row for row in self.rows if row.status not in ("ok", "unavailable")]


@dataclass
class Observer:
    """What the runner tells while it works; each does nothing unless given.

    Attributes:
        begin: called with the number of jobs to do and the number already done.
        starts: called with a job when it starts (only where jobs run one at a time).
        done: called with each new row.
    """

    begin: Callable[[int, int], None] = field(default=lambda todo, done: None)
    starts: Callable[[Job], None] = field(default=lambda job: None)
    done: Callable[[Row], None] = field(default=lambda row: None)


@dataclass(frozen=True)
class Cores:
    """How the machine is divided: threads of each lane, the lanes' cores, and whether they overlap."""

    threads: int
    lanes: tuple[tuple[int, ...] | None, ...]
    shared: bool

    @classmethod
    def divide(cls, spec: RunSpec) -> Cores:
        """Cores of their own for each lane.

        Raises:
            UsageError: the machine has too few and sharing was not asked for.
        """
        usable = system.usable_cores()
        threads = spec.threads or max(1, len(usable) // spec.jobs)
        if spec.jobs * threads > len(usable):
            if not spec.share_cores:
                raise UsageError(
                    f"{spec.jobs} jobs of {threads} threads need {spec.jobs * threads} cores, this machine has "
                    f"{len(usable)}; times would be spoilt (--share-cores runs them all the same and says so)"
                )
            return cls(threads, (None,) * spec.jobs, spec.jobs > 1)
        if spec.jobs == 1 and threads == len(usable):
            return cls(threads, (None,), False)
        if not system.can_pin():
            return cls(threads, (None,) * spec.jobs, spec.jobs > 1)
        return cls(threads, tuple(tuple(usable[i * threads : (i + 1) * threads]) for i in range(spec.jobs)), False)


def execute(
    plan: Plan, spec: RunSpec, store: Store, session: dict[str, Any], observer: Observer | None = None
) -> Outcome:
    """Run what the store does not answer yet.

    One bad job never stops the run.  KeyboardInterrupt passes through after the workers have ended; the rows so far
    are stored.

    Raises:
        StoreError, StoreWriteError: the run folder cannot be used or written.
        UsageError: more threads than cores.
    """
    observer = observer or Observer()
    cores = Cores.divide(spec)
    with store.writing(spec, session):
        stored = {tuple(getattr(row, name) for name in IDENTITY): row for row in store.rows()}
        answered = {}
        for job in plan.jobs:
            row = stored.get(job.identity)
            if row is not None and not stale_reasons(job, row, spec):
                answered[job.identity] = row
        todo = [job for job in plan.jobs if job.identity not in answered]
        observer.begin(len(todo), len(answered))
        new = {}
        with _scratch(store) as scratch, closing(_results(todo, spec, cores, scratch, observer)) as results:
            for row, stream in results:
                if spec.keep_streams and stream:
                    store.keep_stream(row.stream_sha256, stream)
                store.append(row)
                new[tuple(getattr(row, name) for name in IDENTITY)] = row
                observer.done(row)
        absent = [_unavailable(name, reason, plan) for name, reason in plan.unavailable.items()]
        for row in absent:
            store.append(row)
    rows = [new.get(job.identity) or answered[job.identity] for job in plan.jobs]
    return Outcome(rows + absent, len(answered))


def _unavailable(codec: str, reason: str, plan: Plan) -> Row:
    """One row that says why a codec did not run at all."""
    datasets = sorted({job.cloud.dataset for job in plan.jobs})
    return Row("", codec, "", ",".join(datasets), "", "unavailable", phase="setup", reason=reason)


@contextmanager
def _scratch(store: Store) -> Iterator[Path]:
    """A folder for temporary files, named by the run: what a killed session left there goes first."""
    name = digest(str(store.folder.resolve()))[:16]
    folder = Path(tempfile.gettempdir()) / f"pccbench-{os.getuid()}-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    try:
        yield Path(tempfile.mkdtemp(dir=folder))  # a new name, by which joblib's processes know a new run
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _results(
    todo: list[Job], spec: RunSpec, cores: Cores, scratch: Path, observer: Observer
) -> Generator[tuple[Row, bytes], None, None]:
    if not todo:
        return
    if spec.jobs == 1:
        only = Lane(spec, cores=cores.lanes[0], threads=cores.threads, shares_cores=False, scratch=scratch)
        with closing(only) as lane:
            for job in todo:
                observer.starts(job)
                yield lane.run(job)
        return
    import joblib

    tasks = (joblib.delayed(_run_in_lane)(job, spec, cores, scratch) for job in todo)
    # One by one in order: neighbours in the list share a codec, and so a lane's workers.
    yield from joblib.Parallel(n_jobs=spec.jobs, batch_size=1, return_as="generator_unordered")(tasks)


#: The lane of this joblib process and the lock that makes its cores its own.
_own: dict[Path, tuple[Lane, IO[str]]] = {}


def _run_in_lane(job: Job, spec: RunSpec, cores: Cores, scratch: Path) -> tuple[Row, bytes]:
    if scratch not in _own:
        for lane, lock in _own.values():
            lane.close()
            lock.close()
        _own.clear()
        scratch.mkdir(mode=0o700, parents=True, exist_ok=True)  # on another machine of a cluster there is none yet
        number, lock = _claim_lane(scratch, len(cores.lanes))
        lane = Lane(
            spec, cores=cores.lanes[number], threads=cores.threads, shares_cores=cores.shared, scratch=scratch
        )
        _own[scratch] = lane, lock
        atexit.register(lane.close)
    row, stream = _own[scratch][0].run(job)
    return row, stream if spec.keep_streams else b""


def _claim_lane(scratch: Path, count: int) -> tuple[int, IO[str]]:
    """A lane number that no other live process holds."""
    for number in range(count):
        lock = (scratch / f"lane-{number}").open("w")
        if system.lock_alone(lock):
            return number, lock
        lock.close()
    raise RuntimeError(f"more than {count} processes run jobs of this run")
