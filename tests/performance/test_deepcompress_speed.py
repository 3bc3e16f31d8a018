"""What the seed's optimisations are worth here: each against the plain version, as ratios measured in one run.

Run with `pytest tests/performance`; the ratios are in the `extra_info` of the benchmark's JSON and in its table.
Memory is the kernel's high-water mark of this process, never a formula.
"""

import gc
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from pccbench.codecs.deepcompress.cells import cells_of  # noqa: E402
from pccbench.codecs.deepcompress.priors import HEADS, HIDDEN, TAPS, ChannelPrior, WindowAttention  # noqa: E402
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


def added_mb(function):
    """Peak resident MiB beyond what there was before, of one call after a warm-up; None where it is not told."""
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not clear.exists():
        return None
    function()
    gc.collect()
    clear.write_text("5")  # the high-water mark starts again
    before = kilobytes(status, "VmRSS")
    kept = function()
    peak = kilobytes(status, "VmHWM")
    del kept
    return max(0.0, (peak - before) / 1024)


def kilobytes(path, name):
    (line,) = [line for line in path.read_text().splitlines() if line.startswith(f"{name}:")]
    return int(line.split()[1])


def memory(plain, ours):
    """Figures for `extra_info`."""
    figures = {"plain_mb": added_mb(plain), "ours_mb": added_mb(ours)}
    if not figures["plain_mb"]:
        return figures
    return {**figures, "memory_saved_pct": 100 * (1 - figures["ours_mb"] / figures["plain_mb"])}


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
    benchmark.extra_info.update(plain_over_fast=ratio, **memory(plain, lambda: table.index(scales)))
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
    benchmark.extra_info.update(
        cells=len(structure), plain_over_fast=seconds(plain) / seconds(windowed), **memory(plain, windowed)
    )
    benchmark(windowed)


def test_groups_before_a_pass(benchmark):
    """The seed's "25 % less memory": a pass looks at the groups before it alone, not at all channels, masked."""
    # Large enough that the allocator gives back what is freed, and the high-water mark tells one call from another.
    x, y = np.meshgrid(np.arange(160), np.arange(160), indexing="ij")
    cells = np.stack([x.ravel(), y.ravel(), x.ravel() // 2], 1).astype(np.int32)
    structure = structure_of(cells, np.full(len(cells), 30))
    prior = ChannelPrior(24).eval()
    known = torch.randn(len(structure), prior.latent_channels)
    features = torch.randn(len(structure), HIDDEN)

    @torch.no_grad()
    def ours():
        return [prior.parameters_of(one, structure, features, known) for one in prior.passes(structure)]

    wide = [torch.zeros(HIDDEN, TAPS, prior.latent_channels) for _ in prior.contexts]
    for weight, layer, group in zip(wide, prior.contexts, prior.groups[1:], strict=True):
        weight[:, :, : group.start] = layer.weight.view(HIDDEN, TAPS, group.start).detach()

    @torch.no_grad()
    def plain():
        found = []
        for one in prior.passes(structure):
            x = features
            if one.number:
                masked = torch.zeros_like(known)
                masked[:, : one.channels.start] = known[:, : one.channels.start]
                padded = torch.cat([masked, masked.new_zeros(1, masked.shape[1])])
                around = padded[structure.neighbours].reshape(len(masked), -1)
                x = x + around @ wide[one.number - 1].reshape(HIDDEN, -1).T + prior.contexts[one.number - 1].bias
            found.append(prior.heads[one.number](x))
        return found

    for one, other in zip(plain(), ours(), strict=True):
        torch.testing.assert_close(one.mean, other.mean, rtol=1e-3, atol=1e-4)
    benchmark.extra_info.update(plain_over_fast=seconds(plain) / seconds(ours), **memory(plain, ours))
    benchmark(ours)


def test_constants(benchmark):
    """The seed's "5 % faster": nats to bits by a constant, against its logarithm taken at each call."""
    nats = torch.rand(200_000)
    constant = 1 / np.log(2)

    def ours():
        return (nats * constant).sum()

    def plain():
        return (nats / torch.log(torch.tensor(2.0))).sum()

    torch.testing.assert_close(ours(), plain())
    benchmark.extra_info.update(plain_over_fast=seconds(plain, 200) / seconds(ours, 200))
    benchmark(ours)
