"""Codec: a coarse grid without loss, a network that completes the surface between, and what corrects it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from ..base import Bitstream, Codec, CodecCard, Rate, require_voxelised
from ..cloud import PointCloud
from ..container import ledger, pack, unpack
from ..errors import BitstreamError, CodecError, CodecUnavailableError
from ..limits import check_decodable, check_encodable
from ..weights import RECORD, named_rates, read_record
from .files import SHIPPED, factors, operating_points, weights_path, weights_sha256
from .header import BAND_STEPS, MAX_BLOCK_BITS, MAX_STEP, OCTREE, REFINED_STEP, TAG_BYTES, TRAINED, Header, stages_of

if TYPE_CHECKING:
    from .weights import Weights

_SECTIONS = ("header", "occupancy", "modes", "refinement", "multiplicity", "latents")
#: Coarse voxels for each of twice the side, below which the octree's direct mode serves as well, in less time.
_SPARSE_CHILDREN = 1.03

#: Steps of the coarse grid at the named rates, in voxels, and the halvings of the number of blocks.
_STEPS = {24: 3, 16: 2, 12: 2, 8: 1, 6: 1, 5: 1, 4: 0, 3: 0, 2: 0}
#: Shares of the coarse voxels whose children are coded at the named rates above those; elsewhere there are latents of
#: the operating point, if they are worth it.
_REFINED = (0.05, 0.2, 0.55, 1.0)
_POINT = 1
#: How likely an error may be that is not corrected there.
_ERROR = 0.1

Keys = npt.NDArray[np.int64]


class SparseCodec(Codec):
    """Learned codec: trained contexts for a coarse grid, a network for what lies between, a threshold a block."""

    name = "sparse"
    title = "Sparse (pccbench)"
    takes_weights = True

    def __init__(self, weights: Path | None = None) -> None:
        self.folder = SHIPPED if weights is None else Path(weights)
        if not weights_path(self.folder).exists():
            raise CodecUnavailableError("no weights; train them: bench train sparse")

    def rates(self) -> list[Rate]:
        """Named by the step of the coarse grid, coarse to fine, and lossless: those that the weights' factors make.

        The weights' record may name others.  Where children are coded, latents go with them, if the weights have any.

        Raises:
            CodecUnavailableError: the record names what the weights cannot do.
        """
        known, points = factors(self.folder), operating_points(self.folder)
        lossless = Rate("lossless", {"step": 1}, lossless=True)
        named = named_rates(self.folder)
        if named is None:
            latents = {"latents": min(_POINT, points)} if points else {}
            named = [{"step": step, "optimise": "d1"} for step in _STEPS]
            named += [
                {"step": REFINED_STEP, **latents, "refine": share, "error": _ERROR, "optimise": "d1"}
                for share in _REFINED
            ]
            named = [parameters for parameters in named if _is_product(parameters["step"], known)]
        rates = [Rate(f"r{number:02d}", parameters) for number, parameters in enumerate(named, 1)]
        for rate in rates:
            try:
                step = _Asked.of(rate, points).step
            except CodecError as error:
                raise CodecUnavailableError(f"{self.folder / RECORD}: rates: {error}") from None
            if not _is_product(step, known):
                raise CodecUnavailableError(
                    f"{self.folder / RECORD}: rates: step {step} is no product of the factors {known} of the weights"
                )
        return [*rates, lossless]

    def warm_up(self) -> None:
        """Load the weights, and compile by coding a small ball."""
        span = np.arange(-24, 25)
        grid = np.stack(np.meshgrid(span, span, span, indexing="ij"), axis=-1).reshape(-1, 3)
        radius = np.sqrt((grid**2).sum(axis=1))
        ball = (grid[np.abs(radius - 21) < 0.5] + 30).astype(np.int32)
        thin = ball[:: len(ball) // 200] + 200  # no surface any more
        cloud = PointCloud(np.concatenate([ball, ball[:1], thin]), bit_depth=9)
        known = factors(self.folder)
        for rate in (
            {"step": 1},
            {"step": 2, "refine": 0.5, "error": 0.3},
            {"step": 2, "latents": _POINT},
            {"step": 16},
        ):
            if not _is_product(int(rate["step"]), known):
                continue
            self.decode(self.encode(cloud, Rate("warm", rate, lossless=rate["step"] == 1)))

    def encode(self, cloud: PointCloud, rate: Rate) -> Bitstream:
        """Code the voxels of `cloud`; how often each occurs is kept at the lossless rate only.

        Raises:
            NotApplicableError: the cloud is not voxelised.
            CodecError: a rate parameter is out of range.
        """
        bit_depth = require_voxelised(cloud, self.name)
        from ..octree.occupancy import distinct, encode_multiplicities, keys_of

        weights = self._weights()
        asked = _Asked.of(rate, weights.operating_points)
        step = asked.step
        try:
            stages = stages_of(step, weights.factors)
        except ValueError as error:
            raise CodecError(str(error)) from None
        points = np.asarray(cloud.points, np.int32)
        base = distinct(keys_of(points // step))
        occupancy, coder, bits = _encode_base(base, weights)
        header = Header(
            bit_depth,
            step,
            coder,
            refined=asked.goal.refine > 0,
            band=int(asked.goal.error * 2 * BAND_STEPS),
            block_bits=asked.block_bits,
            point=asked.point,
            tag=self._tag(),
        )
        if not stages:
            repeats = b""
            if len(base) < len(points):
                repeats = encode_multiplicities(np.unique(keys_of(points), return_counts=True)[1])
            data = pack(self.name, _trimmed([header.to_bytes(), occupancy, b"", b"", repeats]))
            check_encodable(len(header.to_bytes() + occupancy + repeats), coded=len(points) if repeats else len(base))
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
        from .lossy import LossyEncoder, looked_at

        lossy = LossyEncoder(cloud, header, stages, base, bits, asked.goal, weights).run()
        sections = [lossy.header.to_bytes(), occupancy, lossy.modes, lossy.refinement, b"", lossy.latents]
        data = pack(self.name, _trimmed(sections))
        check_encodable(
            sum(map(len, sections)), points=len(lossy.cloud), candidates=looked_at(lossy.completed, stages)
        )
        return Bitstream(
            data,
            estimated_bits=bits + lossy.predicted_bits + 8 * (len(data) - sum(map(len, sections[1:]))),
            reconstruction_sha256=lossy.cloud.geometry_sha256(),
            notes={"base_voxels": len(base), "base_bits": bits, **lossy.notes},
        )

    def decode(self, data: bytes) -> PointCloud:
        """Rebuild the cloud, with points between voxels where a coarse voxel of even side is given by its centre.

        Raises:
            BitstreamError: the stream is damaged, foreign, or of other weights than these.
        """
        from .completion import coordinates_of

        _, sections = unpack(data, self.name)
        if not 2 <= len(sections) <= len(_SECTIONS):
            raise BitstreamError(f"stream has {len(sections)} sections, expected 2 to {len(_SECTIONS)}")
        header = Header.from_bytes(sections[0])
        if header.tag not in (b"", self._tag()):
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
        base = _decode_base(sections[1], header, weights)
        side = header.side(header.step)
        if len(base) and int(coordinates_of(base).max()) >= side:
            raise BitstreamError(f"coarse voxel {coordinates_of(base).max()} is outside a grid of {side}")
        if not stages:
            return _lossless(base, sections, header)
        if not len(base):
            return PointCloud(np.empty((0, 3), np.int32), bit_depth=header.bit_depth)
        from .lossy import decode_lossy

        modes, refinement, _, latents = [*sections[2:], b"", b"", b"", b""][:4]
        return decode_lossy(header, stages, base, (modes, refinement, latents), weights, sum(map(len, sections)))

    def sections(self, data: bytes) -> dict[str, int]:
        """Bytes of container, header, coarse grid, modes of blocks, refinement, multiplicities, latents."""
        return ledger(data, _SECTIONS)

    def card(self) -> CodecCard:
        """Read from the file of weights and its record."""
        record = read_record(self.folder)
        return CodecCard(
            version="1",
            title=self.title,
            description="Coarse grid by trained contexts, surface completed by a sparse network that latents correct",
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
        return bytes.fromhex(weights_sha256(self.folder))[:TAG_BYTES]


def _is_product(step: int, factors: tuple[int, ...]) -> bool:
    """Whether surfaces can be completed from this step."""
    try:
        stages_of(step, factors)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class Goal:
    """What an encoder is asked for beyond the coarse grid.

    Attributes:
        refine: share of the coarse voxels whose children are coded, those with the largest errors first.
        error: how likely an error may be that is not corrected there.
        optimise: distortion that counts.
    """

    refine: float
    error: float
    optimise: Literal["d1", "d2"]


@dataclass(frozen=True)
class _Asked:
    """The parameters of a rate, checked."""

    step: int
    block_bits: int
    point: int
    goal: Goal

    @classmethod
    def of(cls, rate: Rate, points: int) -> _Asked:
        """The parameters of `rate`, for weights with so many operating points of latents.

        Raises:
            CodecError: one is out of range.
        """
        step = rate.parameters.get("step")
        if not isinstance(step, int) or not 1 <= step <= MAX_STEP:
            raise CodecError(f"step must be 1 to {MAX_STEP}, got {step!r}")
        default = max((bits for known, bits in _STEPS.items() if step >= known), default=0)
        block_bits = rate.parameters.get("block_bits", default)
        if not isinstance(block_bits, int) or not 0 <= block_bits <= MAX_BLOCK_BITS:
            raise CodecError(f"block_bits must be 0 to {MAX_BLOCK_BITS}, got {block_bits!r}")
        refine = rate.parameters.get("refine", 0.0)
        if not isinstance(refine, int | float) or not 0 <= refine <= 1 or (refine and step != REFINED_STEP):
            raise CodecError(f"refine must be 0 to 1, and 0 unless step is {REFINED_STEP}; got {refine!r}")
        error = rate.parameters.get("error", 0.0)
        if not isinstance(error, int | float) or not 0 <= error < 0.5:
            raise CodecError(f"error must be 0 to below 0.5, got {error!r}")
        point = rate.parameters.get("latents", 0)
        if not points:  # weights trained without
            point = 0
        if not isinstance(point, int) or not 0 <= point <= points or (point and step != REFINED_STEP):
            raise CodecError(f"latents must be 0 to {points}, and 0 unless step is {REFINED_STEP}; got {point!r}")
        optimise = rate.parameters.get("optimise", "d1")
        if optimise not in ("d1", "d2"):
            raise CodecError(f"optimise must be d1 or d2, got {optimise!r}")
        return cls(step, block_bits, point, Goal(float(refine), float(error), optimise))  # type: ignore[arg-type]


def _trimmed(sections: list[bytes]) -> list[bytes]:
    """Sections without empty ones at the end, but at least two."""
    while len(sections) > 2 and not sections[-1]:
        sections = sections[:-1]
    return sections


def _encode_base(base: Keys, weights: Weights) -> tuple[bytes, int, float]:
    """The coarse grid by the coder that suits it: bytes, number of the coder, predicted bits."""
    from ..octree import occupancy as octree
    from .occupancy import encode_keys, parents_of

    if len(base) and len(base) < _SPARSE_CHILDREN * len(parents_of(base)):
        data, bits = octree.encode_keys(base)
        return data, OCTREE, bits
    data, bits = encode_keys(base, weights.experience)
    return data, TRAINED, bits


def _decode_base(data: bytes, header: Header, weights: Weights) -> Keys:
    from ..octree import occupancy as octree
    from .occupancy import decode_keys

    return octree.decode_keys(data) if header.base == OCTREE else decode_keys(data, weights.experience)


def _lossless(base: Keys, sections: list[bytes], header: Header) -> PointCloud:
    from ..octree.occupancy import decode_multiplicities
    from .completion import coordinates_of

    points = coordinates_of(base)
    if len(sections) > _SECTIONS.index("multiplicity"):
        counts = decode_multiplicities(sections[_SECTIONS.index("multiplicity")], len(points))
        check_decodable(sum(map(len, sections)), coded=int(counts.sum()))
        points = np.repeat(points, counts, axis=0)
    return PointCloud(points, bit_depth=header.bit_depth)
