"""Draco: Google's point cloud codec (its kd-tree coder, by the DracoPy binding), on the cloud's own grid.

Quantisation is done here, in integers, and Draco codes the integers: its own quantiser steps by the width of the
bounding box over 2**bits - 1, which falls between the voxels of a grid.  A cell holds 2**k voxels' width and is
decoded to its centre, so that the error has no mean; centres lie between voxels (at 0.5, 1.5, 3.5, ...), and rounding
them to the grid would bring half a voxel of bias back.  Points that fall into one cell are merged before coding, as
G-PCC does: Draco would drop them too, after a search that takes longer.

Two properties of the binding (DracoPy 2.2) that this module works around:

- Integer positions are coded as the bits of floats, ten times as large; so they are passed as floats, with a
  quantisation of step 1 that takes them as they are.
- It always removes duplicates before it codes, in a hash map whose hash is the sum of shifted float bits.  Small
  integers collide in it: 9 s of 9.2 s for the 857,966 points of longdress.  Coordinates times 1 + 2**-12 collide
  less (1.2 s, the same bytes), and are exact in single precision up to 12 bits, near enough to round back beyond.
  Even so two thirds of the encode time are that search; Draco's coder itself takes a sixth, and decoding 0.2 s.
"""

from __future__ import annotations

import importlib.util
import struct
from importlib.metadata import version

import numpy as np
import numpy.typing as npt

from .base import Bitstream, Codec, CodecCard, Rate, require_voxelised
from .cloud import MAX_BIT_DEPTH, PointCloud
from .container import ledger, pack, unpack
from .errors import BitstreamError, CloudError, CodecError, CodecUnavailableError, NotApplicableError
from .limits import check_decodable, check_encodable
from .octree.grid import RealGrid, grid_of

#: Highest: smallest stream.  Draco's kd-tree has six levels, all above 6 are the same.
COMPRESSION_LEVEL = 10
#: Bits a coordinate that count as full precision for a cloud of real coordinates.
REAL_DEPTH = 14

_COARSEST_DROPPED_BITS = 4
_SPREAD = 1.0 + 2.0**-12

#: How the streams of the binding begin (Draco's bitstream 2.3): magic, version, a point cloud; the coder; no flags;
#: the number of points; one coder of one attribute, positions of three floats.
_HEAD = struct.Struct("<8sBHI7s")
_MAGIC, _POSITIONS = b"DRACO\2\3\0", b"\1\1\0\x09\3\0\0"
_SEQUENTIAL, _KD_TREE = 0, 1
#: What the kd-tree coder adds: level, bits of a coordinate, and the number of points again.
_TREE_HEAD = struct.Struct("<BII")


class DracoCodec(Codec):
    """Draco at bit_depth - 4 to bit_depth - 1 quantisation bits, and lossless.

    A cloud of real coordinates gets a cubic grid of 2**10 (r01) to 2**13 (r04) cells along the longest side of its
    bounding box; it has no lossless rate.
    """

    name = "draco"
    title = "Draco"

    def __init__(self) -> None:
        if importlib.util.find_spec("DracoPy") is None:
            raise CodecUnavailableError("it needs DracoPy: pip install DracoPy")

    def rates(self) -> list[Rate]:
        """Quantisation bits below the cloud's bit depth, coarsest first, and lossless."""
        steps = range(_COARSEST_DROPPED_BITS, 0, -1)
        lossy = [Rate(f"r{i:02}", {"dropped_bits": bits}) for i, bits in enumerate(steps, start=1)]
        return [*lossy, Rate("lossless", {"dropped_bits": 0}, lossless=True)]

    def encode(self, cloud: PointCloud, rate: Rate) -> bytes:
        """Quantise to cells, merge the points in each, and code; lossless keeps repeated points."""
        if not len(cloud):
            raise NotApplicableError("the cloud is empty, expected at least one point")
        header, cells, bits = _quantised(cloud, rate)
        if rate.lossless and _has_repeats(cells):
            payload = _encode(cells, bits, keeps_repeats=True)
            check_encodable(len(payload), coded=len(cells))
            return Bitstream(pack(self.name, [header, payload]), notes={"coder": "sequential"})
        cells = _merged(cells)
        payload = _encode(cells, bits, keeps_repeats=False)
        check_encodable(len(payload), coded=len(cells))
        return Bitstream(pack(self.name, [header, payload]), notes={"coder": "kd-tree"})

    def decode(self, data: bytes) -> PointCloud:
        """The centres of the cells: integers for lossless, else numbers half way between."""
        _, sections = unpack(data, self.name)
        if len(sections) != 2 or len(sections[0]) < 2:
            raise BitstreamError(f"draco stream has {len(sections)} sections, expected a header and a Draco stream")
        header, payload = sections
        try:
            return _restored(header, payload)
        except CloudError as error:
            raise BitstreamError(f"draco stream holds no sound cloud: {error}") from None

    def sections(self, data: bytes) -> dict[str, int]:
        """Bytes of container, header and Draco's stream."""
        return ledger(data, ("header", "draco"))

    def card(self) -> CodecCard:
        """Version of the binding, which Draco is part of."""
        return CodecCard(
            version=f"DracoPy {version('DracoPy')}",
            title=self.title,
            description="Google's Draco, kd-tree, compression level 10, on the cloud's grid; encode time with the "
            "binding's search for duplicates, most of it",
            paper="https://github.com/google/draco",
        )

    def warm_up(self) -> None:
        """Import the binding."""
        import DracoPy  # noqa: F401


def _quantised(cloud: PointCloud, rate: Rate) -> tuple[bytes, npt.NDArray[np.int64], int]:
    """The stream's header, the cell of each point, (n, 3), and the bits of its coordinates."""
    dropped = rate.parameters.get("dropped_bits")
    if not isinstance(dropped, int) or not 0 <= dropped <= _COARSEST_DROPPED_BITS:
        raise CodecError(f"draco rate needs dropped_bits of 0 to {_COARSEST_DROPPED_BITS}, got {dropped!r}")
    if cloud.bit_depth is not None:
        bits = max(1, cloud.bit_depth - dropped)
        shift = cloud.bit_depth - bits
        return bytes([cloud.bit_depth, shift]), cloud.points.astype(np.int64) >> shift, bits
    if rate.lossless:  # Draco quantises
        require_voxelised(cloud, "draco", rate)
    bits = REAL_DEPTH - dropped
    grid = RealGrid.over(cloud.points, bits)  # type: ignore[arg-type]  # no bit depth: they are floats
    return grid.to_bytes() + bytes([bits]), grid.quantised(cloud.points), bits  # type: ignore[arg-type]


def _restored(header: bytes, payload: bytes) -> PointCloud:
    """The cloud of a stream's two sections."""
    depth, bits = header[0], header[-1]
    if len(header) == 2:
        shift, bits = bits, depth - bits
        if not (1 <= depth <= MAX_BIT_DEPTH and 1 <= bits):
            raise BitstreamError(
                f"draco header has {shift} bits dropped of {depth}, expected 1 to 21 bits to be left"
            )
        cells = _decode(payload, bits)
        if not shift:
            return PointCloud(cells, bit_depth=depth)
        return PointCloud(((cells << shift) + 0.5 * ((1 << shift) - 1)).astype(np.float32))
    grid = grid_of(header[:-1])
    if not (isinstance(grid, RealGrid) and 1 <= bits <= REAL_DEPTH):
        raise BitstreamError(f"draco header {header[:40].hex()} is not that of a grid of real coordinates")
    return PointCloud(grid.restored(_decode(payload, bits).astype(np.int32)))


def _keys(cells: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return cells[:, 0] << 42 | cells[:, 1] << 21 | cells[:, 2]


def _has_repeats(cells: npt.NDArray[np.int64]) -> bool:
    keys = np.sort(_keys(cells))
    return bool((keys[1:] == keys[:-1]).any())


def _merged(cells: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Each cell once, in an order of their own, so that the stream does not depend on the order of the points."""
    keys = np.sort(_keys(cells))
    keys = keys[np.concatenate(([True], keys[1:] != keys[:-1]))]
    field = (1 << 21) - 1
    return np.stack([keys >> 42, keys >> 21 & field, keys & field], axis=1)


def _encode(cells: npt.NDArray[np.int64], bits: int, *, keeps_repeats: bool) -> bytes:
    import DracoPy

    if keeps_repeats:
        cells = cells[np.argsort(_keys(cells), kind="stable")]
    stream = DracoPy.encode(
        (cells * _SPREAD).astype(np.float32),
        quantization_bits=bits,
        quantization_range=((1 << bits) - 1) * _SPREAD,
        quantization_origin=(0.0, 0.0, 0.0),
        compression_level=COMPRESSION_LEVEL,
        preserve_order=keeps_repeats,
    )
    return bytes(stream)


def _check_head(payload: bytes, bits: int) -> int:
    """Number of points of a Draco stream, which must begin as ours do: Draco allocates by what it finds there.

    Raises:
        BitstreamError: it begins otherwise, or holds more points than its size allows.
    """
    if len(payload) < _HEAD.size + _TREE_HEAD.size:
        raise BitstreamError(f"Draco's stream has {len(payload)} bytes, expected at least its header")
    magic, coder, flags, count, positions = _HEAD.unpack_from(payload)
    found = (magic, coder, flags, positions)
    if found not in [(_MAGIC, one, 0, _POSITIONS) for one in (_SEQUENTIAL, _KD_TREE)]:
        raise BitstreamError(
            f"Draco's stream begins with {payload[: _HEAD.size].hex()}, which no encoder of ours writes"
        )
    check_decodable(len(payload), coded=count)
    if coder == _KD_TREE:
        level, width, again = _TREE_HEAD.unpack_from(payload, _HEAD.size)
        if level > 6 or width > bits or again != count:
            raise BitstreamError(
                f"Draco's tree has level {level}, {width} bits and {again} points, not up to 6, {bits}, {count}"
            )
    return int(count)


def _decode(payload: bytes, bits: int) -> npt.NDArray[np.int64]:
    import DracoPy

    count = _check_head(payload, bits)
    try:
        points = DracoPy.decode(payload).points
    except (DracoPy.FileTypeException, TypeError, ValueError, RuntimeError, MemoryError) as error:
        # What the binding has for a bad stream: a failed allocation too, of a length in the middle of it.
        raise BitstreamError(f"Draco cannot decode its stream: {error}") from None
    if points is None or points.shape != (count, 3) or not count or not np.isfinite(points).all():
        raise BitstreamError("Draco's stream does not hold the points that it declares")
    cells = np.rint(points.astype(np.float64) / _SPREAD)
    if cells.min() < 0 or cells.max() >= 1 << bits:
        raise BitstreamError(f"Draco's points {cells.min():g}..{cells.max():g} do not fit {bits} bits")
    return cells.astype(np.int64)
