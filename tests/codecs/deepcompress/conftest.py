import numpy as np
import pytest

torch = pytest.importorskip("torch")


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def surface():
    """A wavy shell of about 9,000 voxels."""
    span = np.arange(64)
    x, y, z = np.meshgrid(span, span, span, indexing="ij")
    radius = np.sqrt((x - 30) ** 2 + (y - 33) ** 2 + (z - 31) ** 2)
    inside = np.abs(radius - 24 - 2 * np.sin(x / 5) * np.cos(y / 7)) < 0.6
    return np.argwhere(inside).astype(np.int32)
