"""Exact: the surface network for use, with logits that are the same on every machine, thread count and batch size.

Made of a trained `SurfaceModel`, without training.  Weights become integers times a power of two for each output, so
few bits that every partial sum of a product is an integer below 2**24: float32 adds those without rounding, in any
order (see codecs.entropy.exact).  Inputs of a layer are rounded to integers times a power of two: one of the voxel's
own, or a fixed one where features of several voxels meet in a product.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from ..entropy.exact import FLOAT32_LIMIT, float32_is_whole
from .surface import RARE, SurfaceConfig, SurfaceModel, in_pieces

#: Bits of the inputs of a layer that reads one voxel, and of a layer norm.
_ROW_BITS, _NORM_BITS = 10, 16
#: Features that neighbours see: 8 bits, up to 255 / 32; a normalised feature is hardly ever larger.
_SEEN_LIMIT, _SEEN_FRACTION = 255, 5
#: Most bits of a weight; the bound of the sums mostly leaves fewer.
_WEIGHT_BITS = 15
_MAX_EXPONENT = 60
_POWERS = torch.from_numpy(np.ldexp(1.0, np.arange(-_MAX_EXPONENT, _MAX_EXPONENT + 1)).astype(np.float32))


def _power(exponent: Tensor) -> Tensor:
    """2**exponent from a table: a power function need not be exact."""
    return _POWERS[exponent.long() + _MAX_EXPONENT]


def _on_own_grid(x: Tensor, bits: int) -> Tensor:
    """Each row rounded to integers of `bits` bits and a sign, times a power of two that fits its largest."""
    _, exponent = torch.frexp(x.abs().amax(dim=1, keepdim=True))
    places = (bits - exponent).clamp(-_MAX_EXPONENT, _MAX_EXPONENT)
    limit = float((1 << bits) - 1)
    return torch.floor(x * _power(places) + 0.5).clamp_(-limit, limit).mul_(_power(-places))


class ExactProduct:
    """x @ W' + b for x on a grid: sums without rounding, then one addition.

    Attributes:
        weight: (outputs, inputs) float32, integers times a power of two for each output.
        fraction: (outputs,) bits behind the point of the weights.
    """

    def __init__(self, layer: nn.Linear, limit: int) -> None:
        """From a trained layer, for inputs of at most `limit` steps of their grid."""
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
        self.weight = torch.from_numpy(np.ldexp(whole, -fraction[:, None])).float()
        self._matrix = self.weight.t().contiguous()
        self._bias = layer.bias.detach().float()

    def __call__(self, x: Tensor) -> Tensor:
        """(n, inputs) to (n, outputs)."""
        if float32_is_whole():
            return torch.mm(x, self._matrix).add_(self._bias)
        return torch.mm(x.double(), self._matrix.double()).float().add_(self._bias)


class _Norm:
    """Layer norm: sums of integers in float64, then single operations."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        self._weight, self._bias = norm.weight.detach().double(), norm.bias.detach().double()
        self._eps = norm.eps

    def __call__(self, x: Tensor) -> Tensor:
        """(n, channels) to the same, and no negative values."""
        x = _on_own_grid(x, _NORM_BITS).double()
        channels = x.shape[1]
        mean = x.sum(dim=1, keepdim=True) / channels
        variance = ((x * x).sum(dim=1, keepdim=True) / channels - mean * mean).clamp_(min=0.0)
        scaled = (x - mean).div_(torch.sqrt(variance + self._eps))
        return scaled.mul_(self._weight).add_(self._bias).clamp_(min=0.0).float()


class _Perceptron:
    """Two products with a relu between; inputs of the first are on a grid of up to `limit` steps."""

    def __init__(self, first: nn.Linear, second: nn.Linear, limit: int) -> None:
        self.first, self.second = ExactProduct(first, limit), ExactProduct(second, (1 << _ROW_BITS) - 1)

    def __call__(self, x: Tensor) -> Tensor:
        return self.second(_on_own_grid(self.first(x).clamp_(min=0.0), _ROW_BITS))


class ExactSurface:
    """What `SurfaceModel` computes, to the accuracy of its integers.

    Attributes:
        config: shape of the network.
    """

    def __init__(self, model: SurfaceModel) -> None:
        """From a trained network.

        Raises:
            ValueError: a weight is not finite.
        """
        self.config: SurfaceConfig = model.config
        first, _, second = model.stem
        self._stem = _Perceptron(first, second, 1)  # type: ignore[arg-type]
        self._of_factor = model.of_factor.detach().float()
        self._blocks = [
            (_Norm(block.norm), _Perceptron(block.around, block.out, _SEEN_LIMIT))  # type: ignore[arg-type]
            for block in model.trunk
        ]
        self._norm = _Norm(model.norm)
        self._heads = {
            int(factor): _Perceptron(head[0], head[2], (1 << _ROW_BITS) - 1)  # type: ignore[index]
            for factor, head in model.heads.items()
        }

    def features(self, windows: Tensor, neighbours: Tensor, factor: int) -> Tensor:
        """(n, channels) of windows (n, 125) and rows of neighbours (n, 27), n for none."""
        channels = self.config.channels
        x = in_pieces(lambda rows: self._stem(rows.float()), windows, channels)
        x = x.add_(self._of_factor[self.config.factors.index(factor)])
        for norm, perceptron in self._blocks:
            seen = in_pieces(_seen_by(norm), x, channels)
            seen = torch.cat([seen, seen.new_zeros(1, channels)])
            x = x.add_(in_pieces(_look(seen, perceptron), neighbours, channels))
        return in_pieces(self._norm, x, channels)

    def logits_of(self, features: Tensor, factor: int) -> Tensor:
        """(n, factor**3) of features, x slowest and z fastest."""
        return self._heads[factor](_on_own_grid(features, _ROW_BITS)).add_(RARE)


def _seen_by(norm: _Norm) -> Callable[[Tensor], Tensor]:
    up, down = float(1 << _SEEN_FRACTION), 1.0 / (1 << _SEEN_FRACTION)
    return lambda rows: torch.floor(norm(rows).mul_(up).add_(0.5)).clamp_(max=_SEEN_LIMIT).mul_(down)


def _look(seen: Tensor, perceptron: _Perceptron) -> Callable[[Tensor], Tensor]:
    return lambda rows: perceptron(seen.index_select(0, rows.reshape(-1)).view(len(rows), -1))
