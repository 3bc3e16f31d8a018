"""Runner: executes a plan, writes every row as it comes, and leaves a run that can be continued.

Repeats are interleaved: with `--repeats N` all jobs of a codec run once, then all of them again, N times, so that a
slow moment of the machine falls on one sample of many jobs and not on all samples of one.  The first pass measures
the decoded cloud; the others time, and see that stream and cloud are the same.  A row is stored after each pass, with
the samples that it has by then; a run that asks for more repeats than a row has adds the missing ones.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import IO, Any

from ..reports.counts import Counts
from . import system
from .errors import UsageError
from .lane import Lane, Refusal, blank, refused
from .plan import Job, Plan, missing_repeats, stale_reasons
from .pool import Call, LostError, Pool
from .row import Row
from .scratch import scratch
from .signals import was_asked_to_end
from .spec import RunSpec
from .store import Store, identity


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        rows: one row a job of the plan, new or found in the store; none of a codec that is unavailable.
        repeated: jobs that the store already answered.
        unavailable: codec name -> why it cannot run here, those included that turned out so in their workers.
    """

    rows: list[Row]
    repeated: int
    unavailable: dict[str, str] = field(default_factory=dict)

    @property
    def counts(self) -> Counts:
        """How many jobs are ok, not applicable, failed."""
        return Counts.of(row.status for row in self.rows)

    @property
    def failed(self) -> list[Row]:
        """Rows of applicable jobs that are not ok."""
        return [row for row in self.rows if row.status not in ("ok", "not_applicable")]


@dataclass
class Observer:
    """What the runner tells while it works; each does nothing unless given.

    Attributes:
        begin: called with the number of calls to do (each repeat of a job is one) and the jobs already done.
        starts: called with a job when it starts (only where jobs run one at a time).
        done: called with each new or bettered row and how many of the calls to do that settles.
        warn: called with a line for what a user should know and no row says.
    """

    begin: Callable[[int, int], None] = field(default=lambda todo, done: None)
    starts: Callable[[Job], None] = field(default=lambda job: None)
    done: Callable[[Row, int], None] = field(default=lambda row, calls: None)
    warn: Callable[[str], None] = field(default=lambda text: None)


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
        if store.repaired:
            observer.warn(f"dropped {store.repaired.text}; the file as it was is {store.repaired.backup}")
        progress = _Progress(plan, spec, cores, store, observer)
        observer.begin(progress.calls, progress.answered)
        with ExitStack() as stack:
            folder = stack.enter_context(scratch())
            run_all = _tasks_runner(spec, cores, folder, observer, stack)
            for tasks in progress.rounds():
                for done in run_all(progress.wanted(tasks)):
                    progress.take(done)
                for done in progress.skipped():
                    progress.take(done)
    return progress.outcome()


@dataclass(frozen=True)
class Task:
    """A job to run; with the row that it came to, a job to time once more."""

    job: Job
    row: Row | None = None


@dataclass(frozen=True)
class Done:
    """What a task came to.

    Attributes:
        row: of the job; of status `unavailable` where the codec turned out so, which is no row to keep.
        stream: its bitstream, where the run keeps it.
        is_repeat: the job had a row before.
        warning: why the job was not timed once more, and its row is as before.
    """

    row: Row
    stream: bytes = b""
    is_repeat: bool = False
    warning: str = ""


class _Progress:
    """Which jobs have which rows, what is still to run, and what need not be tried again in this run."""

    def __init__(self, plan: Plan, spec: RunSpec, cores: Cores, store: Store, observer: Observer) -> None:
        self._plan, self._spec, self._cores, self._store, self._observer = plan, spec, cores, store, observer
        self._unavailable = dict(plan.unavailable)
        self._refused: dict[tuple[str, str], Refusal] = {}
        self._skipped: list[Task] = []
        stored = {identity(row): row for row in store.rows()}
        is_one_machine = len({(s.get("cpu"), s.get("cores")) for s in store.record()["sessions"]}) == 1
        self._rows: dict[tuple[Any, ...], Row] = {}
        elsewhere = 0
        for job in plan.jobs:
            row = stored.get(job.identity)
            if row is None or stale_reasons(job, row, spec):
                continue
            is_alike = is_one_machine and (row.threads, row.shares_cores) == (cores.threads, cores.shared)
            if missing_repeats(row, spec) and not is_alike:
                elsewhere += 1  # times of two machines, or of other threads, are no repeats of one another
            else:
                self._rows[job.identity] = row
        if elsewhere:
            observer.warn(f"{elsewhere} rows were timed on another machine or with other threads: timed anew")
        self.answered = sum(not missing_repeats(row, spec) for row in self._rows.values())
        fresh = len(plan.jobs) - len(self._rows)
        self.calls = fresh * spec.repeats + sum(missing_repeats(row, spec) for row in self._rows.values())

    def rounds(self) -> Iterator[list[Task]]:
        """What to do, part after part: all at once, or codec by codec in as many passes as there are repeats."""
        jobs = self._plan.jobs
        parts = [list(part) for _, part in groupby(jobs, key=lambda job: job.codec.spec.name)]
        for part in [list(jobs)] if self._spec.repeats == 1 else parts:
            yield [Task(job) for job in part if job.identity not in self._rows]
            for _ in range(1, self._spec.repeats):
                rows = [(job, self._rows.get(job.identity)) for job in part]
                yield [Task(job, row) for job, row in rows if row is not None and missing_repeats(row, self._spec)]

    def wanted(self, tasks: Iterable[Task]) -> Iterator[Task]:
        """The tasks that make sense when their turn comes: not of a codec or cloud that has failed for good."""
        for task in tasks:
            if task.job.codec.spec.name in self._unavailable:
                continue
            if task.job.cloud_identity in self._refused:
                self._skipped.append(task)
            else:
                yield task

    def skipped(self) -> Iterator[Done]:
        """What became of the tasks that were left out for their cloud's sake."""
        shares = self._cores.shared
        for task in self._skipped:
            if task.row is None:
                row = blank(task.job, self._spec, threads=self._cores.threads, shares_cores=shares)
                yield Done(refused(row, self._refused[task.job.cloud_identity]))
        self._skipped.clear()

    def take(self, done: Done) -> None:
        """Keep what a task came to.

        Raises:
            StoreWriteError: it could not be written.
        """
        row, store = done.row, self._store
        name = f"{row.codec} {row.rate} on {row.cloud}"
        if row.status == "unavailable":
            if row.codec not in self._unavailable:
                self._unavailable[row.codec] = row.reason
                self._observer.warn(f"{row.codec} unavailable: {row.reason}")
                store.amend_session(unavailable=self._unavailable)
            return
        if done.warning:
            self._observer.warn(
                f"{name} has {len(row.decode_s_samples)} repeats, another was not timed: {done.warning}"
            )
            self._observer.done(row, 1)
            return
        if row.phase == "load":
            self._refused[row.dataset, row.cloud] = Refusal(row.status, row.reason)
        if self._spec.keep_streams and done.stream:
            store.keep_stream(row.stream_sha256, done.stream)
        store.append(row)
        self._rows[identity(row)] = row
        left = self._spec.repeats - (len(row.decode_s_samples) if done.is_repeat else 0)
        self._observer.done(row, 1 if row.status == "ok" else max(left, 1))

    def outcome(self) -> Outcome:
        """What the run came to."""
        rows = [self._rows[job.identity] for job in self._plan.jobs if job.identity in self._rows]
        return Outcome(rows, self.answered, self._unavailable)


def _tasks_runner(
    spec: RunSpec, cores: Cores, folder: Path, observer: Observer, stack: ExitStack
) -> Callable[[Iterable[Task]], Iterator[Done]]:
    """What runs tasks, here or in processes of their own, which end with the stack."""
    if spec.jobs == 1:
        lane = Lane(spec, cores=cores.lanes[0], threads=cores.threads, shares_cores=False, scratch=folder)
        stack.enter_context(closing(lane))
        return lambda tasks: _in_lane(tasks, lane, observer)
    pool = stack.enter_context(Pool(spec.jobs))
    return lambda tasks: _in_processes(tasks, pool, spec, cores, folder)


def _run(task: Task, lane: Lane) -> Done:
    if task.row is None:
        return Done(*lane.run(task.job))
    row, warning = lane.repeat(task.job, task.row)
    return Done(row, is_repeat=True, warning=warning)


def _in_lane(tasks: Iterable[Task], lane: Lane, observer: Observer) -> Iterator[Done]:
    for task in tasks:
        observer.starts(task.job)
        done = _run(task, lane)
        if was_asked_to_end():
            raise KeyboardInterrupt  # something in between took it for its own failure: no row
        yield done


def _in_processes(tasks: Iterable[Task], pool: Pool, spec: RunSpec, cores: Cores, scratch: Path) -> Iterator[Done]:
    # One by one in order: neighbours in the list share a codec, and so a lane's workers.
    calls: Iterator[Call] = ((_run_in_process, (task, spec, cores, scratch), {}) for task in tasks)
    for result in pool.unordered(calls):
        yield _lost(result, spec, cores) if isinstance(result, LostError) else result


def _lost(error: LostError, spec: RunSpec, cores: Cores) -> Done:
    """What becomes of a job whose process was killed: nobody's fault, and tried again by the next run."""
    task: Task = error.call[1][0]
    if task.row is not None:
        return Done(task.row, is_repeat=True, warning=str(error))
    row = blank(task.job, spec, threads=cores.threads, shares_cores=cores.shared)
    return Done(replace(row, status="disrupted", phase="setup", reason=str(error)))


#: The lane of this process and the lock that makes its cores its own.
_own: dict[Path, tuple[Lane, IO[str]]] = {}


def _run_in_process(task: Task, spec: RunSpec, cores: Cores, scratch: Path) -> Done:
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
    done = _run(task, _own[scratch][0])
    return done if spec.keep_streams else replace(done, stream=b"")


def _claim_lane(scratch: Path, count: int) -> tuple[int, IO[str]]:
    """A lane number that no other live process holds."""
    for number in range(count):
        lock = (scratch / f"lane-{number}").open("w")
        if system.lock_alone(lock):
            return number, lock
        lock.close()
    raise RuntimeError(f"more than {count} processes run jobs of this run")
