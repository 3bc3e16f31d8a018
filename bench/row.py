"""Row: the result of one job, the unit of the store and of every report."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from functools import cache
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

#: Version of the row's schema; a row of an unknown version is refused, never guessed at.
SCHEMA_VERSION = 2
#: Versions that are read: what version 1 (pccbench 0.1) called unavailable on a cloud is not applicable, and what it
#: did not record is missing.
READABLE_VERSIONS = (1, SCHEMA_VERSION)

Status = Literal[
    "ok",
    "unavailable",
    "encode_failed",
    "decode_failed",
    "timeout",
    "out_of_memory",
    "mismatch",
    "metric_failed",
    "unreadable",
    "not_applicable",
    "disrupted",
]
STATUSES: tuple[str, ...] = get_args(Status)
#: Statuses that `--retry failed` tries again.
FAILED: tuple[str, ...] = tuple(s for s in STATUSES if s not in ("ok", "unavailable", "not_applicable"))


@dataclass(frozen=True)
class Row:
    """One codec on one cloud at one rate.

    A figure that does not exist is None, and `reason` or `missing` says why.  Directions: `ab` is from the
    input to the decoded cloud (pc_error's 1), `ba` the other way (its 2); without either, the symmetric value.

    Attributes:
        job_key: hash of everything that the result depends on.
        ingredients: what went into the key, each with its own hash or value, to tell why a row is stale.
        codec, rate, dataset, cloud: what was run on what.
        status: `ok`; the codec's `encode_failed`, `decode_failed`, `timeout`, `out_of_memory`, `mismatch`; the
            cloud's `unreadable`; `metric_failed`; `not_applicable` (this codec does not code this kind of cloud,
            no failure); `disrupted` (a failure of the moment: worker killed from outside, disk full, file gone,
            interrupted import), which the next run tries again.
        phase: the phase that failed: load, setup, encode, decode, metric; empty when ok.
        reason: one line: exception, exit code or signal; empty when ok.
        stderr_tail: last lines that the worker or tool wrote, when it failed.
        points_in, points_out: points of the input as loaded (after the duplicate policy) and decoded.
        repeats_dropped: points of the file that repeated another and were merged before coding.
        size_bytes: bytes given to the decoder.
        rate_bpp: 8 * size_bytes / points_in.
        estimated_bits: bits that the codec's models predicted, where it has them.
        sections: bytes of each named part of the stream.
        d1_mse ... chamfer: see `pccbench.metrics.distortion`; mean squared errors and squared maxima in squared
            units of the input's coordinates, PSNR in dB.
        missing: metric column -> why it has no value.
        passport: how the metrics were made (peak, normals, duplicates, ties); rows of different passports are
            never put in one table.
        density_difference ... d2_spacing_psnr_db: see `pccbench.metrics.secondary`; None unless they were asked for.
        secondary_passport: how these were made; empty unless they were asked for.
        encode_s, decode_s: median wall seconds over the repeats of the call alone; `*_samples` hold them all.
        encode_cpu_s, decode_cpu_s: CPU seconds of worker and children in the call, mean over the repeats.
        encode_peak_mb, decode_peak_mb: peak resident MiB of worker and children during the phase.
        metric_s: seconds spent on measuring, without indexing the input cloud and estimating its normals.
        seal: what kept the decoder from everything but the bytes (`landlock`, ...; `none` where the system has
            nothing), empty when it did not run.
        shares_cores: whether other timed jobs ran at the same time.
        threads: threads that the worker was pinned to.
        parameters: the rate's parameters.
        lossless: the rate claims to be lossless.
        codec_version, codec_title, weights_sha256, trained, contaminated: from the codec's card; contaminated
            when the cloud's file is among the training files.
        notes: figures that the codec or tool reports of itself.
        limits: timeout_s and memory_limit_gb in force; a larger limit runs a timeout or out_of_memory again.
        cloud_sha256, stream_sha256, reconstruction_sha256: identities.
        started_at: UTC, ISO 8601.
    """

    job_key: str
    codec: str
    rate: str
    dataset: str
    cloud: str
    status: Status
    phase: str = ""
    reason: str = ""
    stderr_tail: str = ""
    points_in: int | None = None
    points_out: int | None = None
    repeats_dropped: int | None = None
    point_ratio: float | None = None
    size_bytes: int | None = None
    rate_bpp: float | None = None
    estimated_bits: float | None = None
    sections: dict[str, int] = field(default_factory=dict)
    d1_mse: float | None = None
    d1_psnr_db: float | None = None
    d1_mse_ab: float | None = None
    d1_mse_ba: float | None = None
    d1_psnr_ab_db: float | None = None
    d1_psnr_ba_db: float | None = None
    d2_mse: float | None = None
    d2_psnr_db: float | None = None
    d2_mse_ab: float | None = None
    d2_mse_ba: float | None = None
    d2_psnr_ab_db: float | None = None
    d2_psnr_ba_db: float | None = None
    hausdorff_d1_sq: float | None = None
    hausdorff_d1_psnr_db: float | None = None
    hausdorff_d1_sq_ab: float | None = None
    hausdorff_d1_sq_ba: float | None = None
    hausdorff_d2_sq: float | None = None
    hausdorff_d2_psnr_db: float | None = None
    hausdorff_d2_sq_ab: float | None = None
    hausdorff_d2_sq_ba: float | None = None
    chamfer_sq_mean_sum: float | None = None
    chamfer_mean_sum: float | None = None
    missing: dict[str, str] = field(default_factory=dict)
    passport: dict[str, Any] = field(default_factory=dict)
    density_difference: float | None = None
    density_count_ab: float | None = None
    density_count_ba: float | None = None
    density_distance_ab: float | None = None
    density_distance_ba: float | None = None
    normals_f1: float | None = None
    d1_spacing_psnr_db: float | None = None
    d2_spacing_psnr_db: float | None = None
    secondary_passport: dict[str, Any] = field(default_factory=dict)
    encode_s: float | None = None
    decode_s: float | None = None
    encode_s_samples: list[float] = field(default_factory=list)
    decode_s_samples: list[float] = field(default_factory=list)
    encode_cpu_s: float | None = None
    decode_cpu_s: float | None = None
    encode_peak_mb: float | None = None
    decode_peak_mb: float | None = None
    metric_s: float | None = None
    seal: str = ""
    shares_cores: bool = False
    threads: int | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    lossless: bool = False
    codec_title: str = ""
    codec_version: str = ""
    weights_sha256: str | None = None
    trained: bool = True
    contaminated: bool = False
    notes: dict[str, Any] = field(default_factory=dict)
    ingredients: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, float | None] = field(default_factory=dict)
    cloud_sha256: str = ""
    stream_sha256: str = ""
    reconstruction_sha256: str = ""
    started_at: str = ""
    schema_version: int = SCHEMA_VERSION

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Any) -> Row | None:
        """The row of a record made by `to_dict`, of this version or of one before.

        Returns:
            The row; None for what version 1 kept of a codec that was unavailable, which is no row any more.

        Raises:
            ValueError: an unknown schema version, or a field is unknown, missing or of another type.
        """
        if not isinstance(record, dict):
            raise ValueError(f"expected an object of fields, got {type(record).__name__}")
        version = record.get("schema_version")
        if version not in READABLE_VERSIONS:
            known = " and ".join(map(str, READABLE_VERSIONS))
            raise ValueError(f"row schema version {version}, this pccbench reads {known}")
        record = {**record, "schema_version": SCHEMA_VERSION}
        if version == 1 and record.get("status") == "unavailable":
            if not record.get("cloud"):
                return None
            record["status"] = "not_applicable"
        _check(record)
        return cls(**record)


def _check(record: dict[str, Any]) -> None:
    """Raise ValueError unless the fields are those of a row, of their types."""
    unknown = sorted(set(record) - set(_kinds()))
    if unknown:
        raise ValueError(f"unknown row fields: {', '.join(unknown)}")
    missing = sorted({f.name for f in fields(Row)[:_REQUIRED]} - set(record))
    if missing:
        raise ValueError(f"row fields are missing: {', '.join(missing)}")
    for name, value in record.items():
        if not _fits(value, _kinds()[name]):
            raise ValueError(f"row field {name} holds a {type(value).__name__}")
    for name in ("encode_s_samples", "decode_s_samples", "sections"):
        entries = record.get(name) or []
        if not all(
            _fits(entry, (int, float)) for entry in (entries if isinstance(entries, list) else entries.values())
        ):
            raise ValueError(f"row field {name} holds what is no number")
    if record["status"] not in STATUSES or record["status"] == "unavailable":
        raise ValueError(f"unknown status {record['status']!r}")


#: The first fields of a row have no default: key, codec, rate, dataset, cloud, status.
_REQUIRED = 6


@cache
def _kinds() -> dict[str, tuple[type, ...]]:
    """Field -> the types that its value may have in JSON."""
    return {name: _types(hint) for name, hint in get_type_hints(Row).items()}


def _types(hint: Any) -> tuple[type, ...]:
    if get_origin(hint) is UnionType:
        return tuple(kind for part in get_args(hint) for kind in _types(part))
    if get_origin(hint) is Literal:
        return (str,)
    kind = get_origin(hint) or hint
    return (float, int) if kind is float else (kind,)


def _fits(value: Any, kinds: tuple[type, ...]) -> bool:
    """Whether a value has one of the types; a truth value is no number."""
    return isinstance(value, kinds) and (not isinstance(value, bool) or bool in kinds)
