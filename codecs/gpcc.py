"""G-PCC: MPEG's geometry-based codec (ISO/IEC 23090-9) by its test model tmc3, octree and trisoup, as in the CTC.

The stream is tmc3's own and nothing else, so that its size is the one that MPEG reports.  The scale back to the
input's grid is in its sequence parameters, and the decoder applies it.

What the common test conditions (CTC; tmc3 v23.0-rc2, cfg/*.yaml) choose by sequence is chosen here by content:

- planar mode: off for the solid and most dense sequences, on for sparse and scant ones.  Here: on where a cube of two
  voxels' width holds fewer than two points on average.  It costs 6 bytes where it does not help.
- clouds of real coordinates (LiDAR, category 3) are coded on a grid of one millimetre, as MPEG's `q1mm` sequences
  are, with the flags of `cat3-frame`.  Its angular mode is left out: it needs the laser angles of the sensor, which
  no file holds.
- trisoup codes dense surfaces only, so the CTC scales sparse sequences down to a `test-depth`.  Here: to the finest
  depth at which the rule above finds the cloud dense.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from . import tlv, tmc3
from .base import Bitstream, Codec, CodecCard, Rate, require_voxelised
from .cloud import MAX_BIT_DEPTH, PointCloud
from .ctc import OCTREE_RATE_COUNT, octree_position_scale
from .errors import BitstreamError, CodecError, NotApplicableError
from .limits import check_decodable, most_points

#: Width of a grid cell for real coordinates, in their unit (metres): MPEG's LiDAR sequences have millimetres.
STEP = Fraction(1, 1000)

#: Points in a cube of two voxels' width, on average, from which on a cloud counts as dense.
_DENSE = 2.0
#: Trisoup is not scaled to a grid coarser than this: the coarsest that the CTC's octree rates have.
_MIN_TEST_DEPTH = 7
#: A slice of a million points has more bytes than this at any rate.
_LEAST_SLICE_BYTES = 400
#: Of a point in the files that tmc3 writes, at most.
_PLY_POINT_BYTES = 32

_COMMON = {"neighbourAvailBoundaryLog2": "8", "intra_pred_max_node_size_log2": "6"}
_OCTREE = {
    "trisoupNodeSizeLog2": "0",
    **_COMMON,
    "maxNumQtBtBeforeOt": "4",
    "minQtbtSizeLog2": "0",
    "planarModeIdcmUse": "0",
}
_LIDAR = {"partitionMethod": "0", "maxNumQtBtBeforeOt": "6", "planarModeIdcmUse": "32"}
_METRES = {"srcUnit": "metre", "srcUnitLength": str(float(STEP))}
_TRISOUP = {
    "sliceMaxPointsTrisoup": "1100000",
    "sliceMaxPoints": "1000000",
    "sliceMinPoints": "449000",
    **_COMMON,
    "inferredDirectCodingMode": "0",
    "planarModeIdcmUse": "0",
    "trisoupQuantizationBits": "2",
    "trisoupFineRayTracingEnabled": "0",
    "trisoupImprovedEncoderEnabled": "1",
}
_PAPER = "Graziosi et al., An overview of ongoing point cloud compression standardization activities, APSIPA 2020"


@dataclass(frozen=True)
class _Source:
    """A cloud as tmc3 gets it.

    Attributes:
        positions: (n, 3) integers.
        bit_depth: geometry precision, bits a coordinate.
        is_voxelised: whether the cloud's own grid is kept; else positions are steps of `STEP`.
    """

    positions: npt.NDArray[np.integer]
    bit_depth: int
    is_voxelised: bool


class _GpccCodec(Codec):
    """What both adapters share: the program, the stream, the decoder."""

    tool: ClassVar[str | None] = "tmc3"
    _description: ClassVar[str]

    def __init__(self, executable: str | None = None) -> None:
        self._program = tmc3.find_program(executable)

    def card(self) -> CodecCard:
        """Version and hash of tmc3."""
        program = tmc3.inspect_program(self._program)
        return CodecCard(
            version=program.version,
            title=self.title,
            description=self._description,
            paper=_PAPER,
            tool=str(program.path),
            tool_sha256=program.sha256,
        )

    def decode(self, data: bytes) -> PointCloud:
        """The cloud in the units of the input.

        Points that lie on integers come back voxelised, on the smallest grid that holds them; those of a scale
        such as 3/4 do not, and come back as float64, exactly as tmc3 gives them.
        """
        tlv.check(data)
        points, _ = tmc3.decode(self._program, data, _limits(data))
        check_decodable(len(data), points=len(points))
        if not len(points) or not np.isfinite(points).all():
            raise BitstreamError(f"tmc3 decoded {len(points)} points, not all of them finite: the stream is damaged")
        whole = points.astype(np.int64)
        if (whole == points).all() and whole.min() >= 0 and whole.max() < 1 << MAX_BIT_DEPTH:
            return PointCloud(whole, bit_depth=max(1, int(whole.max()).bit_length()))
        return PointCloud(points)

    def sections(self, data: bytes) -> dict[str, int]:
        """Bytes of each type of G-PCC data unit."""
        return tlv.ledger(data)

    def warm_up(self) -> None:
        """Start the program once, so that it is in memory, and import what reads its output."""
        from .formats import ply  # noqa: F401

        tmc3.inspect_program(self._program)

    def _encode(self, source: _Source, options: Mapping[str, str]) -> Bitstream:
        options = {**options, **({} if source.is_voxelised else _METRES)}
        data, report = tmc3.encode(self._program, source.positions, options)
        spelled = " ".join(f"{name}={value}" for name, value in sorted(options.items()))
        return Bitstream(data, notes={**report.figures, "tool_options": spelled})


class GpccOctreeCodec(_GpccCodec):
    """Octree geometry at the CTC's rates r01 to r06, and lossless."""

    name = "gpcc-octree"
    title = "G-PCC octree"
    _description = "MPEG's G-PCC test model tmc3, octree geometry, CTC flags and rate points"

    def rates(self) -> list[Rate]:
        """The CTC's six scales of positions, which depend on the cloud's bit depth, and lossless."""
        lossy = [Rate(f"r{index:02}", {"ctc_rate": index}) for index in range(1, OCTREE_RATE_COUNT + 1)]
        return [*lossy, Rate("lossless", {"position_scale": 1}, lossless=True)]

    def encode(self, cloud: PointCloud, rate: Rate) -> bytes:
        """Code the geometry; duplicates are merged at lossy rates, as in the CTC, and kept by lossless."""
        if rate.lossless:  # real coordinates are coded in steps
            require_voxelised(cloud, self.name, rate)
        source = _source(cloud)
        n_voxels, n_parents = _count_voxels(source.positions)
        scale = Fraction(1) if rate.lossless else octree_position_scale(_ctc_rate(rate), source.bit_depth)
        merges = not rate.lossless or n_voxels == len(source.positions)
        return self._encode(
            source,
            {
                **_OCTREE,
                **({} if source.is_voxelised else _LIDAR),
                "mergeDuplicatedPoints": str(int(merges)),
                "planarEnabled": str(int(n_voxels < _DENSE * n_parents)),
                "positionQuantizationScale": str(float(scale)),
            },
        )


class GpccTrisoupCodec(_GpccCodec):
    """Triangle-soup surfaces at the CTC's rates r01 to r04."""

    name = "gpcc-trisoup"
    title = "G-PCC trisoup"
    _description = "MPEG's G-PCC test model tmc3, trisoup geometry, CTC flags and rate points"

    def rates(self) -> list[Rate]:
        """Triangle nodes of 32, 16, 8 and 4 voxels' width."""
        return [Rate(f"r{index:02}", {"node_size_log2": 6 - index}) for index in range(1, 5)]

    def encode(self, cloud: PointCloud, rate: Rate) -> bytes:
        """Code the surface that the points sample."""
        source = _source(cloud)
        size = rate.parameters.get("node_size_log2")
        if not isinstance(size, int) or not 2 <= size <= 5:
            raise CodecError(f"trisoup rate needs node_size_log2 of 2 to 5, got {size!r}")
        test_depth, is_sparse = _test_depth(source)
        # The CTC leaves both refinements out at the finest rate.
        refines = str(int(size > 2))
        return self._encode(
            source,
            {
                **_TRISOUP,
                "planarEnabled": str(int(is_sparse)),
                "positionQuantizationScale": str(float(Fraction(1, 1 << (source.bit_depth - test_depth)))),
                "trisoupNodeSizeLog2": str(size),
                "trisoupCentroidResidualEnabled": refines,
                "trisoupFaceVertexEnabled": refines,
            },
        )


def _limits(data: bytes) -> tmc3.Limits:
    """What tmc3 may take to decode a stream: a damaged one can send it into an endless loop.

    Sound ones of a slice, about a million points, take a fifth or less of the time: trisoup at r04 most, 0.8 s.
    """
    slices = sum(name == "geometry" for name, _ in tlv.units(data))
    more_s = min(slices - 1, len(data) // _LEAST_SLICE_BYTES) + max(0, len(data) - 100_000) // 5_000
    return tmc3.Limits(
        cpu_s=4 + more_s,
        memory_bytes=(800 << 20) + 1000 * len(data),
        file_bytes=(1 << 16) + _PLY_POINT_BYTES * most_points(len(data)),
    )


def _ctc_rate(rate: Rate) -> int:
    index = rate.parameters.get("ctc_rate")
    if not isinstance(index, int):
        raise CodecError(f"octree rate needs ctc_rate of 1 to {OCTREE_RATE_COUNT}, got {index!r}")
    return index


def _source(cloud: PointCloud) -> _Source:
    """The cloud as integers.

    Raises:
        NotApplicableError: it is empty, or wider than tmc3's grid.
    """
    if not len(cloud):
        raise NotApplicableError("the cloud is empty, expected at least one point")
    if cloud.bit_depth is not None:
        return _Source(cloud.points.astype(np.int64, copy=False), cloud.bit_depth, is_voxelised=True)
    step = float(STEP)
    steps = np.rint(cloud.points.astype(np.float64) * float(1 / STEP))
    extent, farthest = np.ptp(steps, axis=0).max(), np.abs(steps).max()
    if extent >= 1 << MAX_BIT_DEPTH or farthest >= 1 << 31:
        raise NotApplicableError(
            f"the cloud is {extent * step:.6g} wide and reaches {farthest * step:.6g}, expected at most "
            f"{2**MAX_BIT_DEPTH * step:.6g} and {2**31 * step:.6g}: real coordinates are coded in steps of {step}"
        )
    return _Source(steps.astype(np.int64), max(1, int(extent).bit_length()), is_voxelised=False)


def _count_voxels(positions: npt.NDArray[np.integer]) -> tuple[int, int]:
    """Number of occupied voxels, and of occupied cubes of two voxels' width."""
    keys = _keys(positions)
    return len(keys), len(_parents(keys))


def _test_depth(source: _Source) -> tuple[int, bool]:
    """Finest depth at which the cloud is dense, for trisoup, and whether it is sparse at its own.

    Raises:
        NotApplicableError: there is none.  tmc3 v23 would encode single points as trisoup, but its decoder crashes on
            some of them, and for others reads memory that nobody set, so that each run gives another cloud.
    """
    keys = _keys(source.positions)
    coarsest = min(source.bit_depth, _MIN_TEST_DEPTH)
    for depth in range(source.bit_depth, coarsest - 1, -1):
        parents = _parents(keys)
        if len(keys) >= _DENSE * len(parents):
            return depth, depth < source.bit_depth
        keys = parents
    raise NotApplicableError(
        f"trisoup codes surfaces, and these {len(source.positions)} points form none: even on a grid of {coarsest} "
        f"bits a cube of two voxels' width holds fewer than {_DENSE:g} of them on average"
    )


def _keys(positions: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """One number for each occupied voxel, three fields of 21 bits."""
    x, y, z = (axis.astype(np.int64) - int(axis.min()) for axis in positions.T)
    return _distinct(x << 42 | y << 21 | z)


def _parents(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The keys on the grid of half the resolution."""
    top = (1 << 20) - 1
    return _distinct(keys >> 1 & (top << 42 | top << 21 | top))


def _distinct(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Each key once, sorted; by sorting, since np.unique hashes and takes ten times as long."""
    keys = np.sort(keys)
    return keys[np.concatenate(([True], keys[1:] != keys[:-1]))]
