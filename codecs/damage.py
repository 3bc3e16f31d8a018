"""Damage: streams with faults behind a right checksum, so that they reach what lies after it.

The checksums that are known: that of `container`, a CRC-32 of all before it in the last four bytes, and zlib's own
around a payload that begins within the first bytes.  Streams without are damaged as they are.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from . import container
from .errors import BitstreamError

#: Fields of a header are looked for in so many bytes, and zlib's stream begins there.
_HEADER_BYTES = 16
#: What a field is replaced with: large numbers as bytes of any order, and as varints.
_LARGE = (b"\xff", b"\x7f", b"\xff\xff\xff\x7f", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x3f", b"\xff\xff\xff\xff\x07")


@dataclass(frozen=True)
class _Sealed:
    """Bytes behind a checksum, and how the stream is made again around others."""

    inner: bytes
    sealed: Callable[[bytes], bytes]
    is_open: bool = False


def behind_checksums(data: bytes, generator: np.random.Generator, count: int) -> list[bytes]:
    """Damaged versions of a stream: large numbers in places of its headers, and `count` at random.

    Where a checksum is known the numbers are put in each place, else in `count` places: damage that nothing seals is
    mostly refused at once, but a program without a checksum of its own may take long over what is not.
    """
    parts = _sealed_parts(data)
    streams = []
    for part in parts:
        for place in range(min(_HEADER_BYTES, len(part.inner))):
            for large in _LARGE:
                streams.append(part.sealed(part.inner[:place] + large + part.inner[place + len(large) :]))
    if len(parts) == 1 and parts[0].is_open:
        streams = [streams[row] for row in sorted(generator.permutation(len(streams))[:count].tolist())]
    for _ in range(count):
        part = parts[int(generator.integers(len(parts)))]
        streams.append(part.sealed(_hurt(part.inner, generator)))
    return list(dict.fromkeys(streams))


def _sealed_parts(data: bytes) -> list[_Sealed]:
    try:
        name, sections = container.unpack(data)
    except BitstreamError:
        return [_sealed_by_others(data)]

    def section(number: int) -> _Sealed:
        others = (sections[:number], sections[number + 1 :])
        return _Sealed(sections[number], lambda inner: container.pack(name, [*others[0], inner, *others[1]]))

    return [section(number) for number in range(len(sections))]


def _sealed_by_others(data: bytes) -> _Sealed:
    orders: tuple[Literal["little", "big"], ...] = ("little", "big")
    for order in orders:
        if len(data) > 4 and zlib.crc32(data[:-4]).to_bytes(4, order) == data[-4:]:
            return _Sealed(data[:-4], lambda inner, order=order: inner + zlib.crc32(inner).to_bytes(4, order))  # type: ignore[misc]
    for start in range(min(_HEADER_BYTES, len(data))):
        try:
            inner = zlib.decompress(data[start:])
        except zlib.error:
            continue
        return _Sealed(inner, lambda other, head=data[:start]: head + zlib.compress(other, 9))  # type: ignore[misc]
    return _Sealed(data, lambda inner: inner, is_open=True)


def _hurt(data: bytes, generator: np.random.Generator) -> bytes:
    """One to three bits turned over, or a piece cut out, put in or repeated."""
    out = bytearray(data)
    # Headers are short and dangerous: half of the damage goes there.
    reach = max(1, min(_HEADER_BYTES, len(out)) if generator.random() < 0.5 else len(out))
    place = int(generator.integers(reach))
    kind = int(generator.integers(4))
    if kind == 0 or not out:
        out[place:place] = generator.bytes(int(generator.integers(1, 9)))
    elif kind == 1:
        del out[place : place + int(generator.integers(1, 1 + len(out)))]
    else:
        for _ in range(int(generator.integers(1, 4))):
            out[int(generator.integers(reach))] ^= 1 << int(generator.integers(8))
    return bytes(out)
