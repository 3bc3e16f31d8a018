"""Bounds: what a file may ask of the reader, by one rule for all formats.

A reader takes time and memory in proportion to the bytes of a file, whatever its header claims: counts are compared
with the bytes that are there before anything is allocated, and what is compressed may grow so much and no more.
"""

from __future__ import annotations

from ..errors import CloudError

#: Columns of a table. Feature descriptors have some hundreds of values a point; more is damage, not data.
MAX_COLUMNS = 4096
#: What compressed data may grow to: so many times the file's size, plus so many bytes. Clouds shrink to a tenth or so
#: (a column that is zero throughout, to a thousandth, which the second figure and the other columns make up for).
MAX_GROWTH = 32
FREE_BYTES = 1 << 26


def refuse_growth(plain_bytes: int, file_bytes: int) -> None:
    """Raise CloudError where compressed data would grow beyond the bound.

    Args:
        plain_bytes: what the compressed parts that are wanted take together, as the file claims.
        file_bytes: size of the file.
    """
    most = FREE_BYTES + MAX_GROWTH * file_bytes
    if plain_bytes > most:
        raise CloudError(
            f"{file_bytes:,} bytes claim to hold {plain_bytes:,}, more than any cloud shrinks (at most {most:,})"
        )


def refuse_columns(count: int) -> None:
    """Raise CloudError where a header names more columns than any cloud has."""
    if count > MAX_COLUMNS:
        raise CloudError(f"the header names {count:,} columns or more, expected at most {MAX_COLUMNS:,}")
