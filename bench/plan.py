"""Plan: the jobs of a run, and the key that says whether a stored row still answers a job."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from ..codecs import registry
from ..codecs.base import Codec, CodecCard, Rate
from ..codecs.errors import CodecUnavailableError
from ..codecs.registry import CodecSpec
from ..codecs.sources import sources_sha256
from ..metrics.distortion import Reference
from ..metrics.normals import estimate_normals
from .datasets import CloudRef, open_dataset
from .errors import UsageError
from .row import Row
from .spec import RunSpec
from .weights import with_weights


@dataclass(frozen=True)
class PlannedCodec:
    """A codec that can run: how to create it, its card, its rates, and its fingerprint for keys."""

    spec: CodecSpec
    card: CodecCard
    rates: tuple[Rate, ...]
    fingerprint: dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One codec on one cloud at one rate."""

    codec: PlannedCodec
    cloud: CloudRef
    rate: Rate
    ingredients: dict[str, Any]

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """What names the job for a person, as `store.IDENTITY`."""
        return (self.codec.spec.name, self.rate.name, self.cloud.dataset, self.cloud.name)

    @property
    def key(self) -> str:
        """Hash of everything that the result depends on."""
        return digest(self.ingredients)


@dataclass(frozen=True)
class Plan:
    """What a run has to do.

    Attributes:
        jobs: in the order of running: codec by codec, cloud by cloud, rates low to high.
        unavailable: codec name -> reason and remedy.
        missing_clouds: data set name -> clouds that were asked for and are not there.
    """

    jobs: tuple[Job, ...]
    unavailable: dict[str, str] = field(default_factory=dict)
    missing_clouds: dict[str, list[str]] = field(default_factory=dict)


def digest(value: Any) -> str:
    """Hash of plain values, independent of the order of keys and of how floats were written."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def make_plan(spec: RunSpec, warn: Callable[[str], None]) -> Plan:
    """Find the codecs and clouds of a run and list its jobs.

    Args:
        spec: the run.
        warn: called with a line for each thing that is left out.

    Raises:
        UsageError: a name is unknown, or nothing is left to run.
        PccbenchError: the data sets are missing or wrong, with where to get them.
    """
    clouds, missing = _find_clouds(spec, warn)
    codecs, unavailable = plan_codecs(spec)
    reasons = [
        f"{' and '.join(name for name, why in unavailable.items() if why == reason)} unavailable: {reason}"
        for reason in dict.fromkeys(unavailable.values())
    ]
    if not codecs:
        raise UsageError("; ".join(reasons))
    for reason in reasons:
        warn(reason)
    if spec.rates is not None:
        codecs = _only_rates(codecs, spec.rates, warn)
    jobs = tuple(
        Job(codec, cloud, rate, _ingredients(spec, codec, cloud, rate))
        for codec in codecs
        for cloud in clouds
        for rate in codec.rates
    )
    return Plan(jobs, unavailable, missing)


def plan_codecs(spec: RunSpec) -> tuple[list[PlannedCodec], dict[str, str]]:
    """The codecs of a run that can run here, and why the others cannot."""
    specs = registry.find(spec.codecs, modules=spec.codec_modules, tmc3=spec.tmc3)
    specs = with_weights(specs, spec.weights, allow_untrained=spec.allow_untrained)
    planned, unavailable = [], {}
    for codec_spec in specs:
        try:
            codec = codec_spec.create()
            card = codec.card()
            rates = _checked_rates(codec)
        except CodecUnavailableError as error:
            unavailable[codec_spec.name] = str(error)
            continue
        except Exception as error:  # a third party's code: its fault must not end the others' run
            unavailable[codec_spec.name] = f"{type(error).__name__}: {error}"
            continue
        if not card.trained and not spec.allow_untrained:
            unavailable[codec_spec.name] = (
                "its weights are untrained; --allow-untrained runs it all the same, flagged"
            )
            continue
        planned.append(PlannedCodec(codec_spec, card, rates, registry.fingerprint(codec_spec, codec)))
    return planned, unavailable


def _checked_rates(codec: Codec) -> tuple[Rate, ...]:
    rates = tuple(codec.rates())
    names = [rate.name for rate in rates]
    if not rates or len(set(names)) < len(names):
        raise ValueError(f"rates() must give at least one rate with names of their own, got {names}")
    return rates


def _find_clouds(spec: RunSpec, warn: Callable[[str], None]) -> tuple[list[CloudRef], dict[str, list[str]]]:
    clouds: list[CloudRef] = []
    missing: dict[str, list[str]] = {}
    patterns = None if spec.clouds is None else list(spec.clouds)
    for name in spec.datasets:
        selection = open_dataset(name, spec.data_root).select(patterns)
        clouds += selection.found
        if selection.missing:
            missing[name] = list(selection.missing)
            warn(f"{name}: not there, left out: {', '.join(selection.missing)}")
    if not clouds:
        raise UsageError(f"no cloud to run on in {', '.join(spec.datasets)}")
    return clouds, missing


def _only_rates(
    codecs: list[PlannedCodec], wanted: tuple[str, ...], warn: Callable[[str], None]
) -> list[PlannedCodec]:
    known = sorted({rate.name for codec in codecs for rate in codec.rates})
    for name in wanted:
        if codecs and name not in known:
            near = get_close_matches(name, known, n=3) or known
            raise UsageError(f"no codec of this run has a rate {name!r}; did you mean {', '.join(near)}?")
    chosen = []
    for codec in codecs:
        rates = tuple(rate for rate in codec.rates if rate.name in wanted)
        if rates:
            chosen.append(PlannedCodec(codec.spec, codec.card, rates, codec.fingerprint))
        else:
            warn(f"{codec.spec.name} has none of the rates {', '.join(wanted)}, left out")
    return chosen


def _ingredients(spec: RunSpec, codec: PlannedCodec, cloud: CloudRef, rate: Rate) -> dict[str, Any]:
    return {
        "codec": codec.fingerprint,
        "rate": {"name": rate.name, "lossless": rate.lossless, **rate.parameters},
        "cloud": cloud.fingerprint(),
        "metric": {"sources_sha256": sources_sha256(Reference, estimate_normals), "peak": spec.peak},
    }


def stale_reasons(job: Job, row: Row, spec: RunSpec) -> list[str]:
    """Why a stored row does not answer a job; empty when it does.

    A row of the same key is final, with three exceptions: what was unavailable is tried again, and so is what ran
    out of time or memory when the limit has been raised since, and what lacks secondary metrics that are wanted now.
    """
    if row.job_key == job.key:
        if row.status == "unavailable":
            return ["it was unavailable"]
        limits = {
            "timeout": ("timeout_s", spec.timeout_s),
            "out_of_memory": ("memory_limit_gb", spec.memory_limit_gb),
        }
        if row.status in limits:
            name, now = limits[row.status]
            before = row.limits.get(name)
            if before is not None and (now is None or now > before):
                return [f"{name} was {before:g}, is {'none' if now is None else f'{now:g}'}"]
        if spec.secondary and row.status == "ok" and not row.secondary_passport:
            return ["it has no secondary metrics"]
        return []
    return list(_differences(row.ingredients, job.ingredients)) or ["its key"]


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> Iterable[str]:
    for name in sorted(old.keys() | new.keys()):
        before, now = old.get(name), new.get(name)
        if before == now:
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            yield from _differences(before, now, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name} was {_short(before)}, is {_short(now)}"


def _short(value: Any) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 24 else f"{text[:12]}…"
