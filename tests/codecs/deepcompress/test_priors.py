"""Entropy models: causal, complete, and coded exactly."""

import numpy as np
import pytest
import torch

from pccbench.codecs.deepcompress.cells import cells_of
from pccbench.codecs.deepcompress.priors import COSETS, PRIORS
from pccbench.codecs.deepcompress.structure import RATE_STEPS, structure_of
from pccbench.codecs.deepcompress.weights import finished, load_prior, save_prior
from pccbench.codecs.entropy.exact import set_mode
from pccbench.codecs.entropy.rangecoder import SymbolDecoder, SymbolEncoder

CHANNELS = 12
NAMES = list(PRIORS)


def hyper_of(prior, latents, structure):
    return prior.hyper_symbols(latents, structure).float() if prior.has_hyper else None


@pytest.fixture
def structure(surface):
    positions = cells_of(surface).positions
    return structure_of(positions, np.full(len(positions), 32))


@pytest.fixture
def latents(structure):
    generator = torch.Generator().manual_seed(3)
    return torch.round(2 * torch.randn(len(structure), CHANNELS, generator=generator))


def made(name, structure, latents, *, exact):
    torch.manual_seed(1)
    prior = PRIORS[name](CHANNELS).train()
    hyper = hyper_of(prior, latents, structure)
    prior.all_parameters(structure, prior.features(structure, hyper), latents)  # ranges are observed
    if exact:
        set_mode(prior, "exact")
        return finished(prior)
    return prior.eval()


@pytest.mark.parametrize("name", NAMES)
def test_passes_cover_every_latent_once(name, structure):
    count = torch.zeros(len(structure), CHANNELS)
    for one in PRIORS[name](CHANNELS).passes(structure):
        rows = torch.arange(len(structure)) if one.rows is None else one.rows
        count[rows[:, None], torch.arange(CHANNELS)[one.channels][None]] += 1
    assert (count == 1).all()


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_a_pass_sees_earlier_passes_only(name, structure, latents):
    prior = made(name, structure, latents, exact=False)
    features = prior.features(structure, hyper_of(prior, latents, structure))
    known = torch.zeros_like(latents)
    for number, one in enumerate(prior.passes(structure)):
        rows = torch.arange(len(structure)) if one.rows is None else one.rows
        columns = torch.arange(CHANNELS)[one.channels]
        if number % 7 == 0 or number < 10:
            # What is not coded yet is replaced by other values: nothing may change.
            disturbed = torch.where(known.bool(), latents, latents + 5)
            plain = prior.parameters_of(one, structure, features, latents)
            other = prior.parameters_of(one, structure, features, disturbed)
            torch.testing.assert_close(plain.mean, other.mean)
            torch.testing.assert_close(plain.log_index, other.log_index)
        known[rows[:, None], columns[None]] = 1


@pytest.mark.parametrize("name", ["channel", "context", "attention", "hybrid"])
@torch.no_grad()
def test_earlier_passes_matter(name, structure, latents):
    prior = made(name, structure, latents, exact=False)
    features = prior.features(structure, hyper_of(prior, latents, structure))
    last = list(prior.passes(structure))[-1]
    plain = prior.parameters_of(last, structure, features, latents)
    other = prior.parameters_of(last, structure, features, -latents)
    assert not torch.equal(plain.mean, other.mean)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_training_sees_what_passes_see(name, structure, latents):
    prior = made(name, structure, latents, exact=False)
    features = prior.features(structure, hyper_of(prior, latents, structure))
    whole = prior.all_parameters(structure, features, latents)
    for number, one in enumerate(prior.passes(structure)):
        if number % 5 == 0:
            part = prior.parameters_of(one, structure, features, latents)
            rows = slice(None) if one.rows is None else one.rows
            torch.testing.assert_close(whole.mean[rows][:, one.channels], part.mean)
            torch.testing.assert_close(whole.log_index[rows][:, one.channels], part.log_index)


@pytest.mark.parametrize("name", NAMES)
def test_latents_come_back_from_bytes_on_other_threads(name, structure, latents, tmp_path):
    coder = made(name, structure, latents, exact=True)
    save_prior(name, coder, tmp_path / "prior.safetensors")
    encoder = SymbolEncoder()
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    coder.encode(latents, structure, encoder)
    data = encoder.finish()
    other = load_prior(tmp_path / "prior.safetensors")
    torch.set_num_threads(1)
    try:
        decoder = SymbolDecoder(data)
        assert torch.equal(other.decode(structure, decoder), latents)
        decoder.finish()
    finally:
        torch.set_num_threads(threads)
    assert 8 * len(data) == pytest.approx(encoder.estimated_bits, rel=0.01)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_decisions_do_not_depend_on_company(name, structure, latents):
    """The parameters of a part far from the rest are the same when it is alone."""
    coder = made(name, structure, latents, exact=True)
    n = len(structure)
    twice = structure_of(
        np.concatenate([structure.positions, structure.positions + np.array([64, 0, 0], np.int32)]),
        np.full(2 * n, 32),
    )
    both = torch.cat([latents, latents])
    prior = coder.prior
    alone = prior.all_parameters(structure, prior.features(structure, hyper_of(prior, latents, structure)), latents)
    pair = prior.all_parameters(twice, prior.features(twice, hyper_of(prior, both, twice)), both)
    assert torch.equal(pair.mean[:n], alone.mean)
    assert torch.equal(pair.log_index[:n], alone.log_index)


def test_cosets_and_raster_are_partitions(structure):
    coset = structure.coset()
    assert set(coset.tolist()) <= set(range(COSETS))
    inside = structure.positions[:, 0] % 8
    step = structure.raster_step()
    assert int(step.max()) < 512
    assert (step.numpy() % 8 == inside).all()
    # Cells of one coset do not touch by a face.
    near = structure.neighbours[:, [4, 10, 12, 14, 16, 22]]
    touching = (near >= 0) & (coset[near.clamp_min(0)] == coset[:, None])
    assert not touching.any()


def test_rate_hats_are_exact_and_sum_to_one():
    rates = np.arange(RATE_STEPS + 1)
    positions = np.stack([rates, rates * 0, rates * 0], axis=1).astype(np.int32)
    hats = structure_of(positions, rates).rate
    assert (hats * 8 == torch.round(hats * 8)).all()
    assert (hats.sum(1) == 1).all()
