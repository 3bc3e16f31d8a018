"""Lane: runs one job after the other: encode, sealed decode, measure.

A lane owns the worker processes of one codec at a time and keeps the clouds that it measured against lately.  A run
with `--jobs N` has N lanes, each in a joblib process on cores of its own.
"""

from __future__ import annotations

import hashlib
import statistics
import tempfile
import time
from collections import OrderedDict
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..codecs.cloud import PointCloud
from ..codecs.errors import PccbenchError
from ..metrics.errors import MetricError
from .plan import Job
from .provenance import utc_now
from .row import Row
from .spec import RunSpec
from .workers import Limits, Reply, Worker, WorkerError

if TYPE_CHECKING:
    from ..metrics.distortion import Distortion, Reference
    from ..metrics.secondary import SecondaryReference

#: Clouds are kept prepared until they hold this many points together.
CACHED_POINTS = 8_000_000


class PreparedCloud:
    """A cloud as the jobs need it: its points in a file for encoders, and indexed for the metrics."""

    def __init__(self, cloud: PointCloud, folder: Path, peak: float | None) -> None:
        self.cloud = cloud
        self.points_path = Path(tempfile.mkstemp(suffix=".npy", dir=folder)[1])
        np.save(self.points_path, cloud.points)
        self._peak = cloud.peak if peak is None else peak
        self.geometry_sha256 = cloud.geometry_sha256()

    @cached_property
    def reference(self) -> Reference:
        """The cloud indexed for the metrics, with normals estimated where it has none."""
        from ..metrics.distortion import Reference

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
        self._shares_cores = shares_cores
        memory = None if spec.memory_limit_gb is None else int(spec.memory_limit_gb * 2**30)
        self._limits = Limits(spec.timeout_s, memory, threads, cores)
        self._clouds: OrderedDict[str, PreparedCloud] = OrderedDict()
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
        """The row of a job, whatever happens in it, and its bitstream (empty when there is none)."""
        row = self._blank(job)
        try:
            encoder, decoder = self._workers(job)
            prepared = self._prepared(job)
        except Exception as error:  # of a cloud that cannot be prepared: one bad job never stops a run
            return replace(row, status="encode_failed", phase="setup", reason=_reason(error)), b""
        row = replace(row, points_in=len(prepared.cloud), cloud_sha256=prepared.geometry_sha256)
        stream = b""
        phase = "encode"
        try:
            encoded = encoder.ask(self._encode_request(job, prepared))
            stream = encoded.payload
            row = replace(row, **_encoded(encoded, len(prepared.cloud)))
            phase = "decode"
            decoded = decoder.ask({"operation": "decode", "repeats": self._spec.repeats}, stream)
            points = _points(decoded)
            row = replace(row, **_timing("decode", decoded), points_out=len(points))
        except WorkerError as error:
            return replace(
                row, status=error.status, phase=phase, reason=error.reason, stderr_tail=error.stderr_tail
            ), stream
        return self._judged(row, job, prepared, points, encoded), stream

    def _blank(self, job: Job) -> Row:
        card = job.codec.card
        return Row(
            job_key=job.key,
            codec=job.codec.spec.name,
            rate=job.rate.name,
            dataset=job.cloud.dataset,
            cloud=job.cloud.name,
            status="ok",
            shares_cores=self._shares_cores,
            threads=self._limits.threads,
            parameters=dict(job.rate.parameters),
            lossless=job.rate.lossless,
            codec_title=card.title or job.codec.spec.name,
            codec_version=card.version,
            weights_sha256=card.weights_sha256,
            trained=card.trained,
            contaminated=job.cloud.source_sha256 in card.training_files_sha256,
            ingredients=job.ingredients,
            limits={"timeout_s": self._spec.timeout_s, "memory_limit_gb": self._spec.memory_limit_gb},
            started_at=utc_now(),
        )

    def _workers(self, job: Job) -> tuple[Worker, Worker]:
        """Both workers of the job's codec, starting side by side: warm-up is not timed."""
        if self._codec != job.codec.spec.name or self._encoder is None or self._decoder is None:
            for worker in (self._encoder, self._decoder):
                if worker is not None:
                    worker.close()
            self._encoder = Worker(job.codec.spec, "encode", self._limits, self._scratch)
            self._decoder = Worker(job.codec.spec, "decode", self._limits, self._scratch)
            self._codec = job.codec.spec.name
        self._encoder.start()
        self._decoder.start()
        return self._encoder, self._decoder

    def _prepared(self, job: Job) -> PreparedCloud:
        identity = f"{job.cloud.dataset}/{job.cloud.name}"
        if identity not in self._clouds:
            cloud = job.cloud.load()
            self._clouds[identity] = PreparedCloud(cloud, self._scratch, self._spec.peak)
            while sum(len(kept.cloud) for kept in self._clouds.values()) > CACHED_POINTS and len(self._clouds) > 1:
                _, dropped = self._clouds.popitem(last=False)
                dropped.points_path.unlink()
        self._clouds.move_to_end(identity)
        return self._clouds[identity]

    def _encode_request(self, job: Job, prepared: PreparedCloud) -> dict[str, Any]:
        cloud, rate = prepared.cloud, job.rate
        return {
            "operation": "encode",
            "points": str(prepared.points_path),
            "bit_depth": cloud.bit_depth,
            "declared_peak": cloud.declared_peak,
            "rate": {"name": rate.name, "parameters": dict(rate.parameters), "lossless": rate.lossless},
            "repeats": self._spec.repeats,
        }

    def _judged(
        self, row: Row, job: Job, prepared: PreparedCloud, points: np.ndarray[Any, Any], encoded: Reply
    ) -> Row:
        """The row with its metrics, and its status: a decoded cloud that is not the promised one is a mismatch."""
        decoded_sha256 = _geometry_sha256(points)
        row = replace(row, reconstruction_sha256=decoded_sha256)
        promised = encoded.fields.get("reconstruction_sha256")
        total = sum(row.sections.values())
        mismatch = ""
        if job.rate.lossless and decoded_sha256 != prepared.geometry_sha256:
            mismatch = "the rate claims to be lossless, but the decoded points are not the input's"
        elif promised is not None and decoded_sha256 != promised:
            mismatch = "the sealed decoder returned other points than the encoder reconstructed"
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
            return replace(row, status="metric_failed", phase="metric", reason=_reason(error))
        row = replace(row, **figures, missing=result.missing, passport=result.passport)
        if mismatch:
            return replace(row, status="mismatch", phase="decode", reason=mismatch)
        return row


def _secondary(prepared: PreparedCloud, points: np.ndarray[Any, Any], result: Distortion) -> dict[str, Any]:
    try:
        figures = prepared.secondary.measure(points, result).columns()
    except MetricError as error:  # of a cloud too small for them, say; the primary metrics stand
        return {"secondary_passport": {"missing": str(error)}}
    return {**figures, "secondary_passport": prepared.secondary.passport}


def _reason(error: Exception) -> str:
    """One line for a person; an error that was not made for people is named."""
    text = " ".join(str(error).split())
    return text if isinstance(error, PccbenchError | MetricError) else f"{type(error).__name__}: {text}"


def _encoded(reply: Reply, points_in: int) -> dict[str, Any]:
    stream = reply.payload
    return {
        **_timing("encode", reply),
        "size_bytes": len(stream),
        "rate_bpp": 8 * len(stream) / points_in if points_in else None,
        "estimated_bits": reply.fields.get("estimated_bits"),
        "sections": dict(reply.fields.get("sections") or {}),
        "notes": dict(reply.fields.get("notes") or {}),
        "stream_sha256": hashlib.sha256(stream).hexdigest(),
    }


def _timing(phase: str, reply: Reply) -> dict[str, Any]:
    return {
        f"{phase}_s": statistics.median(reply.wall_s),
        f"{phase}_s_samples": reply.wall_s,
        f"{phase}_cpu_s": statistics.median(reply.cpu_s),
        f"{phase}_peak_mb": reply.peak_mb,
    }


def _points(reply: Reply) -> np.ndarray[Any, Any]:
    """The decoded points; a worker's word is checked, for a codec runs in it."""
    try:
        points = np.frombuffer(reply.payload, dtype=np.dtype(reply.fields["dtype"])).reshape(-1, 3)
        return PointCloud(points, bit_depth=reply.fields["bit_depth"]).points
    except (KeyError, TypeError, ValueError) as error:
        raise WorkerError("decode_failed", f"the decoded points made no sense: {error}", "") from None


def _geometry_sha256(points: np.ndarray[Any, Any]) -> str:
    return PointCloud(points.astype(np.float64)).geometry_sha256()
