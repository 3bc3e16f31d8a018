"""Container: the envelope of every stream of ours.

    byte 0-1   magic
    byte 2     format version (3 bits), codec number (5 bits; 0: the name follows, its length in one byte)
    then       number of sections, and the lengths of all but the last, as varints
    then       the sections
    last 4     CRC-32 of everything before, little-endian

Eight bytes, and one or two for each section but the last.  Every length is checked against the bytes that are there
before anything is allocated.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from .errors import BitstreamError

MAGIC = b"\xcbp"
FORMAT_VERSION = 1

#: Codecs whose name is one number in the stream.  Never renumber; any other name is spelled out.
CODEC_NUMBERS = {"raw": 1, "octree": 2, "draco": 3, "deepcompress": 4, "sparse": 5, "dpcc": 6}
_NAMES = {number: name for name, number in CODEC_NUMBERS.items()}

_CRC_BYTES = 4
_MAX_SECTIONS = 64
_MAX_VARINT_BYTES = 9


def put_varint(value: int) -> bytes:
    """LEB128 of a non-negative integer: seven bits a byte, low first.

    Raises:
        ValueError: negative, or above 63 bits.
    """
    if not 0 <= value < 1 << (7 * _MAX_VARINT_BYTES):
        raise ValueError(f"a varint holds 0 to 2**63 - 1, got {value}")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def get_varint(data: bytes, position: int) -> tuple[int, int]:
    """The integer of `put_varint` at `position`, and the position after it.

    Raises:
        BitstreamError: the data end inside it, or it is longer than 63 bits.
    """
    value = 0
    for count in range(_MAX_VARINT_BYTES):
        if position + count >= len(data):
            raise BitstreamError(f"stream ends inside a number at byte {position}")
        byte = data[position + count]
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value, position + count + 1
    raise BitstreamError(f"number at byte {position} is longer than {_MAX_VARINT_BYTES} bytes")


def pack(codec: str, sections: Sequence[bytes]) -> bytes:
    """One stream of `codec` with its sections, in an order that the codec knows.

    Raises:
        ValueError: no section or too many, or a name that is empty or above 255 bytes.
    """
    if not 1 <= len(sections) <= _MAX_SECTIONS:
        raise ValueError(f"a stream has 1 to {_MAX_SECTIONS} sections, got {len(sections)}")
    number = CODEC_NUMBERS.get(codec, 0)
    head = bytearray(MAGIC)
    head.append(FORMAT_VERSION << 5 | number)
    if number == 0:
        name = codec.encode()
        if not 1 <= len(name) <= 255:
            raise ValueError(f"a codec's name has 1 to 255 bytes, got {len(name)}")
        head.append(len(name))
        head += name
    head += put_varint(len(sections))
    for section in sections[:-1]:
        head += put_varint(len(section))
    body = bytes(head) + b"".join(sections)
    return body + zlib.crc32(body).to_bytes(_CRC_BYTES, "little")


def codec_of(data: bytes) -> str:
    """Name of the codec that made the stream, from its first bytes alone.

    Raises:
        BitstreamError: not a stream of ours, or of another format version.
    """
    return _codec_and_position(data)[0]


def unpack(data: bytes, codec: str | None = None) -> tuple[str, list[bytes]]:
    """Name of the codec and the sections of a stream made by `pack`.

    Args:
        data: the whole stream.
        codec: name that is expected, or None for any.

    Raises:
        BitstreamError: damaged, truncated, foreign, or of another codec than `codec`.
    """
    name, lengths, position = _layout(data)
    if codec is not None and name != codec:
        raise BitstreamError(f"expected a stream of codec {codec!r}, got one of {name!r}")
    body_end = len(data) - _CRC_BYTES
    stored = int.from_bytes(data[body_end:], "little")
    computed = zlib.crc32(memoryview(data)[:body_end])
    if stored != computed:
        raise BitstreamError(f"stream is damaged: checksum {computed:08x}, expected {stored:08x}")
    sections = []
    for length in lengths:
        sections.append(bytes(data[position : position + length]))
        position += length
    return name, sections


def ledger(data: bytes, names: Sequence[str]) -> dict[str, int]:
    """Bytes of the container itself and of each section, which sum to `len(data)`.

    Args:
        data: the whole stream.
        names: one for each section, at least as many as the stream has; empty sections are left out.

    Raises:
        BitstreamError: the stream's layout is damaged, or it has more sections than `names`.
    """
    _, lengths, position = _layout(data)
    if len(lengths) > len(names):
        raise BitstreamError(f"expected at most {len(names)} sections, got {len(lengths)}")
    sizes = {"container": position + _CRC_BYTES}
    sizes.update({name: size for name, size in zip(names, lengths, strict=False) if size})
    return sizes


def _codec_and_position(data: bytes) -> tuple[str, int]:
    if len(data) < len(MAGIC) + 1 or data[: len(MAGIC)] != MAGIC:
        raise BitstreamError(f"not a pccbench stream: it starts with {bytes(data[:2]).hex() or 'nothing'}")
    version, number = data[2] >> 5, data[2] & 31
    if version != FORMAT_VERSION:
        raise BitstreamError(f"stream has format version {version}, this pccbench reads {FORMAT_VERSION}")
    if number:
        if number not in _NAMES:
            raise BitstreamError(f"stream is of an unknown codec, number {number}")
        return _NAMES[number], 3
    if len(data) < 5 or len(data) < 4 + data[3]:
        raise BitstreamError("stream ends inside the codec's name")
    try:
        return bytes(data[4 : 4 + data[3]]).decode(), 4 + data[3]
    except UnicodeDecodeError as error:
        raise BitstreamError("the codec's name in the stream is not text") from error


def _layout(data: bytes) -> tuple[str, list[int], int]:
    """Codec, length of each section, and where the first begins; every length fits the data."""
    name, position = _codec_and_position(data)
    count, position = get_varint(data, position)
    if not 1 <= count <= _MAX_SECTIONS:
        raise BitstreamError(f"stream declares {count} sections, expected 1 to {_MAX_SECTIONS}")
    lengths = []
    for _ in range(count - 1):
        length, position = get_varint(data, position)
        lengths.append(length)
    rest = len(data) - _CRC_BYTES - position - sum(lengths)
    if rest < 0:
        raise BitstreamError(f"stream is truncated: {-rest} of the declared bytes are missing")
    return name, [*lengths, rest], position
