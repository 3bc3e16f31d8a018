"""The codec interface: what an adapter gives, and nothing else.

Timing, hashing, bit counting, retries and failure handling belong to the harness, so that no adapter can
mis-measure itself.  `decode` receives the bytes alone, in a process that never saw the cloud.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from .errors import NotApplicableError

if TYPE_CHECKING:
    from .cloud import PointCloud

Scalar = bool | int | float | str


@dataclass(frozen=True)
class Rate:
    """A named operating point of a codec.

    Attributes:
        name: short name, unique within the codec (`r01`, `lossless`); what `--rates` selects.
        parameters: what the encoder is given, plain scalars with units in the names; part of the job's key.
        lossless: the decoded points are the input's points.
    """

    name: str
    parameters: Mapping[str, Scalar] = field(default_factory=dict)
    lossless: bool = False


@dataclass(frozen=True)
class CodecCard:
    """What a codec is: everything that a row must record to be comparable later.

    Attributes:
        version: version of the codec; for an external tool, what the tool itself reports.
        title: name for tables and plots (`G-PCC octree`).
        description: one sentence.
        paper: citation or URL, if any.
        parameters: number of learned parameters, None for a codec without.
        macs_per_point: multiply-accumulates per input point of encoder and decoder together, None if unknown.
        weights_sha256: hash of the weights file, None for a codec without.
        trained: False only for learned codecs whose weights are random.
        training_files_sha256: hashes of the files that the weights were trained on, to detect contamination.
        tool: path of the external executable, if any.
        tool_sha256: hash of that executable.
    """

    version: str
    title: str = ""
    description: str = ""
    paper: str = ""
    parameters: int | None = None
    macs_per_point: float | None = None
    weights_sha256: str | None = None
    trained: bool = True
    training_files_sha256: tuple[str, ...] = ()
    tool: str | None = None
    tool_sha256: str | None = None


class Bitstream(bytes):
    """The encoder's bytes, with what an encoder may say about them beside the bytes.

    `encode` may return plain `bytes`; a codec that knows more returns a `Bitstream`.  None of it reaches the
    decoder.

    Attributes:
        estimated_bits: bits that the codec's probability models predicted, or None.
        reconstruction_sha256: `PointCloud.geometry_sha256()` of the cloud that the encoder expects the decoder
            to return; when given, a different decoded cloud is a `mismatch`.
        notes: figures that the codec or its tool reports of itself (`tool_user_s`), units in the names.
    """

    estimated_bits: float | None
    reconstruction_sha256: str | None
    notes: Mapping[str, Any]

    def __new__(
        cls,
        data: bytes,
        *,
        estimated_bits: float | None = None,
        reconstruction_sha256: str | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> Bitstream:
        """Bytes and what is said of them."""
        self = super().__new__(cls, data)
        self.estimated_bits = estimated_bits
        self.reconstruction_sha256 = reconstruction_sha256
        self.notes = dict(notes or {})
        return self


class Codec(ABC):
    """One codec behind the interface that all share.

    An instance is created once in each worker process, without arguments, and may be used for many clouds and
    rates; what it returns must not depend on what it did before.  The constructor raises
    `CodecUnavailableError` where a tool or dependency is missing; it must be cheap (no weights loaded, nothing
    heavy imported).

    Attributes:
        name: what `--codecs` selects; lower case, words joined by hyphens.
        title: name for lists of codecs, known without an instance; else the card's is used.
        tool: name of the external program whose path the constructor takes as its only argument, `executable`
            (None where the user named no path); None for a codec without.
    """

    name: str
    title: ClassVar[str] = ""
    tool: ClassVar[str | None] = None

    @abstractmethod
    def rates(self) -> list[Rate]:
        """The named operating points, low to high."""

    @abstractmethod
    def encode(self, cloud: PointCloud, rate: Rate) -> bytes:
        """Code the geometry of `cloud`.

        Raises:
            NotApplicableError: the codec does not code this kind of cloud (see `require_voxelised`).
            CodecError: the cloud cannot be coded, with the reason.
        """

    @abstractmethod
    def decode(self, data: bytes) -> PointCloud:
        """Rebuild the cloud, on the grid of the input, from the bytes and nothing else.

        Raises:
            BitstreamError: the stream is damaged, truncated or foreign.
        """

    @abstractmethod
    def card(self) -> CodecCard:
        """Version, size, weights and origin of the codec."""

    def sections(self, data: bytes) -> dict[str, int]:
        """Bytes of each named part of the stream; they sum to `len(data)`."""
        return {"payload": len(data)}

    def warm_up(self) -> None:  # noqa: B027  (a codec with nothing to warm up says nothing)
        """Do once what should not be timed (compile, load weights); called in each worker before its first job."""


def require_voxelised(cloud: PointCloud, codec: str, rate: Rate | None = None) -> int:
    """The bit depth of a voxelised cloud, for codecs or rates that code no other.

    Args:
        cloud: the input.
        codec: name of the codec.
        rate: the one that needs it, None where all do.

    Raises:
        NotApplicableError: the cloud has real coordinates; with the remedy.
    """
    if cloud.bit_depth is not None:
        return cloud.bit_depth
    if rate is None:
        raise NotApplicableError(
            f"{codec} codes voxelised clouds, and these are real numbers: give it integer coordinates and a bit depth"
        )
    raise NotApplicableError(
        f"{codec} has {rate.name} for voxelised clouds only, and these are real numbers: use its other rates, or "
        "give it integer coordinates and a bit depth"
    )
