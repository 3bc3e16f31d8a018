"""Codec: DeepCompress behind the interface of all codecs, one name for each entropy model."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from ..base import Bitstream, Codec, CodecCard, Rate, require_voxelised
from ..cloud import MAX_BIT_DEPTH, PointCloud
from ..container import get_varint, ledger, pack, put_varint, unpack
from ..errors import BitstreamError, CodecError, CodecUnavailableError
from ..limits import check_decodable, check_encodable
from ..weights import RECORD, named_rates, read_record

if TYPE_CHECKING:
    from .cells import Cells
    from .coding import Coder
    from .model import VoxelModel
    from .upsampler import Upsampler

    Logits = Iterator[tuple[slice, npt.NDArray[np.float32]]]

#: Numbers of the entropy models in streams.  Never renumber.
PRIOR_NUMBERS = {"gaussian": 1, "hyperprior": 2, "channel": 3, "context": 4, "attention": 5, "hybrid": 6}
_PRIOR_NAMES = {number: name for name, number in PRIOR_NUMBERS.items()}

_CONTAINER_NAME = "deepcompress"
_SECTIONS = ("header", "cells", "latents")
_MAX_COARSENING = 1
#: Bits that are set in each byte.
_BITS_SET = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1)
_TAG_BYTES = 2
#: Format of the stream, in the first byte above the bit depth.  Since 1, each coded cell puts out a voxel at least.
_FORMAT = 1
_FORMAT_SHIFT = 5

#: Rate weight and halvings of the grid of the named rates, low rate to high, for weights trained from the smallest to
#: the largest of these rate weights.
_RATES = ((24.0, 1), (9.0, 1), (36.0, 0), (16.0, 0), (7.0, 0), (3.0, 0), (1.0, 0), (0.3, 0))
_RATE_WEIGHTS = (0.2, 50.0)


@dataclass(frozen=True)
class Header:
    """First section of a stream.

    Attributes:
        bit_depth: of the cloud.
        prior: name of the entropy model.
        rate_index: of the gains.
        coarsening: halvings of the grid before coding.
        tag: first bytes of the hash of the weights.
    """

    bit_depth: int
    prior: str
    rate_index: int
    coarsening: int
    tag: bytes

    def to_bytes(self) -> bytes:
        """The section."""
        numbers = (
            _FORMAT << _FORMAT_SHIFT | self.bit_depth,
            PRIOR_NUMBERS[self.prior],
            self.rate_index,
            self.coarsening,
        )
        return b"".join(put_varint(number) for number in numbers) + self.tag

    @classmethod
    def from_bytes(cls, data: bytes) -> Header:
        """The header of a section.

        Raises:
            BitstreamError: a field is out of range.
        """
        from .structure import RATE_STEPS

        position = 0
        numbers = []
        for _ in range(4):
            number, position = get_varint(data, position)
            numbers.append(number)
        first, prior, rate_index, coarsening = numbers
        stream_format, bit_depth = first >> _FORMAT_SHIFT, first & (1 << _FORMAT_SHIFT) - 1
        if stream_format != _FORMAT:
            raise BitstreamError(f"deepcompress stream of format {stream_format}, this pccbench reads {_FORMAT}")
        if not 1 <= bit_depth <= MAX_BIT_DEPTH or coarsening > _MAX_COARSENING or rate_index > RATE_STEPS:
            raise BitstreamError(
                f"header has bit depth {bit_depth}, rate {rate_index}, coarsening {coarsening}; expected 1 to "
                f"{MAX_BIT_DEPTH}, at most {RATE_STEPS}, at most {_MAX_COARSENING}"
            )
        if prior not in _PRIOR_NAMES:
            raise BitstreamError(f"entropy model {prior}, expected 1 to {len(_PRIOR_NAMES)}")
        if len(data) != position + _TAG_BYTES:
            raise BitstreamError(f"header has {len(data)} bytes, expected {position + _TAG_BYTES}")
        return cls(bit_depth, _PRIOR_NAMES[prior], rate_index, coarsening, data[position:])


@functools.cache
def _transform(folder: Path) -> VoxelModel:
    from .files import transform_path
    from .weights import load_transform

    return load_transform(transform_path(folder))


@functools.cache
def _coder(folder: Path, name: str) -> Coder:
    from .files import prior_path
    from .weights import load_prior

    return load_prior(prior_path(folder, name))


@functools.cache
def _upsampler(folder: Path) -> Upsampler:
    from .files import upsampler_path
    from .weights import load_upsampler

    return load_upsampler(upsampler_path(folder), _transform(folder).config)


class DeepCompressCodec(Codec):
    """Learned voxel codec: occupancy of 8**3 cells by the octree, latents in occupied cells, thresholds a block."""

    name = "deepcompress"
    title = "DeepCompress"
    takes_weights = True
    #: Entropy model that is coded with.
    prior: str = "channel"

    def __init__(self, weights: Path | None = None) -> None:
        from .files import SHIPPED, entropy_models, prior_path, transform_path, upsampler_path

        self.folder = SHIPPED if weights is None else Path(weights)
        found = entropy_models(self.folder, PRIOR_NUMBERS)
        if self.name == _CONTAINER_NAME and self.prior not in found and len(found) == 1:
            self.prior = found[0]  # of weights with one entropy model, there is no choice
        for path in (
            transform_path(self.folder),
            upsampler_path(self.folder),
            prior_path(self.folder, self.prior),
        ):
            if not path.exists():
                others = f"; there are {', '.join(found)}" if found else ""
                raise CodecUnavailableError(f"no weights ({path.name}{others}); train them: bench train deepcompress")

    def rates(self) -> list[Rate]:
        """One model for all; the rate weight tells what a bit may cost.

        As the weights' record names them, else over the rate weights that it says they were trained for.

        Raises:
            CodecUnavailableError: the record names what the weights cannot do.
        """
        named = named_rates(self.folder)
        if named is None:
            named = [
                {"rate_weight": weight, "coarsening": coarsening, "optimise": "d1"}
                for weight, coarsening in _spread(_trained_for(read_record(self.folder)))
            ]
        rates = [Rate(f"r{number:02d}", parameters) for number, parameters in enumerate(named, 1)]
        for rate in rates:
            try:
                _rate_parameters(rate)
            except (CodecError, KeyError, TypeError, ValueError) as error:
                raise CodecUnavailableError(f"{self.folder / RECORD}: rates: {rate.name}: {error}") from None
        return rates

    def warm_up(self) -> None:
        """Load the weights, and compile by coding a small ball."""
        span = np.arange(-12, 13)
        grid = np.stack(np.meshgrid(span, span, span, indexing="ij"), axis=-1).reshape(-1, 3)
        radius = np.sqrt((grid**2).sum(axis=1))
        ball = grid[np.abs(radius - 11) < 0.5] + 20
        cloud = PointCloud(ball.astype(np.int32), bit_depth=6)
        self.decode(self.encode(cloud, self.rates()[-1]))

    def encode(self, cloud: PointCloud, rate: Rate) -> Bitstream:
        """Code the set of voxels of `cloud`; how often each occurs is not kept.

        Raises:
            NotApplicableError: the cloud is not voxelised.
            CodecError: a rate parameter is out of range.
        """
        bit_depth = require_voxelised(cloud, self.name)
        rate_weight, coarsening, optimise = _rate_parameters(rate)
        from ..entropy.rangecoder import SymbolEncoder
        from ..octree.occupancy import encode_keys
        from .cells import CELL_VOXELS, cells_of, keys_of, neighbours_of
        from .coding import encode_thresholds
        from .model import rate_index_of
        from .structure import structure_of
        from .upsampler import at_positions

        header = self._header(bit_depth, rate_index_of(rate_weight), coarsening)
        points = np.asarray(cloud.points, np.int32)
        cells = cells_of(points >> coarsening)
        occupancy, cell_bits = encode_keys(keys_of(cells.positions))
        if not len(cells):
            data = pack(_CONTAINER_NAME, [header.to_bytes(), occupancy, b""])
            return Bitstream(data, estimated_bits=8.0 * len(data))
        table = neighbours_of(cells.positions)
        latents = self._latents(cells, table, header.rate_index)
        encoder = SymbolEncoder()
        structure = structure_of(cells.positions, np.full(len(cells), header.rate_index), table)
        _coder(self.folder, self.prior).encode(latents, structure, encoder)
        latent_bits = encoder.estimated_bits
        positions = _output_positions(cells.positions, header)
        target = at_positions(cells_of(points), positions) if coarsening else cells
        normals = _normals(cloud, points, target, optimise)
        logits = self._logits(table, latents, header)
        picked, chosen = self._decide(target, logits, cell_bits + latent_bits, normals, header)
        encode_thresholds(picked, encoder)
        symbols = encoder.finish()
        data = pack(_CONTAINER_NAME, [header.to_bytes(), occupancy, symbols])
        check_encodable(len(data), points=_count(chosen), candidates=len(positions) * CELL_VOXELS)
        return Bitstream(
            data,
            # What is not entropy coded costs what it costs.
            estimated_bits=cell_bits + encoder.estimated_bits + 8 * (len(data) - len(occupancy) - len(symbols)),
            reconstruction_sha256=_cloud(positions, chosen, header).geometry_sha256(),
            notes={
                "cells": len(cells),
                "latent_bits": latent_bits,
                "threshold_bits": encoder.estimated_bits - latent_bits,
            },
        )

    def decode(self, data: bytes) -> PointCloud:
        """Rebuild the cloud.

        Raises:
            BitstreamError: the stream is damaged, foreign, or of other weights than these.
        """
        from ..entropy.rangecoder import SymbolDecoder
        from ..octree.occupancy import decode_occupancy
        from .cells import CELL_SIDE, CELL_VOXELS, neighbours_of
        from .coding import decode_thresholds
        from .decision import THRESHOLDS, blocks_of
        from .structure import structure_of

        _, sections = unpack(data, _CONTAINER_NAME)
        if len(sections) != len(_SECTIONS):
            raise BitstreamError(f"stream has {len(sections)} sections, expected {len(_SECTIONS)}")
        header = Header.from_bytes(sections[0])
        expected = self._tag(header.prior)
        if header.tag != expected:
            raise BitstreamError(f"stream was made with other weights: tag {header.tag.hex()}, ours {expected.hex()}")
        positions = decode_occupancy(sections[1])
        if not len(positions):
            return PointCloud(np.empty((0, 3), np.int32), bit_depth=header.bit_depth)
        side = max(1, (1 << header.bit_depth >> header.coarsening) // CELL_SIDE)
        if int(positions.max()) >= side:
            raise BitstreamError(f"cell coordinate {positions.max()} is outside a grid of {side} cells")
        check_decodable(len(data), candidates=len(positions) * CELL_VOXELS * 8**header.coarsening)
        table = neighbours_of(positions)
        structure = structure_of(positions, np.full(len(positions), header.rate_index), table)
        decoder = SymbolDecoder(sections[2])
        latents = _coder(self.folder, header.prior).decode(structure, decoder)
        output = _output_positions(positions, header)
        block, blocks = blocks_of(output)
        picked = decode_thresholds(blocks, decoder)
        decoder.finish()
        least = np.append(THRESHOLDS, np.float32(np.inf))[picked][block]
        packed = np.empty((len(output), CELL_VOXELS // 8), np.uint8)
        for piece, logits in self._logits(table, latents, header):
            passed = logits >= least[piece, None]
            packed[piece] = np.packbits(_with_likeliest(passed, _likeliest(logits, header), header), axis=1)
        check_decodable(len(data), points=_count(packed))
        return _cloud(output, packed, header)

    def sections(self, data: bytes) -> dict[str, int]:
        """Bytes of container, header, occupancy of cells, and symbols (latents, hyper-latents, thresholds)."""
        return ledger(data, _SECTIONS)

    def card(self) -> CodecCard:
        """Read from the files of weights and their record."""
        from .files import prior_path, transform_path, weights_sha256

        record = read_record(self.folder)
        parameters = _parameters(transform_path(self.folder)) + _parameters(prior_path(self.folder, self.prior))
        return CodecCard(
            version="1",
            title=f"DeepCompress ({self.prior})",
            description=f"Learned voxel codec of stride 8, entropy model {self.prior}, one model for all rates",
            paper="Killea, Li, Bastani, McLachlan: DeepCompress, arXiv:2106.01504",
            parameters=parameters,
            macs_per_point=_macs_per_point(record, self.prior),
            weights_sha256=weights_sha256(self.folder, self.prior),
            trained=bool(record.get("trained", False)),
            training_files_sha256=tuple(record.get("training_files_sha256", ())),
        )

    def _tag(self, prior: str) -> bytes:
        from .files import weights_sha256

        return bytes.fromhex(weights_sha256(self.folder, prior))[:_TAG_BYTES]

    def _header(self, bit_depth: int, rate_index: int, coarsening: int) -> Header:
        return Header(bit_depth, self.prior, rate_index, coarsening, self._tag(self.prior))

    def _latents(self, cells: Cells, table: npt.NDArray[np.int32], rate_index: int) -> Any:
        import torch

        neighbours = torch.from_numpy(table.astype(np.int64))
        return _transform(self.folder).latents(cells.bits, neighbours, np.array([rate_index]))

    def _logits(self, table: npt.NDArray[np.int32], latents: Any, header: Header) -> Logits:
        """Logits of the voxels on the grid of the output, a piece of its cells at a time."""
        import torch

        neighbours = torch.from_numpy(table.astype(np.int64))
        upsampler = _upsampler(self.folder) if header.coarsening else None
        return _transform(self.folder).logits(latents, neighbours, header.rate_index, upsampler)

    @staticmethod
    def _decide(
        target: Cells,
        pieces: Logits,
        other_bits: float,
        normals: npt.NDArray[np.float32] | None,
        header: Header,
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Threshold of each block, and the mask of the voxels that pass, packed (n, 64)."""
        from .cells import CELL_VOXELS, neighbours_of
        from .decision import blocks_of, choose_sparingly, levels_of, measure

        levels = np.empty((len(target), CELL_VOXELS), np.uint8)
        likeliest = []
        for piece, logits in pieces:
            levels[piece] = levels_of(logits)
            likeliest.append(_likeliest(logits, header))
        block, blocks = blocks_of(target.positions)
        costs = measure(target, neighbours_of(target.positions), levels, block, blocks, normals)
        points = np.bincount(block, np.unpackbits(target.bits, axis=1).sum(axis=1), blocks)
        picked = choose_sparingly(costs, points, other_bits)
        # A voxel passes when it reached more thresholds than the number of the one that was picked.
        passed = _with_likeliest(levels > picked[block][:, None], np.concatenate(likeliest), header)
        return picked, np.packbits(passed, axis=1)


def _output_positions(positions: npt.NDArray[np.int32], header: Header) -> npt.NDArray[np.int32]:
    """Cells of the output's grid that the coded ones cover."""
    if not header.coarsening:
        return positions
    from .upsampler import fine_positions

    return fine_positions(positions)


def _inside(header: Header) -> npt.NDArray[np.bool_] | None:
    """Which voxels of a coded cell, on the grid of the output, lie on that grid; None where all do."""
    from .cells import CELL_SIDE, voxel_offsets
    from .upsampler import fine_positions

    side = 1 << header.bit_depth
    if side >= CELL_SIDE << header.coarsening:
        return None
    corners = np.zeros((1, 3), np.int32)
    cells = fine_positions(corners) if header.coarsening else corners
    inside: npt.NDArray[np.bool_] = (cells[:, None] * CELL_SIDE + voxel_offsets() < side).all(axis=2).reshape(-1)
    return inside


def _likeliest(logits: npt.NDArray[np.float32], header: Header) -> npt.NDArray[np.int64]:
    """The likeliest voxel of each coded cell among those on the grid, a number within the cell."""
    from .cells import CELL_VOXELS

    whole = logits.reshape(-1, CELL_VOXELS * 8**header.coarsening)
    inside = _inside(header)
    found: npt.NDArray[np.int64] = (whole if inside is None else np.where(inside, whole, -np.inf)).argmax(axis=1)
    return found


def _with_likeliest(
    passed: npt.NDArray[np.bool_], likeliest: npt.NDArray[np.int64], header: Header
) -> npt.NDArray[np.bool_]:
    """The voxels that pass; of a coded cell in which none does, since it is occupied, the likeliest."""
    whole = passed.reshape(len(likeliest), -1)
    inside = _inside(header)
    missing = np.flatnonzero(~(whole if inside is None else whole & inside).any(axis=1))
    whole[missing, likeliest[missing]] = True
    return whole.reshape(passed.shape)


def _trained_for(record: Mapping[str, Any]) -> tuple[float, float]:
    """Smallest and largest rate weight that weights were trained for; the usual ones where nobody wrote it down."""
    try:
        low, high = (float(weight) for weight in record["config"]["training"]["rate_weights"])
    except (KeyError, TypeError, ValueError):
        return _RATE_WEIGHTS
    return (low, high) if 0 < low < high else _RATE_WEIGHTS


def _spread(trained_for: tuple[float, float]) -> list[tuple[float, int]]:
    """The usual rates, moved to another range of rate weights: each keeps its place on a logarithmic scale."""
    if trained_for == _RATE_WEIGHTS:
        return list(_RATES)
    (low, high), (usual_low, usual_high) = trained_for, _RATE_WEIGHTS
    places = [math.log(weight / usual_low) / math.log(usual_high / usual_low) for weight, _ in _RATES]
    weights = [low * (high / low) ** place for place in places]
    return [(float(f"{weight:.3g}"), coarsening) for weight, (_, coarsening) in zip(weights, _RATES, strict=True)]


def _rate_parameters(rate: Rate) -> tuple[float, int, Literal["d1", "d2"]]:
    from .model import MAX_RATE_WEIGHT, MIN_RATE_WEIGHT

    rate_weight = float(rate.parameters["rate_weight"])
    coarsening = int(rate.parameters.get("coarsening", 0))
    optimise = rate.parameters.get("optimise", "d1")
    if not MIN_RATE_WEIGHT <= rate_weight <= MAX_RATE_WEIGHT:
        raise CodecError(f"rate_weight must be {MIN_RATE_WEIGHT} to {MAX_RATE_WEIGHT}, got {rate_weight}")
    if not 0 <= coarsening <= _MAX_COARSENING:
        raise CodecError(f"coarsening must be 0 to {_MAX_COARSENING}, got {coarsening}")
    if optimise not in ("d1", "d2"):
        raise CodecError(f"optimise must be d1 or d2, got {optimise!r}")
    return rate_weight, coarsening, optimise  # type: ignore[return-value]


def _normals(
    cloud: PointCloud, points: npt.NDArray[np.int32], target: Cells, optimise: str
) -> npt.NDArray[np.float32] | None:
    """Normals of the voxels in the order of cells, for D2; None where D1 counts."""
    if optimise == "d1":
        return None
    from ...metrics.normals import estimate_normals
    from .cells import keys_of, points_of

    normals = estimate_normals(points)[0] if cloud.normals is None else cloud.normals
    # Repeated points: the normal of the first counts.
    unique, first = np.unique(keys_of(points), return_index=True)
    rows = first[np.searchsorted(unique, keys_of(points_of(target.positions, target.bits)))]
    return np.ascontiguousarray(normals[rows], np.float32)


def _count(packed: npt.NDArray[np.uint8]) -> int:
    """Voxels in packed masks."""
    return int(np.bincount(packed.reshape(-1), minlength=256) @ _BITS_SET)


def _cloud(positions: npt.NDArray[np.int32], packed: npt.NDArray[np.uint8], header: Header) -> PointCloud:
    """The cloud of the voxels that pass, on the grid of the input."""
    from .cells import points_of

    points = points_of(positions, packed)
    inside = (points >> header.bit_depth == 0).all(axis=1)
    return PointCloud(points[inside], bit_depth=header.bit_depth)


def _parameters(path: Path) -> int:
    """Numbers in a file of weights, tables left out."""
    from safetensors import safe_open

    total = 0
    with safe_open(path, "np") as file:
        for key in file.keys():
            if "tables." not in key:
                total += int(np.prod(file.get_slice(key).get_shape()))
    return total


def _macs_per_point(record: Mapping[str, Any], prior: str) -> float | None:
    """Of the transforms and of the entropy model; None where the record lacks one of them."""
    transforms, entropy = record.get("macs_per_point"), record.get("entropy_macs_per_point", {}).get(prior)
    return None if transforms is None or entropy is None else round(float(transforms) + float(entropy), 1)


class GaussianCodec(DeepCompressCodec):
    """DeepCompress with one distribution a channel."""

    name = "deepcompress-gaussian"
    title = "DeepCompress (gaussian)"
    prior = "gaussian"


class HyperpriorCodec(DeepCompressCodec):
    """DeepCompress with hyper-latents."""

    name = "deepcompress-hyperprior"
    title = "DeepCompress (hyperprior)"
    prior = "hyperprior"


class ChannelCodec(DeepCompressCodec):
    """DeepCompress with channel groups."""

    name = "deepcompress-channel"
    title = "DeepCompress (channel)"
    prior = "channel"


class ContextCodec(DeepCompressCodec):
    """DeepCompress with an autoregressive context."""

    name = "deepcompress-context"
    title = "DeepCompress (context)"
    prior = "context"


class AttentionCodec(DeepCompressCodec):
    """DeepCompress with attention in windows."""

    name = "deepcompress-attention"
    title = "DeepCompress (attention)"
    prior = "attention"


class HybridCodec(DeepCompressCodec):
    """DeepCompress with all of these."""

    name = "deepcompress-hybrid"
    title = "DeepCompress (hybrid)"
    prior = "hybrid"
