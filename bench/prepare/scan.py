"""Scan: a mesh seen as a scanner's voxelised cloud - sampled by area, scaled, folded, noisy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...codecs.errors import CloudError
from ...codecs.formats.mesh import Mesh

Points = npt.NDArray[np.float64]
Voxels = npt.NDArray[np.int32]

MAX_SAMPLES = 16_000_000
#: Voxels that a cloud may reach along an axis: 12 bits.
_MAX_EXTENT = 4096
#: Standard deviations of the noise, voxels, and how often each is drawn.
_NOISES, _NOISE_SHARES = (0.0, 0.1, 0.2, 0.35), (0.35, 0.3, 0.2, 0.15)


@dataclass(frozen=True)
class Wave:
    """A sinusoidal displacement: `amplitude * direction * sin(2 pi (p . along) / wavelength + phase)`, in voxels."""

    wavelength: float
    amplitude: float
    along: tuple[float, float, float]
    direction: tuple[float, float, float]
    phase: float


@dataclass(frozen=True)
class Scan:
    """How a mesh becomes a cloud.

    Attributes:
        longest_axis: extent of the mesh's longest axis, voxels.
        samples_per_area: samples for each square voxel of surface.
        samples: samples of the whole surface, instead.
        rotation: rows of a rotation matrix, applied before scaling.
        waves: displacements that fold the surface, one after the other.
        noise: standard deviation of white noise on the samples, voxels.
        shift: voxels by which the cloud lies off the corner of its grid, so that blocks cut it anywhere.
    """

    longest_axis: float
    samples_per_area: float = 5.0
    rotation: tuple[tuple[float, float, float], ...] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    waves: tuple[Wave, ...] = ()
    noise: float = 0.0
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    samples: int | None = None


def random_rotation(rng: np.random.Generator) -> tuple[tuple[float, float, float], ...]:
    """A rotation, uniform over all (from a random quaternion)."""
    w, x, y, z = (q := rng.standard_normal(4)) / np.sqrt(q @ q)
    matrix = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return tuple((float(a), float(b), float(c)) for a, b, c in matrix)


def _direction(rng: np.random.Generator) -> tuple[float, float, float]:
    x, y, z = (v := rng.standard_normal(3)) / np.sqrt(v @ v)
    return float(x), float(y), float(z)


def random_waves(rng: np.random.Generator, most: int = 6) -> tuple[Wave, ...]:
    """0 to `most` displacements of wavelength 10-150 voxels and amplitude 0.5-7 % of it (both log-uniform)."""
    waves = []
    for _ in range(int(rng.integers(0, most + 1))):
        wavelength = float(np.exp(rng.uniform(np.log(10.0), np.log(150.0))))
        amplitude = wavelength * float(np.exp(rng.uniform(np.log(0.005), np.log(0.07))))
        phase = float(rng.uniform(0.0, 2.0 * np.pi))
        waves.append(Wave(wavelength, amplitude, _direction(rng), _direction(rng), phase))
    return tuple(waves)


def random_scan(rng: np.random.Generator, longest_axis: tuple[float, float]) -> Scan:
    """A scan as varied as scans of people and things on a 10-bit grid are.

    Args:
        rng: source of all choices.
        longest_axis: smallest and largest extent, voxels.
    """
    noise = float(rng.choice(_NOISES, p=_NOISE_SHARES))
    # Dense AND noisy would make a thicker surface than scans show: 3.4 to 4.1 voxels a voxel of twice the side.
    densest = 10.0 if noise < 0.2 else 5.0
    return Scan(
        longest_axis=float(rng.uniform(*longest_axis)),
        samples_per_area=float(np.exp(rng.uniform(np.log(2.5), np.log(densest)))),
        rotation=random_rotation(rng),
        waves=random_waves(rng),
        noise=noise,
        shift=tuple(float(v) for v in rng.uniform(0.0, 64.0, 3)),  # type: ignore[arg-type]
    )


def sample(mesh: Mesh, n: int, rng: np.random.Generator) -> Points:
    """N points on the surface, each triangle with a share in proportion to its area; (n, 3).

    Raises:
        CloudError: the mesh has no area.
    """
    from .surface import sample_points

    return sample_points(_corners(mesh), _shares(mesh, n, rng), rng)


def voxelised(mesh: Mesh, scan: Scan, rng: np.random.Generator) -> Voxels:
    """The cloud of a scan: (n, 3) int32 in the order x, y, z, without repeats, all coordinates at least 0.

    Raises:
        CloudError: the mesh has no extent or no area, or the cloud would not fit 12 bits.
    """
    from .surface import mark, marked

    placed = _placed(mesh, scan)
    wanted = scan.samples or scan.samples_per_area * float(placed.areas().sum())
    n = int(min(MAX_SAMPLES, max(1.0, wanted)))
    # Waves and noise move samples off the mesh, by no more than this.
    margin = float(np.ceil(sum(wave.amplitude for wave in scan.waves) + 6.0 * scan.noise))
    shift = np.array(scan.shift) + margin
    far = placed.vertices[np.unique(placed.faces)].max(axis=0) + shift + margin
    if float(far.max()) >= _MAX_EXTENT:
        raise CloudError(f"the cloud would reach {float(far.max()):,.0f} voxels, expected below {_MAX_EXTENT:,}")
    rows = np.array(
        [[2.0 * np.pi / w.wavelength, w.phase, w.amplitude, *w.along, *w.direction] for w in scan.waves]
    ).reshape(-1, 9)
    side = (far.astype(np.int64) + 2 + 63) // 64
    grid = np.zeros((int(side[0]) * 64, int(side[1]) * 64, int(side[2])), np.uint64)
    mark(grid, _corners(placed), _shares(placed, n, rng), rows, scan.noise, shift, rng)
    return marked(grid)


def _placed(mesh: Mesh, scan: Scan) -> Mesh:
    """The mesh turned and scaled, its lowest corner at the origin."""
    own = mesh.vertices[np.unique(mesh.faces)]
    # The longest axis is the mesh's own, so that a rotation does not change its size.
    extent = float((own.max(axis=0) - own.min(axis=0)).max())
    if not extent > 0:
        raise CloudError("the mesh has no extent")
    turned = mesh.vertices @ np.array(scan.rotation).T
    low = (own @ np.array(scan.rotation).T).min(axis=0)
    return Mesh((turned - low) * ((scan.longest_axis - 1.0) / extent), mesh.faces)


def _shares(mesh: Mesh, n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Samples of each triangle, (f,), together n."""
    areas = mesh.areas()
    total = float(areas.sum())
    if not total > 0:
        raise CloudError("the mesh has no area, so that nothing can be sampled on it")
    return rng.multinomial(n, areas / total)


def _corners(mesh: Mesh) -> npt.NDArray[np.float64]:
    """(f, 3, 3) corners of each triangle."""
    return np.ascontiguousarray(mesh.vertices[mesh.faces])
