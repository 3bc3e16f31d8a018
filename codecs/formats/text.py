"""Text: numbers in plain text, told apart by white space wherever the lines end."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CloudError

#: Texts from this size on are parsed by pandas, whose C parser reads 5 M numbers in 0.6 s where Python takes 3 s;
#: smaller ones are read before pandas would be imported.
_LARGE_BYTES = 1 << 21
_BLOCK_BYTES = 1 << 18
_TO_LINES = bytes.maketrans(b" \t\r\v\f", b"\n" * 5)


def parse_numbers(body: bytes) -> npt.NDArray[np.float64]:
    """All numbers of a text, in order, each rounded once (to float64).

    Raises:
        CloudError: a word is no number; the text says which.
    """
    if len(body) >= _LARGE_BYTES:
        try:
            return _parse_large(body)
        except ValueError:  # NaN, which this way of parsing does not know, or a word that is no number: found below
            pass
    blocks = [_parse_words(words, first) for words, first in _blocks(body)]
    return np.concatenate(blocks) if blocks else np.empty(0)


def _parse_large(body: bytes) -> npt.NDArray[np.float64]:
    import pandas as pd

    # Before 3.1 the default could miss the last of 53 bits; since then it is exact, and the option warns.
    is_old = tuple(int(part) for part in pd.__version__.split(".")[:2]) < (3, 1)
    frame = pd.read_csv(
        io.BytesIO(body.translate(_TO_LINES)),
        sep="\x1f",  # stands in no number, so that every line is one word
        header=None,
        engine="c",
        dtype=np.float64,
        quoting=3,
        encoding="latin-1",
        na_filter=False,
        float_precision="round_trip" if is_old else None,
    )
    if frame.shape[1] != 1:
        raise ValueError
    return frame[0].to_numpy()


def _blocks(body: bytes) -> Iterator[tuple[list[bytes], int]]:
    """Words in blocks, so that they never lie in memory all at once, with the number of words before each block."""
    start = first = 0
    while start < len(body):
        end = min(start + _BLOCK_BYTES, len(body))
        if end < len(body):
            cut = max(body.rfind(mark, start, end) for mark in (b" ", b"\n", b"\t", b"\r"))
            if cut < start:
                raise CloudError(f"expected numbers as text, got a word of {end - start:,} characters or more")
            end = cut + 1
        words = body[start:end].split()
        yield words, first
        start, first = end, first + len(words)


def _parse_words(words: list[bytes], first: int) -> npt.NDArray[np.float64]:
    try:
        numbers = np.fromiter(map(float, words), np.float64, len(words))
    except ValueError:
        numbers = None
    if numbers is None or any(b"_" in word for word in words):  # Python takes 1_000 for a number
        position = next(index for index, word in enumerate(words) if not _is_number(word))
        raise CloudError(f"value {first + position} is no number: {words[position][:40]!r}")
    return numbers


def _is_number(word: bytes) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return b"_" not in word


def typed(column: npt.NDArray[np.float64], dtype: np.dtype[Any], name: str) -> npt.NDArray[Any]:
    """A column in the type that the header gives it, native byte order.

    Raises:
        CloudError: an integer type that does not hold a value.
    """
    kind = dtype.newbyteorder("=")
    if kind.kind == "f":
        with np.errstate(over="ignore"):
            return column.astype(kind)
    bounds = np.iinfo(kind)
    good = (column >= bounds.min) & (column <= bounds.max) & (np.rint(column) == column)
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        raise CloudError(f"row {row}, {name}: {column[row]:.10g} is not of type {kind.name}")
    return column.astype(kind)
