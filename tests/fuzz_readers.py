"""Damaged files for every reader: each is read or refused with CloudError, in 5 s and 1 GiB, and never worse.

    python tests/fuzz_readers.py --files 5000 --seed 1

prints what came of how many files, and fails where a file was neither read nor refused.  `tests/codecs/formats/
test_damage.py` runs a small share of it.
"""

from __future__ import annotations

import argparse
import io
import re
import resource
import signal
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pccbench.codecs.cloud import PointCloud
from pccbench.codecs.errors import CloudError
from pccbench.codecs.formats import CloudWarning, read_cloud, read_mesh, write_cloud

LIMIT_S = 5
LIMIT_BYTES = 1 << 30
#: What a damaged header may say in the place of a number.
NUMBERS = (
    b"0 -1 1 3 4 255 256 65536 2147483647 2147483648 4294967295 9223372036854775807 1152921504606846976 "
    b"99999999999999999999 1e400 nan -inf 1e-320 0x10 1_0 " + b"9" * 5000
).split()
#: Words of all the headers, one a line; \ begins an escape.
WORDS = [
    line.decode("unicode_escape").encode("latin-1")
    for line in rb"""
element vertex 5\n
element face 7\nproperty list uchar int v\n
property list int double q\n
property float x\n
element e 1152921504606846976\n
comment
end_header\n
format ascii 1.0\n
format binary_big_endian 1.0\n
FIELDS x y z _ rgb\n
COUNT 4096 4096 4096\n
SIZE 8 8 8\n
TYPE I U F\n
DATA ascii\n
DATA binary\n
DATA binary_compressed\n
POINTS 7\n
OFF
v 1 2 3\n
f 1 -1 2\n
f 1/2/3 2//4 3\n
'descr': '|O'
(4, 3)
_
#
\\\n
\n\n
\r
\t
\x00
\xff
""".strip().splitlines()
]
Rng = np.random.Generator


def flipped(data: bytes, rng: Rng) -> bytes:
    """Some bits are others."""
    whole = bytearray(data)
    for _ in range(int(rng.integers(1, 9))):
        whole[int(rng.integers(len(whole)))] ^= 1 << int(rng.integers(8))
    return bytes(whole)


def truncated(data: bytes, rng: Rng) -> bytes:
    """The end is missing."""
    return data[: int(rng.integers(len(data)))]


def inserted(data: bytes, rng: Rng) -> bytes:
    """Words stand where none should, more often near the start."""
    for _ in range(int(rng.integers(1, 4))):
        place = int(rng.integers(min(len(data), 600 if rng.random() < 0.7 else len(data)) + 1))
        word = WORDS[int(rng.integers(len(WORDS)))]
        data = data[:place] + word * int(rng.choice([1, 1, 1, 50])) + data[place:]
    return data


def renumbered(data: bytes, rng: Rng) -> bytes:
    """Numbers of the header, or anywhere, are others."""
    places = list(re.finditer(rb"-?\d+(?:\.\d+)?", data[: 1000 if rng.random() < 0.8 else len(data)]))
    for _ in range(int(rng.integers(1, 3))):
        if places:
            found = places.pop(int(rng.integers(len(places))))
            places = [one for one in places if one.end() <= found.start()]
            data = data[: found.start()] + NUMBERS[int(rng.integers(len(NUMBERS)))] + data[found.end() :]
    return data


def moved(data: bytes, rng: Rng) -> bytes:
    """A part is missing, doubled, or set to zeros, ones or noise."""
    start = int(rng.integers(len(data)))
    stop = min(len(data), start + int(rng.integers(1, 200)))
    part = data[start:stop]
    noise = rng.bytes(len(part))
    choices = (b"", part * 2, part * 40, bytes(len(part)), b"\xff" * len(part), noise)
    return data[:start] + choices[int(rng.integers(len(choices)))] + data[stop:]


def lines_moved(data: bytes, rng: Rng) -> bytes:
    """Lines are missing, doubled, or change places."""
    lines = data.split(b"\n")
    for _ in range(int(rng.integers(1, 4))):
        a, b = rng.integers(len(lines), size=2)
        choice = int(rng.integers(3))
        if choice == 0 and len(lines) > 1:
            del lines[int(a)]
        elif choice == 1:
            lines.insert(int(b), lines[int(a)])
        else:
            lines[int(a) % len(lines)], lines[int(b) % len(lines)] = (
                lines[int(b) % len(lines)],
                lines[int(a) % len(lines)],
            )
    return b"\n".join(lines)


DAMAGES: tuple[Callable[[bytes, Rng], bytes], ...] = (flipped, truncated, inserted, renumbered, moved, lines_moved)


def damaged(data: bytes, rng: Rng) -> bytes:
    """One to three kinds of damage, one on the other."""
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        if data:
            data = DAMAGES[int(rng.integers(len(DAMAGES)))](data, rng)
    return data


def rezipped(data: bytes, rng: Rng) -> bytes:
    """An archive whose arrays are damaged but whose checksums are right, or that is damaged itself."""
    if rng.random() < 0.4:
        return damaged(data, rng)
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            content = old.read(entry)
            new.writestr(entry.filename, damaged(content, rng) if rng.random() < 0.6 else content)
    return stream.getvalue()


def good_files(folder: Path) -> dict[str, list[bytes]]:
    """Sound files for each reader; the part before the first dash of a key is the extension."""
    rng = np.random.default_rng(0)
    voxels = PointCloud(rng.integers(0, 1024, (60, 3)).astype(np.int32), 10)
    normals = rng.normal(size=(60, 3))
    real = PointCloud(
        rng.normal(size=(60, 3)).astype(np.float32) * 50,
        normals=(normals / np.linalg.norm(normals, axis=1, keepdims=True)).astype(np.float32),
        colors=rng.integers(0, 256, (60, 3)).astype(np.uint8),
        attributes={"intensity": rng.random(60).astype(np.float32)},
    )

    def written(suffix: str, **options: str) -> list[bytes]:
        files = []
        for cloud in (voxels, real):
            write_cloud(cloud, folder / f"good{suffix}", **options)  # type: ignore[arg-type]
            files.append((folder / f"good{suffix}").read_bytes())
        return files

    def ragged(encoding: str) -> bytes:
        order = ">" if "big" in encoding else "<"
        head = (
            f"ply\nformat {encoding} 1.0\ncomment made\nelement chain 2\nproperty list uchar int item\n"
            "property short w\nelement vertex 4\nproperty float x\nproperty float y\nproperty list int uchar t\n"
            "property double z\nelement face 2\nproperty list uchar int vertex_indices\nend_header\n"
        )
        rows: list[tuple[str, list[float]]] = [("u1", [2]), ("i4", [5, 6]), ("i2", [1]), ("u1", [0]), ("i2", [2])]
        for row in range(4):
            rows += [("f4", [row, row % 2]), ("i4", [row]), ("u1", [7.0] * row), ("f8", [row // 2])]
        rows += [("u1", [3]), ("i4", [0, 1, 2]), ("u1", [4]), ("i4", [0, 1, 2, 3])]
        if encoding == "ascii":
            return head.encode() + "\n".join(" ".join(f"{v:g}" for v in values) for _, values in rows).encode()
        return head.encode() + b"".join(np.array(values).astype(order + kind).tobytes() for kind, values in rows)

    points = real.points.astype("<f4")
    literals = b"".join(
        bytes([len(part) - 1]) + part
        for axis in range(3)
        for part in (points[:, axis].tobytes()[i : i + 32] for i in range(0, 240, 32))
    )
    pcd = (
        "VERSION .7\nFIELDS x y z{extra}\nSIZE 4 4 4{size}\nTYPE F F F{kind}\nCOUNT 1 1 1{count}\n"
        "WIDTH 60\nHEIGHT 1\n"
        "VIEWPOINT 0 0 0 1 0 0 0\nPOINTS 60\nDATA {data}\n"
    )
    plain = {"extra": "", "size": "", "kind": "", "count": ""}
    padded = {"extra": " _ rgb", "size": " 1 4", "kind": " U F", "count": " 3 1"}
    text = "\n".join(" ".join(f"{v:.6g}" for v in row) for row in points)
    padded_text = "\n".join(" ".join(f"{v:.6g}" for v in row) + " 0 0 0 4.2e+06" for row in points)
    archive = io.BytesIO()
    np.savez(archive, xyz=points, rgb=real.colors, loc=np.zeros(3), scale=1.0, label=np.arange(60))
    sweep = np.zeros((60, 5), "<f4")
    sweep[:, :3], sweep[:, 3], sweep[:, 4] = points, rng.integers(0, 256, 60), rng.integers(0, 32, 60)
    square = "0 0 0\n1 0 0\n1 1 0.5\n0 1 0\n"
    ascii_plys, le, be = ("ascii", "binary_little_endian", "binary_big_endian")
    return {
        "ply-ascii": [*written(".ply", encoding=ascii_plys), ragged(ascii_plys)],
        "ply-little": [*written(".ply", encoding=le), ragged(le)],
        "ply-big": [*written(".ply", encoding=be), ragged(be)],
        "pcd-ascii": [
            (pcd.format(data="ascii", **plain) + text).encode(),
            (pcd.format(data="ascii", **padded) + padded_text).encode(),
        ],
        "pcd-binary": [*written(".pcd"), pcd.format(data="binary", **padded).encode() + bytes(60 * 19)],
        "pcd-compressed": [
            pcd.format(data="binary_compressed", **plain).encode()
            + np.array([len(literals), 720], "<u4").tobytes()
            + literals
        ],
        "npy-": written(".npy"),
        "npz-": [*written(".npz"), archive.getvalue()],
        "bin-kitti": written(".bin"),
        "pcd.bin-nuscenes": [sweep.tobytes()],
        "off-": [
            f"OFF\n4 2 0\n{square}3 0 1 2\n3 0 2 3\n".encode(),
            f"OFF4 1 0\n{square}4 0 1 2 3 255 0 0\n".encode(),
            b"OFF # made\n4 2 0\n0 0 0 1 0 0 1 1\n0 0 1 0 3 0 1 2 3 0 2 3",
        ],
        "obj-": [
            b"# made\nv 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0 1 1 1\nvt 0 0\nf 1/1 2/1 3/1\nf 1 3 4\n",
            b"v 0 0 0\nv 1 0 0\nv 1 1 0\nf -3 -2 \\\n-1\nf 1//2 2//2 3//2\n",
        ],
        "ply-mesh": [ragged(ascii_plys), ragged(le), ragged(be)],
    }


@dataclass
class Result:
    """What came of the damaged files of a reader."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest_s: float = 0.0


class _TooSlowError(BaseException):
    """A file took longer than the limit."""


def _stop(*_: object) -> None:
    raise _TooSlowError


def fuzz(reader: str, goods: list[bytes], n_files: int, seed: int, folder: Path) -> Result:
    """Read damaged files; each must be read or refused."""
    suffix, _, kind = reader.rpartition("-")
    is_mesh = suffix in ("off", "obj") or kind == "mesh"
    read: Callable[[Path], object] = read_mesh if is_mesh else read_cloud
    path = folder / f"damaged.{suffix}"
    for good in goods:
        path.write_bytes(good)
        read(path)
    result = Result()
    for number in range(n_files):
        rng = np.random.default_rng([seed, number, *reader.encode()])
        good = goods[int(rng.integers(len(goods)))]
        content = rezipped(good, rng) if suffix == "npz" else damaged(good, rng)
        path.write_bytes(content)
        start = time.perf_counter()
        signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
        try:
            read(path)
            result.counts["read"] += 1
        except CloudError as error:
            result.counts["refused"] += 1
            if len(str(error)) > 1000 or not str(error).isprintable():
                result.faults.append(f"{reader} {seed} {number}: text of {len(str(error))} characters")
        except (_TooSlowError, Exception) as error:
            result.counts["fault"] += 1
            result.faults.append(f"{reader} {seed} {number}: {type(error).__name__}: {str(error)[:200]}")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        result.slowest_s = max(result.slowest_s, time.perf_counter() - start)
    return result


def main() -> int:
    """Fuzz the readers that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=5000, help="a reader")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("readers", nargs="*")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT_BYTES, LIMIT_BYTES))
    signal.signal(signal.SIGALRM, _stop)
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", CloudWarning)
    n_faults = 0
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        for reader, goods in good_files(folder).items():
            if options.readers and reader not in options.readers:
                continue
            result = fuzz(reader, goods, options.files, options.seed, folder)
            counts = ", ".join(f"{count} {what}" for what, count in sorted(result.counts.items()))
            sys.stdout.write(f"{reader}: {counts}; slowest {result.slowest_s:.2f} s\n")
            for fault in result.faults[:5]:
                sys.stdout.write(f"  {fault}\n")
            sys.stdout.flush()
            n_faults += len(result.faults)
    return 1 if n_faults else 0


if __name__ == "__main__":
    sys.exit(main())
