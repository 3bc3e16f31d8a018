"""Worker: the process in which a codec runs, for encoding or, sealed, for decoding.

Started by `workers.Worker` as `python -m pccbench.bench.worker`, in an empty folder of its own, with its standard
streams going to a log.  It talks over two pipes: a request is one JSON message, followed by one binary message where
the request has a payload; so is each reply.  The parent trusts no reply to be well formed.

An encoding worker is told the path of the cloud's points; a decoding worker is given the bytes of the stream and
nothing else.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

if TYPE_CHECKING:
    from ..codecs.base import Codec

PR_SET_PDEATHSIG = 1
_T = TypeVar("_T")


def main() -> None:
    """Serve requests until the parent closes the pipe."""
    request_fd, reply_fd, parent = (int(argument) for argument in sys.argv[1:4])
    _die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    Session(Connection(request_fd, writable=False), Connection(reply_fd, readable=False)).serve()


def _die_with(parent: int) -> None:
    """Have the kernel end this process when the harness dies, however it dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


class Session:
    """One codec, its requests and replies."""

    def __init__(self, requests: Connection, replies: Connection) -> None:
        self._requests = requests
        self._replies = replies
        self._codec: Codec | None = None

    def serve(self) -> None:
        """Answer until the pipe closes."""
        operations: dict[str, Callable[[dict[str, Any]], None]] = {
            "setup": self._setup,
            "encode": self._encode,
            "decode": self._decode,
        }
        while True:
            try:
                request = json.loads(self._requests.recv_bytes())
            except EOFError:
                return
            try:
                operations[request["operation"]](request)
            except Exception as error:
                place = self._explained(error)
                memory = _is_memory(error)
                self._reply("error", kind=_kind(error), text=_one_line(error), memory=memory, where=place)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()

    def _reply(self, event: str, payload: bytes | memoryview | None = None, **fields: Any) -> None:
        self._replies.send_bytes(json.dumps({"event": event, "payload": payload is not None, **fields}).encode())
        if payload is not None:
            self._replies.send_bytes(payload)

    def _explained(self, error: Exception) -> str | None:
        """Where in the codec's code an error comes from; how it came there goes to the log, if that is a fault."""
        from ..codecs.errors import PccbenchError, where

        if not isinstance(error, PccbenchError):
            traceback.print_exception(error)
        module = sys.modules.get(type(self._codec).__module__)
        return where(error, getattr(module, "__file__", None))

    def _setup(self, request: dict[str, Any]) -> None:
        from ..codecs.registry import CodecSpec

        limit = request["memory_limit_bytes"]
        if limit is not None:
            # Refuses absurd allocations at once; the parent watches what is really resident.
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        self._codec = CodecSpec.from_dict(request["spec"]).create()
        self._codec.warm_up()
        self._reply("done")

    def _encode(self, request: dict[str, Any]) -> None:
        from ..codecs.base import Bitstream, Rate
        from ..codecs.cloud import PointCloud

        codec = self._ready()
        points = np.load(request["points"], allow_pickle=False)
        cloud = PointCloud(points, bit_depth=request["bit_depth"], declared_peak=request["declared_peak"])
        rate = Rate(**request["rate"])
        stream = self._timed(lambda: codec.encode(cloud, rate), request["repeats"])
        if not isinstance(stream, bytes | bytearray | memoryview):
            raise TypeError(f"encode returned {type(stream).__name__}, expected bytes")
        facts = stream if isinstance(stream, Bitstream) else Bitstream(b"")
        self._reply(
            "done",
            bytes(stream),
            sections=_plain(codec.sections(bytes(stream))),
            estimated_bits=_plain(facts.estimated_bits),
            reconstruction_sha256=facts.reconstruction_sha256,
            notes=_plain(facts.notes),
        )

    def _decode(self, request: dict[str, Any]) -> None:
        from ..codecs.cloud import PointCloud

        codec = self._ready()
        data = self._requests.recv_bytes()
        cloud = self._timed(lambda: codec.decode(data), request["repeats"])
        if not isinstance(cloud, PointCloud):
            raise TypeError(f"decode returned {type(cloud).__name__}, expected PointCloud")
        points = np.ascontiguousarray(cloud.points)
        payload = points.reshape(-1).view(np.uint8).data
        self._reply("done", payload, count=len(points), dtype=points.dtype.str, bit_depth=cloud.bit_depth)

    def _ready(self) -> Codec:
        if self._codec is None:
            raise RuntimeError("the worker was not set up")
        return self._codec

    def _timed(self, call: Callable[[], _T], repeats: int) -> _T:
        """Call `repeats` times; report each call's seconds and the peak memory of this process.

        The clocks stand around the call alone.  Peak memory is that of this process; the parent adds its children.
        """
        for number in range(repeats):
            if number:
                result = None  # the result before must not count in this call's memory
            _reset_peak_memory()
            cpu = _cpu_s()
            start = time.perf_counter()
            result = call()
            wall_s = time.perf_counter() - start
            self._reply("call", wall_s=wall_s, cpu_s=_cpu_s() - cpu, peak_mb=_peak_memory_mb())
        return cast("_T", result)


def _cpu_s() -> float:
    """CPU seconds of this process and of the children it has waited for."""
    usage = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(u.ru_utime + u.ru_stime for u in usage)


def _reset_peak_memory() -> None:
    """Start a new high-water mark of resident memory where the kernel allows it (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_memory_mb() -> float:
    """High-water mark of this process's resident memory in MiB."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if sys.platform == "linux" else peak / 2**20


def _is_memory(error: BaseException) -> bool:
    """Whether the error says that memory ran out; torch and subprocesses have no MemoryError of their own."""
    return isinstance(error, MemoryError) or "bad_alloc" in str(error) or "not enough memory" in str(error)


def _plain(value: Any) -> Any:
    """The value as plain JSON: numpy scalars as numbers, what is not finite as None, the rest as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _kind(error: BaseException) -> str:
    """Name of the class of an error; of a subclass that a codec made of one of ours, the name of ours."""
    from ..codecs.errors import BitstreamError, CodecUnavailableError, NotApplicableError

    for ours in (NotApplicableError, CodecUnavailableError, BitstreamError):
        if isinstance(error, ours):
            return ours.__name__
    return type(error).__name__


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    main()
