"""Header: the first section of a stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..cloud import MAX_BIT_DEPTH
from ..container import get_varint, put_varint
from ..errors import BitstreamError

MAX_STEP = 64
MAX_BLOCK_BITS = 6
#: The step at which blocks can be refined to the full resolution.
REFINED_STEP = 2
#: Coders of the coarse grid.
TRAINED, OCTREE = 0, 1
#: Errors are bounded in steps of this; the bound for false points is the lower, to have as many as missing ones.
BAND_STEPS = 64
TAG_BYTES = 2
_BLOCK_SIDE = 64
_REFINED_FLAG, _CENTRED_FLAG, _BLOCK_SHIFT, _POINT_SHIFT = 2, 4, 3, 6
_BLOCK_MASK = (1 << _POINT_SHIFT - _BLOCK_SHIFT) - 1


@dataclass(frozen=True)
class Header:
    """First section of a stream; a lossless one of the plain octree has only the bit depth, for it has no weights.

    Attributes:
        bit_depth: of the cloud.
        step: side of a coarse voxel in voxels; 1 for lossless.
        base: which coder the coarse grid has.
        refined: whether in some blocks the children of coarse voxels are coded; with step 2.
        centred: whether in some blocks no surface is completed, and points stand at the centres of coarse voxels.
        band: bound of the errors of children that are guessed, in steps of 1 / (2 * BAND_STEPS).
        block_bits: blocks are cubes of 64 * 2**block_bits voxels.
        point: operating point of the latents, from 1; 0 for none; with step 2.
        stage_levels: level that the voxels between the grids passed, for each completion but the last.
        tag: first bytes of the hash of the weights.
    """

    bit_depth: int
    step: int
    base: int
    refined: bool = False
    centred: bool = False
    band: int = 0
    block_bits: int = 0
    point: int = 0
    stage_levels: tuple[int, ...] = ()
    tag: bytes = b""

    @property
    def block_side(self) -> int:
        """Side of a block in voxels."""
        return _BLOCK_SIDE << self.block_bits

    def side(self, step: int) -> int:
        """Side of the grid in voxels of `step` voxels of the cloud."""
        return -(-(1 << self.bit_depth) // step)

    def to_bytes(self) -> bytes:
        """The section."""
        if self.step == 1 and self.base == OCTREE:
            return bytes([self.bit_depth])
        flags = _REFINED_FLAG * self.refined | _CENTRED_FLAG * self.centred
        flags |= self.block_bits << _BLOCK_SHIFT | self.point << _POINT_SHIFT
        numbers = (
            self.bit_depth,
            self.step,
            self.base | flags,
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
        if len(data) == 1 and 1 <= data[0] <= MAX_BIT_DEPTH:
            return cls(data[0], 1, OCTREE)
        body, tag = data[:-TAG_BYTES], data[-TAG_BYTES:]
        numbers, position = [], 0
        while position < len(body):
            number, position = get_varint(body, position)
            numbers.append(number)
        if len(numbers) < 3:
            raise BitstreamError(f"header has {len(data)} bytes, expected 1 or at least {3 + TAG_BYTES}")
        bit_depth, step, flags, *levels = numbers
        block_bits, refined = flags >> _BLOCK_SHIFT & _BLOCK_MASK, bool(flags & _REFINED_FLAG)
        point = flags >> _POINT_SHIFT
        if not 1 <= bit_depth <= MAX_BIT_DEPTH or not 1 <= step <= MAX_STEP or block_bits > MAX_BLOCK_BITS:
            raise BitstreamError(
                f"header has bit depth {bit_depth}, step {step}, block bits {block_bits}; expected 1 to "
                f"{MAX_BIT_DEPTH}, 1 to {MAX_STEP}, at most {MAX_BLOCK_BITS}"
            )
        if (refined or point) and step != REFINED_STEP:
            raise BitstreamError(f"header has refined blocks or latents at step {step}, expected step {REFINED_STEP}")
        band = 0
        if refined:
            if not levels or levels[0] >= BAND_STEPS:
                raise BitstreamError(f"header has an error bound of {levels[:1]}, expected below {BAND_STEPS}")
            band = levels.pop(0)
        centred = bool(flags & _CENTRED_FLAG)
        return cls(bit_depth, step, flags & 1, refined, centred, band, block_bits, point, tuple(levels), tag)

    def bounds(self) -> tuple[int, int]:
        """Probabilities, 16 fraction bits, between which children are coded where others are guessed."""
        from ..entropy.logistic import PROBABILITY_ONE

        low = self.band * PROBABILITY_ONE // (2 * BAND_STEPS)
        return low, PROBABILITY_ONE - 3 * low // 4


def stages_of(step: int, factors: Sequence[int]) -> tuple[int, ...]:
    """Factors, coarse to fine, whose product is `step`; empty for 1.

    Raises:
        ValueError: there are none.
    """
    if step == 1:
        return ()
    if step in factors:
        return (step,)
    for last in sorted(factors, reverse=True):
        if step % last == 0:
            try:
                return (*stages_of(step // last, factors), last)
            except ValueError:
                continue
    raise ValueError(f"step {step} is no product of {sorted(factors)}")
