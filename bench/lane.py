"""Lane: runs one job after the other: encode, sealed decode, measure.

A lane owns the worker processes of one codec at a time and keeps the clouds that it measured against lately.  A run
with `--jobs N` has N lanes, each in a joblib process on cores of its own.

A row's status blames the right party: the cloud that cannot be loaded or prepared (`unreadable`), the codec, the
metric, or the moment (`disrupted`: disk full, file gone, worker killed from outside), which the next run tries again.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..codecs.cloud import PointCloud
from ..codecs.errors import PccbenchError
from ..metrics.errors import MetricError
from .allowed import data_folders
from .declared import checked_bits, checked_hash, checked_notes, checked_sections, line, tail
from .errors import DeclarationError
from .interrupts import deferred
from .loading import load_cloud
from .moment import is_passing, says_full
from .plan import Job
from .provenance import utc_now
from .row import Row, Status
from .spec import RunSpec
from .workers import Limits, Reply, Worker, WorkerError

if TYPE_CHECKING:
    from ..metrics.distortion import Distortion, Reference
    from ..metrics.secondary import SecondaryReference

#: Clouds are kept prepared until they hold this many points together.
CACHED_POINTS = 8_000_000


class PreparedCloud:
    """A cloud as the jobs need it: for encoders, and indexed for the metrics."""

    def __init__(self, cloud: PointCloud, peak: float | None) -> None:
        self.cloud = cloud
        self._peak = cloud.peak if peak is None else peak
        self.geometry_sha256 = cloud.geometry_sha256()

    @cached_property
    def reference(self) -> Reference:
        """The cloud indexed for the metrics, with normals estimated where it has none."""
        with deferred():
            from ..metrics.distortion import Reference

            if self.cloud.normals is None:
                with contextlib.suppress(ImportError, OSError):  # whoever needs it says what is wrong with it
                    import open3d  # noqa: F401

        normals, origin = self._normals
        return Reference(self.cloud.points, normals, peak=self._peak, normals_origin=origin)

    @cached_property
    def secondary(self) -> SecondaryReference:
        """The cloud indexed for the secondary metrics."""
        from ..metrics.secondary import SecondaryReference

        return SecondaryReference(self.cloud.points, self._normals[0])

    @cached_property
    def _normals(self) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """Normals of the points, estimated where there are none, and where they come from."""
        from ..metrics.normals import checked_normals, estimate_normals

        if self.cloud.normals is None:
            return estimate_normals(self.cloud.points)
        unit, facts = checked_normals(self.cloud.normals)
        if not facts.missing:
            return unit, {"source": "file", **facts.passport()}
        estimated, origin = estimate_normals(self.cloud.points)
        return estimated, {**origin, "file": facts.why_missing("file")}


@dataclass(frozen=True)
class Refusal:
    """Why a cloud cannot be run on: `unreadable`, or `disrupted` where the moment is to blame."""

    status: Status
    reason: str


@dataclass
class Said:
    """What an encoder said beside its bytes, as far as it made sense, and the first thing that did not."""

    sections: dict[str, int] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    estimated_bits: float | None = None
    reconstruction_sha256: str | None = None
    nonsense: str = ""

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Said:
        """What the fields of a worker's reply hold."""
        said = cls()
        checks: dict[str, Callable[[Any], Any]] = {
            "sections": checked_sections,
            "notes": checked_notes,
            "estimated_bits": checked_bits,
            "reconstruction_sha256": checked_hash,
        }
        for name, check in checks.items():
            try:
                setattr(said, name, check(fields.get(name)))
            except DeclarationError as error:
                said.nonsense = said.nonsense or line(error)
        return said


class Lane:
    """Runs jobs one at a time.

    Args:
        spec: limits, repeats and metric options of the run.
        cores: cores that the lane's workers may use, None for all.
        threads: threads of each worker.
        shares_cores: other timed jobs may use the same cores.
        scratch: existing folder for the files of workers.
    """

    def __init__(
        self, spec: RunSpec, *, cores: tuple[int, ...] | None, threads: int, shares_cores: bool, scratch: Path
    ) -> None:
        self._spec = spec
        self._scratch = scratch
        self._hidden = data_folders(spec)
        self._shares_cores = shares_cores
        memory = None if spec.memory_limit_gb is None else int(spec.memory_limit_gb * 2**30)
        self._limits = Limits(spec.timeout_s, memory, threads, cores)
        self._clouds: OrderedDict[tuple[str, str], PreparedCloud] = OrderedDict()
        self._refused: dict[tuple[str, str], Refusal] = {}
        self._codec = ""
        self._encoder: Worker | None = None
        self._decoder: Worker | None = None

    def close(self) -> None:
        """End the workers."""
        for worker in (self._encoder, self._decoder):
            if worker is not None:
                worker.close()
        self._codec = ""

    def run(self, job: Job) -> tuple[Row, bytes]:
        """The row of a job, whatever happens in it, and its bitstream (empty when there is none).

        The status `unavailable` says that the codec cannot run here at all: no row to keep.
        """
        row = blank(job, self._spec, threads=self._limits.threads, shares_cores=self._shares_cores)
        found = self._ready(job)
        if isinstance(found, Row):
            return found, b""
        encoder, decoder, prepared = found
        cloud = prepared.cloud
        row = replace(
            row,
            points_in=len(cloud),
            repeats_dropped=cloud.repeats_dropped,
            cloud_sha256=prepared.geometry_sha256,
        )
        stream = b""
        phase = "encode"
        try:
            encoded = _ask(encoder, self._encode_request(job, prepared))
            stream = bytes(encoded.payload)
            said = Said.of(encoded.fields)
            row = replace(row, **_encoded(encoded, said, len(cloud)))
            phase = "decode"
            decoded = _ask(decoder, {"operation": "decode", "repeats": 1}, stream)
            points = _points(decoded)
            row = replace(row, **_timing("decode", decoded), points_out=len(points), seal=decoder.seal)
            row = replace(row, notes={**row.notes, **encoded.notes("encode"), **decoded.notes("decode")})
        except WorkerError as error:
            row = replace(row, seal=decoder.seal if phase == "decode" else "")
            return self._failed(row, error, phase), stream
        return self._judged(row, job, prepared, points, said), stream

    def repeat(self, job: Job, row: Row) -> tuple[Row, str]:
        """Time a job once more.

        Args:
            job: that is ok.
            row: what it came to before.

        Returns:
            The row with one sample more, or failed where the job failed this time or gave another stream or cloud;
            and a line where the moment kept it from being timed (the row is then as before), else nothing.
        """
        found = self._ready(job)
        if isinstance(found, Row):
            return row, f"{found.status}: {found.reason}"
        encoder, decoder, prepared = found
        phase = "encode"
        try:
            encoded = _ask(encoder, self._encode_request(job, prepared))
            phase = "decode"
            decoded = _ask(decoder, {"operation": "decode", "repeats": 1}, bytes(encoded.payload))
            points = _points(decoded)
        except WorkerError as error:
            failed = self._failed(row, error, phase)
            if failed.status in ("disrupted", "unavailable"):
                return row, f"{failed.status}: {failed.reason}"
            return failed, ""
        number = len(row.decode_s_samples) + 1
        differs = ""
        if hashlib.sha256(encoded.payload).hexdigest() != row.stream_sha256:
            differs = f"repeat {number} gave another stream than the first ({len(encoded.payload)} bytes)"
        elif _geometry_sha256(points) != row.reconstruction_sha256:
            differs = f"repeat {number} decoded other points than the first"
        if differs:
            return replace(row, status="mismatch", phase=phase, reason=differs), ""
        return _one_more("decode", decoded, _one_more("encode", encoded, row)), ""

    def _ready(self, job: Job) -> tuple[Worker, Worker, PreparedCloud] | Row:
        """Workers and cloud of a job; the row that says why not."""
        row = blank(job, self._spec, threads=self._limits.threads, shares_cores=self._shares_cores)
        if job.cloud_identity in self._refused:
            return refused(row, self._refused[job.cloud_identity])
        try:
            encoder, decoder = self._workers(job)
        except Exception as error:  # processes, pipes and folders: nothing of codec or cloud has been touched
            return replace(row, status="disrupted", phase="setup", reason=_reason(error))
        try:
            return encoder, decoder, self._prepared(job)
        except Exception as error:  # of a cloud that cannot be prepared: one bad cloud never stops a run
            refusal = Refusal(_load_status(job, error), _reason(error))
            self._refused[job.cloud_identity] = refusal
            return refused(row, refusal)

    def _failed(self, row: Row, error: WorkerError, phase: str) -> Row:
        status, reason, stderr = error.status, line(error.reason), tail(error.stderr_tail)
        was_cleaned = not self._scratch.is_dir()  # by somebody, meanwhile
        if was_cleaned or (status in ("encode_failed", "decode_failed") and says_full(reason, stderr)):
            status = "disrupted"
        return replace(row, status=status, phase=phase, reason=reason, stderr_tail=stderr)

    def _workers(self, job: Job) -> tuple[Worker, Worker]:
        """Both workers of the job's codec, starting side by side: warm-up is not timed."""
        if self._codec != job.codec.spec.name or self._encoder is None or self._decoder is None:
            for worker in (self._encoder, self._decoder):
                if worker is not None:
                    worker.close()
            self._encoder = Worker(job.codec.spec, "encode", self._limits, self._scratch, self._hidden)
            self._decoder = Worker(job.codec.spec, "decode", self._limits, self._scratch, self._hidden)
            self._codec = job.codec.spec.name
        self._encoder.start()
        self._decoder.start()
        return self._encoder, self._decoder

    def _prepared(self, job: Job) -> PreparedCloud:
        identity = job.cloud_identity
        if identity not in self._clouds:
            cloud = load_cloud(job.cloud, self._limits.memory_bytes, self._limits.timeout_s, self._scratch)
            self._clouds[identity] = PreparedCloud(cloud, self._spec.peak)
            while sum(len(kept.cloud) for kept in self._clouds.values()) > CACHED_POINTS and len(self._clouds) > 1:
                self._clouds.popitem(last=False)
        self._clouds.move_to_end(identity)
        return self._clouds[identity]

    def _encode_request(self, job: Job, prepared: PreparedCloud) -> dict[str, Any]:
        cloud, rate = prepared.cloud, job.rate
        return {
            "operation": "encode",
            "points": cloud.points,
            "bit_depth": cloud.bit_depth,
            "declared_peak": cloud.declared_peak,
            "rate": {"name": rate.name, "parameters": dict(rate.parameters), "lossless": rate.lossless},
            "repeats": 1,
        }

    def _judged(self, row: Row, job: Job, prepared: PreparedCloud, points: np.ndarray[Any, Any], said: Said) -> Row:
        """The row with its metrics, and its status: a decoded cloud that is not the promised one is a mismatch."""
        decoded_sha256 = _geometry_sha256(points)
        row = replace(row, reconstruction_sha256=decoded_sha256)
        promised = said.reconstruction_sha256
        total = sum(row.sections.values())
        mismatch = ""
        if job.rate.lossless and decoded_sha256 != prepared.geometry_sha256:
            mismatch = "the rate claims to be lossless, but the decoded points are not the input's"
        elif promised is not None and decoded_sha256 != promised:
            mismatch = "the sealed decoder returned other points than the encoder reconstructed"
        elif said.nonsense:
            mismatch = said.nonsense
        elif total != row.size_bytes:
            mismatch = f"the sections sum to {total} bytes, the stream has {row.size_bytes}"
        try:
            reference = prepared.reference  # made once for all jobs of a cloud: no time of this one
            start = time.perf_counter()
            result = reference.measure(points)
            figures: dict[str, Any] = {**result.columns(), "metric_s": time.perf_counter() - start}
            if self._spec.secondary:
                figures |= _secondary(prepared, points, result)
        except Exception as error:  # whatever the points made of the metric or of open3d
            status: Status = "disrupted" if is_passing(error) else "metric_failed"
            return replace(row, status=status, phase="metric", reason=_reason(error))
        row = replace(row, **figures, missing=result.missing, passport=result.passport)
        if mismatch:
            return replace(row, status="mismatch", phase="decode", reason=mismatch)
        return row


def blank(job: Job, spec: RunSpec, *, threads: int, shares_cores: bool) -> Row:
    """The row of a job of which nothing is known yet."""
    card = job.codec.card
    dataset, cloud = job.cloud_identity
    return Row(
        job_key=job.key,
        codec=job.codec.spec.name,
        rate=job.rate.name,
        dataset=dataset,
        cloud=cloud,
        status="ok",
        shares_cores=shares_cores,
        threads=threads,
        parameters=dict(job.rate.parameters),
        lossless=job.rate.lossless,
        codec_title=card.title or job.codec.spec.name,
        codec_version=card.version,
        weights_sha256=card.weights_sha256,
        trained=card.trained,
        contaminated=job.is_contaminated,
        ingredients=job.ingredients,
        limits={"timeout_s": spec.timeout_s, "memory_limit_gb": spec.memory_limit_gb},
        started_at=utc_now(),
    )


def refused(row: Row, refusal: Refusal) -> Row:
    """The row of a job whose cloud cannot be run on."""
    return replace(row, status=refusal.status, phase="load", reason=refusal.reason)


def _load_status(job: Job, error: Exception) -> Status:
    """Whose fault it is that a cloud could not be loaded and prepared: its own, or that of the moment."""
    path = getattr(job.cloud, "path", None)
    was_there = "unreadable" not in job.ingredients["cloud"]
    is_gone = was_there and isinstance(path, Path) and not path.exists()
    return "disrupted" if is_gone or is_passing(error) else "unreadable"


def _secondary(prepared: PreparedCloud, points: np.ndarray[Any, Any], result: Distortion) -> dict[str, Any]:
    try:
        figures = prepared.secondary.measure(points, result).columns()
    except MetricError as error:  # of a cloud too small for them, say; the primary metrics stand
        return {"secondary_passport": {"missing": str(error)}}
    return {**figures, "secondary_passport": prepared.secondary.passport}


def _reason(error: Exception) -> str:
    """One line for a person; an error that was not made for people is named."""
    words = line(error)
    return words if isinstance(error, PccbenchError | MetricError) else line(f"{type(error).__name__}: {words}")


def _encoded(reply: Reply, said: Said, points_in: int) -> dict[str, Any]:
    stream = reply.payload
    return {
        **_timing("encode", reply),
        "size_bytes": len(stream),
        "rate_bpp": 8 * len(stream) / points_in if points_in else None,
        "estimated_bits": said.estimated_bits,
        "sections": said.sections,
        "notes": said.notes,
        "stream_sha256": hashlib.sha256(stream).hexdigest(),
    }


def _ask(worker: Worker, request: dict[str, Any], payload: bytes | None = None) -> Reply:
    """A worker's answer; one that timed no call is none, and a process that cannot start is the moment's fault."""
    phase = request["operation"]
    try:
        reply = worker.ask(request, payload)
    except OSError as error:
        raise WorkerError("disrupted", _reason(error), "") from None
    if not reply.wall_s or len(reply.wall_s) != len(reply.cpu_s):
        failed: Status = "decode_failed" if phase == "decode" else "encode_failed"
        raise WorkerError(failed, f"the worker's reply made no sense (no {phase} was timed)", "")
    return reply


def _timing(phase: str, reply: Reply) -> dict[str, Any]:
    return {
        f"{phase}_s": reply.typical_s,
        f"{phase}_s_samples": reply.wall_s,
        f"{phase}_cpu_s": reply.typical_cpu_s,
        f"{phase}_peak_mb": reply.peak_mb,
        f"{phase}_asleep_s": reply.asleep_s,
        f"{phase}_load": reply.others_load,
    }


def _one_more(phase: str, reply: Reply, row: Row) -> Row:
    """The row with the samples of a reply beside its own."""
    before = getattr(row, f"{phase}_s_samples")
    cpu_s = getattr(row, f"{phase}_cpu_s") or 0.0
    all_of_them = Reply(wall_s=[*before, *reply.wall_s])
    if not all_of_them.is_remembered:
        cpu_s = (cpu_s * len(before) + sum(reply.cpu_s)) / len(all_of_them.wall_s)
    figures: dict[str, Any] = {
        f"{phase}_s": all_of_them.typical_s,
        f"{phase}_s_samples": all_of_them.wall_s,
        f"{phase}_cpu_s": cpu_s,
        f"{phase}_asleep_s": _mean(getattr(row, f"{phase}_asleep_s"), reply.asleep_s, len(before)),
        f"{phase}_load": _mean(getattr(row, f"{phase}_load"), reply.others_load, len(before)),
        f"{phase}_peak_mb": max(getattr(row, f"{phase}_peak_mb") or 0.0, reply.peak_mb),
    }
    kept = {name: note for name, note in row.notes.items() if name != f"{phase}_s_is"}
    return replace(row, **figures, notes={**kept, **all_of_them.notes(phase)})


def _mean(mean: float | None, one_more: float | None, count: int) -> float | None:
    """The mean of `count` values with one more; None where either is not known."""
    return None if mean is None or one_more is None else (mean * count + one_more) / (count + 1)


def _points(reply: Reply) -> np.ndarray[Any, Any]:
    """The decoded points; a worker's word is checked, for a codec runs in it."""
    try:
        points = np.frombuffer(reply.payload, dtype=np.dtype(reply.fields["dtype"])).reshape(-1, 3)
        return PointCloud(points, bit_depth=reply.fields["bit_depth"]).points
    except (KeyError, TypeError, ValueError) as error:
        raise WorkerError("decode_failed", f"the decoded points made no sense: {line(error)}", "") from None


def _geometry_sha256(points: np.ndarray[Any, Any]) -> str:
    return PointCloud(points.astype(np.float64)).geometry_sha256()
