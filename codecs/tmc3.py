"""tmc3: MPEG's G-PCC test model as a program: where it is, what it is, and how it is run.

The program works on files.  Each call gets a temporary folder of its own (under TMPDIR), which is gone afterwards.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .errors import BitstreamError, CloudError, CodecError, CodecUnavailableError

VARIABLE = "PCCBENCH_TMC3"
REMEDY = (
    "build it (git clone https://github.com/MPEGGroup/mpeg-pcc-tmc13, cmake -S . -B build, make -C build tmc3) "
    f"and name it by --tmc3, {VARIABLE} or PATH"
)

_TAIL_CHARACTERS = 300
#: Of what the program writes, the last bytes are read.
_LOG_BYTES = 1 << 20
_FIGURES = {
    "tool_user_s": rb"^Processing time \(user\): ([0-9.e+-]+) s",
    "tool_wall_s": rb"^Processing time \(wall\): ([0-9.e+-]+) s",
}
_PAYLOAD = re.compile(rb"^positions bitstream size (\d+) B", re.MULTILINE)
#: Bound here, since between fork and exec nothing may be imported or allocated that another thread holds.
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Limits:
    """What one run of the program may take; None for what the process that starts it may take."""

    cpu_s: int | None = None
    memory_bytes: int | None = None
    file_bytes: int | None = None


@dataclass(frozen=True)
class Report:
    """What the program said of its run: seconds (`tool_user_s`, `tool_wall_s`) and the coded positions' bytes."""

    figures: Mapping[str, float]


@dataclass(frozen=True)
class Program:
    """The executable.

    Attributes:
        path: absolute.
        version: what it prints of itself, e.g. `release-v23.0-rc2-0-ga3d15c5`.
        sha256: of the file.
    """

    path: Path
    version: str
    sha256: str


def find_program(executable: str | None = None) -> Path:
    """Path of tmc3: the one that is named, else PCCBENCH_TMC3, else the one on PATH.

    Raises:
        CodecUnavailableError: there is none, or what is named is no program; with the remedy.
    """
    for source, named in (("--tmc3", executable), (VARIABLE, os.environ.get(VARIABLE))):
        if named:
            path = Path(named)
            if not (path.is_file() and os.access(path, os.X_OK)):
                raise CodecUnavailableError(f"{source} names {named}, which is no executable file; {REMEDY}")
            return path.resolve()
    found = shutil.which("tmc3")
    if found is None:
        raise CodecUnavailableError(f"MPEG's tmc3 was not found; {REMEDY}")
    return Path(found).resolve()


def inspect_program(path: Path) -> Program:
    """Version and hash of the executable, looked up once for each state of the file.

    Raises:
        CodecUnavailableError: it does not start, or is not tmc3.
    """
    state = path.stat()
    return _inspect(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=8)
def _inspect(path: Path, _modified_ns: int, _size: int) -> Program:
    try:
        done = subprocess.run([path, "--help"], capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise CodecUnavailableError(f"{path} does not start ({error}); {REMEDY}") from error
    match = re.search(rb"tmc3 version (\S+)", done.stdout + done.stderr)
    if match is None:
        raise CodecUnavailableError(f"{path} does not say 'tmc3 version', so it is not tmc3; {REMEDY}")
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return Program(path, match.group(1).decode(errors="replace"), digest.hexdigest())


def encode(program: Path, positions: npt.NDArray[np.integer], options: Mapping[str, str]) -> tuple[bytes, Report]:
    """Code integer positions, (n, 3).

    Returns:
        The whole stream, and what the program said of its run.

    Raises:
        CodecError: the program failed; with its last words.
    """
    with tempfile.TemporaryDirectory(prefix="tmc3-") as folder:
        source, target = Path(folder, "in.ply"), Path(folder, "out.bin")
        source.write_bytes(_ply(positions))
        arguments = [
            "--mode=0",
            f"--uncompressedDataPath={source}",
            f"--compressedStreamPath={target}",
            *(f"--{name}={value}" for name, value in options.items()),
        ]
        failure, output = _run(program, arguments, Limits())
        if failure is None and not target.is_file():
            failure = "ended well, but wrote no stream"
        if failure is not None:
            raise CodecError(f"tmc3 encoder {failure}{_last_words(output)}")
        return target.read_bytes(), _report(output)


def decode(program: Path, data: bytes, limits: Limits) -> tuple[npt.NDArray[np.float64], Report]:
    """Positions of a stream in the units of the source, (n, 3).

    Raises:
        BitstreamError: the program failed on the stream; with its last words.
    """
    from .formats.ply import read_ply
    from .formats.table import together

    with tempfile.TemporaryDirectory(prefix="tmc3-") as folder:
        source, target = Path(folder, "in.bin"), Path(folder, "out.ply")
        source.write_bytes(data)
        arguments = ["--mode=1", f"--compressedStreamPath={source}", f"--reconstructedDataPath={target}"]
        failure, output = _run(program, arguments, limits)
        if failure is None and not target.is_file():
            failure = "ended well, but wrote no cloud"
        if failure is not None:
            raise BitstreamError(f"tmc3 decoder {failure}: the stream is damaged or foreign{_last_words(output)}")
        try:
            columns = read_ply(target.read_bytes()).columns
            return together([columns[axis] for axis in "xyz"], np.float64), _report(output)
        except (CloudError, KeyError) as error:
            raise BitstreamError(f"tmc3 decoder wrote no sound cloud ({error}): the stream is damaged") from error


def _ply(positions: npt.NDArray[np.integer]) -> bytes:
    """A binary PLY in the type that tmc3 reads exactly: it knows `float64`, not `double`, and no integers."""
    axes = "".join(f"property float64 {axis}\n" for axis in "xyz")
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(positions)}\n{axes}end_header\n"
    return head.encode() + positions.astype("<f8").tobytes()


def _run(program: Path, arguments: Sequence[str], limits: Limits) -> tuple[str | None, bytes]:
    """How the program failed, None when it did not, and what it wrote."""
    parent = os.getpid()
    with tempfile.TemporaryFile() as log:
        # A file, not a pipe: a program that writes without end fills the disk's quota, not this process's memory.
        try:
            code = subprocess.Popen(
                [program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=lambda: _prepare(parent, limits),  # noqa: PLW1509  # only system calls in it
            )
        except OSError as error:
            return f"did not start ({error.strerror})", b""
        try:
            status = code.wait()
        except BaseException:  # an interrupt too must not leave the program running
            code.kill()
            code.wait()
            raise
        log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_BYTES))
        output = log.read()
    if status == 0:
        return None, output
    if status > 0:
        return f"ended with exit code {status}", output
    if limits.cpu_s is not None and -status == signal.SIGXCPU:
        return f"did not end within {limits.cpu_s} s of CPU time", output
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-status).name}", output
    return f"was ended by signal {-status}", output


def _prepare(parent: int, limits: Limits) -> None:
    """In the child before it becomes the program: die with the parent, keep to the limits."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
    # A crash on a damaged stream is expected; a core file of it is not wanted.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for kind, wanted in (
        (resource.RLIMIT_CPU, limits.cpu_s),
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
    ):
        if wanted is not None:
            soft, hard = resource.getrlimit(kind)
            if soft == resource.RLIM_INFINITY or wanted < soft:
                with contextlib.suppress(ValueError, OSError):  # macOS may refuse to set it
                    resource.setrlimit(kind, (wanted, hard))


def _report(output: bytes) -> Report:
    figures: dict[str, float] = {}
    for name, pattern in _FIGURES.items():
        match = re.search(pattern, output, re.MULTILINE)
        if match:
            figures[name] = float(match.group(1))
    payloads = [int(size) for size in _PAYLOAD.findall(output)]
    if payloads:
        figures["tool_positions_bytes"] = sum(payloads)
    return Report(figures)


def _last_words(output: bytes) -> str:
    """The end of what the program wrote, as one line."""
    text = " ".join(output.decode(errors="replace").split())
    return f"; it wrote: …{text[-_TAIL_CHARACTERS:]}" if text else ""
