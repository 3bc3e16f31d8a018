"""TLV: the envelope of G-PCC streams as MPEG's tmc3 writes them (ISO/IEC 23090-9 annex B).

    byte 0     type of the data unit
    byte 1-4   its length, big-endian
    then       the unit

The stream has no checksum: damage inside a unit is seen only where decoding trips over it.
"""

from __future__ import annotations

from collections.abc import Iterator

from .errors import BitstreamError

_HEADER_BYTES = 5
#: Types of data units by number, as tmc3 v23 writes them.
UNITS = (
    "sequence_parameters",
    "geometry_parameters",
    "geometry",
    "attribute_parameters",
    "attributes",
    "tile_inventory",
    "frame_boundary",
    "constant_attribute",
    "attribute_inventory",
    "user_data",
)
#: Without each of these nothing can be decoded.
_NEEDED = ("sequence_parameters", "geometry_parameters", "geometry")
#: A longer set of sequence parameters is no G-PCC stream; theirs have a few dozen bytes.
_MAX_PARAMETER_BYTES = 4096


def starts_like_tmc3(data: bytes) -> bool:
    """Whether the first unit can be the sequence parameters that every G-PCC stream begins with."""
    if len(data) <= _HEADER_BYTES or data[0] != 0:
        return False
    return 0 < int.from_bytes(data[1:_HEADER_BYTES], "big") <= min(_MAX_PARAMETER_BYTES, len(data) - _HEADER_BYTES)


def units(data: bytes) -> Iterator[tuple[str, int]]:
    """Type and length of each unit, its header not counted.

    Raises:
        BitstreamError: an unknown type, or a length that the data do not have.
    """
    position = 0
    while position < len(data):
        if position + _HEADER_BYTES > len(data):
            raise BitstreamError(f"G-PCC stream is truncated inside the unit header at byte {position}")
        number, length = data[position], int.from_bytes(data[position + 1 : position + _HEADER_BYTES], "big")
        if number >= len(UNITS):
            raise BitstreamError(f"not a G-PCC stream: unit type {number} at byte {position}")
        rest = len(data) - position - _HEADER_BYTES
        if length > rest:
            raise BitstreamError(
                f"G-PCC stream is truncated: the {UNITS[number]} unit at byte {position} has {length} bytes, "
                f"{rest} are there"
            )
        yield UNITS[number], length
        position += _HEADER_BYTES + length


def check(data: bytes) -> None:
    """See that a stream has the units that a decoder needs, each whole.

    Raises:
        BitstreamError: it has not.
    """
    if not starts_like_tmc3(data):
        raise BitstreamError(f"not a G-PCC stream: it starts with {bytes(data[:_HEADER_BYTES]).hex() or 'nothing'}")
    found = {name for name, _ in units(data)}
    missing = [name for name in _NEEDED if name not in found]
    if missing:
        raise BitstreamError(f"G-PCC stream has no {', '.join(missing)} unit")


def ledger(data: bytes) -> dict[str, int]:
    """Bytes of the unit headers and of each type of unit, which sum to `len(data)`.

    Raises:
        BitstreamError: as `units`.
    """
    sizes = {"unit_headers": 0}
    for name, length in units(data):
        sizes["unit_headers"] += _HEADER_BYTES
        sizes[name] = sizes.get(name, 0) + length
    return sizes
