"""Conformance: what every codec must do, as checks that anybody can run on a codec of their own.

    from pccbench.codecs.conformance import check_codec
    for result in check_codec(MyCodec()):
        print(result.status, result.check, result.detail)

or `bench check CODEC` in a terminal.  A codec may refuse a cloud by a `CodecError` (a surface codec a single point,
say); it must not crash, hang, lose points at a rate that claims to be lossless, remember an earlier cloud, or decode
damaged bytes as if nothing were.  An ordinary surface must be coded at all rates; of other clouds the lowest rate,
the highest, and the first lossless one are looked at.

Some faults show only in another process, with other folders, another number of threads and another order of sets:
there the codec decodes what a process coded that has ended and whose files are gone, codes the same again, and is
given streams whose damage is behind a right checksum, with little memory (see `trial`).
"""

from __future__ import annotations

import contextlib
import itertools
import math
import re
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from . import trial
from .base import Bitstream, Codec, CodecCard, Rate
from .cloud import MAX_BIT_DEPTH, PointCloud
from .damage import behind_checksums
from .errors import CodecError, CodecUnavailableError
from .registry import CodecSpec

Status = Literal["passed", "refused", "failed", "skipped"]

#: A decoded cloud may reach beyond the input's bounding box by this share of its longest side, plus one cell.
_MARGIN = 0.25
_REFUSALS = (CodecError, CodecUnavailableError)
#: MiB that a decoder may take for a damaged stream, beyond what it has when it is warm.
DAMAGE_MEMORY_MB = 1024.0
#: Real streams are longer or shorter than was estimated by this share, and by a few hundred bytes.
_ESTIMATE_SHARE, _ESTIMATE_BITS = 0.25, 4096
#: Settings of the first and of the second process: threads, and PYTHONHASHSEED.
_FIRST, _SECOND = {"threads": 1, "hash_seed": 1}, {"threads": 2, "hash_seed": 2}
_WORD = re.compile(r"[^\s,/*?\[]{1,64}")
_HASH = re.compile(r"[0-9a-f]{8,128}")
_LONGEST_TEXT = 1000


@dataclass(frozen=True)
class Result:
    """What one check found.

    Attributes:
        check: name of the check, with the rate after a slash where it is about one.
        status: `refused` when the codec said by a `CodecError` that it cannot, which is allowed; `skipped` when the
            check could not be made here.
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
    spec: CodecSpec | None = None,
    is_checksummed: bool = True,
    call_limit_s: float = 60.0,
    n_flipped_bits: int = 24,
    is_thorough: bool = True,
    seed: int = 0,
) -> list[Result]:
    """Run all checks.

    Args:
        codec: an instance; it is used for many clouds, as a worker process does.
        fresh: makes another instance, for decoding by one that never encoded; the codec's class by default.
        spec: how another process makes the codec; found from its name or its file by default, if its class alone
            makes it.
        is_checksummed: whether the stream must tell any damage, and the bit depth and the type of real numbers.
            False for formats of others that do not: they may then decode damaged bytes to a wrong cloud, but still
            only end in a cloud or a `CodecError`.
        call_limit_s: seconds that one call of the codec may take, on clouds of a few thousand points.
        n_flipped_bits: how many streams with one bit turned over are decoded at each rate.
        is_thorough: also a cloud of some 150,000 points.
        seed: of the clouds and of the damage.

    Returns:
        One result for each check, at each of the rates looked at where the check depends on the rate.
    """
    origin, why = _origin(codec, spec, fresh)
    bench = _Bench(codec, fresh or type(codec), is_checksummed, call_limit_s, n_flipped_bits)
    return list(_results(bench, origin, why, is_thorough=is_thorough, seed=seed))


def check_spec(spec: CodecSpec, *, is_thorough: bool = True) -> Iterator[Result]:
    """The results of a codec of the registry, each as soon as it is there.

    A codec that an external tool makes has a format of its own, which need not have a checksum.

    Raises:
        CodecUnavailableError: a tool or dependency is missing.
    """
    codec = spec.create()
    bench = _Bench(codec, spec.create, type(codec).tool is None, call_limit_s=60.0, n_flipped_bits=24)
    codec.warm_up()
    yield from _results(bench, trial.origin_of(codec, spec.to_dict()), "", is_thorough=is_thorough, seed=0)


def _results(
    bench: _Bench, origin: Mapping[str, Any] | None, why: str, *, is_thorough: bool, seed: int
) -> Iterator[Result]:
    """The results of all checks; `why` another process cannot make the codec, where it cannot."""
    first: dict[str, Callable[[], None]] = {
        "card": partial(_check_card, bench),
        "rates": partial(_check_rates, bench, seed),
    }
    for name, check in first.items():
        result = _judged(name, check)
        yield result
        if result.status == "failed":
            return
    clouds = example_clouds(seed)
    for rate in bench.rates:
        for name, cloud in clouds.items():
            yield _judged(f"{name}/{rate.name}", partial(_check_round_trip, bench, cloud, rate))
        for each in (
            _check_permutation,
            _check_determinism,
            _check_statelessness,
            _check_truncation,
            _check_flipped_bits,
        ):
            yield _judged(f"{each.__name__.removeprefix('_check_')}/{rate.name}", partial(each, bench, rate, seed))
    for rate in bench.codec.rates():
        yield _judged(f"surface/{rate.name}", partial(_check_surface, bench, surface_cloud(seed), rate))
    if is_thorough:
        for rate in bench.rates:
            yield _judged(
                f"large/{rate.name}", partial(_check_surface, bench, surface_cloud(seed, bit_depth=8), rate)
            )
    yield _judged("foreign_streams", partial(_check_foreign, bench, seed))
    if origin is None:
        yield Result("second_process", "skipped", why)
    else:
        yield from _elsewhere(bench, origin, seed)


def _origin(
    codec: Codec, spec: CodecSpec | None, fresh: Callable[[], Codec] | None
) -> tuple[dict[str, Any] | None, str]:
    """How another process makes the codec, or why it cannot."""
    from .registry import BUILT_IN, codec_class

    name = getattr(codec, "name", None)
    if spec is None and fresh not in (None, type(codec)):
        return None, "the codec is made by a function, which another process has not; give spec"
    if spec is None and isinstance(name, str) and name in BUILT_IN and codec_class(name) is type(codec):
        spec = CodecSpec(name)
    try:
        return trial.origin_of(codec, None if spec is None else spec.to_dict()), ""
    except trial.UnreachableError as error:
        return None, str(error)


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
        "real_large": PointCloud(generator.normal(scale=3e7, size=(500, 3)).astype(np.float32)),
        # As surveyors have them: tens of metres wide, millions from the origin.
        "real_far": PointCloud(generator.normal(scale=20, size=(800, 3)) + np.array([4.5e5, 5.41e6, 120])),
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
    value: Any
    for name in ("version", "title", "description", "paper"):
        value = getattr(card, name)
        is_line = isinstance(value, str) and value.isprintable() and len(value) <= _LONGEST_TEXT
        _expect(is_line, f"the card's {name} is {_shown(value)}, expected a line of text")
    _expect(bool(card.version), "the card has no version, so that results could not be told apart")
    counts: dict[str, tuple[type, ...]] = {"parameters": (int,), "macs_per_point": (int, float)}
    for name, kinds in counts.items():
        value = getattr(card, name)  # anything: a codec's author may have written nonsense
        is_number = isinstance(value, kinds) and not isinstance(value, bool)
        is_count = is_number and math.isfinite(value) and value >= 0
        _expect(value is None or is_count, f"the card's {name} is {_shown(value)}, expected a number or None")
    _expect(isinstance(card.trained, bool), f"the card's trained is {_shown(card.trained)}, expected True or False")
    hashes = card.training_files_sha256
    _expect(isinstance(hashes, tuple), f"the card's training_files_sha256 is {_shown(hashes)}, expected a tuple")
    for value in (card.weights_sha256, card.tool_sha256, *hashes):
        is_hash = value is None or (isinstance(value, str) and _HASH.fullmatch(value) is not None)
        _expect(is_hash, f"the card has {_shown(value)} for a hash, expected hexadecimal digits")
    _expect(
        card.tool is None or isinstance(card.tool, str), f"the card's tool is {_shown(card.tool)}, expected a path"
    )
    word: object = getattr(bench.codec, "name", None)
    _expect(isinstance(word, str) and _WORD.fullmatch(word) is not None, f"the codec's name is {_shown(word)}")


def _check_rates(bench: _Bench, seed: int) -> None:
    """There are some, their names differ, and each costs about as much as the one before or more."""
    rates = bench.codec.rates()
    _expect(
        isinstance(rates, list | tuple) and len(rates) > 0, f"rates() is {_shown(rates)}, expected a list of Rate"
    )
    for rate in rates:
        _check_rate(rate)
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


def _check_rate(rate: Rate) -> None:
    _expect(isinstance(rate, Rate), f"rates() has {_shown(rate)}, expected Rate")
    is_word = isinstance(rate.name, str) and rate.name.isprintable() and _WORD.fullmatch(rate.name) is not None
    _expect(is_word, f"a rate's name is {_shown(rate.name)}, expected a word")
    _expect(isinstance(rate.lossless, bool), f"lossless of {rate.name} is {_shown(rate.lossless)}")
    _expect(isinstance(rate.parameters, Mapping), f"parameters of {rate.name} are {_shown(rate.parameters)}")
    for key, value in rate.parameters.items():
        # Of exactly these types: they become JSON, and a part of the key by which a row is found again.
        is_plain = isinstance(key, str) and type(value) in (bool, int, float, str)
        is_plain = is_plain and (not isinstance(value, float) or math.isfinite(value))
        _expect(
            is_plain, f"{rate.name} has the parameter {_shown(key)}: {_shown(value)}, expected a plain finite value"
        )


def _check_round_trip(bench: _Bench, cloud: PointCloud, rate: Rate) -> None:
    """A fresh instance decodes it; the ledger is complete; lossless is lossless; what was promised comes out."""
    data = bench.encode(cloud, rate)
    _check_facts(data)
    sections = bench.codec.sections(data)
    is_ledger = isinstance(sections, Mapping) and all(
        isinstance(key, str) and type(value) is int and value >= 0 for key, value in sections.items()
    )
    _expect(is_ledger, f"sections returned {_shown(sections)}, expected bytes by name")
    _expect(sum(sections.values()) == len(data), f"sections sum to {sum(sections.values())} of {len(data)} bytes")
    decoded = bench.decode_own(data, bench.fresh())
    _expect(len(decoded) > 0 or not len(cloud), f"decoded no point of {len(cloud)}")
    if bench.is_checksummed:
        _check_kind(cloud, decoded, is_lossless=rate.lossless)
    identity = decoded.geometry_sha256()
    if rate.lossless:
        same = identity == cloud.geometry_sha256()
        _expect(same, f"lossless, but {len(cloud)} points came back as {len(decoded)} others")
    if len(cloud) and len(decoded) and not cloud.is_voxelised:
        _check_bounds(cloud, decoded)
    promised = data.reconstruction_sha256 if isinstance(data, Bitstream) else None
    _expect(promised in (None, identity), "the decoded cloud is not the one that the encoder announced")
    again = bench.decode_own(data).geometry_sha256()
    _expect(again == identity, "the instance that encoded decodes another cloud than a fresh one")


def _check_facts(data: bytes) -> None:
    """What the encoder says beside the bytes can be so."""
    if not isinstance(data, Bitstream):
        return
    bits = data.estimated_bits
    if bits is not None:
        is_number = isinstance(bits, int | float | np.integer | np.floating) and math.isfinite(bits)
        _expect(is_number, f"estimated_bits is {_shown(bits)}, expected a number or None")
        real = 8 * len(data)
        is_near = abs(float(bits) - real) <= _ESTIMATE_SHARE * real + _ESTIMATE_BITS
        _expect(is_near, f"estimated_bits is {bits:.6g} for a stream of {real} bits")
    promised = data.reconstruction_sha256
    is_hash = promised is None or (isinstance(promised, str) and _HASH.fullmatch(promised) is not None)
    _expect(is_hash, f"reconstruction_sha256 is {_shown(promised)}")
    is_noted = isinstance(data.notes, Mapping) and all(isinstance(key, str) for key in data.notes)
    _expect(is_noted, f"notes are {_shown(data.notes)}, expected values by name")


def _check_kind(cloud: PointCloud, decoded: PointCloud, *, is_lossless: bool) -> None:
    """A voxelised cloud comes back on its grid or between its voxels, a real one in its own type."""
    if cloud.bit_depth is None:
        kinds = f"{decoded.points.dtype} from {cloud.points.dtype}"
        _expect(decoded.points.dtype == cloud.points.dtype, f"real numbers came back in another type: {kinds}")
    elif is_lossless or decoded.bit_depth is not None:
        depths = f"{decoded.bit_depth}, expected {cloud.bit_depth}"
        _expect(decoded.bit_depth == cloud.bit_depth, f"the decoded cloud has bit depth {depths}")


def _check_bounds(cloud: PointCloud, decoded: PointCloud) -> None:
    """The decoded cloud lies where the cloud is."""
    bounds, decoded_bounds = np.array(cloud.bounds, np.float64), np.array(decoded.bounds, np.float64)
    extent = float(np.ptp(bounds, axis=0).max())
    # A cell more for voxels; for real numbers, which may form no surface, their width, and a fixed step, a millimetre
    # say, of which a lone point is off by half.
    if cloud.is_voxelised:
        allowed = _MARGIN * extent + 1
    else:
        allowed = extent + float(np.abs(bounds).max()) * 2.0**-19
    worst = float(np.abs(decoded_bounds - bounds).max())
    _expect(worst <= allowed, f"the decoded bounding box is off by {worst:.4g}, expected at most {allowed:.4g}")


def _check_surface(bench: _Bench, cloud: PointCloud, rate: Rate) -> None:
    """A cloud that no codec may refuse (`_check_rates` sees to that) comes back where it was."""
    _check_round_trip(bench, cloud, rate)
    decoded = bench.decode_own(bench.encode(cloud, rate))
    _check_bounds(cloud, decoded)


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


def _elsewhere(bench: _Bench, origin: Mapping[str, Any], seed: int) -> list[Result]:
    """What only another process shows; two are started."""
    start = time.monotonic()
    rates = bench.codec.rates()
    clouds = {"surface": surface_cloud(seed, bit_depth=6), "real": example_clouds(seed)["real_numbers"]}
    with tempfile.TemporaryDirectory(prefix="check-") as scratch:
        folder = Path(scratch)
        encoding: list[trial.Job] = []
        for name, cloud in clouds.items():
            np.save(folder / f"{name}.npy", cloud.points)
            for rate in rates:
                stream = str(folder / f"{name}-{len(encoding)}")
                encoding.append(trial.Job(stream, str(folder / f"{name}.npy"), cloud.bit_depth, rate.name))
        first = trial.run(origin, encoding, call_limit_s=bench.call_limit_s, **_FIRST)
        results = [_told("first_process", first, len(encoding))]
        coded = [job for job, answer in zip(encoding, first.answers, strict=False) if answer.outcome == trial.DECODED]
        again = [trial.Job(f"{job.stream}-again", job.cloud, job.bit_depth, job.rate) for job in coded]
        damaged = _damaged(bench, coded, seed)
        jobs = [*(trial.Job(job.stream) for job in coded), *again]
        second = trial.run(origin, jobs, call_limit_s=bench.call_limit_s, **_SECOND)
        results.append(_told("second_process", second, len(jobs)))
        for job, answer in zip(coded, second.answers, strict=False):
            results.append(_same_cloud(bench, job, answer))
        for job, other, answer in zip(coded, again, second.answers[len(coded) :], strict=False):
            results.append(_same_bytes(job, other, answer))
        results.append(_left_behind(first, second))
        results += _endured(bench, origin, damaged)
    seconds = time.monotonic() - start
    return [Result(r.check, r.status, r.detail, seconds / len(results)) for r in results]


def _told(check: str, report: trial.Report, n_jobs: int) -> Result:
    """Whether a process did all its jobs, and none of them failed."""
    failed = [answer.text for answer in report.answers if answer.outcome == trial.FAILED]
    if report.ended:
        return Result(check, "failed", f"after {len(report.answers)} of {n_jobs} calls: {report.ended}")
    return Result(check, "failed", failed[0]) if failed else Result(check, "passed")


def _same_cloud(bench: _Bench, job: trial.Job, answer: trial.Answer) -> Result:
    """Whether another process, which knows nothing of the encoder's, decodes what this one does."""
    check = f"second_process/{job.rate}"
    if answer.outcome != trial.DECODED:
        return Result(check, "failed", f"another process cannot decode it: {answer.text}")
    try:
        here = bench.decode_own(Path(job.stream).read_bytes()).geometry_sha256()
    except (_FailureError, _TooLongError) as error:
        return Result(check, "failed", str(error))
    if here == answer.geometry_sha256:
        return Result(check, "passed")
    return Result(check, "failed", "another process, with other threads, decodes another cloud")


def _same_bytes(job: trial.Job, other: trial.Job, answer: trial.Answer) -> Result:
    check = f"same_bytes/{job.rate}"
    if answer.outcome != trial.DECODED:
        return Result(check, "failed", answer.text)
    if Path(job.stream).read_bytes() == Path(other.stream).read_bytes():
        return Result(check, "passed")
    settings = " and ".join(
        f"{one['threads']} threads, PYTHONHASHSEED {one['hash_seed']}" for one in (_FIRST, _SECOND)
    )
    return Result(check, "failed", f"other bytes in another process: {settings}")


def _left_behind(*reports: trial.Report) -> Result:
    files = sorted({Path(path).name for report in reports for path in report.created})
    if files:
        return Result("leftovers", "failed", f"{len(files)} files stay after the calls: {', '.join(files[:5])}")
    threads = max(report.more_threads for report in reports)
    if threads > 0:
        return Result("leftovers", "failed", f"{threads} more threads run after the last call than after the first")
    return Result("leftovers", "passed")


def _damaged(bench: _Bench, coded: list[trial.Job], seed: int) -> dict[str, list[trial.Job]]:
    """Damaged streams for the rates that are looked at, written to files."""
    found: dict[str, list[trial.Job]] = {}
    for rate in bench.rates:
        for job in [job for job in coded if job.rate == rate.name][:1]:
            streams = behind_checksums(
                Path(job.stream).read_bytes(), np.random.default_rng(seed), bench.n_flipped_bits
            )
            jobs = [trial.Job(f"{job.stream}-bad-{number}", is_damaged=True) for number in range(len(streams))]
            for bad, data in zip(jobs, streams, strict=True):
                Path(bad.stream).write_bytes(data)
            found[rate.name] = jobs
    return found


def _endured(bench: _Bench, origin: Mapping[str, Any], damaged: Mapping[str, list[trial.Job]]) -> list[Result]:
    """Damage behind a right checksum ends in a cloud or in a refusal, soon and in little memory."""
    jobs = [job for some in damaged.values() for job in some]
    if not jobs:
        return []
    report = trial.run(origin, jobs, call_limit_s=bench.call_limit_s, memory_limit_mb=DAMAGE_MEMORY_MB, **_SECOND)
    results, position = [], 0
    for rate, some in damaged.items():
        answers = report.answers[position : position + len(some)]
        position += len(some)
        failed = [answer.text for answer in answers if answer.outcome == trial.FAILED]
        if failed:
            detail = f"{len(failed)} of {len(some)}: {failed[0]}; expected a BitstreamError"
            results.append(Result(f"sealed_damage/{rate}", "failed", detail))
        elif len(answers) < len(some):
            detail = f"stream {len(answers) + 1} of {len(some)}: {report.ended}; expected a BitstreamError"
            results.append(Result(f"sealed_damage/{rate}", "failed", detail))
            break
        else:
            results.append(Result(f"sealed_damage/{rate}", "passed"))
    return results


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


def _shown(value: object) -> str:
    """A value in a message: on one line, not too long."""
    return " ".join(repr(value).split())[:80]


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
