"""Damaged streams: sound streams with faults behind a right checksum, and what each costs a decoder.

    PCCBENCH_TMC3=... python tests/codecs/damage.py octree sparse --count 2000

decodes so many damaged streams of each codec and prints what came of them.  Streams are decoded in a child process
whose memory is limited, so that one that asks for too much ends that child alone.
"""

import os

# Children are forked: they cannot take threads along.
os.environ.update({f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS", "NUMBA")})

import argparse  # after that, as numpy too
import contextlib
import json
import resource
import signal
import sys
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pccbench.codecs import container
from pccbench.codecs.base import Codec
from pccbench.codecs.cloud import PointCloud
from pccbench.codecs.conformance import surface_cloud
from pccbench.codecs.errors import BitstreamError, CodecError, CodecUnavailableError
from pccbench.codecs.registry import CodecSpec

CODECS = ("raw", "octree", "draco", "gpcc-octree", "gpcc-trisoup", "deepcompress", "sparse", "dpcc")
#: What a decoder may take for one stream: CPU seconds with its children, MiB beyond what the process had.
MOST_S, MOST_MB = 5.0, 1024.0
_HARD_MB = 3 * 1024
_HARD_S = 60


@dataclass(frozen=True)
class Outcome:
    """What came of one stream: `refused`, `decoded`, or the name of an error that should not be."""

    kind: str
    text: str
    cpu_s: float
    peak_mb: float
    size: int
    points: int = 0


def sound_streams(codec: Codec, *, is_large: bool = False) -> list[bytes]:
    """Streams of a few kinds of cloud at all rates; with `is_large` also some of tens of kilobytes."""
    generator = np.random.default_rng(3)
    cube = np.array(np.meshgrid(*[np.arange(24)] * 3)).reshape(3, -1).T
    clouds = [
        surface_cloud(0, bit_depth=6),
        PointCloud(generator.integers(0, 1 << 12, (700, 3)).astype(np.int32), 12),
        PointCloud(cube.astype(np.int32) + 40, 7),
        PointCloud(np.repeat(generator.integers(0, 50, (40, 3)), 4, axis=0).astype(np.int32), 6),
        PointCloud(generator.normal(scale=20, size=(600, 3)).astype(np.float32)),
    ]
    rates = codec.rates()
    wanted = [(cloud, rate) for cloud in clouds for rate in rates]
    if is_large:
        large = surface_cloud(1, bit_depth=8), PointCloud(generator.integers(0, 512, (20_000, 3)).astype(np.int32), 9)
        wanted += [
            (cloud, rate)
            for cloud in large
            for rate in {r.name: r for r in (rates[0], rates[len(rates) // 2], rates[-1])}.values()
        ]
    streams = []
    for cloud, rate in wanted:
        with contextlib.suppress(CodecError, CodecUnavailableError):
            data = bytes(codec.encode(cloud, rate))
            if len(data) <= 100_000:
                streams.append(data)
    return streams


def damaged(streams: list[bytes], generator: np.random.Generator) -> bytes:
    """One stream with faults; behind a right checksum where the container is ours."""
    data = streams[generator.integers(len(streams))]
    try:
        name, sections = container.unpack(data)
    except BitstreamError:
        return _hurt(data, generator)
    which = int(generator.integers(len(sections)))
    if generator.random() < 0.1:  # a section of another stream
        _, others = container.unpack(streams[generator.integers(len(streams))])
        sections[which] = others[min(which, len(others) - 1)]
    else:
        sections[which] = _hurt(sections[which], generator)
        if generator.random() < 0.2:
            other = int(generator.integers(len(sections)))
            sections[other] = _hurt(sections[other], generator)
    if generator.random() < 0.05:
        sections = sections[: max(1, which)]
    return container.pack(name, sections)


def _hurt(data: bytes, generator: np.random.Generator) -> bytes:
    """Bits turned over, bytes replaced, cut off, repeated or put in, a number made large."""
    out = bytearray(data)
    # Headers are short and dangerous: half of the damage goes there.
    reach = min(16, len(out)) if generator.random() < 0.5 else len(out)
    place = int(generator.integers(max(reach, 1)))
    kind = int(generator.integers(7))
    if not out or kind == 0:
        out[place:place] = generator.bytes(int(generator.integers(1, 9)))
    elif kind in (1, 2):
        for _ in range(int(generator.integers(1, 4))):
            out[int(generator.integers(max(reach, 1)))] ^= 1 << int(generator.integers(8))
    elif kind == 3:
        out[place] = int(generator.choice([0, 0x7F, 0x80, 0xFF, generator.integers(256)]))
    elif kind == 4:
        del out[place : place + int(generator.integers(1, 1 + max(1, len(out) // 2)))]
    elif kind == 5:  # a large number in the way of our headers
        out[place : place + int(generator.integers(1, 4))] = container.put_varint(int(2 ** generator.uniform(7, 40)))
    else:
        end = min(len(out), place + int(generator.integers(1, 64)))
        out[place:end] = bytes([int(generator.choice([0, 0xFF, 0xAA]))]) * (end - place)
    return bytes(out)


def outcomes(codec: Codec, streams: list[bytes]) -> list[Outcome]:
    """What comes of each stream, decoded in child processes."""
    done: list[Outcome] = []
    while len(done) < len(streams):
        before = len(done)
        done += _in_child(codec, streams[before:])
        if len(done) < len(streams) and len(done) == before:
            raise RuntimeError("no child answered")
    return done


def _in_child(codec: Codec, streams: list[bytes]) -> list[Outcome]:
    """Outcomes of streams up to the first that ends the child, that one included."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        status = 1
        try:
            with os.fdopen(writing, "w") as pipe:
                _decode_all(codec, streams, pipe)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    found = []
    with os.fdopen(reading) as pipe:
        for line in pipe:
            found.append(Outcome(**json.loads(line)))
    _, status = os.waitpid(pid, 0)
    if len(found) < len(streams):
        name = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"exit {status >> 8}"
        found.append(Outcome(name, "the process ended", 0.0, 0.0, len(streams[len(found)])))
    return found


def _decode_all(codec: Codec, streams: list[bytes], pipe) -> None:
    warnings.simplefilter("error")
    held = _status_mb("VmData")
    limit = int((held + _HARD_MB) * 2**20)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    for data in streams:
        signal.alarm(_HARD_S)  # ends the child
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = _status_mb("VmRSS")
        cpu = _cpu_s()
        points = 0
        try:
            points = len(codec.decode(data))
            kind, text = "decoded", ""
        except BitstreamError as error:
            kind, text = "refused", str(error)[:120]
        except Exception as error:
            kind, text = type(error).__name__, str(error)[:120]
        spent = _cpu_s() - cpu
        outcome = Outcome(kind, text, spent, _status_mb("VmHWM") - before, len(data), points)
        pipe.write(json.dumps(vars(outcome)) + "\n")
        pipe.flush()


def _cpu_s() -> float:
    usage = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(u.ru_utime + u.ru_stime for u in usage)


def _status_mb(key: str) -> float:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024
    return 0.0


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("codecs", nargs="*", default=CODECS)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--small", action="store_true", help="leave the large clouds out")
    parser.add_argument("--keep", type=Path, help="folder for the worst streams")
    options = parser.parse_args()
    is_bad = False
    for name in options.codecs:
        codec = CodecSpec(name).create()
        codec.warm_up()
        streams = sound_streams(codec, is_large=not options.small)
        generator = np.random.default_rng(options.seed)
        hurt = [damaged(streams, generator) for _ in range(options.count)]
        start = time.monotonic()
        found = outcomes(codec, hurt)
        counts = Counter(outcome.kind for outcome in found)
        slowest = max(found, key=lambda outcome: outcome.cpu_s)
        largest = max(found, key=lambda outcome: outcome.peak_mb)
        print(
            f"{name}: {len(streams)} sound, {len(found)} damaged: {dict(counts)}; worst {slowest.cpu_s:.2f} s CPU "
            f"({slowest.size} B, {slowest.text or slowest.points}), {largest.peak_mb:.0f} MB ({largest.size} B, "
            f"{largest.text or largest.points}); {time.monotonic() - start:.0f} s in all",
            flush=True,
        )
        for number, outcome in enumerate(found):
            is_fault = outcome.kind not in ("refused", "decoded")
            if is_fault or outcome.cpu_s > MOST_S or outcome.peak_mb > MOST_MB:
                is_bad = True
                print(f"  {number}: {outcome}", flush=True)
                if options.keep:
                    options.keep.mkdir(exist_ok=True, parents=True)
                    (options.keep / f"{name}-{options.seed}-{number}.bin").write_bytes(hurt[number])
    return int(is_bad)


if __name__ == "__main__":
    sys.exit(main())
