"""Workers as the harness sees them: start, seal, ask, measure, end, start again after a crash."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import math
import os
import secrets
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..codecs.registry import CodecSpec
from . import allowed, seal, system
from .compiled import CompiledCache
from .pipe import Pipe, PipeError
from .row import Status

#: A worker may take this long to start, import and warm up, whatever the run's timeout (numba compiles once).
SETUP_TIMEOUT_S = 900.0
#: Lines and characters of a failed worker's log that a row keeps.
TAIL_LINES, TAIL_CHARACTERS = 20, 2000
#: Bytes at the end of a log that are read for them.
LARGEST_TAIL = 1 << 16
#: Errors whose text is made for people: their kind need not be named.
SPOKEN_ERRORS = frozenset(("CodecError", "CloudError", "CodecUnavailableError"))
#: What a system says when it lacks something for the moment.
_MOMENTARY = (errno.ENOSPC, errno.EDQUOT, errno.ENFILE, errno.EIO, errno.ESTALE)
#: Signals that come from a person or from the system, not from a codec's own fault.
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)

#: The worker's own figure stands while the harness's clock, which sees the way of the messages and the hash of the
#: result as well, agrees to so many seconds, this fraction, and so many seconds a byte of the result.  Else the
#: harness's stands; and where both differ by more than the second line says, it is a mismatch.
_AGREES = (0.02, 0.02, 1 / 300e6)
_CONTRADICTS = (1.0, 0.2, 1 / 30e6)
#: A worker may take so long to make a cloud of the bytes that it got, before its call begins.
_READY_S, _READY_S_PER_BYTE = 5.0, 1 / 10e6
#: CPU seconds of the worker and of the kernel's books agree to this many seconds and this fraction.
_CPU_AGREES = (0.05, 0.05)
#: A first repeat of so many seconds, with all later ones below this fraction of it, was not repeated in earnest.
_REMEMBERED_S, _REMEMBERED = 0.05, 0.25

# Kept from the start: the module of a codec is imported into the harness, too.
_clock = time.monotonic


class WorkerError(Exception):
    """A worker failed: what kind of failure, in one line, and the end of its log."""

    def __init__(self, status: Status, reason: str, stderr_tail: str, *, is_reported: bool = False) -> None:
        super().__init__(reason)
        self.status, self.reason, self.stderr_tail = status, reason, stderr_tail
        #: The codec raised it and its process is well.
        self.is_reported = is_reported


@dataclass
class Reply:
    """What a worker answered: the calls as the harness measured them, the fields and the payload of the answer."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    peak_mb: float = 0.0
    #: Cores' worth of work of other processes on the worker's cores meanwhile; None where the system does not say.
    others_load: float | None = None
    #: Seconds in which the worker neither ran nor waited for a core, in the last call; None where not known.
    asleep_s: float | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    payload: bytes = b""

    @property
    def is_remembered(self) -> bool:
        """Whether the later repeats took so little that they cannot have been the same work.

        Every repeat gets its input anew, but it is the same input in the same process: a codec may remember what it
        answered, or compile what it needs in its first call.
        """
        first, *later = self.wall_s
        return bool(later) and first >= _REMEMBERED_S and max(later) < _REMEMBERED * first

    @property
    def typical_s(self) -> float:
        """The median of the repeats; the first one's seconds where the later ones were remembered."""
        return self.wall_s[0] if self.is_remembered else statistics.median(self.wall_s)

    @property
    def typical_cpu_s(self) -> float:
        """CPU seconds, as `typical_s`."""
        return self.cpu_s[0] if self.is_remembered else statistics.median(self.cpu_s)

    def notes(self, phase: str) -> dict[str, str]:
        """What a reader of the times has to know."""
        if not self.is_remembered:
            return {}
        later = max(self.wall_s[1:]) / self.wall_s[0]
        text = f"the first, for the others took at most {later:.0%} of it: remembered, or compiled in the first call"
        return {f"{phase}_s_is": text}


@dataclass(frozen=True)
class Limits:
    """Limits of a worker.

    Attributes:
        timeout_s: of one call.
        memory_bytes: of the worker with its children, None for no limit.
        threads: that its libraries may use.
        cores: that it may run on, None for all.
    """

    timeout_s: float
    memory_bytes: int | None
    threads: int
    cores: tuple[int, ...] | None = None


class Worker:
    """A codec in one role, in a process that starts when first needed and again after a failure.

    Args:
        spec: the codec.
        role: `encode` or `decode`.
        limits: of the process.
        scratch: existing folder in which the process gets one of its own.
        hidden: files and folders that the process must not read: data sets, the run folder.
    """

    def __init__(
        self, spec: CodecSpec, role: str, limits: Limits, scratch: Path, hidden: tuple[Path, ...] = ()
    ) -> None:
        self._spec, self._role, self._limits, self._scratch = spec, role, limits, scratch
        self._hidden = (*hidden, scratch)
        self._cache = CompiledCache(spec)
        self._process: _Process | None = None
        self._is_set_up = False
        #: What the process is sealed with; empty before it starts.
        self.seal = ""

    def start(self) -> None:
        """Start the process and its set-up without waiting for it; `ask` tells what is wrong with it."""
        with contextlib.suppress(WorkerError):
            self._started()

    def _started(self) -> _Process:
        if self._process is None:
            try:
                self._process = _Process(
                    self._spec, self._role, self._limits, self._scratch, self._hidden, self._cache
                )
            except OSError as error:
                text = f"a worker could not be started: {error.strerror or error}"
                raise WorkerError("disrupted", text, "") from None
            self._is_set_up = False
        return self._process

    def ask(self, request: dict[str, Any], payload: bytes | memoryview | None = None) -> Reply:
        """Have the codec encode or decode, and wait for the answer within the limits.

        Args:
            request: `operation`, the worker's role; `repeats`, how often the call is timed; of an encoder `points`,
                those of the cloud, (n, 3), and further fields of the call (see `session`).
            payload: of a decoder, the stream.  Points and stream are sent anew for each repeat.

        Raises:
            WorkerError: the codec raised, the process died, took too long or too much memory, made no sense, or told
                times that the harness's clock contradicts.
        """
        fields = {key: value for key, value in request.items() if key not in ("operation", "repeats", "points")}
        if "points" in request:
            points = request["points"]
            fields["dtype"] = points.dtype.str
            payload = points.reshape(-1).view(np.uint8).data
        process = self._started()
        try:
            if not self._is_set_up:
                process.wait_for_set_up(max(SETUP_TIMEOUT_S, self._limits.timeout_s))
                self._is_set_up = True
                self.seal = process.seal
                # Now, before it has seen anything: see `compiled`.
                self._cache.keep(process.compiled)
            return process.call({**fields, "phase": self._role}, payload or b"", request["repeats"])
        except WorkerError as error:
            # A codec that raised goes on; a process that failed, or may be short of memory, is replaced.
            if not (error.is_reported and self._is_set_up) or error.status == "out_of_memory":
                self.close()
            raise

    def close(self) -> None:
        """End the process; the next `ask` starts a new one."""
        if self._process is not None:
            self._process.end()
            self._process = None


class _Process:
    """One life of a worker process: its pipes, its log and its folder."""

    def __init__(
        self,
        spec: CodecSpec,
        role: str,
        limits: Limits,
        scratch: Path,
        hidden: tuple[Path, ...],
        cache: CompiledCache,
    ) -> None:
        self._role, self._limits = role, limits
        self._failed: Status = "decode_failed" if role == "decode" else "encode_failed"
        self._phase, self._deadline, self._token = "setup", math.inf, ""
        self._children_mb = 0.0
        self._folder = Path(tempfile.mkdtemp(prefix=f"{role}-", dir=scratch))
        # The working directory is empty at first; temporary files and the log lie beside it.
        for name in ("work", "tmp", "home"):
            (self._folder / name).mkdir()
        self.compiled = self._folder / "home" / "numba"
        cache.fill(self.compiled)
        # Appending: the worker shares the log's file offset, and the parent truncates and reads.
        self._log = (self._folder / "log").open("a+b")
        requests, request_writes = os.pipe()
        reply_reads, replies = os.pipe()
        try:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.worker", str(requests), str(replies), str(os.getpid())],
                cwd=self._folder / "work",
                env=allowed.environment(self._folder, limits.threads, hidden),
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=(requests, replies),
                start_new_session=True,  # Ctrl-C is for the harness; and a group of its own can be ended whole
            )
        except OSError:
            os.close(request_writes)
            os.close(reply_reads)
            raise
        finally:
            os.close(requests)
            os.close(replies)
        self._pid = self._popen.pid
        self._pipe = Pipe(reply_reads, request_writes, self._watch)
        order = self._order(spec, scratch, hidden)
        self.seal = seal.name(order.layers, has_gpu=bool(allowed.gpus()))
        self._has_namespace = "pidns" in order.layers
        with contextlib.suppress(OSError):  # a process that is gone is noticed by the next wait
            self._pipe.send(order.to_dict())
            self._send({"operation": "setup", "spec": spec.to_dict(), "memory_limit_bytes": limits.memory_bytes})

    def _order(self, spec: CodecSpec, scratch: Path, hidden: tuple[Path, ...]) -> seal.Order:
        readable, listable = allowed.readable(spec, hidden)
        return seal.Order(
            layers=seal.layers(),
            folder=str(self._folder),
            hidden=str(scratch),
            readable=tuple(readable),
            listable=tuple(listable),
            writable=tuple(str(self._folder / name) for name in ("work", "tmp", "home")),
            devices=allowed.devices(),
            cores=self._limits.cores,
        )

    def wait_for_set_up(self, timeout_s: float) -> None:
        """Wait until the codec is imported and warm."""
        self._begin("setup", timeout_s)
        with self._talking():
            message, _ = self._pipe.receive()
            if message.get("event") == "error":
                raise self._error("disrupted", f"the worker could not be sealed: {message.get('text')}")
            if message.get("event") != "sealed":
                raise PipeError("out of turn")
            self._pid = self._codec_process()
            self._expect("done")

    def call(self, request: dict[str, Any], payload: bytes | memoryview, repeats: int) -> Reply:
        """The calls one by one, each with its input anew, then what the codec says of the last result."""
        self._log.truncate(0)
        reply = Reply()
        with self._talking():
            if self._pipe.has_more():
                raise PipeError("it spoke out of turn")
            for _ in range(repeats):
                self._one_call(reply, request, payload)
            if self._role == "encode":
                self._begin("encode", self._limits.timeout_s)
                self._send({"operation": "describe"})
                fields, _ = self._expect("described")
                reply.fields.update(fields)
            # Whatever was sent too much comes before the answer to this.
            self._begin(self._role, self._limits.timeout_s)
            self._send({"operation": "sync"})
            self._expect("synced")
        return reply

    def _one_call(self, reply: Reply, request: dict[str, Any], payload: bytes | memoryview) -> None:
        self._begin(self._role, self._limits.timeout_s)
        sent_s = _clock()
        self._send({**request, "operation": "call"}, payload)
        self._expect("ready")
        took_s, allowed_s = _clock() - sent_s, _READY_S + _READY_S_PER_BYTE * len(payload)
        if took_s > allowed_s:
            raise self._error("mismatch", f"the worker took {took_s:.3g} s before its call of {self._role} began")
        self._begin(self._role, self._limits.timeout_s)
        _reset_peak_memory(self._pid)
        cpu_s = _cpu_s(self._pid)
        before = self._usage()
        start_s = _clock()
        self._send({"operation": "go"})
        message, result = self._expect("called")
        wall_s = self._pipe.arrived_s - start_s
        after = self._usage()
        reply.others_load, reply.asleep_s = after.others_load(before), after.asleep_s(before)
        # The worker waits: what the kernel's books say now is of this call.
        cpu_after_s, peak_mb = _cpu_s(self._pid), _peak_memory_mb(self._pid)
        if message.get("digest") != hashlib.blake2b(result).hexdigest():
            raise self._error("mismatch", "the result is not the one of which the worker said that it was done")
        said_s, said_cpu_s, said_mb = (_number(message.get(name)) for name in ("wall_s", "cpu_s", "peak_mb"))
        reply.wall_s.append(self._judged_wall_s(said_s, wall_s, len(result)))
        measured_cpu_s = None if cpu_s is None or cpu_after_s is None else cpu_after_s - cpu_s
        reply.cpu_s.append(_judged_cpu_s(said_cpu_s, measured_cpu_s))
        reply.peak_mb = max(reply.peak_mb, (said_mb if peak_mb is None else peak_mb) + self._children_mb)
        reply.fields, reply.payload = message, bytes(result)

    def _judged_wall_s(self, said_s: float, measured_s: float, size: int) -> float:
        """The worker's seconds, or the harness's where the worker's are a little less exact.

        Raises:
            WorkerError: they contradict each other.
        """
        spare_s = measured_s - said_s
        agrees_s, contradicts_s = (
            fixed + share * measured_s + each * size for fixed, share, each in (_AGREES, _CONTRADICTS)
        )
        if not (said_s >= 0 and -0.01 - 0.01 * measured_s <= spare_s <= contradicts_s):
            text = f"the worker says that {self._role} took {said_s:.3g} s, the harness measured {measured_s:.3g} s"
            raise self._error("mismatch", text)
        return said_s if 0 <= spare_s <= agrees_s else measured_s

    def _begin(self, phase: str, timeout_s: float) -> None:
        self._phase, self._timeout_s = phase, timeout_s
        self._deadline = _clock() + timeout_s
        self._children_mb = 0.0

    def _send(self, request: dict[str, Any], payload: bytes | memoryview = b"") -> None:
        self._token = secrets.token_hex(8)
        with contextlib.suppress(OSError):  # a process that is gone is noticed by the next wait
            self._pipe.send({**request, "token": self._token}, payload)

    def _expect(self, event: str) -> tuple[dict[str, Any], bytearray]:
        message, payload = self._pipe.receive()
        if message.get("token") != self._token:
            raise PipeError("an answer to nothing that was asked")
        if message.get("event") == "error":
            raise self._reported(message)
        if message.get("event") != event:
            raise PipeError("out of turn")
        return message, payload

    @contextlib.contextmanager
    def _talking(self) -> Iterator[None]:
        """What goes wrong with the pipe, as an error of the worker."""
        try:
            yield
        except EOFError:
            raise self._post_mortem() from None
        except (PipeError, OSError) as error:
            raise self._error(self._failed, f"the worker's reply made no sense ({error})") from None

    def _usage(self) -> system.Usage:
        """What the worker and its cores have done until now."""
        return system.Usage.of(self._pid, list(_descendants(self._pid)), self._limits.cores)

    def _watch(self) -> None:
        """Look at time and memory while the worker works."""
        others = set(_descendants(self._popen.pid)) - {self._pid, self._parent_of_codec()}
        children_mb = sum(_resident_mb(child) for child in others)
        self._children_mb = max(self._children_mb, children_mb)
        limit = self._limits.memory_bytes
        if limit is not None and (_resident_mb(self._pid) + children_mb) * 2**20 > limit:
            raise self._error("out_of_memory", f"{self._phase} used more than the limit of {limit / 2**30:g} GiB")
        if _clock() > self._deadline:
            raise self._error("timeout", f"{self._phase} took longer than {self._timeout_s:g} s")

    def _parent_of_codec(self) -> int:
        """The first process of the namespace, which does nothing but wait."""
        return next(iter(_children(self._popen.pid)), 0) if self._has_namespace else 0

    def _codec_process(self) -> int:
        """The process in which the codec runs: with a process namespace, a grandchild of the one that was started."""
        first = self._parent_of_codec()
        return next(iter(_children(first)), self._popen.pid) if first else self._popen.pid

    def _reported(self, message: dict[str, Any]) -> WorkerError:
        """The error that the worker says the codec raised."""
        kinds = message.get("kinds")
        kinds = [str(kind) for kind in kinds] if isinstance(kinds, list) and kinds else ["Exception"]
        text = str(message.get("text"))
        status: Status = self._failed
        if self._phase == "setup" and {"CodecUnavailableError", "ModuleNotFoundError"} & set(kinds):
            status = "unavailable"
        elif self._role == "encode" and {"NotApplicableError", "CodecUnavailableError"} & set(kinds):
            status = "not_applicable"  # the codec was set up, so it is this cloud or rate that it does not code
        elif message.get("errno") in _MOMENTARY:
            status = "disrupted"
        elif message.get("memory"):
            status = "out_of_memory"
        place = f" ({message['where']})" if message.get("where") else ""
        reason = text if SPOKEN_ERRORS & set(kinds) else f"{kinds[0]}: {text}{place}"
        return WorkerError(status, reason, self._tail(), is_reported=True)

    def _error(self, status: Status, reason: str) -> WorkerError:
        """A failure of the process itself, which is ended first so that its log is complete."""
        self._kill()
        return WorkerError(status, reason, self._tail())

    def _post_mortem(self) -> WorkerError:
        code = self._popen.wait()
        if code >= 0:
            return self._error(self._failed, f"the worker ended with exit code {code}")
        name = signal.Signals(-code).name if -code in signal.valid_signals() else f"signal {-code}"
        if -code in _FROM_OUTSIDE:
            memory = ", or by the kernel for want of memory" if -code == signal.SIGKILL else ""
            return self._error("disrupted", f"the worker was ended by {name}: killed from outside{memory}")
        return self._error(self._failed, f"the worker was ended by {name}")

    def _tail(self) -> str:
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - LARGEST_TAIL))
        text = self._log.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-TAIL_LINES:])[-TAIL_CHARACTERS:]

    def _kill(self) -> None:
        # With a process namespace all ends with its first process; else tools in sessions of their own are sought.
        others = [] if self._has_namespace else list(_descendants(self._popen.pid))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        for other in others:
            with contextlib.suppress(ProcessLookupError):
                os.kill(other, signal.SIGKILL)
        self._popen.wait()

    def end(self) -> None:
        """End the process and remove its folder."""
        self._kill()
        self._pipe.close()
        self._log.close()
        remove(self._folder)


def remove(folder: Path, patience_s: float = 1.0) -> None:
    """Remove a folder in which processes that were just ended may still be writing."""
    until_s = _clock() + patience_s
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
        if _clock() > until_s:
            return
        time.sleep(0.005)


def _number(value: Any) -> float:
    """A worker's word for a figure; what is none is NaN."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def _judged_cpu_s(said_s: float, measured_s: float | None) -> float:
    """The worker's CPU seconds, which are finer, where the kernel's books agree; else what the books say."""
    if measured_s is None:
        return said_s if said_s >= 0 else math.nan
    fixed, share = _CPU_AGREES
    return said_s if abs(said_s - measured_s) <= fixed + share * measured_s else measured_s


def _cpu_s(pid: int) -> float | None:
    """CPU seconds of a process and the children it has waited for, from the kernel; None where it does not say."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        ticks = text.rpartition(")")[2].split()[11:15]
        return sum(int(count) for count in ticks) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return None


def _reset_peak_memory(pid: int) -> None:
    """Start a new high-water mark of a process's resident memory where the kernel allows it."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def _peak_memory_mb(pid: int) -> float | None:
    """High-water mark of a process's resident memory in MiB; None where the kernel does not say."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return None


def _children(pid: int) -> list[int]:
    """Processes that a process started (Linux; elsewhere none are seen)."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # it may have ended since
            found += [int(child) for child in path.read_text(encoding="ascii").split()]
    return found


def _descendants(pid: int) -> Iterator[int]:
    """Processes that a process started, and those that they started, and so on."""
    for child in _children(pid):
        yield child
        yield from _descendants(child)


def _resident_mb(pid: int) -> float:
    """Resident MiB of a process, 0 when it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
