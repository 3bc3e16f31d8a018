"""Exact networks: the same bits whatever the order, the threads, the batch and the type of the sums."""

import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pccbench.codecs.entropy import exact
from pccbench.codecs.entropy.exact import (
    ExactConv3d,
    ExactEmbedding,
    ExactError,
    ExactLayerNorm,
    ExactLinear,
    ExactLookup,
    ExactMatmul,
    ExactSoftmax,
    Grid,
    export_arrays,
    fingerprint,
    freeze,
    gathered,
    layers,
    load_arrays,
    round_half_up,
    set_mode,
)

CELLS, TAPS, WIDTH = 300, 27, 24


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Network(nn.Module):
    """One of everything, as an entropy model would use it: scales (as places in a table) and means of 8 symbols."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        g = generator(seed)
        self.rate = ExactEmbedding(6, WIDTH, generator=g)
        self.stem = ExactLinear(TAPS, WIDTH, in_frac=0, generator=g)
        self.around = ExactLinear(TAPS * WIDTH, WIDTH, in_signed=False, generator=g)
        self.norm = ExactLayerNorm(WIDTH)
        self.gate = ExactLookup(torch.sigmoid)
        self.query, self.key, self.value = (ExactLinear(WIDTH, WIDTH, generator=g) for _ in range(3))
        self.scores, self.mix = ExactMatmul(), ExactMatmul()
        self.softmax = ExactSoftmax()
        self.dense = ExactConv3d(WIDTH, WIDTH, generator=g)
        self.head = ExactLinear(WIDTH, 16, weight_bits=12, in_bits=10, generator=g)

    def forward(self, x: Tensor, neighbours: Tensor, rate: Tensor) -> Tensor:
        h = torch.relu(self.stem(x)) + self.rate(rate)
        h = torch.relu(h)
        h = h + torch.relu(self.around(h, gather=neighbours))
        h = self.norm(h) * self.gate(h)
        windows = h.view(-1, 10, WIDTH)  # attention within groups of ten cells
        scores = self.scores(self.query(windows), self.key(windows).transpose(1, 2)) * 0.125
        mask = torch.ones(10, 10, dtype=torch.bool).tril()
        h = h + self.mix(self.softmax(scores, mask), self.value(windows)).reshape(h.shape)
        cube = h.T.reshape(1, WIDTH, -1, 5, 2)  # and a dense map, to have one
        h = h + self.dense(cube).reshape(WIDTH, -1).T
        return self.head(h)


def inputs(seed: int = 1, cells: int = CELLS) -> tuple[Tensor, Tensor, Tensor]:
    g = generator(seed)
    x = torch.randint(-3, 4, (cells, TAPS), generator=g).float()
    return x, torch.randint(-1, cells, (cells, TAPS), generator=g), torch.randint(0, 6, (cells,), generator=g)


def decisions(out: Tensor) -> str:
    """Hash of what a decoder would take from the outputs, and of the outputs themselves."""
    place, mean = out.chunk(2, dim=1)
    index = torch.floor(place * 8 + 14.5).clamp(0, 63).to(torch.uint8)
    steps = torch.floor(mean.double() * 8 + 0.5).to(torch.int32)
    digest = hashlib.sha256(out.numpy().tobytes())
    digest.update(index.numpy().tobytes() + steps.numpy().tobytes())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def network() -> Network:
    torch.set_num_threads(1)
    net = Network()
    for seed in range(3):
        net(*inputs(10 + seed))  # observes ranges
    freeze(net)
    return net.eval()


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@torch.no_grad()
def test_threads_do_not_matter(network, threads):
    args = inputs()
    threads(1)
    one = decisions(network(*args))
    threads(2)
    assert decisions(network(*args)) == one


def permuted(layer: nn.Module, seed: int) -> None:
    """Let every product of a frozen layer add up its terms in another order."""
    original = layer._parts
    orders = []
    for part, matrix in original:
        order = torch.randperm(matrix.shape[0], generator=generator(seed))
        orders.append((part, matrix, order))

    def product(x: Tensor) -> Tensor:
        total = sum((x[..., part].to(m.dtype)[..., o] @ m[o]).double() for part, m, o in orders)
        return total.float() if layer.bias is None else total.float() + layer.bias

    layer._product = product


@torch.no_grad()
def test_the_order_of_summation_does_not_matter(network):
    args = inputs()
    expected = decisions(network(*args))
    shuffled = Network(1).eval()
    load_arrays(shuffled, export_arrays(network))
    for seed in range(3):
        for _, layer in layers(shuffled):
            if hasattr(layer, "_parts"):
                permuted(layer, seed)
        assert decisions(shuffled(*args)) == expected


@torch.no_grad()
def test_the_same_perturbation_changes_a_float_network():
    """Else the tests above would prove nothing."""
    neighbours = inputs()[1]
    g = generator(4)
    features, weight = torch.randn(CELLS, WIDTH, generator=g), torch.randn(TAPS * WIDTH, WIDTH, generator=g)
    rows = gathered(features, neighbours)
    order = torch.randperm(TAPS * WIDTH, generator=g)
    assert not torch.equal(rows @ weight, rows[:, order] @ weight[order])


@torch.no_grad()
def test_the_batch_does_not_matter(network):
    x, neighbours, _ = inputs()
    whole = network.around(h := torch.relu(network.stem(x)), gather=neighbours)
    for size in (1, 7, 64):
        parts = [network.around(h, gather=rows) for rows in neighbours.split(size)]
        assert torch.equal(torch.cat(parts), whole)
    maps = torch.randn(9, WIDTH, 4, 4, 4, generator=generator(3))
    together = network.dense(maps)
    assert torch.equal(torch.cat([network.dense(one[None]) for one in maps]), together)
    h = torch.randn(40, 10, WIDTH, generator=generator(5))
    product = network.scores(h, h.transpose(1, 2))
    assert torch.equal(torch.cat([network.scores(one[None], one[None].transpose(1, 2)) for one in h]), product)


@torch.no_grad()
def test_the_type_of_the_sums_does_not_matter(network):
    args = inputs()
    expected = decisions(network(*args))
    doubled = Network(1).eval()
    load_arrays(doubled, export_arrays(network))
    for _, layer in layers(doubled):
        if hasattr(layer, "_parts"):
            layer._parts = [(part, matrix.double()) for part, matrix in layer._parts]
    assert decisions(doubled(*args)) == expected
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        assert decisions(network(*args)) == expected
    finally:
        torch.set_float32_matmul_precision(before)
    if hasattr(torch.backends.mkldnn, "matmul"):  # newer torch: settings by backend
        before = torch.backends.mkldnn.matmul.fp32_precision
        try:
            torch.backends.mkldnn.matmul.fp32_precision = "bf16"
            assert decisions(network(*args)) == expected
        finally:
            torch.backends.mkldnn.matmul.fp32_precision = before
    with torch.autocast("cpu", torch.bfloat16):
        assert decisions(network(*args)) == expected


@torch.no_grad()
def test_a_fresh_process_with_other_threads_agrees(network, tmp_path: Path):
    """As a decoder would: from the exported integers alone."""
    np.savez(tmp_path / "weights.npz", **export_arrays(network))
    code = f"""
import importlib.util, sys
import numpy as np, torch
torch.set_num_threads({torch.get_num_threads() % 2 + 1})
spec = importlib.util.spec_from_file_location("exact_networks", {str(Path(__file__))!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
net = module.Network(7).eval()
with np.load({str(tmp_path / "weights.npz")!r}) as arrays:
    module.load_arrays(net, dict(arrays))
with torch.no_grad():
    print(module.fingerprint(net), module.decisions(net(*module.inputs())))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == [fingerprint(network), decisions(network(*inputs()))]


@torch.no_grad()
def test_a_layer_computes_what_its_integers_say(network):
    """Independently, in numpy's int64."""
    x, neighbours, _ = inputs()
    h = torch.relu(network.stem(x))
    arrays = network.around.integers()
    frac = int(arrays["grid.frac"])
    whole = np.clip(np.floor(h.double().numpy() * 2.0**frac + 0.5), 0, 255).astype(np.int64)
    rows = np.concatenate([whole, np.zeros((1, WIDTH), np.int64)])[neighbours.numpy()].reshape(CELLS, -1)
    sums = rows @ arrays["weight"].astype(np.int64).T
    expected = np.ldexp(sums.astype(np.float64), -(frac + arrays["weight_frac"].astype(int)))
    got = network.around(h, gather=neighbours)
    assert (got.numpy() == expected.astype(np.float32) + arrays["bias"]).all()


@torch.no_grad()
def test_worst_case_sums_are_exact():
    """All weights and inputs at their limits, and one odd one out: the sum needs 25 bits."""
    columns = 2001
    layer = ExactLinear(columns, 1, bias=False, in_frac=0)
    layer.weight.fill_(127.0 / 128)
    layer.weight[0, 0] = 1.0 / 128
    freeze(layer)
    assert layer.bound > 2.0**24
    assert len(layer._parts) > 1
    x = torch.full((1, columns), 127.0)
    x[0, 0] = 1.0
    expected = (127 * 127 * (columns - 1) + 1) / 128
    assert expected * 128 > 2**24
    assert layer(x).item() == np.float32(expected)
    exact_sum = layer.weight.double() @ x.T.double()
    assert exact_sum.item() == expected


def test_bounds_split_a_sum_and_fall_back_to_float64():
    sizes = np.full((2, 100), 2.0**20)
    assert exact._float32_parts(sizes[:, :16]) == [slice(0, 16)]
    assert exact._float32_parts(sizes[:, :40]) == [slice(0, 16), slice(16, 32), slice(32, 40)]
    assert exact._float32_parts(sizes) is None
    layer = ExactLinear(4000, 1, in_bits=16, weight_bits=16, in_frac=0)
    freeze(layer)
    assert [matrix.dtype for _, matrix in layer._parts] == [torch.float64]


def test_a_sum_that_cannot_be_exact_is_refused(monkeypatch):
    monkeypatch.setattr(exact, "FLOAT64_LIMIT", 2.0**20)
    net = nn.Sequential(ExactLinear(500, 3, in_frac=0, generator=generator()))
    with pytest.raises(ExactError, match="layer 0: sums of up to .* are not exact"):
        freeze(net)


def test_a_range_that_was_never_observed_is_refused():
    with pytest.raises(ExactError, match="never observed"):
        freeze(ExactLinear(3, 3))


@torch.no_grad()
def test_rounding_is_half_up_and_clamped():
    assert round_half_up(torch.tensor([-1.5, -0.5, 0.5, 1.5, 2.4])).tolist() == [-1, 0, 1, 2, 2]
    grid = Grid(8, 2)
    grid.freeze()
    got = grid(torch.tensor([-1e9, -0.125, 0.125, 0.37, 31.7, 1e9]))
    assert got.tolist() == [-31.75, 0.0, 0.25, 0.25, 31.75, 31.75]
    unsigned = Grid(8, 0, signed=False)
    unsigned.freeze()
    assert unsigned(torch.tensor([-3.0, 254.6, 300.0])).tolist() == [0.0, 255.0, 255.0]


@torch.no_grad()
def test_the_grid_of_the_weights_uses_its_bits():
    layer = ExactLinear(64, 8, in_frac=0, generator=generator())
    original = layer.weight.clone()
    freeze(layer)
    whole = layer.integers()["weight"]
    assert whole.dtype == np.int8
    assert np.abs(whole).max(axis=1).min() >= 63
    assert (layer.weight - original).abs().max() <= original.abs().max() / 63 / 2


def test_exact_mode_is_near_float_mode_and_has_gradients():
    net, args = Network(), inputs()
    for seed in range(3):
        net(*inputs(10 + seed))
    plain = net(*args)
    set_mode(net, "exact")
    rounded = net(*args)
    assert (rounded - plain).abs().mean() < 0.1 * plain.abs().mean()
    rounded.square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    freeze(net)
    net.eval()
    with torch.no_grad():
        frozen = net(*args)
    # Training does the same sums, if not exactly: what differs are roundings that fall to the other side.
    assert (frozen - rounded).abs().mean() < 0.02 * plain.abs().mean()
    with pytest.raises(ExactError, match="frozen"):
        set_mode(net, "float")


def test_training_in_exact_mode_recovers_what_rounding_costs():
    """Three bits are too few for the float weights; trained with them, the network is useful again."""
    g = generator(2)
    net = nn.ModuleList(
        [
            ExactLinear(8, 32, in_bits=6, weight_bits=3, generator=g),
            ExactLinear(32, 1, in_bits=6, weight_bits=3, generator=g),
        ]
    )

    def apply(x: Tensor) -> Tensor:
        return net[1](torch.relu(net[0](x)))[:, 0]

    def loss(seed: int, n: int = 256) -> Tensor:
        x = torch.randn(n, 8, generator=generator(seed))
        return (apply(x) - torch.sin(x[:, 0]) * x[:, 1]).square().mean()

    def train(steps: int, rate: float) -> None:
        optimizer = torch.optim.Adam(net.parameters(), rate)
        for step in range(steps):
            optimizer.zero_grad()
            loss(step).backward()
            optimizer.step()

    train(250, 2e-2)
    with torch.no_grad():
        plain = float(loss(9999, 4000))
        set_mode(net, "exact")
        cut = float(loss(9999, 4000))
    train(150, 5e-3)
    freeze(net)
    net.eval()
    with torch.no_grad():
        tuned = float(loss(9999, 4000))
    assert plain < 0.3
    assert tuned - plain < 0.5 * (cut - plain)


@torch.no_grad()
def test_dense_convolution_is_torch_s():
    conv = ExactConv3d(3, 5, 3, stride=2, generator=generator()).train()
    x = torch.randn(2, 3, 6, 7, 8, generator=generator(1))
    conv(x)
    freeze(conv)
    weight = conv.weight.view(5, 3, 3, 3, 3)
    expected = nn.functional.conv3d(conv.grid(x).double(), weight.double(), stride=2, padding=1)
    assert torch.equal(conv(x), expected.float())


@torch.no_grad()
def test_causal_mask_and_single_places():
    """A masked convolution never sees what comes later in raster order, and `at` gives the same numbers."""
    mask = (torch.arange(125) < 62).view(5, 5, 5)
    conv = ExactConv3d(2, 4, 5, mask=mask, in_frac=0, generator=generator())
    freeze(conv)
    x = torch.randint(-9, 10, (1, 2, 4, 4, 4), generator=generator(1)).float()
    out = conv(x)
    padded = nn.functional.pad(x, (2,) * 6)
    for place in range(64):
        i, j, k = place // 16, place // 4 % 4, place % 4
        patch = padded[:, :, i : i + 5, j : j + 5, k : k + 5]
        assert torch.equal(conv.at(patch)[0], out[0, :, i, j, k])
        changed = x.clone()
        changed.view(2, 64)[:, place:] += 5.0
        assert torch.equal(conv(changed).view(4, 64)[:, : place + 1], out.view(4, 64)[:, : place + 1])


@torch.no_grad()
def test_softmax_is_near_the_float_one():
    softmax = ExactSoftmax(bits=8)
    scores = torch.randn(50, 4, 12, generator=generator()) * 3
    mask = torch.rand(50, 1, 12, generator=generator(1)) < 0.7
    mask[0] = False
    plain = softmax(scores, mask)
    freeze(softmax)
    rounded = softmax(scores, mask)
    assert (rounded - plain).abs().max() < 0.03
    assert (rounded * 256 == torch.floor(rounded * 256)).all()
    assert (rounded[~mask.expand_as(rounded)] == 0).all()
    assert (rounded[0] == 0).all()


@torch.no_grad()
def test_layer_norm_and_look_up_are_near_the_float_ones():
    norm, lookup = ExactLayerNorm(32), ExactLookup(torch.sigmoid)
    x = torch.randn(100, 32, generator=generator()) * 2 + 1
    plain = norm(x), lookup(x)
    for module, expected in zip((norm, lookup), plain, strict=True):
        freeze(module)
        assert (module(x) - expected).abs().max() < 0.01


def test_weights_travel_as_integers(network):
    arrays = export_arrays(network, "prior.")
    assert {array.dtype.kind for name, array in arrays.items() if name.endswith("weight") and "norm" not in name} == {
        "i"
    }
    again = Network(3)
    load_arrays(again, arrays, "prior.")
    assert fingerprint(again) == fingerprint(network)
    assert not any(p.requires_grad for name, p in again.named_parameters() if "norm" not in name)
    with pytest.raises(ExactError, match="layer rate: no array 'weight'"):
        load_arrays(Network(3), {key: value for key, value in arrays.items() if key != "prior.rate.weight"}, "prior.")
    arrays["prior.head.weight"] = arrays["prior.head.weight"][:, 1:]
    with pytest.raises(ExactError, match="layer head: expected weights of shape"):
        load_arrays(Network(3), arrays, "prior.")
    with pytest.raises(ExactError, match="layer rate is not frozen"):
        export_arrays(Network(3))
