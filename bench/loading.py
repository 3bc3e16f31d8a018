"""Loading: a cloud from its file, within the run's limits of memory and time.

Under a limit, or from a large file, the file is read by a process of its own (`python -m pccbench.bench.loading`),
which hands the arrays over as npy files: whatever a file makes of its reader costs that process alone.  A small file
without a limit is read here, for a process takes a third of a second to start.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..codecs.cloud import PointCloud
from ..codecs.errors import CloudError
from ..codecs.formats import CloudWarning
from .datasets import CloudFile, CloudRef
from .kernel import die_with_parent
from .system import limit_data_memory

#: Files from this size on are read by a process of their own, limit or not: when memory runs out the kernel ends that
#: one first, and its start is a small part of the time.
LARGE_BYTES = 1 << 28
_ARRAYS = ("points", "normals", "colors")
#: Signals that come from outside; the others are the process's own doing.
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def load_cloud(
    ref: CloudRef, memory_bytes: int | None = None, timeout_s: float | None = None, scratch: Path | None = None
) -> PointCloud:
    """The cloud of `ref.load()`, within limits.

    Args:
        ref: the cloud.
        memory_bytes: that reading may take beside what the interpreter takes, None for no limit.
        timeout_s: that reading may take where it has a process of its own, None for no limit.
        scratch: existing folder for the arrays on their way; None for the system's.

    Raises:
        CloudError: as `CloudRef.load`, or the limits do not suffice.  Where the moment is to blame (the process was
            ended from outside, the disk is full), an OSError is its cause.
    """
    if not isinstance(ref, CloudFile) or not (memory_bytes is not None or _is_large(ref.path)):
        return ref.load()
    with tempfile.TemporaryDirectory(prefix="cloud-", dir=scratch) as folder:
        # The process starts in that folder, where no file of the user's has the name of a module.
        request = pickle.dumps((replace(ref, path=ref.path.absolute()), memory_bytes))
        try:
            done = subprocess.run(
                [sys.executable, "-m", f"{__package__}.loading", str(os.getpid())],
                input=request,
                capture_output=True,
                cwd=folder,
                env={**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")},
                timeout=timeout_s,
                start_new_session=True,  # Ctrl-C is for the harness
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise CloudError(f"{ref.path}: reading took longer than {timeout_s:g} s") from None
        try:
            answer = json.loads(done.stdout)
        except ValueError:
            reason, cause = _end_of(done)
            raise CloudError(f"{ref.path}: {reason}") from cause
        for text in answer["warnings"]:
            warnings.warn(text, CloudWarning, stacklevel=2)
        if "error" in answer:
            error = CloudError(answer["error"])
            number = answer["errno"]
            raise error from (OSError(number, os.strerror(number)) if number else None)
        return _received(Path(folder), answer)


def _is_large(path: Path) -> bool:
    try:
        return path.stat().st_size >= LARGE_BYTES
    except OSError:  # the reader says what is wrong
        return False


def _end_of(done: subprocess.CompletedProcess[bytes]) -> tuple[str, OSError | None]:
    """How a process ended that gave no answer, and the moment's part in it."""
    number = -done.returncode
    if number <= 0:
        lines = [line.strip() for line in done.stderr.decode(errors="replace").split("\n") if line.strip()]
        return f"reading ended with exit code {done.returncode}: {(lines or ['nothing was said'])[-1][:200]}", None
    name = signal.Signals(number).name if number in signal.valid_signals() else f"signal {number}"
    cause = OSError(errno.EAGAIN, f"ended by {name}") if number in _FROM_OUTSIDE else None
    return f"reading was ended by {name}", cause


def _received(folder: Path, answer: dict[str, Any]) -> PointCloud:
    arrays = {name: np.load(folder / f"{name}.npy") for name in answer["arrays"]}
    attributes = {name: np.load(folder / f"{index}.npy") for index, name in enumerate(answer["attributes"])}
    return PointCloud(**arrays, attributes=attributes, **answer["facts"])


def main() -> None:
    """Read the cloud that standard input names, and leave its arrays in the working folder."""
    die_with_parent()
    if os.getppid() != int(sys.argv[1]):  # it has ended since
        os._exit(1)
    answer: dict[str, Any] = {"warnings": []}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            ref, memory_bytes = pickle.load(sys.stdin.buffer)  # noqa: S301  # of the harness itself
            if memory_bytes is not None:
                limit_data_memory(memory_bytes + _data_bytes())
            answer |= _hand_over(ref.load())
        except (CloudError, OSError, MemoryError) as error:
            answer |= {"error": str(error), "errno": _errno(error)}
            if memory_bytes is not None and any(isinstance(one, MemoryError) for one in _chain(error)):
                limit = f"{memory_bytes / 2**30:.3g} GiB"
                answer["error"] = f"{ref.path}: needs more than the memory limit of {limit} to be read"
    answer["warnings"] = [str(one.message) for one in caught if issubclass(one.category, CloudWarning)]
    sys.stdout.write(json.dumps(answer))


def _data_bytes() -> int:
    """What this process takes of the kind of memory that is limited (Linux; elsewhere 0)."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmData:"):
                return int(line.split()[1]) << 10
    return 0


def _hand_over(cloud: PointCloud) -> dict[str, Any]:
    arrays = [name for name in _ARRAYS if getattr(cloud, name) is not None]
    for name in arrays:
        np.save(f"{name}.npy", getattr(cloud, name), allow_pickle=False)
    for index, column in enumerate(cloud.attributes.values()):
        np.save(f"{index}.npy", column, allow_pickle=False)
    facts = {name: getattr(cloud, name) for name in ("bit_depth", "declared_peak", "repeats_dropped")}
    return {"arrays": arrays, "attributes": list(cloud.attributes), "facts": facts}


def _errno(error: BaseException) -> int | None:
    """Number of the error of the system behind an error, if there is one."""
    return next((one.errno for one in _chain(error) if isinstance(one, OSError) and one.errno), None)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


if __name__ == "__main__":
    main()
