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
from .plain import TEXT_LIMIT, csv_cell, line, mapping, name, plain, tail, visible
from .text import natural_key, number, slug

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

#: Columns of text that reports read.
TEXTS = (
    "phase",
    "reason",
    "stderr_tail",
    "seal",
    "codec_title",
    "codec_version",
    "cloud_sha256",
    "stream_sha256",
    "started_at",
)

#: Rate and distances, as both lists of columns below have them.
_FIGURES = (
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
)

#: Columns of numbers that reports read.
NUMBERS = (
    "points_in",
    "points_out",
    "repeats_dropped",
    *_FIGURES,
    "density_difference",
    "density_count_ab",
    "density_count_ba",
    "normals_f1",
    "encode_s",
    "decode_s",
    "encode_peak_mb",
    "decode_peak_mb",
    "threads",
)

#: Truth values that reports read: what an absent one means, and what nonsense means (it counts against the codec).
TRUTHS: Mapping[str, tuple[bool, bool]] = {
    "shares_cores": (False, True),
    "lossless": (False, False),
    "trained": (True, False),
    "contaminated": (False, True),
}

#: Statuses of rows that are told in a notice of their own and enter no table and no count: no job was there to do.
UNAVAILABLE, NOT_APPLICABLE = "unavailable", "not_applicable"

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
    *_FIGURES,
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

    Values of the wrong type are missing ones, text is cut and made visible (see `plain`), and two names that look the
    same afterwards are told apart.  A job that occurs more than once under one passport keeps its last row.  Adds
    `row_id`, the anchor of the row in the page, and `given`, the names as they came.

    Raises:
        ReportError: there are no rows, or a column is missing.
    """
    if not len(rows):
        raise ReportError("there are no rows to report")
    absent = [column for column in REQUIRED if column not in rows.columns]
    if absent:
        raise ReportError(f"the rows lack the columns {', '.join(absent)}")
    columns: dict[str, list[Any]] = {line(column): list(rows[column]) for column in rows.columns}
    nothing = [None] * len(rows)
    columns["given"] = [tuple(map(str, names)) for names in zip(*(columns[key] for key in IDENTITY), strict=True)]
    for key in IDENTITY:
        columns[key] = _names(columns[key])
    for key, kind in NESTED.items():
        tamed = [plain(value) for value in columns.get(key, nothing)]
        columns[key] = [value if isinstance(value, kind) else kind() for value in tamed]
    for key in ("status", *TEXTS):
        write = tail if key == "stderr_tail" else line
        columns[key] = [write(value) for value in columns.get(key, nothing)]
    columns["job_key"] = [line(value) for value in columns["job_key"]]
    for key in NUMBERS:
        columns[key] = [None if number(value) is None else value for value in columns.get(key, nothing)]
    for key, meaning in TRUTHS.items():
        columns[key] = [_truth(value, *meaning) for value in columns.get(key, nothing)]
    known = {"given", *IDENTITY, *NESTED, "status", "job_key", *TEXTS, *NUMBERS, *TRUTHS}
    for key in columns.keys() - known:
        columns[key] = [plain(value) for value in columns[key]]
    frame = pd.DataFrame(
        {key: pd.Series(values, dtype=bool if key in TRUTHS else object) for key, values in columns.items()}
    )
    passports = frame["passport"].map(_canonical)
    frame = frame[~frame.assign(_passport=passports).duplicated([*IDENTITY, "_passport"], keep="last")]
    frame = frame.iloc[_display_order(frame)].reset_index(drop=True)
    frame["row_id"] = _row_ids(frame["job_key"])
    return frame


def _names(values: Sequence[Any]) -> list[str]:
    """Names that can be seen; those that came out alike are numbered."""
    known: dict[str, str] = {}
    taken: set[str] = set()
    for value in values:
        given = value if isinstance(value, str) else line(value)
        if given not in known:
            shown, count = name(given), 1
            while (numbered := shown if count == 1 else f"{shown} ({count})") in taken:
                count += 1
            taken.add(numbered)
            known[given] = numbered
    return [known[value if isinstance(value, str) else line(value)] for value in values]


def _truth(value: Any, absent: bool, nonsense: bool) -> bool:
    value = plain(value)
    if value is None:
        return absent
    return bool(value) if isinstance(value, bool | int | float) and value in (0, 1) else nonsense


def unavailable_codecs(rows: pd.DataFrame, provenance: Mapping[str, Any]) -> dict[str, str]:
    """Codecs that were asked for and could not run here, and why; without those of which there are other rows."""
    found: dict[str, str] = {}
    if "status" in rows.columns and "codec" in rows.columns:
        reasons = rows["reason"] if "reason" in rows.columns else [None] * len(rows)
        ran = set()
        for codec, status, reason in zip(rows["codec"], rows["status"], reasons, strict=True):
            if line(status) == UNAVAILABLE:
                found[name(codec)] = line(reason)
            else:
                ran.add(name(codec))
        told = {**mapping(rows.attrs.get("unavailable")), **mapping(provenance.get("unavailable"))}
        found |= {name(codec): line(reason) for codec, reason in told.items()}
        found = {codec: reason for codec, reason in found.items() if codec not in ran}
    return found


def applicable(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of jobs that were there to do: without codecs that are not here, or do not code this kind of cloud.

    Neither is a failure; `unavailable_codecs` and `not_applicable` tell of them.  Adds `skipped`: the rates that a
    codec does not apply to on the cloud of a row, so that it can be finished without them.
    """
    skipped: dict[tuple[str, str, str], list[str]] = {}
    for codec, dataset, cloud, rate, status in zip(
        *(frame[key] for key in ("codec", "dataset", "cloud", "rate", "status")), strict=True
    ):
        if status == NOT_APPLICABLE:
            skipped.setdefault((codec, dataset, cloud), []).append(rate)
    kept = frame[~frame["status"].isin([NOT_APPLICABLE, UNAVAILABLE])].reset_index(drop=True)
    places = zip(kept["codec"], kept["dataset"], kept["cloud"], strict=True)
    return kept.assign(skipped=pd.Series([tuple(skipped.get(place, ())) for place in places], dtype=object))


def not_applicable(frame: pd.DataFrame) -> set[tuple[str, str, str]]:
    """(codec, data set, cloud) where the codec does not code this kind of cloud, at some rate or at all."""
    mine = frame[frame["status"] == NOT_APPLICABLE]
    return set(zip(mine["codec"], mine["dataset"], mine["cloud"], strict=True))


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
    done: dict[str, set[str]] = {}
    if "skipped" in frame.columns:
        for cloud, rates in zip(frame["cloud"][mine], frame["skipped"][mine], strict=True):
            done.setdefault(cloud, set()).update(rates)
    mine &= frame["status"] == "ok"
    succeeded = set(frame["cloud"][mine])
    for cloud, rate in zip(frame["cloud"][mine], frame["rate"][mine], strict=True):
        done.setdefault(cloud, set()).add(rate)
    return [cloud for cloud, rates in done.items() if cloud in succeeded and rates >= wanted]


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
    codec, rate, dataset, cloud = row.get("given") or (row[key] for key in IDENTITY)
    arguments = ["bench", "run", "--codecs", codec, "--dataset", dataset, "--clouds", cloud, "--rates", rate]
    for key, option in _SPEC_OPTIONS.items():
        value = spec.get(key)
        for item in value if isinstance(value, list | tuple) else [value]:
            if item is True:
                arguments.append(option)
            elif item not in (None, False):
                arguments += [option, str(item)]
    return " ".join(_quoted(str(argument)) for argument in arguments)


def _quoted(argument: str) -> str:
    """The word for a shell; what cannot be seen in bash's escapes, so that it can be copied from a page."""
    argument = argument[: 4 * TEXT_LIMIT]
    shown = visible(argument.replace("\\", "\\\\").replace("'", "\\'"))
    return shlex.quote(argument) if visible(argument) == argument else f"$'{shown}'"


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
    """The rows as results.csv holds them, leading columns first.

    Scalars are as they are, mappings are `key=value; key=value`, lists are apart by blanks.  Text that a spreadsheet
    would take for a formula has an apostrophe in front (`plain.csv_cell`).
    """
    table = frame.drop(columns=["row_id", "given", "skipped"], errors="ignore")
    scalars = [key for key in table.columns if key not in NESTED and key not in LEADING]
    leading = [key for key in LEADING if key in table.columns]
    return for_csv(table[[*leading, *scalars, *NESTED]])


def for_csv(table: pd.DataFrame) -> pd.DataFrame:
    """The table with cells and headings that a spreadsheet shows and does not run."""
    table = table.copy()
    for key in table.columns:
        if not pd.api.types.is_numeric_dtype(table[key].dtype):
            table[key] = pd.Series([csv_cell(value) for value in table[key]], index=table.index, dtype=object)
    return table.rename(columns=csv_cell)


def codec_flags(frame: pd.DataFrame, codec: str) -> list[str]:
    """What must be said wherever a codec's figures stand: `untrained`, `contaminated`."""
    mine = frame["codec"] == codec
    flags = []
    if not frame["trained"][mine].all():
        flags.append("untrained")
    if frame["contaminated"][mine].any():
        flags.append("contaminated")
    return flags


def base_title(frame: pd.DataFrame, codec: str) -> str:
    """The codec's name for people, without flags: `Voxel net`."""
    titles = [title for title in frame["codec_title"][frame["codec"] == codec] if title]
    return str(titles[-1]) if titles else codec


def title_of(frame: pd.DataFrame, codec: str) -> str:
    """The codec's name for people, with its flags: `Voxel net [untrained]`."""
    return "".join([base_title(frame, codec), *(f" [{flag}]" for flag in codec_flags(frame, codec))])


def fingerprint(frame: pd.DataFrame) -> str:
    """Hash of the rows' keys and streams: says whether two reports were made from the same results."""
    lines = sorted(f"{key} {status} {stream}" for key, status, stream in _identities(frame))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _identities(frame: pd.DataFrame) -> Iterator[tuple[str, str, str]]:
    yield from zip(frame["job_key"], frame["status"], frame["stream_sha256"], strict=True)
