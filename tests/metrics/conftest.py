"""Clouds and files that the tests of metrics share."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from plyfile import PlyData

_PLY_TYPES = {"float32": "float", "float64": "double", "int32": "int32"}


def read_ply(path: Path):
    """Points and normals (or None) of a PLY file; read independently of the package."""
    vertex = PlyData.read(path)["vertex"]
    points = np.stack([np.asarray(vertex[name]) for name in "xyz"], axis=1)
    if "nx" not in vertex.data.dtype.names:
        return points, None
    return points, np.stack([np.asarray(vertex[name]) for name in ("nx", "ny", "nz")], axis=1)


def write_ply(path: Path, points, normals=None) -> Path:
    """A binary PLY as pc_error reads it."""
    points = np.asarray(points)
    columns = {name: points[:, axis] for axis, name in enumerate("xyz")}
    if normals is not None:
        columns |= {f"n{name}": np.asarray(normals, np.float32)[:, axis] for axis, name in enumerate("xyz")}
    rows = np.empty(len(points), [(name, column.dtype) for name, column in columns.items()])
    for name, column in columns.items():
        rows[name] = column
    header = "".join(f"property {_PLY_TYPES[column.dtype.name]} {name}\n" for name, column in columns.items())
    path.write_bytes(
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n{header}end_header\n".encode()
        + rows.tobytes()
    )
    return path


def unit_vectors(generator, n):
    vectors = generator.normal(size=(n, 3))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def voxel_surface(generator, n=4000, size=60):
    """Voxels of a wavy sheet: clouds like a scanned figure, on a small scale."""
    u, v = generator.random((2, n)) * size
    w = size / 2 + size / 5 * np.sin(u / 9) * np.cos(v / 7)
    return np.unique(np.stack((u, v, w), axis=1).astype(np.int32), axis=0)


@pytest.fixture
def generator():
    return np.random.default_rng(20)


@pytest.fixture(scope="session")
def clouds():
    """The functions above; test modules cannot import each other."""
    return SimpleNamespace(
        read_ply=read_ply, write_ply=write_ply, unit_vectors=unit_vectors, voxel_surface=voxel_surface
    )
