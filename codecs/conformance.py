"""Conformance: what every codec must do, as checks that anybody can run on a codec of their own.

    from pccbench.codecs.conformance import check_codec
    for result in check_codec(MyCodec()):
        print(result.status, result.check, result.detail)

A codec may refuse a cloud by a `CodecError` (a surface codec a single point, say); it must not crash, hang, lose
points at a rate that claims to be lossless, remember an earlier cloud, or decode damaged bytes as if nothing were.
Of its rates the lowest, the highest, and the first lossless one are looked at.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from .base import Bitstream, Codec, CodecCard, Rate
from .cloud import MAX_BIT_DEPTH, PointCloud
from .errors import CodecError, CodecUnavailableError

Status = Literal["passed", "refused", "failed"]

#: A decoded cloud may reach beyond the input's bounding box by this share of its longest side, plus one cell.
_MARGIN = 0.25
_REFUSALS = (CodecError, CodecUnavailableError)


@dataclass(frozen=True)
class Result:
    """What one check found.

    Attributes:
        check: name of the check, with the rate after a slash where it is about one.
        status: `refused` when the codec said by a `CodecError` that it cannot, which is allowed.
        detail: what went wrong, or why it refused; empty when passed.
        seconds: that the check took.
    """

    check: str
    status: Status
    detail: str = ""
    seconds: float = 0.0


class _FailureError(Exception):
    """A check found something wrong."""


class _TooLongError(BaseException):
    """A call did not end in time; no `Exception`, so that a codec's handlers do not catch it."""


@dataclass(frozen=True)
class _Bench:
    """The codec on trial and what is allowed to it."""

    codec: Codec
    fresh: Callable[[], Codec]
    is_checksummed: bool
    call_limit_s: float
    n_flipped_bits: int

    def encode(self, cloud: PointCloud, rate: Rate, codec: Codec | None = None) -> bytes:
        before = cloud.points.tobytes()
        with _within(self.call_limit_s, "encode"):
            data = (codec or self.codec).encode(cloud, rate)
        _expect(isinstance(data, bytes), f"encode returned {type(data).__name__}, expected bytes")
        _expect(cloud.points.tobytes() == before, "encode changed the points that it was given")
        return data

    def decode_own(self, data: bytes, codec: Codec | None = None) -> PointCloud:
        """Decode a stream that the codec has made itself, which it may not refuse."""
        try:
            return self.decode(data, codec)
        except _REFUSALS as error:
            raise _FailureError(f"cannot decode its own stream of {len(data)} bytes: {error}") from error

    def decode(self, data: bytes, codec: Codec | None = None) -> PointCloud:
        with _within(self.call_limit_s, "decode"):
            cloud = (codec or self.codec).decode(bytes(data))
        _expect(isinstance(cloud, PointCloud), f"decode returned {type(cloud).__name__}, expected PointCloud")
        return cloud

    @property
    def rates(self) -> list[Rate]:
        """The lowest rate, the highest, and the first lossless one, each once."""
        rates = self.codec.rates()
        chosen = [rates[0], rates[-1], *[rate for rate in rates if rate.lossless][:1]]
        return list({rate.name: rate for rate in chosen}.values())


def check_codec(
    codec: Codec,
    *,
    fresh: Callable[[], Codec] | None = None,
    is_checksummed: bool = True,
    call_limit_s: float = 60.0,
    n_flipped_bits: int = 24,
    seed: int = 0,
) -> list[Result]:
    """Run all checks.

    Args:
        codec: an instance; it is used for many clouds, as a worker process does.
        fresh: makes another instance, for decoding by one that never encoded; the codec's class by default.
        is_checksummed: whether the stream must tell any damage.  False for formats of others that have no checksum:
            they may then decode damaged bytes to a wrong cloud, but still only end in a cloud or a `CodecError`.
        call_limit_s: seconds that one call of the codec may take, on clouds of a few thousand points.
        n_flipped_bits: how many streams with one bit turned over are decoded at each rate.
        seed: of the clouds and of the damage.

    Returns:
        One result for each check, at each of the rates looked at where the check depends on the rate.
    """
    bench = _Bench(codec, fresh or type(codec), is_checksummed, call_limit_s, n_flipped_bits)
    results = [_judged("card", lambda: _check_card(bench)), _judged("rates", lambda: _check_rates(bench, seed))]
    if any(result.status == "failed" for result in results):
        return results
    clouds = example_clouds(seed)
    for rate in bench.rates:
        for name, cloud in clouds.items():
            results.append(_judged(f"{name}/{rate.name}", lambda c=cloud, r=rate: _check_round_trip(bench, c, r)))  # type: ignore[misc]
        for check in (
            _check_surface,
            _check_permutation,
            _check_determinism,
            _check_statelessness,
            _check_truncation,
            _check_flipped_bits,
        ):
            name = check.__name__.removeprefix("_check_")
            results.append(_judged(f"{name}/{rate.name}", lambda f=check, r=rate: f(bench, r, seed)))  # type: ignore[misc]
    results.append(_judged("foreign_streams", lambda: _check_foreign(bench, seed)))
    return results


def failures(results: list[Result]) -> list[Result]:
    """Those that failed."""
    return [result for result in results if result.status == "failed"]


def example_clouds(seed: int = 0) -> dict[str, PointCloud]:
    """The clouds that codecs stumble over, by name."""
    generator = np.random.default_rng(seed)
    top = (1 << MAX_BIT_DEPTH) - 1
    corners = np.array(np.meshgrid(*[[0, top]] * 3)).reshape(3, -1).T
    line = np.stack([np.arange(200), np.full(200, 3), np.full(200, 1023)], axis=1)
    repeated = np.repeat(generator.integers(0, 64, (40, 3)), generator.integers(1, 6, 40), axis=0)
    return {
        "empty": _voxels(np.empty((0, 3), np.int64), 10),
        "one_point": _voxels(np.array([[3, 1000, 512]]), 10),
        "two_points": _voxels(np.array([[0, 0, 0], [1023, 5, 700]]), 10),
        "one_bit_grid": _voxels(np.array([[0, 1, 0], [1, 1, 1], [1, 0, 0]]), 1),
        "repeated_points": _voxels(repeated, 6),
        "one_place": _voxels(np.full((300, 3), 77), 8),
        "collinear": _voxels(line, 10),
        "diagonal": _voxels(np.repeat(np.arange(100)[:, None], 3, axis=1), 7),
        "solid_cube": _voxels(np.array(np.meshgrid(*[np.arange(12)] * 3)).reshape(3, -1).T + 500, 10),
        "grid_corners": _voxels(corners, MAX_BIT_DEPTH),
        "scattered": _voxels(generator.integers(0, top + 1, (500, 3)), MAX_BIT_DEPTH),
        "real_numbers": PointCloud(generator.normal(scale=20, size=(800, 3)).astype(np.float32)),
        "real_one_point": PointCloud(np.array([[-1.5, 2.25, 1e3]], np.float32)),
    }


@lru_cache(maxsize=8)
def surface_cloud(seed: int = 0, bit_depth: int = 7) -> PointCloud:
    """A bumpy closed surface without holes, voxelised, no point twice: what every codec must code."""
    generator = np.random.default_rng(seed)
    radius = 0.42 * (1 << bit_depth)
    count = int(60 * radius**2)
    direction = generator.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    bumps = 1 - 0.08 * (1 + np.sin(5 * direction[:, :1]) * np.cos(4 * direction[:, 1:2] + seed))
    points = np.floor(direction * radius * bumps + (1 << (bit_depth - 1))).astype(np.int64)
    # By sorting: np.unique over rows, or over integers since numpy 2.3, takes several times as long.
    keys = np.sort(points @ np.array([1 << 2 * bit_depth, 1 << bit_depth, 1]))
    keys = keys[np.concatenate(([True], keys[1:] != keys[:-1]))]
    field = (1 << bit_depth) - 1
    distinct = np.stack([keys >> 2 * bit_depth, keys >> bit_depth & field, keys & field], axis=1)
    return _voxels(generator.permutation(distinct), bit_depth)


def _voxels(points: npt.NDArray[np.int64], bit_depth: int) -> PointCloud:
    return PointCloud(points.astype(np.int32), bit_depth)


def _check_card(bench: _Bench) -> None:
    card = bench.codec.card()
    _expect(isinstance(card, CodecCard), f"card returned {type(card).__name__}, expected CodecCard")
    _expect(bool(card.version), "the card has no version, so that results could not be told apart")
    _expect(isinstance(getattr(bench.codec, "name", None), str), "the codec has no name")


def _check_rates(bench: _Bench, seed: int) -> None:
    """There are some, their names differ, and each costs about as much as the one before or more."""
    rates = bench.codec.rates()
    _expect(len(rates) > 0, "rates() is empty")
    names = [rate.name for rate in rates]
    _expect(len(set(names)) == len(names), f"rates have the same name: {', '.join(names)}")
    cloud = surface_cloud(seed)
    try:
        sizes = [len(bench.encode(cloud, rate)) for rate in rates]
    except _REFUSALS as error:
        raise _FailureError(f"refused an ordinary surface: {error}") from error
    # Neighbouring rates may be a few bytes apart either way on a cloud as small as this.
    rises = all(high > 0.97 * low - 8 for low, high in itertools.pairwise(sizes)) and sizes[-1] >= sizes[0]
    _expect(rises, f"rates must go from low to high, their sizes are {sizes}")


def _check_round_trip(bench: _Bench, cloud: PointCloud, rate: Rate) -> None:
    """A fresh instance decodes it; the ledger is complete; lossless is lossless; what was promised comes out."""
    data = bench.encode(cloud, rate)
    sections = bench.codec.sections(data)
    _expect(sum(sections.values()) == len(data), f"sections sum to {sum(sections.values())} of {len(data)} bytes")
    decoded = bench.decode_own(data, bench.fresh())
    _expect(len(decoded) > 0 or not len(cloud), f"decoded no point of {len(cloud)}")
    identity = decoded.geometry_sha256()
    if rate.lossless:
        same = identity == cloud.geometry_sha256()
        _expect(same, f"lossless, but {len(cloud)} points came back as {len(decoded)} others")
    promised = data.reconstruction_sha256 if isinstance(data, Bitstream) else None
    _expect(promised in (None, identity), "the decoded cloud is not the one that the encoder announced")
    again = bench.decode_own(data).geometry_sha256()
    _expect(again == identity, "the instance that encoded decodes another cloud than a fresh one")


def _check_surface(bench: _Bench, rate: Rate, seed: int) -> None:
    """The cloud that no codec may refuse (`_check_rates` sees to that) comes back where it was."""
    cloud = surface_cloud(seed)
    _check_round_trip(bench, cloud, rate)
    decoded = bench.decode_own(bench.encode(cloud, rate))
    bounds, decoded_bounds = np.array(cloud.bounds, np.float64), np.array(decoded.bounds, np.float64)
    allowed = _MARGIN * float(np.ptp(bounds, axis=0).max()) + 1
    worst = float(np.abs(decoded_bounds - bounds).max())
    _expect(worst <= allowed, f"the decoded bounding box is off by {worst:.4g}, expected at most {allowed:.4g}")


def _check_permutation(bench: _Bench, rate: Rate, seed: int) -> None:
    """The order of the points changes neither what comes back nor what it costs."""
    cloud = surface_cloud(seed)
    shuffled = cloud.take(np.random.default_rng(seed + 1).permutation(len(cloud)))
    one, other = bench.encode(cloud, rate), bench.encode(shuffled, rate)
    _expect(len(one) == len(other), f"{len(one)} bytes become {len(other)} when the points are shuffled")
    same = bench.decode_own(one).geometry_sha256() == bench.decode_own(other).geometry_sha256()
    _expect(same, "the decoded cloud depends on the order of the points")


def _check_determinism(bench: _Bench, rate: Rate, seed: int) -> None:
    cloud = surface_cloud(seed)
    one = bench.encode(cloud, rate)
    _expect(one == bench.encode(cloud, rate), "the same cloud gives other bytes the second time")
    _expect(one == bench.encode(cloud, rate, bench.fresh()), "a fresh instance gives other bytes")


def _check_statelessness(bench: _Bench, rate: Rate, seed: int) -> None:
    """Encode A, B, A: nothing of B is in the second A; and decode the same way."""
    cloud, other = surface_cloud(seed), surface_cloud(seed + 1, bit_depth=6)
    first = bench.encode(cloud, rate)
    between = bench.encode(other, rate)
    _expect(first == bench.encode(cloud, rate), "encoding another cloud in between changes the bytes")
    identity = bench.decode_own(first).geometry_sha256()
    bench.decode_own(between)
    same = bench.decode_own(first).geometry_sha256() == identity
    _expect(same, "decoding another stream in between changes the cloud")


def _check_truncation(bench: _Bench, rate: Rate, seed: int) -> None:
    data = bytes(bench.encode(surface_cloud(seed, bit_depth=5), rate))
    size = len(data)
    for length in sorted({0, 1, 2, 4, 8, size // 4, size // 2, size - 5, size - 1} & set(range(size))):
        _expect_refusal(bench, data[:length], f"the first {length} of {size} bytes")
    if bench.is_checksummed:
        _expect_refusal(bench, data + b"\0", "a byte too many")


def _check_flipped_bits(bench: _Bench, rate: Rate, seed: int) -> None:
    """Damage anywhere is told; without a checksum it must at least end in a cloud or in a refusal."""
    data = bytes(bench.encode(surface_cloud(seed, bit_depth=5), rate))
    generator = np.random.default_rng(seed)
    # Headers are short and dangerous: a third of the damage goes there.
    near = generator.integers(0, min(24, len(data)), bench.n_flipped_bits // 3)
    places = [*near, *generator.integers(0, len(data), bench.n_flipped_bits - len(near))]
    for place in places:
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(generator.integers(8))
        what = f"a flipped bit in byte {place} of {len(data)}"
        if bench.is_checksummed:
            _expect_refusal(bench, bytes(damaged), what)
        else:
            with contextlib.suppress(CodecError):
                _only_codec_errors(bench, bytes(damaged), what)


def _check_foreign(bench: _Bench, seed: int) -> None:
    noise = np.random.default_rng(seed).bytes(2000)
    for data, what in (
        (b"", "nothing"),
        (bytes(2000), "zeros"),
        (b"\xff" * 2000, "ones"),
        (noise, "noise"),
        (b"ply\nformat ascii 1.0\nelement vertex 1\nend_header\n1 2 3\n", "a PLY file"),
        (b"DRACO\x02\x02\x00\x00\x00\x00" + noise[:100], "a Draco header"),
    ):
        _expect_refusal(bench, data, what)


def _expect_refusal(bench: _Bench, data: bytes, what: str) -> None:
    try:
        decoded = _only_codec_errors(bench, data, what)
    except CodecError:
        return
    raise _FailureError(f"{what} decoded to {len(decoded)} points, expected a BitstreamError")


def _only_codec_errors(bench: _Bench, data: bytes, what: str) -> PointCloud:
    try:
        return bench.decode(data)
    except (CodecError, _FailureError):
        raise
    except Exception as error:
        raise _FailureError(f"{what}: {type(error).__name__}: {error}; expected a BitstreamError") from error


def _expect(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise _FailureError(otherwise)


def _judged(name: str, check: Callable[[], None]) -> Result:
    """Run a check and say how it went."""
    status: Status = "passed"
    detail = ""
    start = time.monotonic()
    try:
        check()
    except _FailureError as error:
        status, detail = "failed", str(error)
    except _REFUSALS as error:
        status, detail = "refused", str(error)
    except _TooLongError as error:
        status, detail = "failed", str(error)
    except Exception as error:  # whatever else a codec raises is what the check is there to find
        status, detail = "failed", f"{type(error).__name__}: {error}"
    return Result(name, status, detail, time.monotonic() - start)


@contextlib.contextmanager
def _within(limit_s: float, what: str) -> Iterator[None]:
    """Interrupt what takes too long, where signals allow it; else say so once it has ended."""
    text = f"{what} took longer than {limit_s:g} s"
    can_interrupt = threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGALRM")
    start = time.monotonic()
    if not can_interrupt or not math.isfinite(limit_s):
        yield
    else:

        def stop(_number: int, _frame: object) -> None:
            raise _TooLongError(text)

        previous = signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, limit_s)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)
    if time.monotonic() - start > limit_s:
        raise _TooLongError(text)
