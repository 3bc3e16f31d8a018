"""Workers as the harness sees them: start, ask, watch time and memory, end, start again after a crash."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ..codecs.registry import CodecSpec
from .row import Status

#: How often a busy worker's memory is looked at, in seconds.
POLL_S = 0.02
#: A worker may take this long to start, import and warm up, whatever the run's timeout (numba compiles once).
SETUP_TIMEOUT_S = 900.0
#: Lines and characters of a failed worker's log that a row keeps.
TAIL_LINES, TAIL_CHARACTERS = 20, 2000
#: Errors whose text is made for people: their kind need not be named.
SPOKEN_ERRORS = ("BitstreamError", "CodecError", "CloudError", "CodecUnavailableError", "NotApplicableError")
#: The largest reply that is read: 2**31 bytes hold 89 million points.
LARGEST_REPLY = 2**31


class WorkerError(Exception):
    """A worker failed: what kind of failure, in one line, and the end of its log."""

    def __init__(self, status: Status, reason: str, stderr_tail: str, *, is_reported: bool = False) -> None:
        super().__init__(reason)
        self.status, self.reason, self.stderr_tail = status, reason, stderr_tail
        #: The codec raised it and its process is well.
        self.is_reported = is_reported


@dataclass
class Reply:
    """What a worker answered: the calls it timed, the fields and the payload of the answer."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    peak_mb: float = 0.0
    fields: dict[str, Any] = field(default_factory=dict)
    payload: bytes = b""


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
        role: `encode` or `decode`, for the names of folders.
        limits: of the process.
        scratch: existing folder in which the process gets one of its own.
    """

    def __init__(self, spec: CodecSpec, role: str, limits: Limits, scratch: Path) -> None:
        self._spec, self._role, self._limits, self._scratch = spec, role, limits, scratch
        self._process: _Process | None = None
        self._is_set_up = False

    def start(self) -> None:
        """Start the process and its set-up without waiting for it."""
        self._started()

    def _started(self) -> _Process:
        if self._process is None:
            self._process = _Process(self._role, self._limits, self._scratch)
            self._is_set_up = False
            memory = self._limits.memory_bytes
            self._process.send({"operation": "setup", "spec": self._spec.to_dict(), "memory_limit_bytes": memory})
        return self._process

    def ask(self, request: dict[str, Any], payload: bytes | None = None) -> Reply:
        """Send a request and wait for the answer, within the limits.

        Raises:
            WorkerError: the codec raised, the process died, took too long or too much memory, or made no sense.
        """
        process = self._started()
        try:
            if not self._is_set_up:
                process.receive("setup", max(SETUP_TIMEOUT_S, self._limits.timeout_s))
                self._is_set_up = True
            process.send(request, payload)
            return process.receive(request["operation"], self._limits.timeout_s)
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

    def __init__(self, role: str, limits: Limits, scratch: Path) -> None:
        self._limits = limits
        self._folder = Path(tempfile.mkdtemp(prefix=f"{role}-", dir=scratch))
        # The working directory is empty and stays so; temporary files and the log lie beside it.
        work, temporary = self._folder / "work", self._folder / "tmp"
        work.mkdir()
        temporary.mkdir()
        # Appending: the worker shares the log's file offset, and the parent truncates and reads.
        self._log = (self._folder / "log").open("a+b")
        threads = str(limits.threads)
        environment = {
            **os.environ,
            **{f"{library}_NUM_THREADS": threads for library in ("OMP", "MKL", "OPENBLAS", "NUMBA", "NUMEXPR")},
            "TMPDIR": str(temporary),
            "PYTHONUNBUFFERED": "1",
        }
        request_read, request_write = os.pipe()
        reply_read, reply_write = os.pipe()
        arguments = (str(request_read), str(reply_write), str(os.getpid()))
        try:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.worker", *arguments],
                cwd=work,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=(request_read, reply_write),
                start_new_session=True,  # Ctrl-C is for the harness; and a group of its own can be ended whole
            )
        finally:
            os.close(request_read)
            os.close(reply_write)
        if limits.cores is not None:
            os.sched_setaffinity(self._popen.pid, limits.cores)
        self._requests = Connection(request_write, readable=False)
        self._replies = Connection(reply_read, writable=False)

    def send(self, request: dict[str, Any], payload: bytes | None = None) -> None:
        """Send a request; a process that is gone is noticed by `receive`."""
        self._log.truncate(0)
        with contextlib.suppress(OSError):
            self._requests.send_bytes(json.dumps(request).encode())
            if payload is not None:
                self._requests.send_bytes(payload)

    def receive(self, phase: str, timeout_s: float) -> Reply:
        """Wait for the answer to a request, watching time and memory."""
        failed: Status = "decode_failed" if phase == "decode" else "encode_failed"
        reply, children_mb = Reply(), 0.0
        while True:
            children_mb = self._wait(phase, timeout_s)
            try:
                message = json.loads(self._replies.recv_bytes(LARGEST_REPLY))
                payload = self._replies.recv_bytes(LARGEST_REPLY) if message["payload"] else b""
                event = message["event"]
                if event == "call":
                    reply.wall_s.append(float(message["wall_s"]))
                    reply.cpu_s.append(float(message["cpu_s"]))
                    reply.peak_mb = max(reply.peak_mb, float(message["peak_mb"]) + children_mb)
                    continue
            except EOFError:
                raise self._error(failed, self._post_mortem()) from None
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise self._error(failed, f"the worker's reply made no sense ({type(error).__name__})") from None
            if event == "error":
                raise self._reported(message, failed)
            reply.fields, reply.payload = message, payload
            return reply

    def _wait(self, phase: str, timeout_s: float) -> float:
        """Wait until there is something to read; the peak resident MiB of the worker's children meanwhile."""
        deadline = time.monotonic() + timeout_s
        limit = self._limits.memory_bytes
        peak = 0.0
        while not self._replies.poll(POLL_S):
            children_mb = sum(_resident_mb(child) for child in _descendants(self._popen.pid))
            peak = max(peak, children_mb)
            if limit is not None and (_resident_mb(self._popen.pid) + children_mb) * 2**20 > limit:
                raise self._error("out_of_memory", f"{phase} used more than the limit of {limit / 2**30:g} GiB")
            if time.monotonic() > deadline:
                raise self._error("timeout", f"{phase} took longer than {timeout_s:g} s")
        return peak

    def _reported(self, message: dict[str, Any], failed: Status) -> WorkerError:
        """The error that the worker says the codec raised."""
        kind, text = str(message.get("kind")), str(message.get("text"))
        status: Status = "out_of_memory" if message.get("memory") else failed
        if kind == "CodecUnavailableError":
            status = "unavailable"
        if kind == "NotApplicableError":
            status = "not_applicable"
        place = f" ({message['where']})" if message.get("where") else ""
        reason = text if kind in SPOKEN_ERRORS else f"{kind}: {text}{place}"
        return WorkerError(status, reason, self._tail(), is_reported=True)

    def _error(self, status: Status, reason: str) -> WorkerError:
        """A failure of the process itself, which is ended first so that its log is complete."""
        self._kill()
        return WorkerError(status, reason, self._tail())

    def _post_mortem(self) -> str:
        code = self._popen.wait()
        if code >= 0:
            return f"the worker ended with exit code {code}"
        name = signal.Signals(-code).name if -code in signal.valid_signals() else f"signal {-code}"
        return f"the worker was ended by {name}"

    def _tail(self) -> str:
        self._log.seek(0)
        text = self._log.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-TAIL_LINES:])[-TAIL_CHARACTERS:]

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)  # with the tools that it started
        self._popen.wait()

    def end(self) -> None:
        """End the process and remove its folder."""
        self._kill()
        for closable in (self._requests, self._replies, self._log):
            closable.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _descendants(pid: int) -> Iterator[int]:
    """Processes that a process started, and so on (Linux; elsewhere none are seen)."""
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = path.read_text(encoding="ascii").split()
        except OSError:  # it has ended since
            continue
        for child in children:
            yield int(child)
            yield from _descendants(int(child))


def _resident_mb(pid: int) -> float:
    """Resident MiB of a process, 0 when it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
