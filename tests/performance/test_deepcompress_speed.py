"""What the seed's optimisations are worth here: each against the plain version, as ratios measured in one run.

Run with `pytest tests/performance`; the ratios are in the `extra_info` of the benchmark's JSON and in its table.
"""

import time

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from pccbench.codecs.deepcompress.cells import cells_of  # noqa: E402
from pccbench.codecs.deepcompress.priors import HEADS, HIDDEN, WindowAttention  # noqa: E402
from pccbench.codecs.deepcompress.structure import structure_of  # noqa: E402
from pccbench.codecs.entropy.gaussian import ScaleTable, scale_table  # noqa: E402


def seconds(function, repeats=3):
    """Best of a few, after a warm-up."""
    function()
    best = np.inf
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - started)
    return best


@pytest.fixture(scope="module")
def structure():
    span = np.arange(160)
    x, y, z = np.meshgrid(span, span, span, indexing="ij")
    shell = np.argwhere(np.abs(np.sqrt((x - 80) ** 2 + (y - 80) ** 2 + (z - 80) ** 2) - 76) < 0.6).astype(np.int32)
    positions = cells_of(shell).positions
    return structure_of(positions, np.full(len(positions), 30))


def test_scale_lookup(benchmark):
    """Binary search over the table against the distance to each of its 64 entries."""
    table = ScaleTable(scale_table())
    scales = np.exp(np.random.default_rng(0).normal(0, 2, 200_000))

    def plain():
        return np.argmin(np.abs(scales[:, None] - table.values), axis=1)

    assert (table.index(scales) == plain()).all()
    ratio = seconds(plain) / seconds(lambda: table.index(scales))
    benchmark.extra_info.update(plain_over_fast=ratio, memory_ratio=len(table.values))
    benchmark(table.index, scales)
    assert ratio > 2


def test_causal_masks(benchmark, structure):
    """Comparing the order of all neighbours at once against a loop over cells and taps."""
    order = structure.raster_step()

    def plain():
        near, place = structure.neighbours.numpy(), order.numpy()
        out = np.full(near.shape, -1)
        for i in range(len(near)):
            for tap in range(near.shape[1]):
                j = near[i, tap]
                if j >= 0 and place[j] < place[i]:
                    out[i, tap] = j
        return out

    assert (structure.known_neighbours(order).numpy() == plain()).all()
    ratio = seconds(plain, 1) / seconds(lambda: structure.known_neighbours(order))
    benchmark.extra_info.update(plain_over_fast=ratio)
    benchmark(structure.known_neighbours, order)
    assert ratio > 5


def test_windowed_attention(benchmark, structure):
    """Attention in windows of 4**3 cells against attention of every cell to every other."""
    attention = WindowAttention(HIDDEN).eval()
    x = torch.randn(len(structure), HIDDEN)
    inside = torch.from_numpy(structure.positions % 4).long() @ torch.tensor([1, 4, 16])

    @torch.no_grad()
    def plain():
        h = torch.relu(x) + attention.place(inside)
        q, k, v = (
            layer(h).view(len(h), HEADS, -1).transpose(0, 1)
            for layer in (attention.query, attention.key, attention.value)
        )
        weights = torch.softmax(q @ k.transpose(1, 2) * 0.25, -1)
        return attention.out((weights @ v).transpose(0, 1).reshape(len(h), -1))

    @torch.no_grad()
    def windowed():
        return attention(x, structure)

    assert plain().shape == windowed().shape
    windows, most = structure.windows.shape
    benchmark.extra_info.update(
        cells=len(structure),
        plain_over_fast=seconds(plain) / seconds(windowed),
        memory_ratio=len(structure) ** 2 / (windows * most**2),
    )
    benchmark(windowed)
    assert benchmark.extra_info["memory_ratio"] > 5
