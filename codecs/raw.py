"""Raw: the floor.  Coordinates in as many bits as the grid has, nothing predicted; its time is the harness's."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .base import Codec, CodecCard, Rate
from .cloud import MAX_BIT_DEPTH, PointCloud
from .container import get_varint, ledger, pack, put_varint, unpack
from .errors import BitstreamError, CloudError, CodecError

#: First byte of the header for clouds of real coordinates; for voxelised ones it is the bit depth.
_FLOAT_KINDS: dict[int, np.dtype[np.floating]] = {32: np.dtype("<f4"), 64: np.dtype("<f8")}


class RawCodec(Codec):
    """Fixed-length coordinates: 3 x bit depth bits a point, or 3 floats as they came.

    Lossless to the last bit: order and repeated points are kept.
    """

    name = "raw"
    title = "Raw"

    def rates(self) -> list[Rate]:
        """The one rate."""
        return [Rate("lossless", {}, lossless=True)]

    def encode(self, cloud: PointCloud, rate: Rate) -> bytes:
        """Pack the coordinates."""
        if not rate.lossless:
            raise CodecError(f"raw has the one rate lossless, got {rate.name!r}")
        if cloud.bit_depth is None:
            kind = cloud.points.dtype.itemsize * 8
            payload = cloud.points.astype(_FLOAT_KINDS[kind], copy=False).tobytes()
        else:
            kind = cloud.bit_depth
            payload = pack_bits(cloud.points.astype(np.int32, copy=False).ravel(), kind)
        return pack(self.name, [bytes([kind]) + put_varint(len(cloud)), payload])

    def decode(self, data: bytes) -> PointCloud:
        """The cloud, its points in the order of the input."""
        _, sections = unpack(data, self.name)
        if len(sections) != 2 or not sections[0]:
            raise BitstreamError(f"raw stream has {len(sections)} sections, expected a header and coordinates")
        header, payload = sections
        kind = header[0]
        count, end = get_varint(header, 1)
        if end != len(header) or not (kind in _FLOAT_KINDS or 1 <= kind <= MAX_BIT_DEPTH):
            raise BitstreamError(f"raw header {header[:16].hex()} is not a kind of coordinate and a number of points")
        is_real = kind in _FLOAT_KINDS
        expected = count * 3 * kind // 8 if is_real else packed_size(3 * count, kind)
        if len(payload) != expected:
            raise BitstreamError(f"raw stream has {len(payload)} bytes for {count} points, expected {expected}")
        try:
            if is_real:
                return PointCloud(np.frombuffer(payload, _FLOAT_KINDS[kind]).reshape(-1, 3).astype(f"f{kind // 8}"))
            return PointCloud(unpack_bits(payload, kind, 3 * count).reshape(-1, 3), bit_depth=kind)
        except CloudError as error:
            raise BitstreamError(f"raw stream holds no sound cloud: {error}") from None

    def sections(self, data: bytes) -> dict[str, int]:
        """Bytes of container, header and coordinates."""
        return ledger(data, ("header", "coordinates"))

    def card(self) -> CodecCard:
        """What the codec is."""
        return CodecCard(version="1", title=self.title, description="fixed-length coordinates, nothing predicted")


def packed_size(count: int, width: int) -> int:
    """Bytes of `count` values of `width` bits, packed by `pack_bits`."""
    return (count * width + 7) // 8


def pack_bits(values: npt.NDArray[np.int32], width: int) -> bytes:
    """Values of 1 to 31 bits one after the other, the first in the lowest bits of the first byte.

    Eight values make `width` bytes: each of these is put together for all groups of eight at once.

    Args:
        values: (n,) integers in [0, 2**width).
        width: bits a value.
    """
    n_groups = -(-len(values) // 8)
    lanes = np.zeros((8, n_groups), np.uint32)
    whole = len(values) // 8
    lanes[:, :whole] = values[: 8 * whole].reshape(whole, 8).T
    lanes[: len(values) - 8 * whole, whole:] = values[8 * whole :, None]
    out = np.empty((n_groups, width), np.uint8)
    for byte in range(width):
        total = np.zeros(n_groups, np.uint8)
        for lane, shift in _overlaps(byte, width):
            total |= (lanes[lane] << shift if shift >= 0 else lanes[lane] >> -shift).astype(np.uint8)
        out[:, byte] = total
    return out.tobytes()[: packed_size(len(values), width)]


def unpack_bits(data: bytes, width: int, count: int) -> npt.NDArray[np.int32]:
    """The values of `pack_bits`, (count,)."""
    n_groups = -(-count // 8)
    padded = np.zeros(n_groups * width, np.uint8)
    padded[: len(data)] = np.frombuffer(data, np.uint8)
    source = np.ascontiguousarray(padded.reshape(n_groups, width).T)
    lanes = np.zeros((8, n_groups), np.uint32)
    for byte in range(width):
        column = source[byte].astype(np.uint32)
        for lane, shift in _overlaps(byte, width):
            lanes[lane] |= column >> shift if shift >= 0 else column << -shift
    lanes &= np.uint32((1 << width) - 1)
    return np.ascontiguousarray(lanes.T).astype(np.int32).ravel()[:count]


def _overlaps(byte: int, width: int) -> list[tuple[int, int]]:
    """The values of a group that have bits in one of its bytes, each with its shift to the left to get there."""
    first, last = 8 * byte // width, (8 * byte + 7) // width
    return [(lane, lane * width - 8 * byte) for lane in range(first, min(last, 7) + 1)]
