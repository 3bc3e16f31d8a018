"""Exact: the surface network for use, with logits that are the same on every machine, thread count and batch size.

Made of a trained `SurfaceModel`, without training.  Weights become integers times a power of two for each output, so
few bits that every partial sum of a product is an integer below 2**24: float32 adds those without rounding, in any
order (see codecs.entropy.exact).  Inputs of a layer are rounded to integers times a power of two: one of the voxel's
own, or a fixed one where features of several voxels meet in a product.

Between the products, kernels take a row through all that happens to it at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ..._jit import njit
from ...metrics.workers import Workers
from ..entropy.exact import FLOAT32_LIMIT, float32_is_whole
from ..threads import one_torch_thread
from .neighbours import neighbours_of, windows_of
from .surface import RARE, WINDOW_RADIUS, Block, SurfaceConfig, SurfaceModel

#: Bits of the inputs of a layer that reads one voxel, and of a layer norm.
_ROW_BITS, _NORM_BITS = 10, 16
ROW_LIMIT = (1 << _ROW_BITS) - 1
#: Features that neighbours see: 8 bits, up to 255 / 32; a normalised feature is hardly ever larger.
SEEN_LIMIT, _SEEN_FRACTION = 255, 5
SEEN_SCALE = 1.0 / (1 << _SEEN_FRACTION)
#: Most bits of a weight; the bound of the sums mostly leaves fewer.
_WEIGHT_BITS = 15
_MAX_EXPONENT = 60
#: Voxels that a thread takes at a time.
_PIECE_ROWS = 1024

Floats = npt.NDArray[np.float32]
Keys = npt.NDArray[np.int64]
#: What is done with the logits of a slice of the rows.
Use = Callable[[slice, Floats], None]


class ExactProduct:
    """x @ matrix for x on a grid: sums without rounding.

    Attributes:
        matrix: (inputs, outputs) float32, integers times a power of two for each output.
        bias: (outputs,) float32, to be added after.
        fraction: (outputs,) bits behind the point of the weights.
    """

    def __init__(self, layer: nn.Linear, limit: int) -> None:
        """From a trained layer, for inputs of at most `limit` steps of their grid.

        Raises:
            ValueError: a weight is not finite.
        """
        weight = layer.weight.detach().double().numpy()
        if not np.isfinite(weight).all():
            raise ValueError("weights are not finite")
        _, exponent = np.frexp(np.maximum(np.abs(weight).max(axis=1), 2.0**-20))
        fraction = _WEIGHT_BITS - exponent.astype(np.int64)
        while True:
            whole = np.floor(np.ldexp(weight, fraction[:, None]) + 0.5)
            # The sum is one of integers, so that every machine takes the same number of bits.
            large = np.abs(whole).sum(axis=1) * limit > FLOAT32_LIMIT
            if not large.any():
                break
            fraction = fraction - large
        self.fraction = fraction
        self.matrix: Floats = np.ascontiguousarray(np.ldexp(whole, -fraction[:, None]).T, np.float32)
        self.bias: Floats = layer.bias.detach().float().numpy().copy()

    def __call__(self, x: Floats) -> Floats:
        """(n, inputs) to (n, outputs), without the bias."""
        if float32_is_whole():
            return torch.mm(torch.from_numpy(x), torch.from_numpy(self.matrix)).numpy()
        return (x.astype(np.float64) @ self.matrix.astype(np.float64)).astype(np.float32)


class Perceptron:
    """Two products with a relu between; inputs of the first are on a grid of up to `limit` steps."""

    def __init__(self, first: nn.Linear, second: nn.Linear, limit: int) -> None:
        self.first, self.second = ExactProduct(first, limit), ExactProduct(second, ROW_LIMIT)

    def __call__(self, x: Floats) -> Floats:
        """(n, inputs) to (n, outputs)."""
        return self.after(self.first(x))

    def after(self, hidden: Floats) -> Floats:
        """From what the first product gave, which is overwritten."""
        _relu_on_grid(hidden, self.first.bias)
        return self.second(hidden) + self.second.bias


class ExactNorm:
    """Layer norm and relu: sums of integers in float64, then single operations."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        weight, bias = (part.detach().double().numpy().copy() for part in (norm.weight, norm.bias))
        self._arrays = weight, bias, float(norm.eps)

    def apply(self, x: Floats) -> None:
        """In place, for a product: each row on a grid of its own of `ROW_LIMIT` steps."""
        _normalise(x, *self._arrays)
        _on_grid(x)

    def see(self, x: Floats, seen: npt.NDArray[np.uint8]) -> None:
        """For products that read several voxels: multiples of `SEEN_SCALE`."""
        _see(x, *self._arrays, seen)


class ExactBlocks:
    """Residual blocks: what `Block` after `Block` computes."""

    def __init__(self, blocks: Iterable[Block]) -> None:
        self._parts = [(ExactNorm(block.norm), Perceptron(block.around, block.out, SEEN_LIMIT)) for block in blocks]

    def __call__(self, x: Floats, keys: Keys, workers: Workers) -> None:
        """Take features x (n, channels) of voxels with these sorted keys through the blocks, in place."""
        if not self._parts:
            return
        seen = np.empty(x.shape, np.uint8)
        for norm, perceptron in self._parts:

            def see(rows: slice, norm: ExactNorm = norm) -> None:
                norm.see(x[rows], seen[rows])

            def look(rows: slice, perceptron: Perceptron = perceptron) -> None:
                x[rows] += perceptron(gathered(seen, neighbours_of(keys, 1, rows), SEEN_SCALE))

            workers.map(see, pieces_of(len(x)))
            workers.map(look, pieces_of(len(x)))


class ExactSurface:
    """What `SurfaceModel` computes, to the accuracy of its integers.

    Attributes:
        config: shape of the network.
        norm: of the features of a voxel, for who reads them.
    """

    def __init__(self, model: SurfaceModel) -> None:
        """From a trained network.

        Raises:
            ValueError: a weight is not finite.
        """
        self.config: SurfaceConfig = model.config
        first, _, second = model.stem
        self._stem = Perceptron(first, second, 1)  # type: ignore[arg-type]
        self._of_factor: Floats = model.of_factor.detach().float().numpy().copy()
        self._blocks = ExactBlocks(model.trunk)  # type: ignore[arg-type]
        self.norm = ExactNorm(model.norm)
        self._heads = {
            int(factor): Perceptron(head[0], head[2], ROW_LIMIT)  # type: ignore[index]
            for factor, head in model.heads.items()
        }

    def logits(self, keys: Keys, factor: int, use: Use) -> None:
        """Compute logits (rows, factor**3), x slowest and z fastest, of some voxels at a time, and hand them over.

        Args:
            keys: (n,) ascending distinct keys of the voxels.
            factor: one of the model's.
            use: called with a slice of the n rows and their logits, on several threads.
        """
        workers = Workers()
        with one_torch_thread():
            x = self.features(keys, factor, workers)

            def end(rows: slice) -> None:
                use(rows, self.logits_of(x[rows], factor))

            workers.map(end, pieces_of(len(x)))

    def features(self, keys: Keys, factor: int, workers: Workers) -> Floats:
        """Features (n, channels) of voxels, before the last norm."""
        x = np.empty((len(keys), self.config.channels), np.float32)
        shift = self._of_factor[self.config.factors.index(factor)]

        def begin(rows: slice) -> None:
            x[rows] = self._stem(windows_of(keys, WINDOW_RADIUS, rows).astype(np.float32)) + shift

        workers.map(begin, pieces_of(len(x)))
        self._blocks(x, keys, workers)
        return x

    def logits_of(self, x: Floats, factor: int) -> Floats:
        """Logits of some features, which are overwritten."""
        self.norm.apply(x)
        return self._heads[factor](x) + np.float32(RARE)


def pieces_of(n: int) -> list[slice]:
    """Rows that a thread takes at a time."""
    return [slice(low, min(low + _PIECE_ROWS, n)) for low in range(0, n, _PIECE_ROWS)]


def gathered(seen: npt.NDArray[Any], rows: npt.NDArray[np.integer[Any]], scale: float) -> Floats:
    """Rows (m, k) of `seen` (n, channels) side by side, zeros for n, times a power of two: (m, k * channels)."""
    out = np.empty((len(rows), rows.shape[1] * seen.shape[1]), np.float32)
    _gather(seen, rows, np.float32(scale), out)
    return out


#: What a kernel may do to be fast: nothing that changes a number.
_kernel = njit(nogil=True, fastmath={"nnan", "nsz"})


@njit(nogil=True, fastmath=True)  # no operation here can round
def _largest(x):  # type: ignore[no-untyped-def]
    largest = np.float32(0.0)
    for k in range(len(x)):
        largest = max(largest, abs(x[k]))
    return largest


@njit(nogil=True, fastmath=True)  # integers: no sum here can round
def _sums(x):  # type: ignore[no-untyped-def]
    """Of values and of squares."""
    total, square = 0.0, 0.0
    for k in range(len(x)):
        value = np.float64(x[k])
        total += value
        square += value * value
    return total, square


@_kernel
def _power(exponent):  # type: ignore[no-untyped-def]
    """2**exponent, for one that is small: the bits of the number are written down."""
    return np.int32((exponent + 127) << 23).view(np.float32)


@_kernel
def _exponent(value):  # type: ignore[no-untyped-def]
    """Of the power of two above a number that is not negative; 0 for 0."""
    return (np.float32(value).view(np.int32) >> 23) - 126 if value > 0 else 0


@_kernel
def _grid_row(row, bits):  # type: ignore[no-untyped-def]
    """Round a row to integers of `bits` bits and a sign, times a power of two that fits its largest; the place."""
    places = min(max(bits - _exponent(_largest(row)), -_MAX_EXPONENT), _MAX_EXPONENT)
    up, half, limit = _power(places), np.float32(0.5), np.float32((1 << bits) - 1)
    for k in range(len(row)):
        row[k] = min(max(np.floor(row[k] * up + half), -limit), limit)
    return places


@_kernel
def _norm_row(row, weight, bias, eps):  # type: ignore[no-untyped-def]
    """Layer norm and relu of a row."""
    down = np.float64(_power(-_grid_row(row, _NORM_BITS)))
    channels = len(row)
    total, square = _sums(row)
    mean = total * down / channels
    deviation = math.sqrt(max(square * (down * down) / channels - mean * mean, 0.0) + eps)
    for c in range(channels):
        row[c] = np.float32(max((row[c] * down - mean) / deviation * weight[c] + bias[c], 0.0))


@_kernel
def _normalise(x, weight, bias, eps):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        _norm_row(x[i], weight, bias, eps)


@_kernel
def _see(x, weight, bias, eps, seen):  # type: ignore[no-untyped-def]
    """What neighbours see of voxels."""
    row = np.empty(x.shape[1], np.float32)
    up, half, limit = np.float32(1 << _SEEN_FRACTION), np.float32(0.5), np.float32(SEEN_LIMIT)
    for i in range(len(x)):
        row[:] = x[i]
        _norm_row(row, weight, bias, eps)
        for c in range(len(row)):
            seen[i, c] = np.uint8(min(np.floor(row[c] * up + half), limit))


@_kernel
def _gather(seen, neighbours, scale, out):  # type: ignore[no-untyped-def]
    channels = seen.shape[1]
    for i in range(len(neighbours)):
        for tap in range(neighbours.shape[1]):
            found, first = neighbours[i, tap], tap * channels
            if found < len(seen):
                for c in range(channels):
                    out[i, first + c] = seen[found, c] * scale
            else:
                for c in range(channels):
                    out[i, first + c] = 0


@_kernel
def _to_grid(row):  # type: ignore[no-untyped-def]
    down = _power(-_grid_row(row, _ROW_BITS))
    for k in range(len(row)):
        row[k] *= down


@_kernel
def _relu_on_grid(x, bias):  # type: ignore[no-untyped-def]
    """Add the bias; what is positive on a grid of each row's own."""
    for i in range(len(x)):
        row = x[i]
        for k in range(len(bias)):
            row[k] = max(row[k] + bias[k], np.float32(0.0))
        _to_grid(row)


@_kernel
def _on_grid(x):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        _to_grid(x[i])
