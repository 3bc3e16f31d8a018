import numpy as np
import pytest
import torch
from torch import nn

from pccbench.codecs.dpcc.bottleneck import QuantileBottleneck
from pccbench.codecs.dpcc.config import ModelConfig
from pccbench.codecs.dpcc.layers import Norm, Upsample, directions, family
from pccbench.codecs.dpcc.mixing import mixed
from pccbench.codecs.dpcc.model import PointModel, children_of
from pccbench.codecs.entropy.exact import ExactSoftmax


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_default_model_has_the_published_number_of_parameters():
    model = PointModel(ModelConfig())
    assert model.parameter_count() == 87_662
    assert count(model.first) == 904
    assert [count(stage) for stage in model.encoder] == [18_480] * 3
    assert count(model.bottlenecks) == 488
    assert [count(stage) for stage in model.decoder] == [9_513] * 3
    parts = (model.coordinates.analysis, model.coordinates.bottleneck, model.coordinates.synthesis)
    assert [count(part) for part in parts] == [904, 488, 899]


def test_directions_are_unit_vectors_and_zero():
    table = directions()
    assert table.shape == (43, 3)
    assert not table[0].any()
    assert np.linalg.norm(table[1:], axis=1) == pytest.approx(1.0, abs=3e-4)
    gaps = np.linalg.norm(table[1:, None] - table[None, 1:], axis=2) + 9 * np.eye(42)
    assert gaps.min() > 0.5
    assert np.abs(table.sum(0)).max() < 1e-3
    assert (table * 4096 == np.round(table * 4096)).all()


def test_compiled_mixing_is_the_exact_softmax_bit_for_bit():
    softmax = ExactSoftmax(bits=10)
    softmax.freeze()
    scores = torch.randn(3000, 43, generator=torch.Generator().manual_seed(3)) * 4
    scores[0], scores[1, 5:] = 0.0, -1e6
    table = torch.from_numpy(directions())
    expected = (softmax(scores).double() @ table).float().numpy()
    found = mixed(scores.numpy(), softmax._table.numpy(), softmax._STEP_BITS, softmax.bits, directions())
    assert (found == expected).all()


def test_norm_over_a_patch_is_group_norm_of_one_group():
    torch.manual_seed(0)
    mine, theirs = Norm(6, "patch"), nn.GroupNorm(1, 6)
    x = torch.randn(10, 4, 6) * 3 + 1
    block = torch.tensor([0] * 7 + [1] * 3)
    found = mine(x, block)
    for number in (0, 1):
        part = x[block == number].permute(2, 0, 1)[None]
        assert torch.allclose(found[block == number], theirs(part)[0].permute(1, 2, 0), atol=1e-5)


def test_children_are_the_first_of_each_parent():
    parent, sibling = family(torch.tensor([2, 1, 3]))
    assert parent.tolist() == [0, 0, 1, 2, 2, 2]
    assert sibling.tolist() == [0, 1, 0, 0, 1, 2]
    counts = torch.tensor([1.0, 1.49, 1.5, 7.9])
    assert children_of(counts, 0.0, 8).tolist() == [1, 1, 2, 8]
    assert children_of(counts, 0.5, 8).tolist() == [2, 2, 2, 8]
    assert children_of(counts, -2.0, 8).tolist() == [1, 1, 1, 6]


def test_counts_lie_between_one_and_the_most():
    torch.manual_seed(1)
    layer = Upsample(16, 8, 8)
    counts = layer.counts(torch.randn(200, 16) * 30).detach()
    assert 1 <= float(counts.min()) <= float(counts.max()) <= 8


def test_each_child_sees_its_own_share_of_the_features():
    torch.manual_seed(2)
    layer = Upsample(8, 8, 8)
    x = torch.randn(3, 8)
    parent, sibling = family(torch.tensor([8, 8, 8]))
    offset, features = layer.offset(x.view(3, 1, 8)[parent, :, sibling]), layer.features(x.view(-1, 1))
    assert torch.allclose(offset, layer.offset(x.reshape(-1, 1)))
    made, _ = layer.grow(x, parent, sibling)
    x2 = x.clone()
    x2[0, 3] += 1.0
    moved, _ = layer.grow(x2, parent, sibling)
    first = (offset - layer.offset(x2.reshape(-1, 1))).abs().sum(1) > 0
    assert first.nonzero().flatten().tolist() == [3]
    assert not torch.equal(made[:8], moved[:8])
    assert torch.equal(made[8:], moved[8:])
    assert features.shape == (24, 8)


def test_quantiles_have_a_loss_of_their_own():
    bottleneck = QuantileBottleneck(2)
    assert count(bottleneck) == 2 * 61
    optimiser = torch.optim.Adam([bottleneck.quantiles], lr=0.1)
    before = bottleneck.auxiliary_loss().item()
    for _ in range(60):
        optimiser.zero_grad()
        bottleneck.auxiliary_loss().backward()
        optimiser.step()
    assert bottleneck.auxiliary_loss().item() < before
    assert all(parameter.grad is None for parameter in bottleneck.distribution())
    assert all(parameter.requires_grad for parameter in bottleneck.distribution())


def test_impossible_architectures_are_named():
    with pytest.raises(ValueError, match="decoder_dim 12 is no multiple of max_children 8"):
        ModelConfig(decoder_dim=12, context_neighbours=4)
    with pytest.raises(ValueError, match="decoder_dim must be dim"):
        ModelConfig(decoder_dim=16)
