"""Conditional distributions: look-up of scales, likelihoods, tables, the mean's two ways."""

import numpy as np
import pytest
import torch
from scipy import stats

from pccbench.codecs.entropy.gaussian import GaussianConditional, ScaleTable, scale_table
from pccbench.codecs.entropy.rangecoder import SymbolDecoder, SymbolEncoder

#: The table of DeepCompress' README: 64 entries, four to an octave.
README_TABLE = 0.01 * 2.0 ** (np.arange(64) / 4)
DISTRIBUTIONS = {"gaussian": stats.norm, "logistic": stats.logistic, "laplace": stats.laplace}


def brute_force(table: np.ndarray, scales: np.ndarray) -> np.ndarray:
    found = np.empty(len(scales), np.int64)
    for start in range(0, len(scales), 100_000):
        part = scales[start : start + 100_000]
        found[start : start + 100_000] = np.abs(table - part[:, None]).argmin(axis=1)
    return found


@pytest.mark.parametrize("table", [README_TABLE, scale_table(), np.array([0.5, 1.0, 1.5, 4.0, 8.0])])
def test_look_up_is_the_brute_force_nearest_also_at_ties(table):
    rng = np.random.default_rng(0)
    middle = (table[:-1] + table[1:]) / 2
    near = np.concatenate([middle, np.nextafter(middle, 0), np.nextafter(middle, np.inf), table])
    outside = np.array([0.0, table[0] / 9, table[-1] * 9, 1e6])
    scales = np.exp(rng.uniform(np.log(table[0] / 2), np.log(table[-1] * 2), 1_000_000))
    scales[: len(near)] = near
    scales[len(near) : len(near) + len(outside)] = outside
    lookup = ScaleTable(table)
    expected = brute_force(table, scales)
    assert (lookup.index(scales) == expected).all()
    single = scales.astype(np.float32)[:100_000]
    assert (lookup.index(single) == brute_force(table, single.astype(np.float64))).all()
    conditional = GaussianConditional(table)
    assert (conditional.index_of_scale(torch.from_numpy(scales)).numpy() == expected).all()


def test_exact_ties_go_to_the_lower_entry():
    assert ScaleTable(np.array([1.0, 2.0, 4.0])).index(np.array([1.5, 3.0])).tolist() == [0, 1]


def test_a_table_that_does_not_rise_is_refused():
    with pytest.raises(ValueError, match="rising"):
        ScaleTable(np.array([1.0, 1.0]))
    with pytest.raises(ValueError, match="low < high"):
        scale_table(2.0, 1.0)


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_likelihood_is_the_mass_of_the_interval(kind):
    conditional = GaussianConditional(kind=kind).eval()
    rng = np.random.default_rng(1)
    scale, mean = rng.uniform(0.2, 20, 2000), rng.uniform(-10, 10, 2000)
    y = mean + scale * rng.uniform(-3, 3, 2000)
    got = conditional.likelihood(*(torch.from_numpy(v) for v in (y, scale, mean))).numpy()
    distribution = DISTRIBUTIONS[kind](mean, scale)
    assert got == pytest.approx(distribution.cdf(y + 0.5) - distribution.cdf(y - 0.5), rel=1e-3, abs=1e-7)


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_tables_are_the_masses(kind):
    conditional = GaussianConditional(scale_table(0.2, 30, 9), kind=kind, mean_steps=4)
    tables = conditional.tables()
    assert len(tables) == 36
    for index in range(36):
        scale, mean = conditional.table.values[index // 4], index % 4 / 4
        symbols = tables.minimum[index] + np.arange(tables.sizes[index] - 1)
        distribution = DISTRIBUTIONS[kind](mean, scale)
        expected = distribution.cdf(symbols + 0.5) - distribution.cdf(symbols - 0.5)
        got = tables.frequencies[index, : tables.sizes[index]] / 65536
        # Rounded to 2**-16, with every entry raised to at least that.
        assert np.abs(got[:-1] - expected).max() < 2.0**-15 + 2e-5 * tables.sizes[index] * expected.max()
        assert 1 - expected.sum() <= 2.0**-12.9
        # All integers together, escaped ones included, cost what the entropy says.
        reach = np.arange(-2000, 2001)
        upper = np.where(reach > mean, distribution.sf(reach - 0.5), distribution.cdf(reach + 0.5))
        lower = np.where(reach > mean, distribution.sf(reach + 0.5), distribution.cdf(reach - 0.5))
        mass = np.maximum(upper - lower, 1e-300)
        entropy = -(mass * np.log2(mass)).sum()
        assert entropy <= (mass * tables.bits(reach, index)).sum() <= 1.001 * entropy + 1e-4


@pytest.mark.parametrize("kind", ["gaussian", "logistic"])
@pytest.mark.parametrize("mean_steps", [1, 8])
def test_estimated_and_real_bits_agree(kind, mean_steps):
    conditional = GaussianConditional(kind=kind, mean_steps=mean_steps).eval()
    n = 20_000
    draws = torch.Generator().manual_seed(0)
    place = torch.rand(n, generator=draws) * 45 + 10
    scales = conditional.scale_of(place)
    means = torch.randn(n, generator=draws) * 30
    y = means + scales * torch.from_numpy(DISTRIBUTIONS[kind].rvs(size=n, random_state=1)).float()
    y_hat, likelihood = conditional(y, scales, means)
    scale_index = conditional.index_of_place(place)
    if mean_steps == 1:
        symbols, index = torch.round(y - means), conditional.table_index(scale_index)
    else:
        whole, fraction = conditional.split_mean(means)
        symbols, index = torch.round(y) - whole, conditional.table_index(scale_index, fraction)
    tables = conditional.tables()
    encoder = SymbolEncoder()
    encoder.put(symbols.to(torch.int32).numpy(), tables, index)
    data = encoder.finish()
    estimated = float(-torch.log2(likelihood).sum())
    assert 8 * len(data) == pytest.approx(estimated, rel=0.01)
    decoded = torch.from_numpy(SymbolDecoder(data).get(tables, index))
    rebuilt = decoded + means if mean_steps == 1 else decoded + whole
    assert torch.equal(rebuilt.float(), y_hat)


def test_places_of_the_scale_table():
    conditional = GaussianConditional()
    place = torch.arange(64.0)
    assert conditional.scale_of(place).numpy() == pytest.approx(conditional.table.values, rel=1e-5)
    assert conditional.index_of_place(torch.tensor([-5.0, 0.49, 0.5, 62.6, 99.0])).tolist() == [0, 0, 1, 63, 63]
    beyond = torch.tensor([-3.0, 80.0], requires_grad=True)
    conditional.scale_of(beyond).backward(torch.tensor([-1.0, 1.0]))
    assert beyond.grad[0] < 0  # it may come back into the table,
    assert beyond.grad[1] > 0  # from both sides
    beyond.grad = None
    conditional.scale_of(beyond).backward(torch.tensor([1.0, -1.0]))
    assert beyond.grad.tolist() == [0.0, 0.0]


def test_the_mean_is_split_into_whole_and_fraction():
    conditional = GaussianConditional(mean_steps=8)
    means = torch.tensor([0.0, -0.01, -0.0625, 0.9374, 0.9376, -3.25, 1e30, -1e30])
    whole, fraction = conditional.split_mean(means)
    assert ((fraction >= 0) & (fraction < 8)).all()
    rebuilt = whole.double() + fraction.double() / 8
    assert (rebuilt[:6] - means[:6].double()).abs().max() <= 1 / 16
    assert whole[-2:].tolist() == [2**20, -(2**20)]
    assert int(conditional.table_index(torch.tensor(3), torch.tensor(5))) == 29


def test_training_noise_is_the_generator_s():
    conditional = GaussianConditional().train()
    y, scales = torch.zeros(1000), torch.ones(1000)
    first, likelihood = conditional(y, scales, generator=torch.Generator().manual_seed(1))
    again, _ = conditional(y, scales, generator=torch.Generator().manual_seed(1))
    assert torch.equal(first, again)
    assert first.abs().max() <= 0.5
    assert (likelihood > 0).all()
