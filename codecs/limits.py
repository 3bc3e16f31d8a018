"""Limits: what a stream may expand to, by its size; the one rule that all decoders ask before they allocate.

It lies between what real streams do and what a decoder can make of a damaged one in a few seconds below 1 GiB:

- Of what is coded (voxels, latents, repeated points) a byte holds at most `CODED_PER_BYTE`.  The octree's arithmetic
  coder can do 15,136 and comes to 12,483, for a solid cube of 128**3 voxels; a trained model can do 15,141.
- Points may be many more where a network fills in what lies between: 7.8 million in 28 bytes (sparse, r01, a plane
  of 1024**2 voxels).  `FREE_POINTS` are free; a stream of more has a byte for each `POINTS_PER_BYTE`.  The bodies of
  MPEG's test conditions have up to 5 million points; a cloud of more than is free needs 1/16 bit a point.
- A network looks at `CANDIDATES_PER_POINT` voxels for each of those at most.

An encoder asks, too (`check_encodable`), so that it makes no stream that its decoder refuses.
"""

from __future__ import annotations

from .errors import BitstreamError, CodecError

CODED_PER_BYTE = 1 << 15
FREE_POINTS = 3 << 22
POINTS_PER_BYTE = 128
CANDIDATES_PER_POINT = 4
#: Nodes of an octree, all levels together, for each voxel: 8/7 of a solid, 4/3 of a surface, more of few points.
_NODES_PER_VOXEL = 1.5


def most_points(size_bytes: int) -> int:
    """Points that a stream of so many bytes may decode to."""
    return max(FREE_POINTS, POINTS_PER_BYTE * size_bytes)


def most_coded(size_bytes: int) -> int:
    """Voxels, latents or repeated points that may be coded in so many bytes."""
    return min(CODED_PER_BYTE * size_bytes, most_points(size_bytes))


def most_nodes(size_bytes: int) -> int:
    """Nodes of an octree, all levels together, that may be coded in so many bytes."""
    return int(_NODES_PER_VOXEL * most_coded(size_bytes))


def check_decodable(size_bytes: int, *, coded: int = 0, points: int = 0, candidates: int = 0) -> None:
    """Raise unless a stream of so many bytes may hold so much.

    Raises:
        BitstreamError: it may not.
    """
    excess = _excess(size_bytes, coded, points, candidates)
    if excess:
        raise BitstreamError(f"stream is damaged: {excess}")


def check_encodable(size_bytes: int, *, coded: int = 0, points: int = 0, candidates: int = 0) -> None:
    """Raise where a decoder would refuse a stream by `check_decodable`.

    Raises:
        CodecError: with the remedy.
    """
    excess = _excess(size_bytes, coded, points, candidates)
    if excess:
        raise CodecError(f"no decoder would take the stream: {excess}; use a higher rate, or cut the cloud in parts")


def _excess(size_bytes: int, coded: int, points: int, candidates: int) -> str:
    for count, most, what in (
        (coded, most_coded(size_bytes), "coded points"),
        (points, most_points(size_bytes), "points"),
        (candidates, CANDIDATES_PER_POINT * most_points(size_bytes), "voxels to look at"),
    ):
        if count > most:
            return f"{count} {what} are too many for {size_bytes} bytes, expected at most {most}"
    return ""
