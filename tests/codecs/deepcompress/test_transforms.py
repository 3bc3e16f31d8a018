"""Transforms: shapes, gradients, activations, and that they are the convolutions they claim to be."""

import numpy as np
import pytest
import torch

from pccbench.codecs.deepcompress.cells import cells_of, neighbours_of
from pccbench.codecs.deepcompress.model import VoxelModel
from pccbench.codecs.deepcompress.transforms import (
    GDN,
    CellConv,
    Gather,
    TransformConfig,
    kernel_offsets,
    neighbour_radius,
)

SMALL = {
    "filters": 16,
    "latent_channels": 4,
    "bottleneck": 8,
    "sub_filters": 8,
    "mixer_filters": 16,
    "analysis_blocks": 1,
    "synthesis_blocks": 1,
    "mixers": 1,
}


def inputs(points, config):
    cells = cells_of(points)
    table = neighbours_of(cells.positions, neighbour_radius(config))
    voxels = torch.from_numpy(np.unpackbits(cells.bits, axis=1)).float()
    return cells, voxels, torch.from_numpy(table.astype(np.int64))


@pytest.mark.parametrize("strides", [(8,), (4, 2), (2, 4), (2, 2, 2)])
@pytest.mark.parametrize("activation", ["relu", "gdn", "cenic_gdn"])
@pytest.mark.parametrize("conv_type", ["standard", "separable"])
def test_stride_eight_there_and_back(surface, strides, activation, conv_type):
    config = TransformConfig(**SMALL, strides=strides, activation=activation, conv_type=conv_type)
    model = VoxelModel(config)
    cells, voxels, neighbours = inputs(surface, config)
    gain, inverse, bias, synthesis_bias = model.gains(torch.tensor([2.0]))
    y = model.analysis(voxels, neighbours, bias) * gain
    logits = model.synthesis(y * inverse, neighbours, synthesis_bias)
    assert y.shape == (len(cells), 4)
    assert logits.shape == (len(cells), 512)
    logits.square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.analysis.parameters())


@pytest.mark.parametrize("kernel", [(1, 1, 1), (3, 3, 3), (5, 5, 5), (3, 1, 5)])
def test_kernels_of_any_shape(surface, kernel):
    config = TransformConfig(**SMALL, kernel_size=kernel)
    model = VoxelModel(config)
    _, voxels, neighbours = inputs(surface, config)
    bias = model.gains(torch.tensor([1.0]))[2]
    assert torch.isfinite(model.analysis(voxels, neighbours, bias)).all()
    assert len(kernel_offsets(kernel, 2)) == np.prod(kernel)


@pytest.mark.parametrize("bad", [{"strides": (2, 2)}, {"strides": (3, 2)}, {"kernel_size": (2, 3, 3)}])
def test_config_is_checked(bad):
    with pytest.raises(ValueError, match="must be"):
        TransformConfig(**bad)


def test_a_shift_by_a_cell_shifts_the_latents(surface):
    config = TransformConfig(**SMALL)
    model = VoxelModel(config).eval()
    bias = model.gains(torch.tensor([1.0]))[2]
    found = []
    for shift in (0, 8):
        cells, voxels, neighbours = inputs(surface + np.array([shift, 0, 16]) * (shift > 0), config)
        found.append((cells.positions - [shift // 8, 0, 2 * (shift > 0)], model.analysis(voxels, neighbours, bias)))
    (first, y), (second, shifted) = found
    order, other = (np.lexsort(p.T) for p in (first, second))
    assert (first[order] == second[other]).all()
    torch.testing.assert_close(y[order], shifted[other])


def test_cell_convolution_is_a_dense_convolution_where_cells_are(rng):
    positions = np.unique(rng.integers(0, 5, (60, 3)), axis=0)
    conv = CellConv(3, 4, torch.arange(27))
    x = torch.randn(len(positions), 3)
    dense = torch.zeros(1, 3, 5, 5, 5)
    place = tuple(torch.from_numpy(positions.T))
    dense[0, :, place[0], place[1], place[2]] = x.T
    weight = conv.linear.weight.view(4, 27, 3).permute(0, 2, 1).reshape(4, 3, 3, 3, 3)
    expected = torch.nn.functional.conv3d(dense, weight, conv.linear.bias, padding=1)
    neighbours = torch.from_numpy(neighbours_of(positions).astype(np.int64))
    found = conv(x, neighbours)
    torch.testing.assert_close(found, expected[0, :, place[0], place[1], place[2]].T)
    with torch.no_grad():
        torch.testing.assert_close(conv(x, neighbours), found)


@pytest.mark.parametrize("kernel", [(3, 3, 3), (3, 1, 1), (1, 3, 3)])
def test_gather_has_the_right_gradient(rng, kernel):
    positions = np.unique(rng.integers(0, 3, (20, 3)), axis=0)
    neighbours = torch.from_numpy(neighbours_of(positions).astype(np.int64))[:, kernel_offsets(kernel, 1)]
    x = torch.randn(len(positions), 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: Gather.apply(v, neighbours), x)


def test_gdn_and_cenic_gdn_are_told_apart():
    x = torch.tensor([[3.0, -4.0]])
    plain, cenic = GDN(2, inverse=False, cenic=False), GDN(2, inverse=False, cenic=True)
    torch.testing.assert_close(plain(x), x / torch.tensor([[(1 + 0.9) ** 0.5, (1 + 1.6) ** 0.5]]))
    torch.testing.assert_close(cenic(x), x / torch.tensor([[1.3, 1.4]]))


def test_separable_kernels_have_fewer_weights():
    standard = VoxelModel(TransformConfig(**SMALL)).analysis.blocks[0]
    separable = VoxelModel(TransformConfig(**SMALL, conv_type="separable")).analysis.blocks[0]
    assert standard.around.linear.weight.numel() == 27 * 8 * 16
    assert separable.first.linear.weight.numel() + separable.around.linear.weight.numel() == 3 * 8 * 8 + 9 * 8 * 16


def test_pieces_make_the_whole(surface, monkeypatch):
    from pccbench.codecs.deepcompress import model as module
    from pccbench.codecs.deepcompress import transforms

    config = TransformConfig(**SMALL)
    made = VoxelModel(config).eval()
    cells, _, neighbours = inputs(surface, config)
    rate = np.array([30])
    whole = made.latents(cells.bits, neighbours, rate)
    logits = np.concatenate([part for _, part in made.logits(whole, neighbours, 30)])
    monkeypatch.setattr(transforms, "CHUNK_CELLS", 50)
    monkeypatch.setattr(module, "CHUNK_CELLS", 50)
    pieces = list(made.logits(whole, neighbours, 30))
    assert len(pieces) > 1
    np.testing.assert_allclose(np.concatenate([part for _, part in pieces]), logits, atol=1e-4)
    assert (made.latents(cells.bits, neighbours, rate) - whole).abs().max() <= 1
