"""Speed of the entropy core: coding, look-up of scales, exact networks against float ones."""

import numpy as np
import pytest
import torch

from pccbench.codecs.entropy.exact import ExactLinear, freeze, gathered
from pccbench.codecs.entropy.gaussian import GaussianConditional, ScaleTable, scale_table
from pccbench.codecs.entropy.rangecoder import SymbolDecoder, SymbolEncoder

SYMBOLS = 2_000_000
SCALES = scale_table()


@pytest.fixture(scope="module")
def tables():
    return GaussianConditional(SCALES).tables()


def drawn(kind: str) -> tuple[np.ndarray, np.ndarray | int]:
    rng = np.random.default_rng(0)
    index = 24 if kind == "shared" else rng.integers(0, 64, SYMBOLS).astype(np.uint16)
    scale = np.broadcast_to(SCALES[index], SYMBOLS)
    return np.round(rng.standard_normal(SYMBOLS) * scale).astype(np.int32), index


@pytest.mark.parametrize("kind", ["shared", "per-symbol"])
@pytest.mark.benchmark(group="entropy: encode 2 M symbols")
def test_encode(benchmark, tables, kind):
    symbols, index = drawn(kind)

    def encode() -> bytes:
        encoder = SymbolEncoder()
        encoder.put(symbols, tables, index)
        return encoder.finish()

    data = benchmark.pedantic(encode, rounds=5, warmup_rounds=1)
    benchmark.extra_info["symbols_per_s"] = SYMBOLS / benchmark.stats.stats.min
    benchmark.extra_info["bits_per_symbol"] = 8 * len(data) / SYMBOLS


@pytest.mark.parametrize("kind", ["shared", "per-symbol"])
@pytest.mark.benchmark(group="entropy: decode 2 M symbols")
def test_decode(benchmark, tables, kind):
    symbols, index = drawn(kind)
    encoder = SymbolEncoder()
    encoder.put(symbols, tables, index)
    data = encoder.finish()

    def decode() -> np.ndarray:
        return SymbolDecoder(data).get(tables, index, SYMBOLS if isinstance(index, int) else None)

    decoded = benchmark.pedantic(decode, rounds=5, warmup_rounds=1)
    benchmark.extra_info["symbols_per_s"] = SYMBOLS / benchmark.stats.stats.min
    assert (decoded == symbols).all()


@pytest.mark.parametrize("batch", [100, 1000, 10_000])
@pytest.mark.benchmark(group="entropy: decode 100 k symbols in small batches")
def test_decode_in_batches(benchmark, tables, batch):
    """As a context model asks for them: a batch at a time, each with its own tables."""
    symbols, index = drawn("per-symbol")
    starts = range(0, 100_000, batch)
    encoder = SymbolEncoder()
    for start in starts:
        encoder.put(symbols[start : start + batch], tables, index[start : start + batch])
    data = encoder.finish()

    def decode() -> None:
        decoder = SymbolDecoder(data)
        for start in starts:
            decoder.get(tables, index[start : start + batch])
        decoder.finish()

    benchmark.pedantic(decode, rounds=3, warmup_rounds=1)
    benchmark.extra_info["symbols_per_s"] = 100_000 / benchmark.stats.stats.min


@pytest.mark.parametrize("way", ["binary search", "all entries"])
@pytest.mark.benchmark(group="entropy: look-up of 300 k scales among 64")
def test_scale_look_up(benchmark, way):
    """The seed's optimisation: it claims 5 times the speed and a 64th of the memory."""
    scales = np.exp(np.random.default_rng(0).uniform(-3, 5, 300_000))
    table = ScaleTable(SCALES)
    if way == "binary search":
        benchmark(table.index, scales)
    else:
        benchmark(lambda: np.abs(SCALES - scales[:, None]).argmin(axis=1))


@pytest.mark.parametrize("way", ["float", "exact"])
@pytest.mark.benchmark(group="entropy: sparse convolution of 15 k cells, 27 x 64 to 64 channels")
def test_exact_inference(benchmark, way):
    generator = torch.Generator().manual_seed(0)
    layer = ExactLinear(27 * 64, 64, generator=generator)
    x = torch.randn(15_000, 64, generator=generator)
    neighbours = torch.randint(-1, 15_000, (15_000, 27), generator=generator)
    with torch.no_grad():
        layer(x, gather=neighbours)
        if way == "exact":
            freeze(layer)
            benchmark(layer, x, gather=neighbours)
        else:
            benchmark(lambda: torch.nn.functional.linear(gathered(x, neighbours), layer.weight, layer.bias))
