"""Seal: what keeps a codec's process from everything but the package, its tools, its own folder and two pipes.

Both roles are sealed alike, before any third-party code runs, so that threads which libraries start are sealed, too.
An encoder gets its points through its pipe, as a decoder its bytes: neither has a file of the other's, nor the data
set, to read, and nothing that an encoder may write can be read by a decoder.  Layers, each where the system has it:

    landlockN   files: only what is listed may be read, only the own folder be written; no TCP; no signals to others
    seccomp     no sockets, no ptrace, no reading of other processes, no System V or POSIX shared memory and queues,
                no kernel keys, no locks (a message between two readers of a file), no mounts, no extended attributes
    userns      a user namespace, which the other namespaces need without privileges (root does without)
    mntns       all mounts read-only, other workers' folders not even visible, a private /dev/shm
    pidns       other processes do not exist; when the process ends all that it started ends
    netns       a network without devices; abstract sockets of its own
    ipcns       System V and POSIX queues of its own
    env         a cleaned environment (everywhere)

What stays open: the load of the machine can be felt by everybody, names and sizes of readable files can be seen,
and the devices of GPUs, where there are any, can be used (`gpu-open`).  Standard library only.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import kernel

#: Limits the layers to those it names, separated by `+` or `,`; `none` leaves only the cleaned environment.
VARIABLE = "PCCBENCH_SEAL"
#: What can be read where other processes are in /proc.
_HARMLESS_PROC = ("cpuinfo", "meminfo", "stat", "filesystems", "version", "uptime", "loadavg", "sys", "self")
_ENV = "env"


@dataclass(frozen=True)
class Order:
    """What a worker is told to lock itself in with; plain values.

    Attributes:
        layers: names of the layers.
        folder: its own folder.
        hidden: the folder that holds those of all workers of all runs.
        readable, listable, writable, devices: see `kernel.landlock`.
        cores: that it may run on, None for all.
    """

    layers: tuple[str, ...]
    folder: str
    hidden: str
    readable: tuple[str, ...]
    listable: tuple[str, ...]
    writable: tuple[str, ...]
    devices: tuple[str, ...]
    cores: tuple[int, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Order:
        """The order of a record made by `to_dict`."""
        return cls(**record)


def name(layers: Iterable[str], *, has_gpu: bool = False) -> str:
    """The seal in one word for a row, e.g. `landlock7+seccomp+mntns+pidns+netns+ipcns+env`."""
    words = [f"landlock{kernel.landlock_version()}" if layer == "landlock" else layer for layer in layers]
    return "+".join([*words, _ENV, *(["gpu-open"] if has_gpu else [])])


@functools.cache
def layers() -> tuple[str, ...]:
    """The layers that work on this system, tried in a process of their own; fewer where PCCBENCH_SEAL says so."""
    if sys.platform != "linux":
        return ()
    try:
        done = subprocess.run(
            [sys.executable, "-c", f"from {__name__} import probe; probe()"],
            capture_output=True,
            timeout=60,
            check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)},
        )
        found = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return ()
    asked = os.environ.get(VARIABLE)
    if asked is None:
        return tuple(found)
    wanted = asked.replace("+", ",").split(",")
    return tuple(layer for layer in found if layer in wanted)


def finding() -> tuple[str, bool]:
    """For `bench doctor`: what a decoder is sealed with here, and whether that keeps it from files and sockets."""
    found = layers()
    if sys.platform != "linux":
        return f"{_ENV}: {sys.platform} has nothing else, so decoders are trusted not to look for the input", False
    missing = [layer for layer in ("landlock", "seccomp", "mntns", "pidns", "netns", "ipcns") if layer not in found]
    text = name(found) + (f" ({', '.join(missing)} not available)" if missing else "")
    return text, "landlock" in found and "seccomp" in found


def probe() -> None:
    """Write the names of the layers that work here to standard output, as JSON."""
    found = []
    if kernel.landlock_version() and _works(lambda: kernel.landlock(["/"], [], [], [])):
        found.append("landlock")
    if kernel.has_seccomp() and _works(lambda: kernel.seccomp(altering=True)):
        found.append("seccomp")
    user = [] if kernel.has_admin() else ["userns"]
    spaces = ["mntns", "pidns", "netns", "ipcns"]
    if not _works(lambda: _try_namespaces([*user, *spaces])):
        spaces = [space for space in spaces if _works(lambda space=space: _try_namespaces([*user, space]))]  # type: ignore[misc]
        if spaces and not _works(lambda: _try_namespaces([*user, *spaces])):
            spaces = []
    found += [*user, *spaces] if spaces else []
    sys.stdout.write(json.dumps(found))


def _works(attempt: Callable[[], None]) -> bool:
    """Whether it succeeds in a child of this process."""
    child = os.fork()
    if not child:
        code = 1
        with contextlib.suppress(BaseException):
            attempt()
            code = 0
        os._exit(code)
    return os.waitpid(child, 0)[1] == 0


def _try_namespaces(spaces: list[str]) -> None:
    hidden = tempfile.mkdtemp(prefix="pccbench-probe-")
    folder = Path(hidden, "own")
    folder.mkdir()

    def inside() -> None:
        if "mntns" in spaces:
            kernel.rearrange_mounts(str(folder), hidden)
        (folder / "file").write_bytes(b"1")

    def enter_all() -> None:
        kernel.unshare(spaces)
        _require(_works(inside))

    works = _works(enter_all)  # the folder is removed by a process that stays outside of the namespaces
    shutil.rmtree(hidden, ignore_errors=True)
    _require(works)


def _require(works: bool) -> None:
    if not works:
        raise OSError("it does not work here")


# In the worker.


def enter(order: Order, pipes: tuple[int, ...]) -> None:
    """Lock this process in; with a process namespace, what returns is a grandchild of it.

    Args:
        order: what to lock in with.
        pipes: file descriptors that only the sealed process keeps.

    Raises:
        OSError: a layer does not work here after all.
    """
    if order.cores is not None and hasattr(os, "sched_setaffinity"):  # macOS pins nothing
        os.sched_setaffinity(0, order.cores)
    spaces = [layer for layer in order.layers if layer in kernel.NAMESPACES]
    if spaces:
        kernel.unshare(spaces)
    parent = os.getpid()
    if "pidns" in spaces:
        _become_first_process(pipes)
    if "mntns" in spaces:
        kernel.rearrange_mounts(order.folder, order.hidden)
    has_own_proc = {"pidns", "mntns"} <= set(spaces) and kernel.mount_proc()
    if "pidns" in spaces:
        _become_second_process(pipes)
    elif os.getpid() != parent:
        raise OSError("the process changed")
    # Relative to the new mounts: a folder that was open before leads out of them.
    os.chdir(Path(order.folder, "work"))
    if spaces or os.getuid() == 0:
        kernel.drop_capabilities()
    kernel.die_with_parent()
    proc = ["/proc"] if has_own_proc else [f"/proc/{entry}" for entry in _HARMLESS_PROC]
    shared = ["/dev/shm"] if "mntns" in spaces else []  # noqa: S108
    if "landlock" in order.layers:
        kernel.landlock([*order.readable, *proc], order.listable, [*order.writable, *shared], order.devices)
    if "seccomp" in order.layers:
        kernel.seccomp(altering="mntns" in spaces)


def _become_first_process(pipes: tuple[int, ...]) -> None:
    """Go on as the first process of the new namespace; this one waits, and ends as the sealed process will have."""
    alive, alive_here = os.pipe()
    outcome_here, outcome = os.pipe()
    child = os.fork()
    if not child:
        kernel.die_with_parent()
        os.close(alive_here)
        os.close(outcome_here)
        poll = select.poll()
        poll.register(alive, select.POLLIN)
        if poll.poll(0):  # the parent has ended before it could be asked for
            os._exit(1)
        _outcome.append(outcome)
        return
    for descriptor in (alive, outcome, *pipes):
        os.close(descriptor)
    status = os.read(outcome_here, 4)
    os.waitpid(child, 0)
    _end_as(int.from_bytes(status, "big") if len(status) == 4 else signal.SIGKILL)


#: Where the first process writes how the second ended.
_outcome: list[int] = []


def _become_second_process(pipes: tuple[int, ...]) -> None:
    """Go on as a child of the namespace's first process, to which signals such as abort's do nothing."""
    child = os.fork()
    (outcome,) = _outcome
    if not child:
        os.close(outcome)
        if os.getppid() != 1:
            os._exit(1)
        return
    for descriptor in pipes:
        os.close(descriptor)
    ended, status = 0, 0
    while ended != child:
        ended, status = os.waitpid(-1, 0)
    os.write(outcome, status.to_bytes(4, "big"))
    os._exit(0)  # the kernel ends whatever is left in the namespace


def _end_as(status: int) -> None:
    """End as a process with that wait status did."""
    if os.WIFSIGNALED(status):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
