"""Pool: processes on this machine that run jobs side by side and never outlive the harness.

joblib's own processes do: they were seen for minutes after the harness was killed.  A joblib backend that the caller
chose (Dask, for several machines) is used in their place.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from . import kernel
from .pipe import Pipe

#: A function with its arguments, as `joblib.delayed` makes it.
Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class LostError(Exception):
    """A process ended while it ran a call; `call` is what it ran."""

    def __init__(self, call: Call, reason: str) -> None:
        super().__init__(reason)
        self.call = call


class Pool:
    """So many processes, started when needed; usable as a context, at whose end they are ended.

    Args:
        count: of processes.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._idle: list[_Process] = []
        self._busy: dict[int, _Process] = {}

    def __enter__(self) -> Pool:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End all processes, busy or not."""
        for process in [*self._idle, *self._busy.values()]:
            process.end()
        self._idle.clear()
        self._busy.clear()

    def unordered(self, calls: Iterable[Call]) -> Iterator[Any]:
        """The results of calls, as they come; a call is taken when a process is free for it.

        A call whose process ended gives a `LostError` in place of its result.

        Raises:
            Exception: what a call raised.
        """
        backend = _chosen_backend()
        if backend:
            import joblib

            yield from joblib.Parallel(n_jobs=self._count, batch_size=1, return_as="generator_unordered")(calls)
            return
        waiting = iter(calls)
        is_more = True
        while is_more or self._busy:
            while is_more and len(self._busy) < self._count:
                call = next(waiting, None)
                if call is None:
                    is_more = False
                    break
                process = self._idle.pop() if self._idle else _Process()
                process.begin(call)
                self._busy[process.descriptor] = process
            if self._busy:
                yield self._next_result()

    def _next_result(self) -> Any:
        poll = select.poll()
        for descriptor in self._busy:
            poll.register(descriptor, select.POLLIN)
        process = self._busy.pop(poll.poll()[0][0])
        try:
            result = process.result()
        except LostError as lost:
            process.end()
            return lost
        except BaseException:
            process.end()
            raise
        self._idle.append(process)
        return result


def _chosen_backend() -> bool:
    """Whether the caller chose a backend of joblib's other than its processes on this machine."""
    from joblib.parallel import get_active_backend

    return type(get_active_backend()[0]).__name__ not in ("LokyBackend", "SequentialBackend")


class _Process:
    """A process of the pool, seen from the harness."""

    def __init__(self) -> None:
        calls, call_writes = os.pipe()
        result_reads, results = os.pipe()
        try:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", __name__, str(calls), str(results), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                pass_fds=(calls, results),
                start_new_session=True,  # Ctrl-C is for the harness, which ends this process
            )
        finally:
            os.close(calls)
            os.close(results)
        self._pipe = Pipe(result_reads, call_writes)
        self._call: Call | None = None
        self.descriptor = result_reads
        with contextlib.suppress(OSError):
            self._pipe.send({"path": sys.path})

    def begin(self, call: Call) -> None:
        self._call = call
        with contextlib.suppress(OSError):  # a process that is gone is noticed when its result is asked for
            self._pipe.send({}, pickle.dumps(call))

    def result(self) -> Any:
        call, self._call = self._call, None
        try:
            message, payload = self._pipe.receive()
        except EOFError:
            assert call is not None  # noqa: S101  (for the type checker)
            raise LostError(call, f"a process of the run ended with code {self._popen.wait()}") from None
        value = pickle.loads(payload)  # noqa: S301  (from the harness's own code)
        if message["raised"]:
            raise value
        return value

    def end(self) -> None:
        self._popen.kill()  # its workers end with it
        self._popen.wait()
        self._pipe.close()


def main() -> None:
    """Run calls until the harness closes the pipe."""
    calls, results, parent = (int(argument) for argument in sys.argv[1:4])
    kernel.die_with_parent()
    if os.getppid() != parent:
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe = Pipe(calls, results)
    with contextlib.suppress(EOFError, BrokenPipeError):
        sys.path[:] = pipe.receive()[0]["path"]
        while True:
            function, arguments, keywords = pickle.loads(pipe.receive()[1])  # noqa: S301
            value, has_raised = _outcome(function, arguments, keywords)
            pipe.send({"raised": has_raised}, value)
    os._exit(0)  # what is still open is the workers, and they end with this process


def _outcome(function: Callable[..., Any], arguments: Any, keywords: Any) -> tuple[bytes, bool]:
    try:
        return pickle.dumps(function(*arguments, **keywords)), False
    except Exception as error:
        try:
            return pickle.dumps(error), True
        except Exception:  # an error of a kind that cannot travel
            return pickle.dumps(RuntimeError("".join(traceback.format_exception_only(error)).strip())), True


if __name__ == "__main__":
    main()
