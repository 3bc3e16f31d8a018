"""Text: rows of numbers in plain text."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CloudError


def parse_rows(body: bytes, n_rows: int, dtypes: Sequence[np.dtype[Any]]) -> list[npt.NDArray[Any]]:
    """The first `n_rows` lines of `body` as columns of the given types.

    pandas' C parser reads 858k rows of six columns in 0.3 s where np.fromstring takes 1.7 s and plyfile 20 s.

    Args:
        body: lines of numbers separated by blanks or tabs.
        n_rows: rows expected; checked against the lines that are there before anything is allocated.
        dtypes: type of each column.

    Raises:
        CloudError: too few lines, a line with too few or too many values, a value that is not of its type.
    """
    if not n_rows or not dtypes:
        return [np.empty(0, dtype) for dtype in dtypes]
    if b"\n" not in body:
        body = body.replace(b"\r", b"\n")  # line ends of old
    n_lines = body.count(b"\n") + (0 if body.endswith(b"\n") else bool(body.strip()))
    if n_lines < n_rows:
        raise CloudError(
            f"truncated: the header promises {n_rows:,} points, but only {n_lines:,} lines came ({len(body):,} bytes)"
        )
    first_line = body[: body.find(b"\n")].rstrip(b"\r") if b"\n" in body else body
    n_values = len(first_line.split())
    if n_values != len(dtypes):
        raise CloudError(f"row 0 has {n_values} values, expected {len(dtypes)}")
    exact = any(dtype == np.float64 for dtype in dtypes)
    # One blank as separator is twice as fast as any white space, but only regular files have it.
    regular = first_line == b" ".join(first_line.split())
    reason = ""
    for separator in (" ", r"\s+") if regular else (r"\s+",):
        try:
            table = _parse(body, n_rows, separator, exact)
        except ValueError as error:  # pandas' ParserError is one
            reason = str(error).strip().splitlines()[0]
            continue
        if table.shape == (n_rows, len(dtypes)) and (separator != " " or not np.isnan(table).any()):
            _refuse_short_rows(table, body)
            return _typed(table, dtypes)
        reason = f"{len(table):,} rows of {table.shape[1]} came"
    raise CloudError(f"expected {n_rows:,} rows of {len(dtypes)} numbers: {reason}")


def _parse(body: bytes, n_rows: int, separator: str, exact: bool) -> npt.NDArray[np.float64]:
    import pandas as pd

    # Before 3.1 the default could miss the last of 53 bits; since then it is exact, and the option warns.
    old = tuple(int(part) for part in pd.__version__.split(".")[:2]) < (3, 1)
    options: dict[str, Any] = {"float_precision": "round_trip"} if exact and old else {}
    frame = pd.read_csv(
        io.BytesIO(body),
        sep=separator,
        header=None,
        nrows=n_rows,
        engine="c",
        dtype=np.float64,
        quoting=3,
        encoding="latin-1",
        **options,
    )
    return frame.to_numpy()


def _refuse_short_rows(table: npt.NDArray[np.float64], body: bytes) -> None:
    """Tell a row with too few values, which pandas fills with NaN, from one that says NaN."""
    bad = np.flatnonzero(np.isnan(table).any(axis=1))
    if not len(bad):
        return
    lines = [line for line in body.split(b"\n", int(bad[0]) + 1) if line.strip()]
    n_values = len(lines[bad[0]].split()) if bad[0] < len(lines) else table.shape[1]
    if n_values < table.shape[1]:
        raise CloudError(f"row {bad[0]} has {n_values} values, expected {table.shape[1]}")


def _typed(table: npt.NDArray[np.float64], dtypes: Sequence[np.dtype[Any]]) -> list[npt.NDArray[Any]]:
    columns = []
    for index, dtype in enumerate(dtypes):
        column = table[:, index]
        if dtype.kind == "f":
            with np.errstate(over="ignore"):
                columns.append(column.astype(dtype))
            continue
        bounds = np.iinfo(dtype)
        good = (column >= bounds.min) & (column <= bounds.max) & (np.rint(column) == column)
        if not good.all():
            row = int(np.flatnonzero(~good)[0])
            raise CloudError(f"row {row}, value {index + 1}: {column[row]:.10g} is not of type {dtype.name}")
        columns.append(column.astype(dtype))
    return columns
