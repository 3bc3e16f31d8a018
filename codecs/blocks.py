"""Blocks: cubes cut out of voxelised clouds, packed for training."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .errors import CloudError
from .formats.arrays import read_archive

MAX_BLOCK_SIZE = 256
FORMAT = "pccbench-blocks-1"
#: Names of the files of `bench prepare`: blocks to train on, and blocks of clouds that are not trained on.
TRAINING, HELD_OUT = "train-*.npz", "held-out-*.npz"
_FIELDS = {
    "points": np.dtype(np.uint8),
    "offsets": np.dtype(np.int64),
    "origins": np.dtype(np.int32),
    "sources": np.dtype(np.int32),
}


@dataclass(frozen=True, eq=False)
class Blocks:
    """Occupied voxels of n cubes of `size` voxels a side.

    Attributes:
        size: voxels a side, at most 256.
        points: (p, 3) uint8 coordinates inside the cubes, one cube after the other, z fastest; no repeats in a cube.
        offsets: (n + 1,) int64; cube i owns `points[offsets[i]:offsets[i + 1]]`.
        origins: (n, 3) int32 place of each cube in its cloud, a multiple of `size`.
        sources: (n,) int32 number of the cloud that each cube was cut from.
    """

    size: int
    points: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]
    origins: npt.NDArray[np.int32]
    sources: npt.NDArray[np.int32]

    def __post_init__(self) -> None:
        n = len(self.origins)
        if not 1 <= self.size <= MAX_BLOCK_SIZE:
            raise CloudError(f"block size must be 1 to {MAX_BLOCK_SIZE}, got {self.size}")
        if self.points.ndim != 2 or self.points.shape[1] != 3 or self.points.dtype != np.uint8:
            raise CloudError(f"block points must be (p, 3) uint8, got {self.points.shape} {self.points.dtype}")
        if self.offsets.shape != (n + 1,) or self.sources.shape != (n,) or self.origins.shape != (n, 3):
            raise CloudError(
                f"{n} blocks need {n + 1} offsets, {n} sources and ({n}, 3) origins, got "
                f"{self.offsets.shape}, {self.sources.shape}, {self.origins.shape}"
            )
        steps = np.diff(self.offsets)
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.points) or (n and int(steps.min()) < 0):
            raise CloudError(f"block offsets do not run from 0 to {len(self.points)}")
        if len(self.points) and int(self.points.max()) >= self.size:
            raise CloudError(f"block coordinate {int(self.points.max())} is outside a block of {self.size}")

    def __len__(self) -> int:
        """Number of cubes."""
        return len(self.origins)

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Points of each cube, (n,)."""
        return np.diff(self.offsets)

    def block(self, index: int) -> npt.NDArray[np.uint8]:
        """Coordinates of one cube, (m, 3)."""
        return self.points[self.offsets[index] : self.offsets[index + 1]]

    def occupancy(self, index: Sequence[int] | npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
        """Dense cubes, (k, size, size, size), axes x, y, z."""
        out = np.zeros((len(index), self.size, self.size, self.size), np.bool_)
        for row, which in enumerate(index):
            x, y, z = self.block(int(which)).T
            out[row, x, y, z] = True
        return out

    def take(self, index: npt.NDArray[np.integer]) -> Blocks:
        """The cubes that `index` (integers) names, in that order."""
        index = np.asarray(index, np.int64)
        counts = self.counts[index]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        rows = np.arange(offsets[-1]) + np.repeat(self.offsets[index] - offsets[:-1], counts)
        return Blocks(self.size, self.points[rows], offsets, self.origins[index], self.sources[index])

    def largest(self, n: int) -> Blocks:
        """The n cubes with the most points, most first; equal ones stay in their order."""
        return self.take(np.argsort(-self.counts, kind="stable")[:n])

    def save(self, path: Path) -> None:
        """Write an npz file; same cubes, same bytes."""
        path.write_bytes(self.to_bytes())

    def to_bytes(self) -> bytes:
        """The npz file as bytes, without time stamps."""
        stream = io.BytesIO()
        arrays = {
            "format": np.frombuffer(FORMAT.encode(), np.uint8),
            "size": np.array([self.size], np.int32),
            **{name: getattr(self, name) for name in _FIELDS},
        }
        with zipfile.ZipFile(stream, "w") as archive:
            for name, array in arrays.items():
                member = io.BytesIO()
                np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
                entry = zipfile.ZipInfo(f"{name}.npy")  # its time is fixed: 1980
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, member.getvalue(), compresslevel=6)
        return stream.getvalue()

    @classmethod
    def load(cls, path: Path) -> Blocks:
        """Read what `save` wrote.

        Raises:
            CloudError: the file cannot be read or does not hold blocks.
        """
        try:
            arrays = read_archive(path.read_bytes())
            found = arrays.pop("format", np.zeros(0, np.uint8)).tobytes().decode(errors="replace")
            if found != FORMAT:
                raise CloudError(f"expected blocks in format {FORMAT}, got {found[:40]!r}")
            missing = [name for name in ("size", *_FIELDS) if name not in arrays]
            if missing or arrays["size"].shape != (1,):
                raise CloudError(f"no {', '.join(missing) or 'single size'} among its arrays")
            kinds = {name: arrays[name].dtype for name in _FIELDS}
            if kinds != _FIELDS:
                raise CloudError(f"arrays of types {kinds}, expected {_FIELDS}")
            return cls(int(arrays["size"][0]), *(arrays[name] for name in _FIELDS))
        except OSError as error:
            raise CloudError(f"{path}: cannot be read: {error.strerror or error}") from error
        except CloudError as error:
            raise CloudError(f"{path}: {error}") from None

    @classmethod
    def of_folder(cls, folder: Path, pattern: str) -> Blocks | None:
        """All cubes of the files of `bench prepare` that match `TRAINING` or `HELD_OUT`; None if there are none.

        Raises:
            CloudError: a file cannot be read, or does not hold blocks of the size of the others.
        """
        files = sorted(folder.glob(pattern))
        return cls.join([cls.load(path) for path in files]) if files else None

    @classmethod
    def join(cls, parts: Sequence[Blocks]) -> Blocks:
        """All cubes of several sets, which must be of one size.

        Raises:
            CloudError: no parts, or of different sizes.
        """
        sizes = {part.size for part in parts}
        if len(sizes) != 1:
            raise CloudError(f"expected blocks of one size, got sizes {sorted(sizes)}")
        counts = np.concatenate([part.counts for part in parts])
        return cls(
            sizes.pop(),
            np.concatenate([part.points for part in parts]),
            np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]),
            np.concatenate([part.origins for part in parts]),
            np.concatenate([part.sources for part in parts]),
        )


def cut(points: npt.NDArray[np.integer], size: int, *, source: int = 0) -> Blocks:
    """Cut a voxelised cloud into the cubes of an octree level.

    Args:
        points: (n, 3) integers in [0, 2**21); repeats are merged.
        size: voxels a side.
        source: number of the cloud, kept with each cube.

    Returns:
        All occupied cubes, in the order of their origins (x slowest); their points are the cloud's points.

    Raises:
        CloudError: a coordinate outside [0, 2**21), or a size outside 1..256.
    """
    if not 1 <= size <= MAX_BLOCK_SIZE:
        raise CloudError(f"block size must be 1 to {MAX_BLOCK_SIZE}, got {size}")
    points = np.asarray(points, np.int64)
    if len(points) and (int(points.min()) < 0 or int(points.max()) >= 1 << 21):
        raise CloudError(f"coordinates {int(points.min())}..{int(points.max())} are outside 0..{(1 << 21) - 1}")
    per_side = int(points.max()) // size + 1 if len(points) else 1
    cell = points // size
    inside = points - cell * size
    # One key a voxel, its cube first: below (2**21 + 255)**3, hence in 64 bits.
    key = ((cell[:, 0] * per_side + cell[:, 1]) * per_side + cell[:, 2]).astype(np.uint64) * np.uint64(size**3)
    key += ((inside[:, 0] * size + inside[:, 1]) * size + inside[:, 2]).astype(np.uint64)
    key.sort()
    if len(key):
        key = key[np.concatenate([[True], key[1:] != key[:-1]])]
    cube = (key // np.uint64(size**3)).astype(np.int64)
    local = (key % np.uint64(size**3)).astype(np.int64)
    starts = np.flatnonzero(np.concatenate([[True], cube[1:] != cube[:-1]])) if len(cube) else np.zeros(0, np.int64)
    cubes = cube[starts]
    coordinates = np.stack([local // size**2, local // size % size, local % size], axis=1)
    origins = np.stack([cubes // per_side**2, cubes // per_side % per_side, cubes % per_side], axis=1) * size
    return Blocks(
        size,
        coordinates.astype(np.uint8),
        np.append(starts, len(cube)).astype(np.int64),
        origins.astype(np.int32),
        np.full(len(cubes), source, np.int32),
    )
