"""Frame: rows of a run as the reports need them: checked, ordered, and split by metric passport."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from .errors import MixedPassportsError, ReportError
from .text import is_missing, natural_key, number, slug

#: What names a job for a person.
IDENTITY = ("codec", "rate", "dataset", "cloud")

#: Columns without which there is nothing to report.
REQUIRED = (*IDENTITY, "job_key", "status")

#: Columns that hold mappings and lists; absent or None reads as empty.
NESTED: Mapping[str, type] = {
    "sections": dict,
    "missing": dict,
    "passport": dict,
    "secondary_passport": dict,
    "parameters": dict,
    "notes": dict,
    "ingredients": dict,
    "limits": dict,
    "encode_s_samples": list,
    "decode_s_samples": list,
}

#: Scalar columns that reports read, with what an absent one means.
OPTIONAL: Mapping[str, Any] = {
    "phase": "",
    "reason": "",
    "stderr_tail": "",
    "points_in": None,
    "points_out": None,
    "size_bytes": None,
    "rate_bpp": None,
    "d1_mse": None,
    "d1_psnr_db": None,
    "d2_mse": None,
    "d2_psnr_db": None,
    "density_difference": None,
    "density_count_ab": None,
    "density_count_ba": None,
    "normals_f1": None,
    "encode_s": None,
    "decode_s": None,
    "encode_peak_mb": None,
    "decode_peak_mb": None,
    "shares_cores": False,
    "threads": None,
    "lossless": False,
    "codec_title": "",
    "codec_version": "",
    "weights_sha256": None,
    "trained": True,
    "contaminated": False,
    "cloud_sha256": "",
    "stream_sha256": "",
    "started_at": "",
}

#: First columns of results.csv; the others follow in the order of the rows.
LEADING = (
    "codec",
    "rate",
    "dataset",
    "cloud",
    "status",
    "reason",
    "points_in",
    "points_out",
    "size_bytes",
    "rate_bpp",
    "d1_mse",
    "d1_psnr_db",
    "d2_mse",
    "d2_psnr_db",
    "hausdorff_d1_sq",
    "hausdorff_d1_psnr_db",
    "hausdorff_d2_sq",
    "hausdorff_d2_psnr_db",
    "chamfer_sq_mean_sum",
    "chamfer_mean_sum",
    "encode_s",
    "decode_s",
    "encode_peak_mb",
    "decode_peak_mb",
)

#: Passport entries that belong to the cloud, not to the rules: the peak follows the cloud's bit depth, and each cloud
#: has normals of its own, however they were made.
CLOUD_ENTRIES = frozenset({"peak", "normals.sha256", "normals.normalised", "normals.file"})

#: Order of the codecs that ship with the package; others follow by name.
_SHIPPED = ("gpcc-octree", "gpcc-trisoup", "octree", "draco", "sparse", "deepcompress", "dpcc")


@dataclass(frozen=True)
class Section:
    """Rows that may be compared with one another: their metrics were made by the same rules.

    Attributes:
        index: 0, 1, ... in the order of the rows.
        passport: the rules, flat (`normals.source`), without what belongs to a cloud.
        peaks: (data set, cloud) -> what belongs to the cloud.
        rows: the rows, those that failed before the metric included.
    """

    index: int
    passport: Mapping[str, Any]
    peaks: Mapping[tuple[str, str], Mapping[str, Any]]
    rows: pd.DataFrame

    @property
    def label(self) -> str:
        """`A`, `B`, ..."""
        return chr(ord("A") + self.index % 26)


def prepare(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with every column that reports read, in the order in which they are shown.

    A job that occurs more than once under one passport keeps its last row.  Adds `row_id`, the anchor of the row in
    the page.

    Raises:
        ReportError: there are no rows, or a column is missing.
    """
    if not len(rows):
        raise ReportError("there are no rows to report")
    absent = [name for name in REQUIRED if name not in rows.columns]
    if absent:
        raise ReportError(f"the rows lack the columns {', '.join(absent)}")
    frame = rows.reset_index(drop=True)
    for name, kind in NESTED.items():
        values = frame[name] if name in frame.columns else [None] * len(frame)
        cleaned = [value if isinstance(value, kind) else kind() for value in values]
        frame[name] = pd.Series(cleaned, index=frame.index, dtype=object)
    for name, default in OPTIONAL.items():
        values = frame[name] if name in frame.columns else [None] * len(frame)
        cleaned = [default if is_missing(value) else value for value in values]
        frame[name] = pd.Series(cleaned, index=frame.index, dtype=bool if isinstance(default, bool) else object)
    passports = frame["passport"].map(_canonical)
    frame = frame[~frame.assign(_passport=passports).duplicated([*IDENTITY, "_passport"], keep="last")]
    frame = frame.iloc[_display_order(frame)].reset_index(drop=True)
    frame["row_id"] = _row_ids(frame["job_key"])
    return frame


def _canonical(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _row_ids(keys: pd.Series[str]) -> list[str]:
    """Short anchors from the job keys, told apart where keys are equal."""
    seen: dict[str, int] = {}
    ids = []
    for key in keys:
        short = f"job-{slug(str(key))[:12]}"
        count = seen[short] = seen.get(short, 0) + 1
        ids.append(short if count == 1 else f"{short}-{count}")
    return ids


def _display_order(frame: pd.DataFrame) -> list[int]:
    """Positions of the rows: data set, cloud, codec, then rates from low to high."""
    clouds = {key: i for i, key in enumerate(clouds_of(frame))}
    codecs = {name: i for i, name in enumerate(codecs_of(frame))}
    rates = {(codec, rate): i for codec in codecs for i, rate in enumerate(rates_of(frame, codec))}
    keys = [
        (clouds[dataset, cloud], codecs[codec], rates[codec, rate])
        for codec, rate, dataset, cloud in frame[list(IDENTITY)].itertuples(index=False)
    ]
    return sorted(range(len(keys)), key=keys.__getitem__)


def clouds_of(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """(data set, cloud) by name: the order of the rows is that in which parallel jobs happened to end."""
    pairs = set(zip(frame["dataset"], frame["cloud"], strict=True))
    return sorted(pairs, key=lambda pair: (natural_key(pair[0]), natural_key(pair[1])))


def codecs_of(frame: pd.DataFrame) -> list[str]:
    """Codecs in the order in which they are shown: G-PCC first, then ours and Draco, then by name; the floor last."""
    names = sorted(set(frame["codec"]), key=natural_key)
    return sorted(
        names, key=lambda name: (name == "raw", _SHIPPED.index(name) if name in _SHIPPED else len(_SHIPPED))
    )


def rates_of(frame: pd.DataFrame, codec: str) -> list[str]:
    """Rates of a codec from low to high, by the mean of what they cost; those that never ran come by name."""
    mine = frame[frame["codec"] == codec]
    costs: dict[str, list[float]] = {}
    for rate, cost in zip(mine["rate"], mine["rate_bpp"], strict=True):
        value = number(cost)
        costs.setdefault(rate, []).extend([] if value is None else [value])
    known = {rate: sum(values) / len(values) for rate, values in costs.items() if values}
    ordered = sorted(known, key=lambda rate: (known[rate], natural_key(rate)))
    for rate in sorted(set(costs) - set(known), key=natural_key):
        # A rate that failed everywhere goes where its name belongs among the others.
        position = next(
            (i for i, other in enumerate(ordered) if natural_key(other) > natural_key(rate)), len(ordered)
        )
        ordered.insert(position, rate)
    return ordered


def ok(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows whose job succeeded; no figure of another row enters a curve or a mean."""
    return frame[frame["status"] == "ok"]


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as mappings."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def of_cloud(frame: pd.DataFrame, dataset: str, cloud: str) -> pd.DataFrame:
    """The rows of one cloud."""
    return frame[(frame["dataset"] == dataset) & (frame["cloud"] == cloud)]


def finished_clouds(frame: pd.DataFrame, dataset: str, codecs: Sequence[str]) -> list[str]:
    """Clouds of a data set on which every one of the codecs finished every rate that it was run at."""
    clouds = [cloud for name, cloud in clouds_of(frame) if name == dataset]
    finished = {codec: set(finished_by(frame, dataset, codec)) for codec in codecs}
    return [cloud for cloud in clouds if all(cloud in done for done in finished.values())]


def finished_by(frame: pd.DataFrame, dataset: str, codec: str) -> list[str]:
    """Clouds of a data set on which a codec finished every rate that it was run at anywhere in the data set."""
    mine = (frame["dataset"] == dataset) & (frame["codec"] == codec)
    wanted = set(frame["rate"][mine])
    mine &= frame["status"] == "ok"
    done: dict[str, set[str]] = {}
    for cloud, rate in zip(frame["cloud"][mine], frame["rate"][mine], strict=True):
        done.setdefault(cloud, set()).add(rate)
    return [cloud for cloud, rates in done.items() if rates == wanted]


def compared_codecs(frame: pd.DataFrame, dataset: str) -> list[str]:
    """Codecs that enter the means of a data set: those that finished at least one of its clouds."""
    return [codec for codec in codecs_of(frame) if finished_by(frame, dataset, codec)]


def is_lossless(row: Mapping[str, Any], metric: str) -> bool:
    """Whether a distortion of a row (`d1`, `d2`) is exactly zero, where PSNR has no value."""
    return number(row[f"{metric}_mse"]) == 0 == number(row["d1_mse"])


def split_by_passport(frame: pd.DataFrame) -> list[Section]:
    """The rows in sections that may each be compared within themselves.

    Rows belong together when their passports agree in all but what belongs to the cloud (its peak, its normals), and
    when no cloud has two passports.  A row without passport failed before the metric: it goes with the others of its
    cloud.
    """
    places = list(zip(frame["dataset"], frame["cloud"], strict=True))
    passports: list[Mapping[str, Any]] = list(frame["passport"])
    labels = [_rules(passport) if passport else "" for passport in passports]
    whole = [_canonical(passport) for passport in passports]
    # Where one cloud has several passports under the same rules, the most frequent stays with the other clouds.
    counts: dict[tuple[str, tuple[str, str]], Counter[str]] = {}
    for label, place, text in zip(labels, places, whole, strict=True):
        counts.setdefault((label, place), Counter())[text] += 1
    ranks = {
        (*key, text): rank for key, texts in counts.items() for rank, (text, _) in enumerate(texts.most_common())
    }
    labels = [
        f"{label}#{ranks[label, place, text]}" if label else ""
        for label, place, text in zip(labels, places, whole, strict=True)
    ]
    known = list(dict.fromkeys(filter(None, labels))) or [""]
    by_place = dict(reversed([(place, label) for place, label in zip(places, labels, strict=True) if label]))
    labels = [label or by_place.get(place, known[0]) for place, label in zip(places, labels, strict=True)]
    group = pd.Series(labels, index=frame.index, dtype=object)
    return [_section(index, frame[group == label]) for index, label in enumerate(known)]


def require_one_passport(frame: pd.DataFrame) -> None:
    """Refuse rows that must not stand in one table.

    Raises:
        MixedPassportsError: the metrics of these rows were made by different rules, named in the text.
    """
    sections = split_by_passport(frame)
    if len(sections) < 2:
        return
    other = next(row for row in records(sections[1].rows) if row["passport"])
    same_cloud = [
        row["passport"]
        for row in records(sections[0].rows)
        if row["passport"] and (row["dataset"], row["cloud"]) == (other["dataset"], other["cloud"])
    ]
    any_cloud = [row["passport"] for row in records(sections[0].rows) if row["passport"]]
    first, second = _flat((same_cloud or any_cloud)[0]), _flat(other["passport"])
    differing = sorted(key for key in first.keys() | second.keys() if first.get(key) != second.get(key))
    pairs = ", ".join(f"{key} {first.get(key)!r} and {second.get(key)!r}" for key in differing)
    raise MixedPassportsError(f"rows of {len(sections)} metric passports cannot share a table: {pairs}")


def _flat(passport: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The passport with `normals.source` in place of nested mappings."""
    flat: dict[str, Any] = {}
    for key, value in passport.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def _general(passport: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in _flat(passport).items() if key not in CLOUD_ENTRIES}


def _of_its_cloud(passport: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in _flat(passport).items() if key in CLOUD_ENTRIES}


def _rules(passport: Mapping[str, Any]) -> str:
    return _canonical(_general(passport))


def _section(index: int, rows: pd.DataFrame) -> Section:
    passports = [
        (dataset, cloud, passport)
        for dataset, cloud, passport in zip(rows["dataset"], rows["cloud"], rows["passport"], strict=True)
        if passport
    ]
    rules = _general(passports[0][2]) if passports else {}
    peaks = {(dataset, cloud): _of_its_cloud(passport) for dataset, cloud, passport in passports}
    return Section(index, rules, peaks, rows)


def one_peak(frame: pd.DataFrame) -> bool:
    """Whether all rows share the peak of the PSNR, so that decibels may be averaged."""
    return len({number(passport.get("peak")) for passport in frame["passport"] if passport}) < 2


def command_again(row: Mapping[str, Any], spec: Mapping[str, Any]) -> str:
    """The command that makes a row again, from the row and the description of its run."""
    words = ["bench", "run", "--codecs", row["codec"], "--dataset", row["dataset"]]
    words += ["--clouds", row["cloud"], "--rates", row["rate"]]
    for key, option in _SPEC_OPTIONS.items():
        value = spec.get(key)
        for item in value if isinstance(value, list | tuple) else [value]:
            if item is True:
                words.append(option)
            elif item not in (None, False):
                words += [option, str(item)]
    return shlex.join(str(word) for word in words)


#: Settings of a run that change what a row is, and how the command line spells them.
_SPEC_OPTIONS: Mapping[str, str] = {
    "data_root": "--data-root",
    "codec_modules": "--codec-module",
    "tmc3": "--tmc3",
    "peak": "--peak",
    "threads": "--threads",
    "repeats": "--repeats",
    "secondary": "--secondary",
    "allow_untrained": "--allow-untrained",
}


def results(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows as results.csv holds them: scalars as they are, mappings and lists as JSON, leading columns first."""
    table = frame.drop(columns=["row_id"], errors="ignore").copy()
    for name in NESTED:
        table[name] = [json.dumps(value, sort_keys=True, default=str) for value in table[name]]
    scalars = [name for name in table.columns if name not in NESTED and name not in LEADING]
    leading = [name for name in LEADING if name in table.columns]
    return table[[*leading, *scalars, *NESTED]]


def codec_flags(frame: pd.DataFrame, codec: str) -> list[str]:
    """What must be said wherever a codec's figures stand: `untrained`, `contaminated`."""
    mine = frame["codec"] == codec
    flags = []
    if not frame["trained"][mine].all():
        flags.append("untrained")
    if frame["contaminated"][mine].any():
        flags.append("contaminated")
    return flags


def title_of(frame: pd.DataFrame, codec: str) -> str:
    """The codec's name for people, with its flags: `Voxel net [untrained]`."""
    titles = [title for title in frame["codec_title"][frame["codec"] == codec] if title]
    title = titles[-1] if titles else codec
    return "".join([title, *(f" [{flag}]" for flag in codec_flags(frame, codec))])


def fingerprint(frame: pd.DataFrame) -> str:
    """Hash of the rows' keys and streams: says whether two reports were made from the same results."""
    lines = sorted(f"{key} {status} {stream}" for key, status, stream in _identities(frame))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _identities(frame: pd.DataFrame) -> Iterator[tuple[str, str, str]]:
    yield from zip(frame["job_key"], frame["status"], frame["stream_sha256"], strict=True)
