"""Codec: D-PCC behind the interface of all codecs."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..base import Bitstream, Codec, CodecCard, Rate
from ..cloud import MAX_BIT_DEPTH, PointCloud
from ..container import get_varint, ledger, pack, put_varint, unpack
from ..errors import BitstreamError, CodecError, CodecUnavailableError, NotApplicableError
from ..limits import check_decodable, check_encodable, most_points
from ..octree.grid import RealGrid, VoxelGrid, grid_of
from ..weights import RECORD, named_rates, read_record

if TYPE_CHECKING:
    from .hierarchy import Floats
    from .weights import Trained

_SECTIONS = ("header", "latents", "features", "strays")
_TAG_BYTES = 2
#: Voxels along the longest side of a real cloud too small for the network, in bits.
_SMALL_DEPTH = 14
#: Latents' steps along each side of a real cloud; what lies farther out is coded as it is.
_REACH_STEPS = 1 << 20
#: Beyond this, squared distances overflow.
_MAX_EXTENT = 1e140
_MAX_GRID_SHARE = 4.0
#: Shifts are told from here: two bytes hold any of them.
_SHIFT_ORIGIN = 256


@dataclass(frozen=True)
class Header:
    """First section of a stream.

    Attributes:
        grid: of a voxelised cloud, or of the latents of one of real coordinates (of all its points, if small).
        point: number of the operating point, None where the cloud is too small for the network.
        step: of the latents' grid, in voxels; 1 for real coordinates, whose grid has it.
        shift: of the last counts, in 1/64.
        points: that the decoder grows, before voxels merge.
        tag: first bytes of the hash of the weights.
    """

    grid: VoxelGrid | RealGrid
    point: int | None
    step: int = 1
    shift: int = 0
    points: int = 0
    tag: bytes = b""

    def to_bytes(self) -> bytes:
        """The section."""
        if self.point is None:
            return put_varint(0) + self.grid.to_bytes()
        numbers = (self.point + 1, self.step, self.shift + _SHIFT_ORIGIN, self.points)
        return b"".join(put_varint(number) for number in numbers) + self.tag + self.grid.to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Header:
        """The header of a section.

        Raises:
            BitstreamError: a field is out of range.
        """
        point, position = get_varint(data, 0)
        if point == 0:
            return cls(_grid(data[position:]), None)
        numbers = []
        for _ in range(3):
            number, position = get_varint(data, position)
            numbers.append(number)
        step, shift, points = numbers
        tag = data[position : position + _TAG_BYTES]
        if not 1 <= step <= 1 << MAX_BIT_DEPTH or not 1 <= shift < 2 * _SHIFT_ORIGIN:
            raise BitstreamError(f"header has step {step}, shift code {shift}: out of range")
        return cls(_grid(data[position + _TAG_BYTES :]), point - 1, step, shift - _SHIFT_ORIGIN, points, tag)


def _grid(data: bytes) -> VoxelGrid | RealGrid:
    grid = grid_of(data)
    if isinstance(grid, VoxelGrid) and grid.scale != 1:
        raise BitstreamError(f"header has a grid of scale {grid.scale}, expected 1")
    return grid


@functools.cache
def _trained(folder: Path) -> Trained:
    from .files import model_path
    from .weights import load_model

    return load_model(model_path(folder))


class DpccCodec(Codec):
    """Density-preserving point codec: farthest points, a few features each, and a decoder that grows the rest."""

    name = "dpcc"
    title = "D-PCC"
    takes_weights = True

    def __init__(self, weights: Path | None = None) -> None:
        from .files import SHIPPED, model_path

        self.folder = SHIPPED if weights is None else Path(weights)
        if not model_path(self.folder).exists():
            raise CodecUnavailableError("no weights (model.safetensors); train them: bench train dpcc")

    def rates(self) -> list[Rate]:
        """As the weights' record names them, else one for each operating point that the weights have.

        `point` is the operating point, `grid_share` the step of the latents' grid over their spacing, and
        `towards_zero` how much farther than halfway a feature must lie to be rounded away from zero.  Those of the
        shipped weights were chosen on validation clouds: many latents on a coarse grid with few features are better
        than what the operating points between were trained for.

        Raises:
            CodecUnavailableError: the record names what the weights have not.
        """
        from .files import operating_points

        points = operating_points(self.folder)
        named = named_rates(self.folder)
        if named is None:
            named = [
                {"point": number, "grid_share": point["grid_share"], "towards_zero": 0.0}
                for number, point in enumerate(points, 1)
            ]
        rates = [Rate(f"r{number:02d}", parameters) for number, parameters in enumerate(named, 1)]
        for rate in rates:
            try:
                _rate_parameters(rate, len(points))
            except CodecError as error:
                raise CodecUnavailableError(f"{self.folder / RECORD}: {error}") from None
        return rates

    def warm_up(self) -> None:
        """Load the weights, and compile by coding a small ball."""
        span = np.arange(-15, 16)
        grid = np.stack(np.meshgrid(span, span, span, indexing="ij"), axis=-1).reshape(-1, 3)
        ball = grid[np.abs(np.sqrt((grid**2).sum(axis=1)) - 14) < 0.6] + 20
        self.decode(self.encode(PointCloud(ball.astype(np.int32), bit_depth=6), self.rates()[-1]))

    def encode(self, cloud: PointCloud, rate: Rate) -> Bitstream:
        """Code the set of points of `cloud`; how often each occurs is not kept.

        Raises:
            NotApplicableError: the cloud is too wide to compute with.
            CodecError: a rate parameter is out of range.
        """
        from ..octree.occupancy import distinct, keys_of
        from ..sparse.occupancy import encode_keys
        from .coding import analyse, encode_symbols, operating_point

        trained = _trained(self.folder)
        wanted, share, towards_zero = _rate_parameters(rate, len(trained.config.points))
        xyz, strays = _distinct(cloud)
        point = operating_point(trained, wanted - 1, len(xyz))
        if point is None:
            return self._encode_small(cloud)
        made_grid: list[tuple[VoxelGrid | RealGrid, int]] = []

        def grid(latents: Floats) -> tuple[Floats, float]:
            made_grid.append(_latent_grid(cloud, xyz, latents, share))
            return _origin(*made_grid[0]), _step(*made_grid[0])

        coded, points = analyse(trained, xyz, point, grid, _distinct_counter(cloud.bit_depth), towards_zero)
        occupancy, cell_bits = encode_keys(distinct(keys_of(coded.latents.cells)), trained.experience)
        symbols, feature_bits = encode_symbols(trained, coded)
        header = Header(*made_grid[0][:1], point, made_grid[0][1], coded.shift, len(points), self._tag())
        sections = [header.to_bytes(), occupancy, symbols, _pack_strays(strays)]
        data = pack(self.name, sections)
        check_encodable(sum(map(len, sections)), points=len(points) + len(strays))
        return Bitstream(
            data,
            # What is not entropy coded costs what it costs.
            estimated_bits=cell_bits + feature_bits + 8 * (len(data) - len(occupancy) - len(symbols)),
            reconstruction_sha256=_cloud(header, points, strays).geometry_sha256(),
            notes={
                "operating_point": point + 1,
                "latents": len(coded.latents),
                "latent_step": _step(header.grid, header.step),
                "points_before_merging": len(points),
                "strays": len(strays),
            },
        )

    def _encode_small(self, cloud: PointCloud) -> Bitstream:
        """Clouds of too few points go to the octree: lossless, or on a fine grid."""
        from ..octree.occupancy import distinct, encode_keys, keys_of, points_of

        points: npt.NDArray[Any] = cloud.points
        grid = VoxelGrid(cloud.bit_depth) if cloud.bit_depth is not None else RealGrid.over(points, _SMALL_DEPTH)
        keys = distinct(keys_of(grid.quantised(points)))
        occupancy, bits = encode_keys(keys)
        header = Header(grid, None)
        data = pack(self.name, [header.to_bytes(), occupancy, b"", b""])
        return Bitstream(
            data,
            estimated_bits=bits + 8 * (len(data) - len(occupancy)),
            reconstruction_sha256=PointCloud(grid.restored(points_of(keys)), cloud.bit_depth).geometry_sha256(),
            notes={"operating_point": 0, "small_points": len(keys)},
        )

    def decode(self, data: bytes) -> PointCloud:
        """Rebuild the cloud.

        Raises:
            BitstreamError: the stream is damaged, foreign, or of other weights than these.
        """
        from ..octree.occupancy import decode_occupancy

        _, sections = unpack(data, self.name)
        if len(sections) != len(_SECTIONS):
            raise BitstreamError(f"stream has {len(sections)} sections, expected {len(_SECTIONS)}")
        header = Header.from_bytes(sections[0])
        check_decodable(sum(map(len, sections)), points=header.points)
        if header.point is None:
            return _small_cloud(header.grid, decode_occupancy(sections[1]), sections)
        return self._decode_network(header, *sections[1:])

    def _decode_network(self, header: Header, occupancy: bytes, symbols: bytes, strays: bytes) -> PointCloud:
        from ..octree.occupancy import points_of
        from ..sparse.occupancy import decode_keys
        from .coding import Coded, decode_symbols, synthesise
        from .hierarchy import Latents
        from .model import TooManyError

        trained = _trained(self.folder)
        if header.tag != self._tag():
            raise BitstreamError(
                f"stream was made with other weights: tag {header.tag.hex()}, ours {self._tag().hex()}"
            )
        if header.point is None or header.point >= len(trained.config.points):
            raise BitstreamError(f"operating point {header.point}, expected less than {len(trained.config.points)}")
        cells = points_of(decode_keys(occupancy, trained.experience))
        if not 0 < len(cells) <= header.points:
            raise BitstreamError(f"{len(cells)} latents cannot grow {header.points} points")
        latents = Latents(cells.astype(np.int64), _origin(header.grid, header.step), _step(header.grid, header.step))
        if isinstance(header.grid, VoxelGrid) and int(cells.max()) * header.step >= 1 << header.grid.bit_depth:
            raise BitstreamError(f"latent {int(cells.max())} is beyond the grid of {header.grid.bit_depth} bits")
        features = decode_symbols(trained, symbols, len(cells), header.point)
        try:
            points = synthesise(trained, Coded(latents, features, header.point, header.shift), header.points)
        except TooManyError as error:
            raise BitstreamError(f"stream is damaged: {error}") from None
        if len(points) != header.points:
            raise BitstreamError(f"latents grew {len(points)} points, the header has {header.points}")
        return _cloud(header, points, _unpack_strays(strays, header))

    def sections(self, data: bytes) -> dict[str, int]:
        """Bytes of container, header, coordinates of latents, features, and points coded as they are."""
        return ledger(data, _SECTIONS)

    def card(self) -> CodecCard:
        """Read from the file of weights and its record."""
        from .files import weights_sha256

        record = read_record(self.folder)
        return CodecCard(
            version="1",
            title=self.title,
            description="Density-preserving learned point codec: farthest points, trained contexts for their places, "
            "a decoder that grows 1 to 8 children three times; one model for all rates",
            paper="He, Ren, Tang, Zhang, Xue, Fu: Density-preserving Deep Point Cloud Compression, CVPR 2022",
            parameters=record.get("parameters"),
            macs_per_point=record.get("macs_per_point"),
            weights_sha256=weights_sha256(self.folder),
            trained=bool(record.get("trained", False)),
            training_files_sha256=tuple(record.get("training_files_sha256", ())),
        )

    def _tag(self) -> bytes:
        from .files import weights_sha256

        return bytes.fromhex(weights_sha256(self.folder))[:_TAG_BYTES]


def _rate_parameters(rate: Rate, points: int) -> tuple[int, float, float]:
    """Number of the operating point, step of the latents' grid over their spacing, and how features are rounded."""
    point, share = rate.parameters.get("point"), rate.parameters.get("grid_share", 1.0)
    if not isinstance(point, int) or not 1 <= point <= points:
        raise CodecError(f"dpcc needs point 1 to {points} in rate {rate.name!r}, got {point!r}")
    if not isinstance(share, int | float) or not 0 < share <= _MAX_GRID_SHARE:
        raise CodecError(
            f"dpcc needs grid_share above 0, at most {_MAX_GRID_SHARE} in rate {rate.name!r}, got {share!r}"
        )
    towards_zero = rate.parameters.get("towards_zero", 0.0)
    if not isinstance(towards_zero, int | float) or not 0 <= towards_zero < 0.5:
        raise CodecError(f"dpcc needs towards_zero from 0 to below 0.5 in rate {rate.name!r}, got {towards_zero!r}")
    return point, float(share), float(towards_zero)


def _distinct(cloud: PointCloud) -> tuple[Floats, npt.NDArray[Any]]:
    """Distinct points in an order of their own, and those too far out for a grid.

    Raises:
        NotApplicableError: the cloud is too wide.
    """
    from ..octree.occupancy import distinct, keys_of, points_of
    from .hierarchy import spacing

    points: npt.NDArray[Any] = cloud.points
    none = points[:0]
    if cloud.bit_depth is not None:
        return points_of(distinct(keys_of(points))).astype(np.float64), none
    points = np.unique(points + 0.0, axis=0) if len(points) else points  # -0.0 and 0.0 are the same place
    wide = points.astype(np.float64)
    if not len(wide):
        return wide, none
    if float(np.abs(wide).max()) > _MAX_EXTENT:
        raise NotApplicableError(f"cloud reaches {float(np.abs(wide).max()):g}, expected at most {_MAX_EXTENT:g}")
    reach = spacing(wide) * (_REACH_STEPS // 2)
    far = (np.abs(wide - np.median(wide, axis=0)) > reach).any(axis=1)
    return wide[~far], points[far]


def _latent_grid(cloud: PointCloud, xyz: Floats, latents: Floats, share: float) -> tuple[VoxelGrid | RealGrid, int]:
    """Grid of the cloud and step in voxels; or grid of the latents of real coordinates, and 1."""
    from .hierarchy import spacing, voxel_grid

    if cloud.bit_depth is not None:
        return VoxelGrid(cloud.bit_depth), int(voxel_grid(latents, share)[1])
    double = cloud.points.dtype == np.float64
    low = xyz.min(axis=0)
    if not double:
        low = low.astype(np.float32).astype(np.float64)
    step = max(share * spacing(latents), float((xyz.max(axis=0) - low).max()) / _REACH_STEPS)
    narrow = float(np.float32(step))
    if not (0 < narrow < np.inf):
        raise NotApplicableError(f"latents lie {step:g} apart, which single precision cannot tell")
    return RealGrid((float(low[0]), float(low[1]), float(low[2])), narrow, double), 1


def _origin(grid: VoxelGrid | RealGrid, step: int) -> Floats:
    """Middle of the cell 0, 0, 0 of the latents' grid."""
    return np.full(3, (step - 1) / 2) if isinstance(grid, VoxelGrid) else np.array(grid.origin)


def _step(grid: VoxelGrid | RealGrid, step: int) -> float:
    return float(step) if isinstance(grid, VoxelGrid) else grid.step


def _cloud(header: Header, points: Floats, strays: npt.NDArray[Any]) -> PointCloud:
    """The cloud on the grid of the input: repeated voxels merged, or real points and strays.

    Raises:
        BitstreamError: a point is beyond the range of the cloud's precision.
    """
    from ..octree.occupancy import points_of

    grid = header.grid
    if isinstance(grid, VoxelGrid):
        return PointCloud(points_of(_voxel_keys(points, grid.bit_depth)), grid.bit_depth)
    kind = np.float64 if grid.double else np.float32
    with np.errstate(over="ignore"):
        real = np.concatenate([points.astype(kind), strays.astype(kind)])
    if not np.isfinite(real).all():
        raise BitstreamError("decoded points are not finite")
    return PointCloud(real)


def _voxel_keys(points: Floats, bit_depth: int) -> npt.NDArray[np.int64]:
    """Sorted keys of the voxels that points fall in."""
    from ..octree.occupancy import distinct, keys_of

    return distinct(keys_of(np.clip(np.floor(points + 0.5), 0, (1 << bit_depth) - 1).astype(np.int64)))


def _distinct_counter(bit_depth: int | None) -> Callable[[Floats], int]:
    """How many points are left of decoded ones: all, unless voxels merge."""
    return len if bit_depth is None else lambda points: len(_voxel_keys(points, bit_depth))


def _small_cloud(grid: VoxelGrid | RealGrid, cells: npt.NDArray[np.int32], sections: list[bytes]) -> PointCloud:
    if sections[2] or sections[3]:
        raise BitstreamError("a small cloud has no features and no strays")
    if isinstance(grid, VoxelGrid):
        if len(cells) and int(cells.max()) >= 1 << grid.bit_depth:
            raise BitstreamError(f"voxel {int(cells.max())} is beyond the grid of {grid.bit_depth} bits")
        return PointCloud(cells, grid.bit_depth)
    return PointCloud(grid.restored(cells))


def _pack_strays(strays: npt.NDArray[Any]) -> bytes:
    return (
        zlib.compress(np.ascontiguousarray(strays, strays.dtype.newbyteorder("<")).tobytes(), 9)
        if len(strays)
        else b""
    )


def _unpack_strays(data: bytes, header: Header) -> npt.NDArray[Any]:
    """Points coded as they are, (s, 3).

    Raises:
        BitstreamError: damaged, or in a voxelised cloud.
    """
    grid = header.grid
    kind = np.dtype("<f8" if isinstance(grid, RealGrid) and grid.double else "<f4")
    if not data:
        return np.zeros((0, 3), kind)
    if isinstance(grid, VoxelGrid):
        raise BitstreamError("a voxelised cloud has no strays")
    unpacker = zlib.decompressobj()
    try:
        raw = unpacker.decompress(data, 3 * kind.itemsize * most_points(len(data)))
    except zlib.error as error:
        raise BitstreamError(f"strays are damaged: {error}") from None
    if not unpacker.eof or len(raw) % (3 * kind.itemsize):
        raise BitstreamError("strays are damaged: they do not end where they should")
    points = np.frombuffer(raw, kind).reshape(-1, 3)
    if not np.isfinite(points).all():
        raise BitstreamError("strays are damaged: not finite")
    return points
