"""The factorised prior: gradient, mass, medians, real bits."""

import numpy as np
import pytest
import torch

from pccbench.codecs.entropy.bottleneck import EntropyBottleneck
from pccbench.codecs.entropy.bound import lower_bound
from pccbench.codecs.entropy.rangecoder import SymbolDecoder, SymbolEncoder
from pccbench.codecs.entropy.tables import FrequencyTables


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def trained() -> tuple[EntropyBottleneck, torch.Tensor, torch.Tensor]:
    """A prior of four channels, fitted to normal data of known offset and scale."""
    offset, scale = torch.tensor([-3.3, 0.0, 10.4, 2.25]), torch.tensor([0.3, 1.0, 3.0, 6.0])
    prior = EntropyBottleneck(4, channel_axis=-1, generator=generator())
    optimizer = torch.optim.Adam(prior.parameters(), 4e-2)
    draws = generator(1)
    for _ in range(150):
        y = torch.randn(256, 4, generator=draws) * scale + offset
        _, likelihood = prior(y, draws)
        loss = -torch.log2(likelihood).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return prior.eval(), offset, scale


def test_medians_are_the_data_s(trained):
    prior, offset, scale = trained
    prior.update()
    assert ((prior.median - offset).abs() < 0.25 * scale + 0.05).all()
    assert prior.logits(prior.median[:, None]).abs().max() < 1e-3


def test_estimated_bits_table_bits_and_real_bits_agree(trained):
    prior, offset, scale = trained
    y = torch.randn(10_000, 4, generator=generator(2)) * scale + offset
    with torch.no_grad():
        y_hat, likelihood = prior(y)
    symbols = prior.symbols(y).numpy()
    tables = prior.tables()
    encoder = SymbolEncoder()
    encoder.put(symbols, tables, prior.table_index(symbols.shape))
    data = encoder.finish()
    estimated = float(-torch.log2(likelihood).sum())
    assert encoder.estimated_bits == pytest.approx(estimated, rel=0.01)
    assert 8 * len(data) == pytest.approx(estimated, rel=0.01)
    assert abs(8 * len(data) - encoder.estimated_bits) <= 64
    decoded = SymbolDecoder(data).get(tables, prior.table_index(symbols.shape))
    assert torch.equal(prior.dequantise(torch.from_numpy(decoded)), y_hat)
    # The fit is near the entropy of what was coded, so that none of this is about a useless model.
    entropy = sum(
        -(counts / counts.sum() * np.log2(counts / counts.sum())).sum() * len(y)
        for counts in (np.unique(symbols[:, c], return_counts=True)[1] for c in range(4))
    )
    assert 8 * len(data) < 1.05 * entropy


def test_symbols_far_out_are_escaped_and_come_back(trained):
    prior, _, _ = trained
    y = torch.tensor([[1e6, -1e6, 12345.0, -99999.0], [0.0, 0.0, 0.0, 0.0]])
    symbols = prior.symbols(y).numpy()
    tables = prior.tables()
    encoder = SymbolEncoder()
    encoder.put(symbols, tables, prior.table_index(symbols.shape))
    assert (SymbolDecoder(encoder.finish()).get(tables, prior.table_index(symbols.shape)) == symbols).all()


def test_likelihoods_of_all_integers_sum_to_one(trained):
    prior, _, _ = trained
    x = torch.arange(-400.0, 500.0)[:, None].expand(-1, 4)
    total = prior.likelihood(x + prior.median).double().sum(dim=0)
    assert total.max() <= 1 + 1e-4
    assert total.min() >= 1 - 1e-3


def test_gradient_of_the_rate():
    prior = EntropyBottleneck(2, filters=(3, 3), generator=generator()).double()
    y = torch.randn(3, 2, 4, dtype=torch.float64, generator=generator(3)).requires_grad_()

    def rate(y: torch.Tensor) -> torch.Tensor:
        rows = prior._rows(y)
        return (torch.sigmoid(prior.logits(rows + 0.5)) - torch.sigmoid(prior.logits(rows - 0.5))).log()

    assert torch.autograd.gradcheck(rate, (y,))
    direct = torch.exp(rate(y))
    assert torch.allclose(prior.likelihood(y), prior._back(direct, y).float(), rtol=1e-4, atol=1e-7)


def test_far_tails_keep_a_gradient_towards_the_middle():
    prior = EntropyBottleneck(1, init_scale=1.0, generator=generator())
    y = torch.tensor([[500.0], [-500.0]], requires_grad=True)
    likelihood = prior.likelihood(y)
    assert torch.isfinite(likelihood).all()
    assert (likelihood == 1e-9).all()
    x = torch.tensor([-1.0, 0.5, 2.0], requires_grad=True)
    lower_bound(x, 1.0).backward(torch.tensor([1.0, -1.0, 1.0]))
    assert x.grad.tolist() == [0.0, -1.0, 1.0]


@pytest.mark.parametrize("axis", [1, -1])
def test_channel_axis(axis):
    prior = EntropyBottleneck(3, channel_axis=axis, generator=generator()).eval()
    prior.median.copy_(torch.tensor([0.25, -0.5, 100.0]))
    shape = (2, 3, 5) if axis == 1 else (2, 5, 3)
    y = torch.zeros(shape)
    index = prior.table_index(shape)
    assert index.shape == shape
    symbols = prior.symbols(y)
    assert (symbols[torch.from_numpy(index == 2)] == -100).all()
    y_hat, likelihood = prior(y)
    assert y_hat.shape == likelihood.shape == shape
    assert ((y_hat - y).abs() <= 0.5).all()


def test_noise_is_the_generator_s_and_training_has_no_rounding():
    prior = EntropyBottleneck(2, generator=generator()).train()
    y = torch.zeros(4, 2, 100)
    first, _ = prior(y, generator(5))
    again, _ = prior(y, generator(5))
    other, _ = prior(y, generator(6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.abs().max() <= 0.5
    assert first.unique().numel() > 300


def test_weights_and_tables_travel(trained, tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    prior, offset, _ = trained
    tables = prior.tables()
    safetensors.save_file(tables.arrays("z."), tmp_path / "t.safetensors")
    again = FrequencyTables.from_arrays(safetensors.load_file(tmp_path / "t.safetensors"), "z.")
    assert (again.frequencies == tables.frequencies).all()
    copy = EntropyBottleneck(4, channel_axis=-1, generator=generator(9)).eval()
    copy.load_state_dict(prior.state_dict())
    y = offset + torch.linspace(-5, 5, 100)[:, None]
    assert torch.equal(copy.symbols(y), prior.symbols(y))
    assert torch.equal(copy.median, prior.median)
