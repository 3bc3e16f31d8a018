"""The choice of thresholds, against brute force."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from pccbench.codecs.deepcompress.cells import cells_of, neighbours_of, points_of
from pccbench.codecs.deepcompress.coding import decode_thresholds, encode_thresholds
from pccbench.codecs.deepcompress.decision import (
    THRESHOLDS,
    Costs,
    blocks_of,
    choose,
    d1_mse,
    levels_of,
    measure,
)
from pccbench.codecs.entropy.rangecoder import SymbolDecoder, SymbolEncoder
from pccbench.codecs.errors import BitstreamError
from pccbench.metrics.distortion import distortion


@pytest.fixture
def scene(surface, rng):
    """Cells of a shell, and logits that are right near it more often than not."""
    cells = cells_of(surface)
    truth = np.unpackbits(cells.bits, axis=1)
    logits = (truth * 4.0 - 2.0 + rng.normal(0, 0.7, truth.shape)).astype(np.float32)
    return cells, neighbours_of(cells.positions), logits


def outcome(cells, logits, threshold):
    return points_of(cells.positions, np.packbits(logits >= threshold, axis=1))


@pytest.mark.parametrize("number", [0, 14, 20, 26])
def test_costs_are_those_of_brute_force(scene, surface, number):
    cells, table, logits = scene
    block, blocks = blocks_of(cells.positions)
    costs = measure(cells, table, levels_of(logits), block, blocks)
    output = outcome(cells, logits, THRESHOLDS[number])
    forward = cKDTree(output).query(surface)[0] ** 2
    back = cKDTree(surface).query(output)[0] ** 2
    # Beyond three voxels the search books a flat rate.
    near, far = np.minimum(forward, 16), np.minimum(back, 16)
    assert (forward > 9).sum() == 0
    assert costs.from_input_sq[:, number].sum() == pytest.approx(near.sum())
    assert costs.from_output_sq[:, number].sum() == pytest.approx(np.where(back > 9, 16, far).sum())
    assert costs.passed[:, number].sum() == len(output)
    assert costs.points == len(surface)


def test_expected_error_is_the_measured_one(scene, surface):
    cells, table, logits = scene
    block, blocks = blocks_of(cells.positions)
    costs = measure(cells, table, levels_of(logits), block, blocks)
    picked = np.full(blocks, 24, np.uint8)
    measured = distortion(surface, outcome(cells, logits, THRESHOLDS[24]), peak=63.0).d1_mse
    assert d1_mse(costs, picked) == pytest.approx(measured, rel=1e-6)


def test_choice_beats_every_single_threshold(scene):
    cells, table, logits = scene
    block, blocks = blocks_of(cells.positions)
    costs = measure(cells, table, levels_of(logits), block, blocks)
    picked = choose(costs, other_bits=1e9)
    single = min(d1_mse(costs, np.full(blocks, t, np.uint8)) for t in range(len(THRESHOLDS)))
    assert d1_mse(costs, picked) <= single * 1.02


def test_normals_change_what_counts(scene):
    cells, table, logits = scene
    block, blocks = blocks_of(cells.positions)
    points = points_of(cells.positions, cells.bits)
    normals = points - np.array([30, 33, 31])
    normals = (normals / np.linalg.norm(normals, axis=1, keepdims=True)).astype(np.float32)
    plain = measure(cells, table, levels_of(logits), block, blocks)
    plane = measure(cells, table, levels_of(logits), block, blocks, normals)
    assert plane.from_input_sq[:, 16].sum() < plain.from_input_sq[:, 16].sum()
    assert (plane.passed == plain.passed).all()


def test_bits_make_thresholds_alike(rng):
    passed = rng.integers(50, 90, (40, 32))
    noisy = Costs(rng.random((40, 32)) * 50, rng.random((40, 32)) * 50, passed, 3000)
    spread = [np.ptp(choose(noisy, other_bits=bits)) for bits in (1e9, 1.0)]
    assert spread[1] < spread[0]


def test_thresholds_come_back(rng):
    picked = np.clip(np.rint(rng.laplace(18, 1.5, 300)), 0, 31).astype(np.uint8)
    encoder = SymbolEncoder()
    encode_thresholds(picked, encoder)
    data = encoder.finish()
    decoder = SymbolDecoder(data)
    assert (decode_thresholds(300, decoder) == picked).all()
    decoder.finish()
    assert len(data) < 300 * 5 / 8


def test_damaged_thresholds_are_an_error(rng):
    for _ in range(50):
        data = rng.integers(1, 256, 12).astype(np.uint8).tobytes()
        try:
            decode_thresholds(40, SymbolDecoder(data))
        except BitstreamError:
            return
    pytest.fail("no damage was noticed")
