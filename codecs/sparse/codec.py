"""Codec: a coarse grid without loss, and a network that completes the surface between its voxels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from ..base import Bitstream, Codec, CodecCard, Rate
from ..cloud import MAX_BIT_DEPTH, PointCloud
from ..container import get_varint, ledger, pack, put_varint, unpack
from ..errors import BitstreamError, CodecError, CodecUnavailableError
from .files import SHIPPED, read_record, weights_path, weights_sha256

if TYPE_CHECKING:
    from .completion import Candidates
    from .weights import Weights

_SECTIONS = ("header", "occupancy", "thresholds", "refinement", "multiplicity")
_TAG_BYTES = 2
_MAX_STEP = 64
_MAX_BLOCK_BITS = 6
_BLOCK_SIDE = 64
#: The step at which blocks can be refined to the full resolution.
_REFINED_STEP = 2
#: Base coders.
_TRAINED, _OCTREE = 0, 1
#: Coarse voxels for each of twice the side, below which the octree's direct mode serves better: no surface.
_SPARSE_CHILDREN = 1.6
#: A decoded cloud has at most this many points for each byte of its stream, where points are repeated.
_MAX_REPEATS_PER_BYTE = 1 << 20

#: Steps of the coarse grid at the named rates, in voxels, and the halvings of the number of threshold blocks.
_STEPS = {24: 3, 16: 2, 12: 2, 8: 1, 6: 1, 5: 1, 4: 0, 3: 0, 2: 0}
#: Shares of the coarse voxels whose children are coded, and how likely an error may be that is not corrected, at the
#: named rates above those.
_REFINED = ((0.5, 0.3), (1.0, 0.3), (1.0, 0.1))
#: Errors are bounded in steps of this; the bound for false points is the lower, to have as many as missing ones.
_BAND_STEPS = 64

Keys = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Header:
    """First section of a stream.

    Attributes:
        bit_depth: of the cloud.
        step: side of a coarse voxel in voxels; 1 for lossless.
        base: which coder the coarse grid has.
        refined: whether in some blocks the children of coarse voxels are coded; with step 2.
        band: bound of their errors, in steps of 1 / (2 * _BAND_STEPS).
        block_bits: thresholds are for cubes of 64 * 2**block_bits voxels.
        stage_levels: level that the voxels between the grids passed, for each completion but the last.
        tag: first bytes of the hash of the weights.
    """

    bit_depth: int
    step: int
    base: int
    refined: bool
    band: int
    block_bits: int
    stage_levels: tuple[int, ...]
    tag: bytes

    def side(self, step: int) -> int:
        """Side of the grid in voxels of `step` voxels of the cloud."""
        return -(-(1 << self.bit_depth) // step)

    def to_bytes(self) -> bytes:
        """The section."""
        numbers = (
            self.bit_depth,
            self.step,
            self.base | int(self.refined) << 1 | self.block_bits << 2,
            *((self.band,) if self.refined else ()),
            *self.stage_levels,
        )
        return b"".join(put_varint(number) for number in numbers) + self.tag

    @classmethod
    def from_bytes(cls, data: bytes) -> Header:
        """The header of a section.

        Raises:
            BitstreamError: a field is out of range.
        """
        body, tag = data[:-_TAG_BYTES], data[-_TAG_BYTES:]
        numbers, position = [], 0
        while position < len(body):
            number, position = get_varint(body, position)
            numbers.append(number)
        if len(numbers) < 3:
            raise BitstreamError(f"header has {len(data)} bytes, expected at least {3 + _TAG_BYTES}")
        bit_depth, step, flags, *levels = numbers
        if not 1 <= bit_depth <= MAX_BIT_DEPTH or not 1 <= step <= _MAX_STEP or flags >> 2 > _MAX_BLOCK_BITS:
            raise BitstreamError(
                f"header has bit depth {bit_depth}, step {step}, block bits {flags >> 2}; expected 1 to "
                f"{MAX_BIT_DEPTH}, 1 to {_MAX_STEP}, at most {_MAX_BLOCK_BITS}"
            )
        if flags & 2 and step != _REFINED_STEP:
            raise BitstreamError(f"header has refined blocks at step {step}, expected step {_REFINED_STEP}")
        band = 0
        if flags & 2:
            if not levels or levels[0] >= _BAND_STEPS:
                raise BitstreamError(f"header has an error bound of {levels[:1]}, expected below {_BAND_STEPS}")
            band = levels.pop(0)
        return cls(bit_depth, step, flags & 1, bool(flags & 2), band, flags >> 2, tuple(levels), tag)

    def bounds(self) -> tuple[int, int]:
        """Probabilities, 16 fraction bits, between which children are coded."""
        from ..entropy.logistic import PROBABILITY_ONE

        low = self.band * PROBABILITY_ONE // (2 * _BAND_STEPS)
        return low, PROBABILITY_ONE - 3 * low // 4


class SparseCodec(Codec):
    """Learned codec: trained contexts for a coarse grid, a network for what lies between, a threshold a block."""

    name = "sparse"
    title = "Sparse (pccbench)"

    def __init__(self, weights: Path | None = None) -> None:
        self.folder = SHIPPED if weights is None else Path(weights)
        if not weights_path(self.folder).exists():
            raise CodecUnavailableError("no weights; train them: bench train sparse")

    def rates(self) -> list[Rate]:
        """Named by the step of the coarse grid, coarse to fine, and lossless."""
        lossy = [Rate(f"r{number:02d}", {"step": step, "optimise": "d1"}) for number, step in enumerate(_STEPS, 1)]
        refined = [
            Rate(f"r{number:02d}", {"step": _REFINED_STEP, "refine": share, "error": error, "optimise": "d1"})
            for number, (share, error) in enumerate(_REFINED, len(lossy) + 1)
        ]
        return [*lossy, *refined, Rate("lossless", {"step": 1}, lossless=True)]

    def warm_up(self) -> None:
        """Load the weights, and compile by coding a small ball."""
        span = np.arange(-24, 25)
        grid = np.stack(np.meshgrid(span, span, span, indexing="ij"), axis=-1).reshape(-1, 3)
        radius = np.sqrt((grid**2).sum(axis=1))
        ball = (grid[np.abs(radius - 21) < 0.5] + 30).astype(np.int32)
        cloud = PointCloud(np.concatenate([ball, ball[:1]]), bit_depth=7)
        for step in (1, 2, 16):
            refine = {"refine": 0.5} if step == _REFINED_STEP else {}
            self.decode(self.encode(cloud, Rate("warm", {"step": step, **refine}, lossless=step == 1)))

    def encode(self, cloud: PointCloud, rate: Rate) -> Bitstream:
        """Code the voxels of `cloud`; how often each occurs is kept at the lossless rate only.

        Raises:
            CodecError: the cloud is not voxelised, or a rate parameter is out of range.
        """
        if cloud.bit_depth is None:
            raise CodecError("sparse codes voxelised clouds: give the cloud a bit depth (integer coordinates)")
        asked = _Asked.of(rate)
        step = asked.step
        from ..octree.occupancy import encode_multiplicities, keys_of
        from .completion import stages_of

        weights = self._weights()
        try:
            stages = stages_of(step, weights.factors)
        except ValueError as error:
            raise CodecError(str(error)) from None
        points = np.asarray(cloud.points, np.int32)
        base = _distinct(keys_of(points // step))
        occupancy, coder, bits = _encode_base(base, weights)
        header = Header(cloud.bit_depth, step, coder, asked.refine > 0, asked.band, asked.block_bits, (), self._tag())
        if not stages:
            repeats = b""
            if len(base) < len(points):
                repeats = encode_multiplicities(np.unique(keys_of(points), return_counts=True)[1])
            data = pack(self.name, _trimmed([header.to_bytes(), occupancy, b"", b"", repeats]))
            return Bitstream(
                data,
                estimated_bits=bits + 8 * (len(data) - len(occupancy)),
                reconstruction_sha256=cloud.geometry_sha256(),
                notes={"base_voxels": len(base)},
            )
        if not len(base):
            empty = PointCloud(points, cloud.bit_depth)
            data = pack(self.name, [header.to_bytes(), occupancy])
            return Bitstream(data, estimated_bits=8.0 * len(data), reconstruction_sha256=empty.geometry_sha256())
        return self._encode_lossy(cloud, header, stages, base, occupancy, bits, asked)

    def _encode_lossy(  # the parts of one stream
        self,
        cloud: PointCloud,
        header: Header,
        stages: tuple[int, ...],
        base: Keys,
        occupancy: bytes,
        bits: float,
        asked: _Asked,
    ) -> Bitstream:
        from ..deepcompress.coding import encode_thresholds
        from ..entropy.rangecoder import SymbolEncoder
        from ..octree.occupancy import keys_of
        from .choice import chosen_levels, normals_of
        from .completion import candidates_of
        from .occupancy import encode_children

        weights = self._weights()
        points = np.asarray(cloud.points, np.int32)
        keys, rest, levels = base, header.step, []
        for factor in stages[:-1]:
            rest //= factor
            found = candidates_of(keys, factor, weights.surface(factor), header.side(rest))
            one = np.zeros(len(found.positions), np.int64)
            levels.append(int(chosen_levels(found, points // rest, one, 1, bits).levels[0]))
            keys = found.keys_passing(levels[-1])
        header = replace(header, stage_levels=tuple(levels))
        found = candidates_of(keys, stages[-1], weights.surface(stages[-1]), header.side(1))
        block, blocks = _blocks(base, found, header)
        normals = normals_of(cloud) if asked.optimise == "d2" else None
        choice = chosen_levels(found, points, block, blocks, bits, normals)
        refinement, refined_bits = b"", 0.0
        if header.refined:
            fine = _distinct(keys_of(points))
            of_node = _block_of_nodes(base, header)
            mask = _worst(choice.error_sq, np.bincount(of_node, minlength=blocks), asked.refine)
            skipped = (~mask[of_node]).astype(np.uint8)
            payload, refined_bits, known = encode_children(base, fine, skipped, header.bounds(), weights.experience)
            refinement = np.packbits(mask).tobytes() + payload
            found = found.with_known(mask[block], known)
            choice = chosen_levels(found, points, block, blocks, bits + refined_bits, normals)
        encoder = SymbolEncoder()
        encode_thresholds(choice.levels, encoder)
        sections = [header.to_bytes(), occupancy, encoder.finish(), refinement]
        data = pack(self.name, _trimmed(sections))
        predicted = bits + encoder.estimated_bits + refined_bits
        return Bitstream(
            data,
            estimated_bits=predicted + 8 * (len(data) - sum(map(len, sections[1:]))),
            reconstruction_sha256=_cloud(found, choice.levels[block], header).geometry_sha256(),
            notes={
                "base_voxels": len(base),
                "base_bits": bits,
                "threshold_bits": encoder.estimated_bits,
                "refined_bits": refined_bits,
                "expected_mse": choice.mse,
            },
        )

    def decode(self, data: bytes) -> PointCloud:
        """Rebuild the cloud.

        Raises:
            BitstreamError: the stream is damaged, foreign, or of other weights than these.
        """
        from ..deepcompress.coding import decode_thresholds
        from ..entropy.rangecoder import SymbolDecoder
        from .completion import candidates_of, coordinates_of, stages_of

        _, sections = unpack(data, self.name)
        if not 2 <= len(sections) <= len(_SECTIONS):
            raise BitstreamError(f"stream has {len(sections)} sections, expected 2 to {len(_SECTIONS)}")
        header = Header.from_bytes(sections[0])
        if header.tag != self._tag():
            raise BitstreamError(
                f"stream was made with other weights: tag {header.tag.hex()}, ours {self._tag().hex()}"
            )
        weights = self._weights()
        try:
            stages = stages_of(header.step, weights.factors)
        except ValueError as error:
            raise BitstreamError(str(error)) from None
        if len(header.stage_levels) != max(len(stages) - 1, 0) and len(sections) > 2:
            raise BitstreamError(f"header has {len(header.stage_levels)} levels for {len(stages)} completions")
        keys = base = _decode_base(sections[1], header, weights)
        side = header.side(header.step)
        if len(base) and int(coordinates_of(base).max()) >= side:
            raise BitstreamError(f"coarse voxel {coordinates_of(base).max()} is outside a grid of {side}")
        if not stages:
            return _lossless(base, sections, header)
        if not len(base):
            return PointCloud(np.empty((0, 3), np.int32), bit_depth=header.bit_depth)
        thresholds, refinement = [*sections, b"", b""][2:4]
        rest = header.step
        for factor, level in zip(stages[:-1], header.stage_levels, strict=True):
            rest //= factor
            keys = candidates_of(keys, factor, weights.surface(factor), header.side(rest)).keys_passing(level)
        found = candidates_of(keys, stages[-1], weights.surface(stages[-1]), header.side(1))
        block, blocks = _blocks(base, found, header)
        decoder = SymbolDecoder(thresholds)
        picked = decode_thresholds(blocks, decoder)
        decoder.finish()
        if header.refined:
            found = self._refined(found, base, block, blocks, refinement, header)
        return _cloud(found, picked[block], header)

    def _refined(  # the parts of one stream
        self,
        found: Candidates,
        base: Keys,
        block: npt.NDArray[np.int64],
        blocks: int,
        refinement: bytes,
        header: Header,
    ) -> Candidates:
        from .occupancy import decode_children

        size = -(-blocks // 8)
        if len(refinement) < size:
            raise BitstreamError(f"refinement has {len(refinement)} bytes, expected at least {size}")
        mask = np.unpackbits(np.frombuffer(refinement[:size], np.uint8), count=blocks).astype(np.bool_)
        skipped = (~mask[_block_of_nodes(base, header)]).astype(np.uint8)
        experience = self._weights().experience
        known = decode_children(refinement[size:], base, skipped, header.bounds(), experience)
        return found.with_known(mask[block], known)

    def sections(self, data: bytes) -> dict[str, int]:
        """Bytes of container, header, occupancy of the coarse grid, thresholds, multiplicities."""
        return ledger(data, _SECTIONS)

    def card(self) -> CodecCard:
        """Read from the file of weights and its record."""
        record = read_record(self.folder)
        return CodecCard(
            version="1",
            title=self.title,
            description="Coarse grid by trained contexts, surface completed by a sparse network, thresholds a block",
            parameters=record.get("parameters"),
            macs_per_point=record.get("macs_per_point"),
            weights_sha256=weights_sha256(self.folder),
            trained=bool(record.get("trained", False)),
            training_files_sha256=tuple(record.get("training_files_sha256", ())),
        )

    def _weights(self) -> Weights:
        from .weights import load

        return load(self.folder)

    def _tag(self) -> bytes:
        return bytes.fromhex(weights_sha256(self.folder))[:_TAG_BYTES]


@dataclass(frozen=True)
class _Asked:
    """The parameters of a rate, checked."""

    step: int
    block_bits: int
    refine: float
    band: int
    optimise: Literal["d1", "d2"]

    @classmethod
    def of(cls, rate: Rate) -> _Asked:
        """The parameters of `rate`.

        Raises:
            CodecError: one is out of range.
        """
        step = rate.parameters.get("step")
        if not isinstance(step, int) or not 1 <= step <= _MAX_STEP:
            raise CodecError(f"step must be 1 to {_MAX_STEP}, got {step!r}")
        default = max((bits for known, bits in _STEPS.items() if step >= known), default=0)
        block_bits = rate.parameters.get("block_bits", default)
        if not isinstance(block_bits, int) or not 0 <= block_bits <= _MAX_BLOCK_BITS:
            raise CodecError(f"block_bits must be 0 to {_MAX_BLOCK_BITS}, got {block_bits!r}")
        refine = rate.parameters.get("refine", 0.0)
        if not isinstance(refine, int | float) or not 0 <= refine <= 1 or (refine and step != _REFINED_STEP):
            raise CodecError(f"refine must be 0 to 1, and 0 unless step is {_REFINED_STEP}; got {refine!r}")
        error = rate.parameters.get("error", 0.0)
        if not isinstance(error, int | float) or not 0 <= error < 0.5:
            raise CodecError(f"error must be 0 to below 0.5, got {error!r}")
        optimise = rate.parameters.get("optimise", "d1")
        if optimise not in ("d1", "d2"):
            raise CodecError(f"optimise must be d1 or d2, got {optimise!r}")
        return cls(step, block_bits, float(refine), int(error * 2 * _BAND_STEPS), optimise)  # type: ignore[arg-type]


def _trimmed(sections: list[bytes]) -> list[bytes]:
    """Sections without empty ones at the end, but at least two."""
    while len(sections) > 2 and not sections[-1]:
        sections = sections[:-1]
    return sections


def _worst(error_sq: npt.NDArray[np.float64], nodes: npt.NDArray[np.int64], share: float) -> npt.NDArray[np.bool_]:
    """The blocks with the largest error a node that together hold at least a share of the nodes."""
    order = np.argsort(-error_sq / np.maximum(nodes, 1), kind="stable")
    before = np.cumsum(nodes[order]) - nodes[order]
    mask = np.zeros(len(nodes), np.bool_)
    mask[order[before < share * nodes.sum()]] = True
    return mask


def _distinct(keys: Keys) -> Keys:
    """The distinct keys, rising."""
    ordered = np.sort(keys)
    return ordered[np.r_[True, ordered[1:] != ordered[:-1]]] if len(ordered) else ordered


def _encode_base(base: Keys, weights: Weights) -> tuple[bytes, int, float]:
    """The coarse grid by the coder that suits it: bytes, number of the coder, predicted bits."""
    from ..octree import occupancy as octree
    from .occupancy import encode_keys, parents_of

    if len(base) and len(base) < _SPARSE_CHILDREN * len(parents_of(base)):
        data, bits = octree.encode_keys(base)
        return data, _OCTREE, bits
    data, bits = encode_keys(base, weights.experience)
    return data, _TRAINED, bits


def _decode_base(data: bytes, header: Header, weights: Weights) -> Keys:
    from ..octree import occupancy as octree
    from .occupancy import decode_keys

    return octree.decode_keys(data) if header.base == _OCTREE else decode_keys(data, weights.experience)


def _blocks(base: Keys, found: Candidates, header: Header) -> tuple[npt.NDArray[np.int64], int]:
    """Block of each cell of the candidates, and how many blocks; that follows from the coarse grid alone."""
    from ..deepcompress.cells import CELL_SIDE, keys_of
    from .completion import cells_touched

    side = _BLOCK_SIDE << header.block_bits
    keys = keys_of(cells_touched(base, header.step, side))
    return np.searchsorted(keys, keys_of(found.positions // (side // CELL_SIDE))), len(keys)


def _block_of_nodes(base: Keys, header: Header) -> npt.NDArray[np.int64]:
    """Block of each coarse voxel, where each lies in one."""
    from ..deepcompress.cells import keys_of
    from .completion import cells_touched, coordinates_of

    side = _BLOCK_SIDE << header.block_bits
    keys = keys_of(cells_touched(base, header.step, side))
    return np.searchsorted(keys, keys_of(coordinates_of(base) // (side // header.step)))


def _cloud(found: Candidates, level: npt.NDArray[np.uint8], header: Header) -> PointCloud:
    """The cloud of the voxels that pass."""
    return PointCloud(found.passing(level), bit_depth=header.bit_depth)


def _lossless(base: Keys, sections: list[bytes], header: Header) -> PointCloud:
    from ..octree.occupancy import decode_multiplicities
    from .completion import coordinates_of

    points = coordinates_of(base)
    if len(sections) == len(_SECTIONS):
        counts = decode_multiplicities(sections[-1], len(points))
        total = int(counts.sum())
        if total > _MAX_REPEATS_PER_BYTE * sum(map(len, sections)):
            raise BitstreamError(f"{total} points cannot be in {sum(map(len, sections))} bytes")
        points = np.repeat(points, counts, axis=0)
    return PointCloud(points, bit_depth=header.bit_depth)
