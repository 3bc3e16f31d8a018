"""Trial: a codec in a process of its own, for the conformance kit; run as `python -m pccbench.codecs.trial REQUEST`.

The process starts in an empty folder with an empty TMPDIR, and is told by a file what to do: which codec, which
clouds to encode at which rates, which streams to decode, sound ones and damaged ones.  It writes down what came of
each, and what the codec left behind: files that it made, threads that grow in number.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .base import Bitstream, Codec, Rate
from .cloud import PointCloud
from .errors import CodecError, where

#: Folders and endings of caches that compilers keep from one process to the next.
_CACHES = ("__pycache__", ".cache", "numba_cache")
_CACHE_ENDINGS = (".nbi", ".nbc", ".pyc")
#: What an answer says of a stream that was decoded, refused by a `CodecError`, or that met another error.
DECODED, REFUSED, FAILED = "decoded", "refused", "failed"


class UnreachableError(Exception):
    """Another process cannot make the codec: its class is in no file, or its constructor wants more than nothing."""


@dataclass(frozen=True)
class Job:
    """One call: a cloud to encode at a rate, if there is a cloud; else a stream to decode.

    Attributes:
        stream: file of the stream, to write or to read.
        cloud: file of the points, None to decode.
        bit_depth: of the cloud.
        rate: to encode at.
        is_damaged: whether the decoder may refuse the stream.
    """

    stream: str
    cloud: str | None = None
    bit_depth: int | None = None
    rate: str = ""
    is_damaged: bool = False


@dataclass(frozen=True)
class Answer:
    """What came of a job; of encoding, `text` is empty or says what failed."""

    outcome: str
    text: str = ""
    geometry_sha256: str = ""


@dataclass(frozen=True)
class Report:
    """What a process found: an answer to each job that it came to, and what was left behind."""

    answers: tuple[Answer, ...] = ()
    created: tuple[str, ...] = ()
    more_threads: int = 0
    ended: str = ""


def origin_of(codec: Codec, spec: Mapping[str, Any] | None) -> dict[str, Any]:
    """How another process makes the codec: plain values.

    Raises:
        UnreachableError: it cannot.
    """
    if spec is not None:
        return {"spec": dict(spec)}
    cls = type(codec)
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    if "<locals>" in cls.__qualname__ or file is None:
        raise UnreachableError(f"{cls.__qualname__} is defined in no file that another process could load")
    wanted = [
        p for p in inspect.signature(cls).parameters.values() if p.default is p.empty and p.kind < p.VAR_POSITIONAL
    ]
    if wanted:
        raise UnreachableError(f"{cls.__qualname__} cannot be made without {wanted[0].name}")
    is_ours = cls.__module__.startswith(f"{__name__.partition('.')[0]}.")
    return {"module": cls.__module__ if is_ours else None, "file": file, "class": cls.__qualname__}


def run(  # what a process is given
    origin: Mapping[str, Any],
    jobs: Sequence[Job],
    *,
    threads: int,
    hash_seed: int,
    call_limit_s: float,
    memory_limit_mb: float | None = None,
) -> Report:
    """Do the jobs in a new process with folders of its own, which are gone afterwards with all files that it made.

    Args:
        origin: of `origin_of`.
        jobs: done in this order.
        threads: that libraries may use, and PYTHONHASHSEED in `hash_seed`.
        hash_seed: see there.
        call_limit_s: of one call.
        memory_limit_mb: that the process may have beyond what it has before the first job, None for no limit.
    """
    with tempfile.TemporaryDirectory(prefix="trial-") as folder:
        work, temporary = Path(folder, "work"), Path(folder, "tmp")
        work.mkdir()
        temporary.mkdir()
        request, answer = Path(folder, "request.json"), Path(folder, "answer.jsonl")
        asked = {
            "origin": origin,
            "jobs": [vars(job) for job in jobs],
            "call_limit_s": call_limit_s,
            "memory_limit_mb": memory_limit_mb,
            "answer": str(answer),
        }
        request.write_text(json.dumps(asked), encoding="utf-8")
        libraries = ("OMP", "MKL", "OPENBLAS", "NUMBA", "NUMEXPR")
        environment = {
            **os.environ,
            **{f"{library}_NUM_THREADS": str(threads) for library in libraries},
            "PYTHONHASHSEED": str(hash_seed),
            "TMPDIR": str(temporary),
        }
        log = Path(folder, "log")
        with log.open("wb") as stream:
            done = subprocess.run(
                [sys.executable, "-m", __name__, str(request)],
                cwd=work,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                check=False,
            )
        report = _read(answer)
        for path in report.created:
            if Path(path).is_file():
                Path(path).unlink()
        if done.returncode == 0:
            return report
        words = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return Report(report.answers, report.created, report.more_threads, _ended(done.returncode, words))


def _read(answer: Path) -> Report:
    lines = answer.read_text(encoding="utf-8").splitlines() if answer.is_file() else []
    records = [json.loads(line) for line in lines]
    answers = tuple(Answer(**record) for record in records if "outcome" in record)
    last: dict[str, Any] = next((record for record in records if "created" in record), {})
    return Report(answers, tuple(last.get("created", ())), last.get("more_threads", 0))


def _ended(code: int, words: Sequence[str]) -> str:
    last = f": {words[-1][:200]}" if words else ""
    if code == -signal.SIGALRM:
        return "a call took too long"
    return f"the process was ended by {signal.Signals(-code).name}{last}" if code < 0 else f"exit code {code}{last}"


def make(origin: Mapping[str, Any]) -> Codec:
    """The codec of `origin_of`."""
    if "spec" in origin:
        from .registry import CodecSpec

        return CodecSpec.from_dict(origin["spec"]).create()
    if origin["module"] is not None:
        module = importlib.import_module(origin["module"])
    else:
        spec = importlib.util.spec_from_file_location("pccbench_trial", origin["file"])
        if spec is None or spec.loader is None:
            raise UnreachableError(f"{origin['file']} is no Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        sys.path.insert(0, str(Path(origin["file"]).parent))
        spec.loader.exec_module(module)
    found: Any = module
    for part in origin["class"].split("."):
        found = getattr(found, part)
    made: Codec = found()
    return made


@dataclass
class _Watch:
    """Files that are made in this process from now on, but for some that are ours."""

    ours: frozenset[str]
    created: list[str] = field(default_factory=list)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Called by Python for each thing that is done; see `sys.addaudithook`."""
        if event != "open" or not isinstance(arguments[0], str | bytes) or not isinstance(arguments[2], int):
            return
        path = os.path.abspath(os.fsdecode(arguments[0]))  # noqa: PTH100  # a hook must not open anything itself
        writes = arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes and path not in self.ours and not os.path.lexists(path) and not _is_cache(path):
            self.created.append(path)

    def left(self) -> list[str]:
        """Those that are still there, and what lies in the folders of this process."""
        found = {path for path in self.created if Path(path).is_file()}
        for folder in (Path.cwd(), Path(tempfile.gettempdir())):
            found |= {str(path) for path in folder.rglob("*") if path.is_file() and not _is_cache(str(path))}
        return sorted(found)


def _is_cache(path: str) -> bool:
    return path.endswith(_CACHE_ENDINGS) or bool(set(_CACHES) & set(Path(path).parts))


def main() -> None:
    """Do what the request says."""
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    with Path(request["answer"]).open("w", encoding="utf-8") as answers:
        watch = _Watch(frozenset(job["stream"] for job in request["jobs"]))
        codec = make(request["origin"])
        codec.warm_up()
        rates = {rate.name: rate for rate in codec.rates()}
        sys.addaudithook(watch)
        limit = request["memory_limit_mb"]
        if limit is not None:
            held = _data_mb()
            resource.setrlimit(resource.RLIMIT_DATA, (int((held + limit) * 2**20),) * 2)
        threads = None
        for record in request["jobs"]:
            job = Job(**record)
            # Ends the process, whatever the codec does with exceptions.
            signal.setitimer(signal.ITIMER_REAL, request["call_limit_s"])
            answer = _guarded(lambda job=job: _done(codec, rates, job))  # type: ignore[misc]
            signal.setitimer(signal.ITIMER_REAL, 0)
            answers.write(json.dumps(vars(answer)) + "\n")
            answers.flush()
            if threads is None:
                threads = threading.active_count()
        more = threading.active_count() - (threads or 0)
        answers.write(json.dumps({"created": watch.left(), "more_threads": more}) + "\n")
        answers.flush()
    # Threads that were left behind must not keep the process.
    os._exit(0)


def _guarded(call: Callable[[], Answer]) -> Answer:
    try:
        return call()
    except CodecError as error:
        return Answer(REFUSED, " ".join(str(error).split())[:300])
    except Exception as error:  # whatever else a codec raises is what the kit is there to find
        place = where(error)
        text = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return Answer(FAILED, f"{text} ({place})" if place else text)


def _done(codec: Codec, rates: Mapping[str, Rate], job: Job) -> Answer:
    stream = Path(job.stream)
    if job.cloud is not None:
        given = PointCloud(np.load(job.cloud, allow_pickle=False), job.bit_depth)
        data = codec.encode(given, rates[job.rate])
        stream.write_bytes(data)
        promised = data.reconstruction_sha256 if isinstance(data, Bitstream) else None
        return Answer(DECODED, geometry_sha256=promised or "")
    cloud: object = codec.decode(stream.read_bytes())
    if not isinstance(cloud, PointCloud):
        return Answer(FAILED, f"decode returned {type(cloud).__name__}, expected PointCloud")
    return Answer(DECODED, geometry_sha256=cloud.geometry_sha256())


def _data_mb() -> float:
    """Data segment of this process in MiB (Linux), else 0."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmData:"):
                return int(line.split()[1]) / 1024
    except OSError:
        return 4096.0
    return 4096.0


if __name__ == "__main__":
    main()
