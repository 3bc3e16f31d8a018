"""OctreeCodec: our octree codec behind the interface that all codecs share."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from ..base import Bitstream, Codec, CodecCard, Rate, require_voxelised
from ..cloud import PointCloud
from ..container import ledger, pack, unpack
from ..ctc import OCTREE_RATE_COUNT, octree_position_scale
from ..errors import BitstreamError, CodecError
from ..limits import check_decodable, check_encodable
from .grid import RealGrid, VoxelGrid, grid_of

_SECTIONS = ("header", "occupancy", "multiplicity")
#: Voxels along a real cloud's longest side, in bits, at r01; one more at each following rate.
_REAL_DEPTH_AT_R01 = 8


class OctreeCodec(Codec):
    """Octree occupancy coded with mixed contexts; lossless, or at the rates of MPEG's test conditions.

    A voxelised cloud is scaled as the G-PCC test model does it at r01 to r06, and the same points are merged.  The
    decoder puts each back where the test model puts it, or on the nearest voxel of the input's grid where that is
    closer to the input (`VoxelGrid.keeps_fractions`).  `lossless` keeps repeated points.

    A cloud of real coordinates gets a cubic grid of 2**8 (r01) to 2**13 (r06) voxels along the longest side of its
    bounding box; it has no lossless rate.
    """

    name = "octree"

    def rates(self) -> list[Rate]:
        """The six rates of the test conditions, and lossless."""
        lossy = [Rate(f"r{i:02d}", {"ctc_rate": i}) for i in range(1, OCTREE_RATE_COUNT + 1)]
        return [*lossy, Rate("lossless", {}, lossless=True)]

    def encode(self, cloud: PointCloud, rate: Rate) -> Bitstream:
        """Code the geometry of `cloud`; an empty cloud too.

        Raises:
            CodecError: the rate is not one of `rates`.
            NotApplicableError: lossless was asked for a cloud of real coordinates.
        """
        from .occupancy import distinct, encode_keys, encode_multiplicities, keys_of, points_of

        grid = _grid(cloud, rate)
        points: npt.NDArray[Any] = cloud.points
        keys = keys_of(grid.quantised(points))
        voxels = distinct(keys)
        multiplicity = b""
        repeats = None
        if rate.lossless and len(voxels) < len(keys):
            repeats = np.unique(keys, return_counts=True)[1]
            multiplicity = encode_multiplicities(repeats)
        occupancy, predicted_bits = encode_keys(voxels)
        sections = [grid.to_bytes(), occupancy] + ([multiplicity] if multiplicity else [])
        data = pack(self.name, sections)
        check_encodable(len(data), coded=len(voxels) if repeats is None else len(keys))

        points = grid.restored(points_of(voxels))
        if repeats is not None:
            points = np.repeat(points, repeats, axis=0)
        return Bitstream(
            data,
            estimated_bits=predicted_bits + 8 * (len(data) - len(occupancy)),
            reconstruction_sha256=_sorted_sha256(points, grid),
        )

    def decode(self, data: bytes) -> PointCloud:
        """The cloud of a stream, on the grid of the input, sorted by z, then y, then x.

        Raises:
            BitstreamError: the stream is damaged, truncated or foreign.
        """
        from .occupancy import decode_keys, decode_multiplicities, points_of

        _, sections = unpack(data, self.name)
        if not 2 <= len(sections) <= 3:
            raise BitstreamError(f"octree stream has {len(sections)} sections, expected 2 or 3")
        grid = grid_of(sections[0])
        voxels = points_of(decode_keys(sections[1]))
        depth = grid.bit_depth if isinstance(grid, VoxelGrid) else None
        if isinstance(grid, VoxelGrid) and len(voxels):
            limit = grid.quantised(np.array((1 << grid.bit_depth) - 1))
            if voxels.max() > limit:
                raise BitstreamError(f"voxel coordinate {voxels.max()} is beyond the grid's end, {limit}")
        points = grid.restored(voxels)
        if len(sections) == 3:
            counts = decode_multiplicities(sections[2], len(points))
            check_decodable(len(data), coded=int(counts.sum()))
            points = np.repeat(points, counts, axis=0)
        return PointCloud(points, depth if points.dtype == np.int32 else None)

    def sections(self, data: bytes) -> dict[str, int]:
        """Bytes of container, header, occupancy and, where points are repeated, multiplicity."""
        return ledger(data, _SECTIONS)

    def card(self) -> CodecCard:
        """What the codec is; no external tool, no learned weights."""
        return CodecCard(
            version="1",
            title="Octree (pccbench)",
            description="Octree occupancy in raster order, context mixing, binary arithmetic coding; integers only.",
        )

    def warm_up(self) -> None:
        """Compile the kernels, or load them from numba's cache."""
        from .occupancy import warm_up

        warm_up()


def _grid(cloud: PointCloud, rate: Rate) -> VoxelGrid | RealGrid:
    if rate.lossless:
        return VoxelGrid(require_voxelised(cloud, "octree", rate))
    index = rate.parameters.get("ctc_rate")
    if not isinstance(index, int) or not 1 <= index <= OCTREE_RATE_COUNT:
        raise CodecError(f"octree needs ctc_rate 1 to {OCTREE_RATE_COUNT} in rate {rate.name!r}, got {index!r}")
    if cloud.bit_depth is None:
        real: npt.NDArray[Any] = cloud.points
        return RealGrid.over(real, _REAL_DEPTH_AT_R01 + index - 1)
    return VoxelGrid(cloud.bit_depth, octree_position_scale(index, cloud.bit_depth))


def _sorted_sha256(points: np.ndarray, grid: VoxelGrid | RealGrid) -> str:
    """`PointCloud.geometry_sha256` without its sort, where the points are in its order already."""
    if isinstance(grid, RealGrid):  # rounding to float32 can make equal what was distinct
        return PointCloud(points).geometry_sha256()
    return hashlib.sha256(np.ascontiguousarray(points, dtype=np.float64).tobytes()).hexdigest()
