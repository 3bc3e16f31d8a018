"""Plan: the jobs of a run, and the key that says whether a stored row still answers a job."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from ..codecs import registry
from ..codecs.base import CodecCard, Rate
from ..codecs.errors import CloudError, PccbenchError
from ..codecs.registry import CodecSpec
from ..codecs.sources import sources_sha256
from ..metrics.distortion import Reference
from ..metrics.normals import estimate_normals
from .datasets import CloudRef, Selection, open_dataset
from .declared import checked_card, checked_rates, is_name, line, text
from .errors import UsageError
from .row import FAILED, Row
from .spec import RunSpec


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
        return (self.codec.spec.name, self.rate.name, *self.cloud_identity)

    @property
    def is_contaminated(self) -> bool:
        """Whether the cloud's file is among those that the codec was trained on."""
        return self.ingredients["cloud"].get("source_sha256") in self.codec.card.training_files_sha256

    @property
    def cloud_identity(self) -> tuple[str, str]:
        """Names of the data set and the cloud as rows and pages can hold them: a file's name may be no UTF-8."""
        return text(self.cloud.dataset), text(self.cloud.name)

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
    sources = [_source(cloud) for cloud in clouds]
    jobs = tuple(
        Job(codec, cloud, rate, _ingredients(spec, codec, source, rate))
        for codec in codecs
        for cloud, source in zip(clouds, sources, strict=True)
        for rate in codec.rates
    )
    return Plan(jobs, unavailable, missing)


def plan_codecs(spec: RunSpec) -> tuple[list[PlannedCodec], dict[str, str]]:
    """The codecs of a run that can run here, and why the others cannot."""
    specs = registry.find(spec.codecs, modules=spec.codec_modules, tmc3=spec.tmc3)
    planned: list[PlannedCodec] = []
    unavailable: dict[str, str] = {}
    for codec_spec in specs:
        name = line(codec_spec.name, 100)
        if not is_name(codec_spec.name):
            unavailable[name] = "its name must be a word of 1 to 100 printable characters"
            continue
        try:
            planned.append(_planned(codec_spec))
        except PccbenchError as error:
            unavailable[name] = line(error)
        except (Exception, SystemExit) as error:  # a third party's code: its fault must not end the others' run
            unavailable[name] = line(f"{type(error).__name__}: {text(error)}")
        else:
            if not planned[-1].card.trained and not spec.allow_untrained:
                planned.pop()
                unavailable[name] = "its weights are untrained; --allow-untrained runs it all the same, flagged"
    return planned, unavailable


def _planned(spec: CodecSpec) -> PlannedCodec:
    """The codec with what it says of itself, checked."""
    codec = spec.create()
    card, rates = checked_card(codec.card()), checked_rates(codec.rates())
    said = {"version": card.version, "weights_sha256": card.weights_sha256, "tool_sha256": card.tool_sha256}
    fingerprint = {key: said.get(key, value) for key, value in registry.fingerprint(spec, codec).items()}
    return PlannedCodec(spec, card, rates, fingerprint)


def _find_clouds(spec: RunSpec, warn: Callable[[str], None]) -> tuple[list[CloudRef], dict[str, list[str]]]:
    clouds: list[CloudRef] = []
    missing: dict[str, list[str]] = {}
    for name, selection in _selections(spec, warn):
        clouds += selection.found
        if selection.missing:
            missing[text(name)] = [text(one) for one in selection.missing]
            warn(f"{name}: not there, left out: {', '.join(selection.missing)}")
    if not clouds:
        raise UsageError(f"no cloud to run on in {', '.join(spec.datasets)}")
    return clouds, missing


def _selections(spec: RunSpec, warn: Callable[[str], None]) -> Iterable[tuple[str, Selection]]:
    """The clouds of each data set; with several data sets a pattern has to match in one of them only."""
    is_only = len(spec.datasets) == 1
    selections = {
        name: open_dataset(name, spec.data_root, spec.columns).select(spec.clouds, must_match=is_only)
        for name in spec.datasets
    }
    for pattern in spec.clouds or ():
        if all(pattern in selection.unmatched for selection in selections.values()):
            near = dict.fromkeys(name for selection in selections.values() for name in selection.unmatched[pattern])
            shown = ", ".join(name.replace(",", r"\,") for name in list(near)[:5])  # as the command line takes it
            raise UsageError(f"no data set of this run has a cloud {pattern!r}; did you mean {shown}?")
    for name, selection in selections.items():
        if selection.found or selection.missing:
            yield name, selection
        else:
            warn(f"{name}: holds none of the clouds {', '.join(spec.clouds or ())}, left out")


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


def _source(cloud: CloudRef) -> dict[str, Any]:
    """What determines a cloud; one that cannot be read costs its own rows alone, and mended it is another cloud."""
    try:
        return cloud.fingerprint()
    except CloudError as error:
        return {"unreadable": line(error)}


def _ingredients(spec: RunSpec, codec: PlannedCodec, source: dict[str, Any], rate: Rate) -> dict[str, Any]:
    return {
        "codec": codec.fingerprint,
        "rate": {"name": rate.name, "lossless": rate.lossless, **rate.parameters},
        "cloud": source,
        "metric": {"sources_sha256": sources_sha256(Reference, estimate_normals), "peak": spec.peak},
    }


def stale_reasons(job: Job, row: Row, spec: RunSpec) -> list[str]:
    """Why a stored row does not answer a job; empty when it does.

    A row of the same key is final, with these exceptions: what was disrupted is tried again, and so is what the run
    asks to `retry`, what ran out of time or memory when the limit has been raised since, and what lacks secondary
    metrics that are wanted now.  (Repeats that are wanted now are added to a row, see `missing_repeats`.)
    """
    if row.job_key == job.key:
        if row.status == "disrupted":
            return ["it was disrupted"]
        if row.status in spec.retry or ("failed" in spec.retry and row.status in FAILED):
            return [f"--retry asks for {row.status} again"]
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


def missing_repeats(row: Row, spec: RunSpec) -> int:
    """How many repeats a row lacks that the run asks for; 0 for a row that is not ok."""
    return max(0, spec.repeats - len(row.decode_s_samples)) if row.status == "ok" else 0


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
