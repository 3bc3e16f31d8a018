"""The real pc_error on clouds of every kind that decides something in its code: the same text comes out.

Clouds of fewer than 10 points are left out: there pc_error goes on with neighbours that it has not found, and prints
what happens to lie in memory.
"""

import itertools
import math
import subprocess

import numpy as np
import pytest

from pccbench.metrics.distortion import distortion
from pccbench.metrics.transcript import transcribe


def lattice_shell(square):
    """Integer points at one distance from the origin: more than the 30 that pc_error takes."""
    axis = np.arange(-12, 13)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    return points[(points**2).sum(axis=1) == square]


def pairs(clouds):
    """Name, input, decoded cloud, peak."""
    generator = np.random.default_rng(11)

    def cube(n, low=0, high=20):
        return generator.integers(low, high, (n, 3)).astype(np.int32)

    single = np.float32  # pc_error holds coordinates in it
    surface = clouds.voxel_surface(generator)
    yield "integers with ties and repeats", cube(2000, 0, 12), cube(900, 0, 6) * 2, 1023
    yield "negative coordinates", cube(1500, -20), cube(1200, -20).astype(np.float32), 255
    yield "repeats in the input", np.repeat(surface, 2, axis=0)[::-1], surface // 2 * 2, 63
    yield "repeats in the decoded cloud", np.unique(surface, axis=0), np.r_[surface // 4 * 4, surface // 2 * 2], 63
    yield "surface, every second voxel", surface, np.unique(surface // 2 * 2, axis=0), 63
    yield "surface, every eighth voxel", surface, np.unique(surface // 8 * 8, axis=0), None
    yield "surface at 3/4 scale", surface.astype(float), np.unique(np.round(surface * 0.75), axis=0) / 0.75, 59.7
    yield "far apart", cube(1600, 0, 60), cube(30, 0, 3) * 24, 1023
    yield "outliers", surface, np.r_[surface // 2 * 2, [[500, -300, 20], [2000, 2000, 2000]]].astype(np.int32), 63
    yield "wide grid", cube(2000, 0, 1 << 21), cube(1500, 0, 1 << 21), (1 << 21) - 1
    yield "identical", surface, surface[::-1], 63
    yield "uniform", single(generator.random((2000, 3)) * 9), single(generator.random((1500, 3)) * 9), 1
    yield (
        "normal",
        single(generator.normal(size=(1500, 3)) * 100),
        single(generator.normal(size=(2000, 3)) * 90),
        None,
    )
    noisy = generator.normal(size=(1500, 3)).astype(np.float32)
    yield "noisy copy", noisy, (noisy + generator.normal(size=noisy.shape) * 0.01).astype(np.float32), None
    far_off = (generator.random((1500, 3)) * 100 + 5e5).astype(np.float32)
    yield "far from the origin", far_off, far_off + generator.normal(size=far_off.shape).astype(np.float32), 100
    spread = single(surface * np.exp(surface[:, :1] / 10))
    yield "uneven density", spread, single(spread + generator.normal(size=spread.shape) * 0.1), None
    aside = np.array([40, 0, 0])
    for square in (14, 41, 81, 101):
        shell = lattice_shell(square)
        few = np.r_[[[0, 0, 0]], shell[:20] + aside, cube(30, 30, 60)].astype(np.int32)
        many = np.r_[generator.permutation(shell), shell + aside].astype(np.int32)
        yield f"{len(shell)} decoded points at one distance", few, many, 63
        yield f"{len(shell)} points of the input at one distance", many, few, None
        yield f"{len(shell)} at one distance, halves", few * 0.5 + 0.25, many * 0.5 + 0.25, 63


def run(pc_error, clouds, folder, points, normals, decoded, peak):
    """What pc_error prints of the pair, from the peak on."""
    command = [
        pc_error,
        f"--fileA={clouds.write_ply(folder / 'a.ply', points, normals)}",
        f"--fileB={clouds.write_ply(folder / 'b.ply', decoded)}",
        "--hausdorff=1",
    ]
    if peak is not None:
        command.append(f"--resolution={peak}")
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = text[max(text.find("Imported"), text.find("Minimum")) :].splitlines()
    return [line for line in lines if not line.startswith(("Calculate D2", "Job done", " WARNING"))]


def same(ours, theirs):
    """Equal text, or numbers that differ in the last digit: pc_error's threads add in any order."""
    if ours == theirs:
        return True
    (name, _, values), (their_name, _, their_values) = ours.partition(": "), theirs.partition(": ")
    numbers = zip(values.split(", "), their_values.split(", "), strict=True)
    return name == their_name and all(math.isclose(float(a), float(b), rel_tol=1e-8) for a, b in numbers)


def check(pc_error, clouds, folder, *pair):
    points, normals, decoded, peak = pair
    ours = transcribe(distortion(points, decoded, normals=normals, peak=peak)).splitlines()
    theirs = run(pc_error, clouds, folder, *pair)
    for line, their_line in itertools.zip_longest(ours, theirs):
        assert same(line or "", their_line or ""), (line, their_line)


def test_same_text_as_pc_error(pc_error, clouds, tmp_path):
    generator = np.random.default_rng(3)
    for number, (name, points, decoded, peak) in enumerate(pairs(clouds)):
        normals = clouds.unit_vectors(generator, len(points))
        try:
            check(pc_error, clouds, tmp_path, points, normals, decoded, peak)
            if number % 3 == 0:
                check(pc_error, clouds, tmp_path, points, None, decoded, peak)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error


def test_same_text_as_pc_error_on_lidar_sweeps(pc_error, clouds, shared, tmp_path):
    sweeps = sorted((shared / "data" / "SemanticKITTI").rglob("velodyne/*.bin"))
    if len(sweeps) < 2:
        pytest.skip("no SemanticKITTI sweeps in the shared folder")
    first, second = (np.fromfile(path, np.float32).reshape(-1, 4)[::4, :3].copy() for path in sweeps[:2])
    normals = clouds.unit_vectors(np.random.default_rng(3), len(first))
    check(pc_error, clouds, tmp_path, first, normals, np.round(first / 0.02) * np.float32(0.02), None)
    check(pc_error, clouds, tmp_path, first, normals, second, 59.7)
    millimetres = np.round(first * 1000).astype(np.int32)
    check(pc_error, clouds, tmp_path, millimetres, normals, millimetres // 16 * 16, 30000)
