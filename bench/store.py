"""Store: the run folder.  Rows are appended to one JSON-lines file, one writer at a time.

    RUN/run.yaml     the description that reproduces the run
    RUN/run.json     schema version and the provenance of every session that wrote to the run
    RUN/rows.jsonl   one row a line, in the order they finished; a later row of the same job replaces an earlier
    RUN/streams/     bitstreams by their hash, when the run keeps them
    RUN/lock         held by the writer

A row is written with one `write` and `fsync`, so kill -9 loses at most the line in flight; a torn last line is
dropped by the next writer and skipped by readers.  `pandas.read_json(RUN/rows.jsonl, lines=True)` works at any time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from . import system
from .errors import StoreError, StoreWriteError
from .row import SCHEMA_VERSION, Row
from .spec import RunSpec

if TYPE_CHECKING:
    import pandas as pd

#: What names a job for a person: the same job with changed ingredients replaces its row.
IDENTITY = ("codec", "rate", "dataset", "cloud")


class Store:
    """Reads a run folder, and appends to it inside `writing()`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
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
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{path}: not readable as a run ({type(error).__name__}: {error})") from None
        if version != SCHEMA_VERSION:
            raise StoreError(
                f"{self.folder}: run folder of schema version {version}, this pccbench reads {SCHEMA_VERSION}; "
                "use the pccbench that wrote it, or another --out"
            )
        return dict(record)

    def provenance(self) -> dict[str, Any]:
        """Provenance of the last session that wrote to the run, with all sessions under `sessions`."""
        sessions = self.record()["sessions"]
        return {**(sessions[-1] if sessions else {}), "sessions": sessions}

    def rows(self) -> list[Row]:
        """The rows, the last one of each job, in the order of their first appearance.

        That a codec was unavailable in one session says nothing once another session has run it.

        Raises:
            StoreError: a line other than the last is damaged, or a row is of another version.
        """
        latest: dict[tuple[Any, ...], Row] = {}
        for number, line in enumerate(self._lines(), start=1):
            try:
                row = Row.from_dict(json.loads(line))
            except (ValueError, TypeError) as error:
                raise StoreError(f"{self._rows_path}:{number}: not a row ({error})") from None
            latest[tuple(getattr(row, name) for name in IDENTITY)] = row
        tried = {row.codec for row in latest.values() if row.cloud}
        return [row for row in latest.values() if row.cloud or row.codec not in tried]

    def frame(self) -> pd.DataFrame:
        """The rows as a data frame, one column a field."""
        import pandas as pd

        columns = list(Row.__dataclass_fields__)
        return pd.DataFrame([row.to_dict() for row in self.rows()], columns=columns)

    def _lines(self) -> Iterator[bytes]:
        if not self._rows_path.is_file():
            return
        for line in self._rows_path.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):  # a last line without its newline is torn, its job was in flight
                yield line

    @contextmanager
    def writing(self, spec: RunSpec, session: dict[str, Any]) -> Iterator[None]:
        """Hold the run as its only writer; creates the folder, or continues an existing run.

        Raises:
            StoreError: the folder is not writable, not a run, or another process writes to it.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / "lock").open("a+b")
        except OSError as error:
            raise StoreError(f"{self.folder}: cannot be written: {error.strerror}") from None
        try:
            if not system.lock_alone(lock):
                raise StoreError(f"{self.folder}: another bench run is writing to this run")
            self._begin(spec, session)
            with self._rows_path.open("ab") as self._file:
                yield
        except OSError as error:
            raise self._write_error(error) from None
        finally:
            self._file = None
            lock.close()

    def _begin(self, spec: RunSpec, session: dict[str, Any]) -> None:
        path = self.folder / "run.json"
        if path.exists():
            record = self.record()
        else:
            foreign = sorted(p.name for p in self.folder.iterdir() if p.name != "lock")
            if foreign:
                raise StoreError(f"{self.folder}: not a run folder and not empty (holds {foreign[0]})")
            record = {"schema_version": SCHEMA_VERSION, "sessions": []}
        record["sessions"].append(session)
        _replace(path, json.dumps(record, indent=1).encode())
        _replace(self.folder / "run.yaml", spec.to_yaml().encode())
        if self._rows_path.exists():
            self._drop_torn_line()

    def _drop_torn_line(self) -> None:
        data = self._rows_path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.truncate(self._rows_path, whole)

    def append(self, row: Row) -> None:
        """Write one row so that it survives a crash right after.

        Raises:
            StoreWriteError: the disk is full or failed; the rows before are safe.
        """
        if self._file is None:
            raise StoreError("append is only possible inside writing()")
        line = json.dumps(row.to_dict(), allow_nan=False, separators=(",", ":")).encode() + b"\n"
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

    def _write_error(self, error: OSError) -> StoreWriteError:
        return StoreWriteError(
            f"{self.folder}: cannot be written: {error.strerror or error}; finished rows are safe, "
            "the same command continues the run"
        )


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
