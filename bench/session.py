"""Session: what a sealed worker does with its codec: set up, time calls of encode or decode, describe a stream.

    setup     the codec                        -> done
    call      encode or decode, with its input -> ready; go -> called, with the result as payload
    describe  the stream encoded last          -> described
    sync                                       -> synced

Each request has a token that its replies repeat.  The parent takes the time from `go` to `called` by its own clock,
reads memory and CPU time while this process waits, and compares; `called` carries a hash of the result, so that no
work is left for later.  Each call gets its input anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import resource
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .pipe import Pipe
from .system import limit_data_memory

if TYPE_CHECKING:
    from ..codecs.base import Codec

# Kept from the start: a codec may replace what the modules hold.
_clock, _usage, _hash = time.perf_counter, resource.getrusage, hashlib.blake2b


class Session:
    """One codec, its requests and replies."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._token = ""
        self._codec: Codec | None = None
        self._stream: Any = b""

    def serve(self) -> None:
        """Answer until the pipe closes."""
        operations: dict[str, Callable[[dict[str, Any], bytearray], None]] = {
            "setup": self._setup,
            "call": self._call,
            "describe": self._describe,
            "sync": lambda request, payload: self._reply("synced"),
        }
        while True:
            try:
                request, payload = self._pipe.receive()
            except EOFError:
                return
            self._token = request["token"]
            try:
                operations[request["operation"]](request, payload)
            except Exception as error:
                kinds = [kind.__name__ for kind in type(error).__mro__]
                number = error.errno if isinstance(error, OSError) else None
                text = " ".join(str(error).split()) or type(error).__name__
                place, memory = self._explained(error), _is_memory(error)
                self._reply("error", kinds=kinds, errno=number, text=text, memory=memory, where=place)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()

    def _reply(self, event: str, payload: bytes | memoryview = b"", **fields: Any) -> None:
        self._pipe.send({"event": event, "token": self._token, **fields}, payload)

    def _explained(self, error: Exception) -> str | None:
        """Where in the codec's code an error comes from; how it came there goes to the log, if that is a fault."""
        from ..codecs.errors import PccbenchError, where

        if not isinstance(error, PccbenchError):
            traceback.print_exception(error)
        module = sys.modules.get(type(self._codec).__module__)
        return where(error, getattr(module, "__file__", None))

    def _setup(self, request: dict[str, Any], _: bytearray) -> None:
        from ..codecs.registry import CodecSpec

        limit = request["memory_limit_bytes"]
        if limit is not None:
            limit_data_memory(limit)  # refuses absurd allocations at once; the parent watches what is really resident
        self._codec = CodecSpec.from_dict(request["spec"]).create()
        self._codec.warm_up()
        self._reply("done")

    def _call(self, request: dict[str, Any], payload: bytearray) -> None:
        if request["phase"] == "encode":
            self._encode(request, payload)
        else:
            self._decode(bytes(payload))

    def _encode(self, request: dict[str, Any], payload: bytearray) -> None:
        from ..codecs.base import Rate
        from ..codecs.cloud import PointCloud

        codec = self._ready()
        points = np.frombuffer(payload, np.dtype(request["dtype"])).reshape(-1, 3)
        cloud = PointCloud(points, bit_depth=request["bit_depth"], declared_peak=request["declared_peak"])
        rate = Rate(**request["rate"])
        self._stream = b""  # what came before must not count in this call's memory
        stream, figures = self._timed(lambda: codec.encode(cloud, rate))
        if not isinstance(stream, bytes | bytearray | memoryview):
            raise TypeError(f"encode returned {type(stream).__name__}, expected bytes")
        self._stream = stream
        data = memoryview(stream).cast("B")  # not bytes(), which a class of the codec's may have made its own
        self._called(data, figures, {})

    def _decode(self, data: bytes) -> None:
        from ..codecs.cloud import PointCloud

        codec = self._ready()
        cloud, figures = self._timed(lambda: codec.decode(data))
        if not isinstance(cloud, PointCloud):
            raise TypeError(f"decode returned {type(cloud).__name__}, expected PointCloud")
        points = np.ascontiguousarray(cloud.points)
        facts = {"count": len(points), "dtype": points.dtype.str, "bit_depth": cloud.bit_depth}
        self._called(points.reshape(-1).view(np.uint8).data, figures, facts)

    def _ready(self) -> Codec:
        if self._codec is None:
            raise RuntimeError("the worker was not set up")
        return self._codec

    def _timed(self, call: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
        """The result of a call, its seconds, CPU seconds and the peak memory of this process in MiB.

        The clocks stand around the call alone.  Children's memory is added by the parent.
        """
        _reset_peak_memory()
        self._reply("ready")
        order, _ = self._pipe.receive()
        if order.get("operation") != "go":
            raise RuntimeError("expected the word to go")
        self._token = order["token"]
        cpu = _cpu_s()
        start = _clock()
        result = call()
        wall_s = _clock() - start
        return result, {"wall_s": wall_s, "cpu_s": _cpu_s() - cpu, "peak_mb": _peak_memory_mb()}

    def _called(self, data: memoryview, figures: dict[str, float], facts: dict[str, Any]) -> None:
        self._reply("called", data, digest=_hash(data).hexdigest(), **figures, **facts)

    def _describe(self, _: dict[str, Any], __: bytearray) -> None:
        from ..codecs.base import Bitstream

        stream = self._stream
        facts = stream if isinstance(stream, Bitstream) else Bitstream(b"")
        self._reply(
            "described",
            sections=_plain(self._ready().sections(bytes(memoryview(stream)))),
            estimated_bits=_plain(facts.estimated_bits),
            reconstruction_sha256=_plain(facts.reconstruction_sha256),
            notes=_plain(facts.notes),
        )


def _cpu_s() -> float:
    """CPU seconds of this process and of the children it has waited for."""
    usage = (_usage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
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
