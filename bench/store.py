"""Store: the run folder.  Rows are appended to one JSON-lines file, one writer at a time.

    RUN/run.yaml     the description that reproduces the run
    RUN/run.json     schema version and the provenance of every session that wrote to the run
    RUN/rows.jsonl   one row a line, in the order they finished; a later row of the same job replaces an earlier
    RUN/streams/     bitstreams by their hash, when the run keeps them
    RUN/lock         held by the writer

A row is written with one `write` and `fsync`, so kill -9 loses at most the line in flight; a torn last line is
dropped by the next writer and skipped by readers.  `pandas.read_json(RUN/rows.jsonl, lines=True)` works at any time.
Lines that are no rows (a disk's fault, an editor's) are skipped by readers, who can ask which; the next writer, or
`bench repair`, drops them and keeps the file as it was as `rows.jsonl.damaged-N`.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from .declared import plain, tail, text
from .errors import StoreError, StoreWriteError
from .row import READABLE_VERSIONS, SCHEMA_VERSION, Row
from .spec import RunSpec

if TYPE_CHECKING:
    import pandas as pd

#: What names a job for a person: the same job with changed ingredients replaces its row.
IDENTITY = ("codec", "rate", "dataset", "cloud")


@dataclass(frozen=True)
class Damage:
    """Lines of rows.jsonl that are no rows.

    Attributes:
        lines: line number, from 1 -> what is wrong with it.
        replaced: numbers of rows that a later row of the same job replaces; sound, and of no more use.
        backup: where the file as it was is kept; None where nothing was changed.
    """

    lines: dict[int, str] = field(default_factory=dict)
    replaced: tuple[int, ...] = ()
    backup: Path | None = None

    def __bool__(self) -> bool:
        return bool(self.lines)

    @property
    def text(self) -> str:
        """`2 lines that are no rows (3: ...; 7: ...)`."""
        some = [f"{number}: {why}" for number, why in list(self.lines.items())[:5]]
        more = [f"and {len(self.lines) - len(some)} more"] if len(self.lines) > len(some) else []
        count = "1 line that is no row" if len(self.lines) == 1 else f"{len(self.lines)} lines that are no rows"
        return f"{count} ({'; '.join([*some, *more])})"


class Store:
    """Reads a run folder, and appends to it inside `writing()`.

    Attributes:
        folder: of the run.
        repaired: what `writing()` found damaged and dropped.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repaired = Damage()
        self._rows_path = folder / "rows.jsonl"
        self._file: IO[bytes] | None = None

    @classmethod
    def open(cls, folder: Path) -> Store:
        """An existing run.

        Raises:
            StoreError: the folder is no run, or one of another version.
        """
        store = cls(folder)
        if not (folder / "run.json").is_file():
            raise StoreError(f"{folder}: not a run folder (it has no run.json)")
        store.record()
        return store

    def record(self) -> dict[str, Any]:
        """The content of run.json.

        Raises:
            StoreError: it is damaged or of another version.
        """
        path = self.folder / "run.json"
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            version, _ = record["schema_version"], list(record["sessions"])
            if not all(isinstance(session, dict) for session in record["sessions"]):
                raise TypeError("a session is no object")
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            hint = f"; bench repair {self.folder} starts it anew" if self._rows_path.is_file() else ""
            raise StoreError(f"{path}: not readable as a run ({type(error).__name__}: {error}){hint}") from None
        if version not in READABLE_VERSIONS:
            raise StoreError(
                f"{self.folder}: run folder of schema version {version}, this pccbench reads "
                f"{' and '.join(map(str, READABLE_VERSIONS))}; use the pccbench that wrote it, or another --out"
            )
        return dict(record)

    def provenance(self) -> dict[str, Any]:
        """Provenance of the last session that wrote to the run, with all sessions under `sessions`."""
        sessions = self.record()["sessions"]
        last = sessions[-1] if sessions else {}
        ran = {row.codec for row in self.rows()}  # what could not run in one session has run in another
        absent = {codec: why for codec, why in (last.get("unavailable") or {}).items() if codec not in ran}
        return {**last, "unavailable": absent, "sessions": sessions}

    def rows(self) -> list[Row]:
        """The rows, the last one of each job, in the order of their first appearance; damaged lines are skipped.

        Raises:
            StoreError: the file cannot be read.
        """
        latest: dict[tuple[Any, ...], Row] = {}
        for _, _, row in self._scan():
            if isinstance(row, Row):
                latest[identity(row)] = row
        return list(latest.values())

    def damage(self) -> Damage:
        """Which lines are no rows, and why.

        Raises:
            StoreError: the file cannot be read.
        """
        bad: dict[int, str] = {}
        latest: dict[tuple[Any, ...], int] = {}
        replaced: list[int] = []
        for number, _, row in self._scan():
            if isinstance(row, str):
                bad[number] = row
            elif isinstance(row, Row):
                if identity(row) in latest:
                    replaced.append(latest[identity(row)])
                latest[identity(row)] = number
        return Damage(bad, tuple(sorted(replaced)))

    def _scan(self) -> Iterator[tuple[int, bytes, Row | str | None]]:
        """Number and text of each line; its row, or what is wrong with it, or None for what is no row any more."""
        for number, line in enumerate(self._lines(), start=1):
            try:
                row: Row | str | None = Row.from_dict(_parsed(line))
            except (ValueError, TypeError, RecursionError) as error:
                row = text(" ".join(str(error).split()), 120)
            yield number, line, row

    def frame(self) -> pd.DataFrame:
        """The rows as a data frame, one column a field."""
        import pandas as pd

        columns = list(Row.__dataclass_fields__)
        return pd.DataFrame([row.to_dict() for row in self.rows()], columns=columns)

    def _lines(self) -> Iterator[bytes]:
        if not self._rows_path.is_file():
            return
        try:
            data = self._rows_path.read_bytes()
        except OSError as error:
            raise StoreError(f"{self._rows_path}: cannot be read: {error.strerror}") from None
        *lines, _torn = data.split(b"\n")  # what follows the last newline is torn, its job was in flight
        yield from lines

    @contextmanager
    def writing(self, spec: RunSpec, session: dict[str, Any]) -> Iterator[None]:
        """Hold the run as its only writer; creates the folder, or continues an existing run.

        Raises:
            StoreError: the folder is not writable, not a run, or another process writes to it.
            StoreWriteError: the disk is full or failed, or the folder has gone meanwhile.
        """
        with self._locked():
            try:
                self._begin(spec, session)
                file = self._rows_path.open("ab")
            except OSError as error:
                raise self._write_error(error) from None
            with file:
                self._file = file
                try:
                    yield
                    self._check_there()
                finally:
                    self._file = None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the run's folder, which is made if there is none, against other writers."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / "lock").open("a+b")
        except OSError as error:
            raise StoreError(f"{self.folder}: cannot be written: {error.strerror}") from None
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StoreError(f"{self.folder}: another bench run is writing to this run") from None
            yield
        finally:
            lock.close()

    def _begin(self, spec: RunSpec, session: dict[str, Any]) -> None:
        path = self.folder / "run.json"
        if path.exists():
            record = self.record()
        else:
            foreign = sorted(p.name for p in self.folder.iterdir() if p.name != "lock")
            if foreign:
                raise StoreError(f"{self.folder}: not a run folder and not empty (holds {foreign[0]})")
            record = {"sessions": []}
        record["schema_version"] = SCHEMA_VERSION
        record["sessions"].append(session)
        self._write_record(record)
        _replace(self.folder / "run.yaml", spec.to_yaml().encode())
        if self._rows_path.exists():
            self._drop_torn_line()
            if found := self.damage():
                self.repaired = self._drop(found, drop_replaced=False)

    def _write_record(self, record: dict[str, Any]) -> None:
        _replace(self.folder / "run.json", json.dumps(record, indent=1, allow_nan=False).encode())

    def amend_session(self, **facts: Any) -> None:
        """Add what came out during this session to its record in run.json; only inside `writing()`.

        Raises:
            StoreWriteError: it could not be written.
        """
        self._check_there()
        record = self.record()
        record["sessions"][-1].update(facts)
        try:
            self._write_record(record)
        except OSError as error:
            raise self._write_error(error) from None

    def repair(self) -> Damage:
        """Drop the lines that are no rows and the rows that later ones replace; the file as it was is kept beside it.

        A run.json that cannot be read is started anew, and kept, too.

        Returns:
            What was dropped; `backup` is None where rows.jsonl was left as it is.

        Raises:
            StoreError: the folder is no run, or another process writes to it.
            StoreWriteError: the disk is full or failed; nothing was changed.
        """
        path = self.folder / "run.json"
        if not path.is_file() and not self._rows_path.is_file():
            raise StoreError(f"{self.folder}: not a run folder (it has neither run.json nor rows.jsonl)")
        with self._locked():
            try:
                self._repair_record()
                if not self._rows_path.is_file():
                    return Damage()
                found = self.damage()
                needed = found or found.replaced or self._has_torn_line()
                return self._drop(found, drop_replaced=True) if needed else found
            except OSError as error:
                raise self._write_error(error) from None

    def _repair_record(self) -> None:
        path = self.folder / "run.json"
        try:
            self.record()
        except StoreError as error:
            if "not readable" not in str(error):  # of another version: sound, and not ours
                raise
            if path.is_file():
                path.replace(_free_name(path))
            self._write_record({"schema_version": SCHEMA_VERSION, "sessions": []})

    def _drop(self, found: Damage, *, drop_replaced: bool) -> Damage:
        """Rewrite rows.jsonl without what was found, after a copy of it was made."""
        data = self._rows_path.read_bytes()
        backup = _free_name(self._rows_path)
        dropped = {*found.lines, *(found.replaced if drop_replaced else ())}
        kept = [line for number, line in enumerate(self._lines(), start=1) if number not in dropped]
        _replace(backup, data)
        _replace(self._rows_path, b"".join(line + b"\n" for line in kept))
        return Damage(found.lines, found.replaced if drop_replaced else (), backup)

    def _has_torn_line(self) -> bool:
        data = self._rows_path.read_bytes()
        return bool(data) and not data.endswith(b"\n")

    def _drop_torn_line(self) -> None:
        data = self._rows_path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.truncate(self._rows_path, whole)

    def append(self, row: Row) -> None:
        """Write one row so that it survives a crash right after.

        Whatever the row holds, the line is valid JSON: long texts are cut, and a figure that is no number is missing.

        Raises:
            StoreWriteError: the disk is full or failed, and the rows before are safe; or the folder has gone.
        """
        if self._file is None:
            raise StoreError("append is only possible inside writing()")
        line = json.dumps(_storable(row), allow_nan=False, separators=(",", ":")).encode() + b"\n"
        self._check_there()
        try:
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._write_error(error) from None

    def keep_stream(self, sha256: str, data: bytes) -> None:
        """Keep a bitstream under its hash.

        Raises:
            StoreWriteError: it could not be written.
        """
        path = self.folder / "streams" / f"{sha256}.bin"
        if path.exists():
            return
        try:
            path.parent.mkdir(exist_ok=True)
            _replace(path, data)
        except OSError as error:
            raise self._write_error(error) from None

    def _check_there(self) -> None:
        """See that the file being written is the one that the next reader will find.

        Raises:
            StoreWriteError: the run folder was deleted or moved away meanwhile.
        """
        try:
            found = self._rows_path.stat()
            is_there = self._file is None or os.path.samestat(found, os.fstat(self._file.fileno()))
        except FileNotFoundError:
            is_there = False
        if not is_there:
            raise StoreWriteError(
                f"{self.folder}: the run folder was deleted or moved while the run wrote to it; its rows are lost "
                "unless the folder comes back, and the same command runs them again"
            )

    def _write_error(self, error: OSError) -> StoreWriteError:
        return StoreWriteError(
            f"{self.folder}: cannot be written: {error.strerror or error}; finished rows are safe, "
            "the same command continues the run"
        )


def identity(row: Row) -> tuple[Any, ...]:
    """What names the row's job for a person."""
    return tuple(getattr(row, name) for name in IDENTITY)


def _parsed(line: bytes) -> Any:
    """The JSON of a line; NaN, which JSON has not, and a name that stands twice are refused."""
    return json.loads(line, parse_constant=_refused_constant, object_pairs_hook=_object)


def _refused_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a field stands twice")
    return made


def _storable(row: Row) -> dict[str, Any]:
    """The row's fields as JSON can hold them."""
    record = row.to_dict()
    record["stderr_tail"] = tail(row.stderr_tail)
    missing = dict(row.missing)
    for name, value in record.items():
        if isinstance(value, float) and (kept := plain(value)) is None:
            record[name] = kept
            missing[name] = f"came out as {value}"
        else:
            record[name] = plain(value)
        if name.endswith("_samples"):
            record[name] = [sample for sample in record[name] if sample is not None]
    return {**record, "missing": plain(missing)}


def _free_name(path: Path) -> Path:
    """`NAME.damaged-N` with the first N that is free."""
    number = 1
    while (name := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return name


def _replace(path: Path, data: bytes) -> None:
    """Write a whole file or nothing."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with scratch.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
