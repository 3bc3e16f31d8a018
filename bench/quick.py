"""Quick: the entropy models of DeepCompress on synthetic shapes, in under a minute; no data needed.

A look at the machinery, not a benchmark: shapes are small and smooth.  It says what is trained, and its ratio names
the raw form that it compares with.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..codecs.base import Codec, Rate
from ..codecs.cloud import PointCloud
from ..codecs.registry import CodecSpec, codec_names, unavailable_reason
from ..metrics.distortion import distortion

BIT_DEPTH = 8
#: What a ratio of sizes compares with: each coordinate as an integer of the grid, packed.
RAW_FORM = f"3 x {BIT_DEPTH} bit a point"
_FAMILY = "deepcompress-"
_RATE = "r05"


@dataclass(frozen=True)
class QuickRow:
    """One codec on one shape.

    Attributes:
        codec: name.
        shape: name.
        points: of the shape.
        size_bytes: of the stream.
        rate_bpp: bits a point.
        d1_psnr_db: point-to-point PSNR, peak 255; None when the points came back exactly.
        encode_s: seconds.
        decode_s: seconds.
        raw_ratio: size of `RAW_FORM` divided by the size of the stream.
        trained: whether the weights are.
    """

    codec: str
    shape: str
    points: int
    size_bytes: int
    rate_bpp: float
    d1_psnr_db: float | None
    encode_s: float
    decode_s: float
    raw_ratio: float
    trained: bool


def shapes() -> dict[str, PointCloud]:
    """Small voxelised surfaces: a ball, a ring, a folded sheet, and points at random."""
    span = np.arange(128)
    x, y, z = (a.astype(np.float64) for a in np.meshgrid(span, span, span, indexing="ij"))
    ball = np.abs(np.sqrt((x - 64) ** 2 + (y - 63) ** 2 + (z - 65) ** 2) - 50) < 0.6
    around = np.sqrt((x - 64) ** 2 + (z - 64) ** 2) - 42
    ring = np.abs(np.sqrt(around**2 + (y - 60) ** 2) - 16) < 0.6
    sheet = np.abs(y - 60 - 9 * np.sin(x / 11) - 5 * np.cos(z / 7)) < 0.6
    scattered = np.random.default_rng(0).integers(0, 128, (2000, 3))
    found = {"ball": np.argwhere(ball), "ring": np.argwhere(ring), "sheet": np.argwhere(sheet), "random": scattered}
    return {name: _cloud(points) for name, points in found.items()}


def _cloud(points: npt.NDArray[np.int64]) -> PointCloud:
    return PointCloud(points.astype(np.int32), bit_depth=BIT_DEPTH).merged()


def compare() -> Iterator[QuickRow]:
    """Each available entropy model on each shape, at one middle rate."""
    clouds = shapes()
    for name in codec_names():
        spec = CodecSpec(name)
        if not name.startswith(_FAMILY) or unavailable_reason(spec):
            continue
        codec = spec.create()
        codec.warm_up()
        rate = next(one for one in codec.rates() if one.name == _RATE)
        for shape, cloud in clouds.items():
            yield _row(name, codec, rate, shape, cloud)


def _row(name: str, codec: Codec, rate: Rate, shape: str, cloud: PointCloud) -> QuickRow:
    started = time.perf_counter()
    data = bytes(codec.encode(cloud, rate))
    encoded = time.perf_counter()
    decoded = codec.decode(data)
    done = time.perf_counter()
    found = distortion(cloud.points, decoded.points, peak=cloud.peak)
    return QuickRow(
        codec=name,
        shape=shape,
        points=len(cloud),
        size_bytes=len(data),
        rate_bpp=8 * len(data) / len(cloud),
        d1_psnr_db=found.d1_psnr_db,
        encode_s=encoded - started,
        decode_s=done - encoded,
        raw_ratio=len(cloud) * 3 * BIT_DEPTH / 8 / len(data),
        trained=codec.card().trained,
    )


def lines() -> Iterator[str]:
    """The comparison as text: a line for each codec and shape as it is measured, then what the figures mean."""
    yield (
        f"{'codec':26}{'shape':8}{'points':>8}{'bytes':>8}{'bpp':>8}{'D1 dB':>8}{'enc s':>7}{'dec s':>7}{'ratio':>8}"
    )
    rows = []
    for row in compare():
        rows.append(row)
        quality = "exact" if row.d1_psnr_db is None else f"{row.d1_psnr_db:.2f}"
        yield (
            f"{row.codec:26}{row.shape:8}{row.points:8}{row.size_bytes:8}{row.rate_bpp:8.3f}{quality:>8}"
            f"{row.encode_s:7.2f}{row.decode_s:7.2f}{row.raw_ratio:7.1f}x"
        )
    yield f"ratio: against {RAW_FORM}; D1 with peak {(1 << BIT_DEPTH) - 1}"
    untrained = sorted({row.codec for row in rows if not row.trained})
    yield f"UNTRAINED, figures mean nothing: {', '.join(untrained)}" if untrained else "trained: all"
