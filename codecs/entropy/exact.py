"""Exact: networks whose outputs come out the same on every machine, thread count and batch size.

The idea.  Layers quantise their input and their weights to multiples of powers of two.  A product of the two, summed
over the inputs, is then a sum of integers times a power of two, and floating point adds integers exactly in ANY order
as long as they stay below 2**24 (float32) or 2**53 (float64).  The bound is proved from the L1 norm of each row of
weights; a layer that cannot prove 2**24 runs in float64.  Everything between the layers must be elementwise
(+ - * relu clamp floor where, gathers), which IEEE 754 rounds the same everywhere.  No sums, means, softmax, exp,
LayerNorm of torch: use the ones here.

Values keep their meaning (they are real numbers on a grid, not codes), so the same forward code serves
 - mode "float": plain floating point, for the start of training; ranges of activations are observed;
 - mode "exact": quantised, with straight-through gradients for fine-tuning, and for use.

    class Prior(nn.Module):
        def __init__(self):
            self.stem = ExactLinear(43, 64)
            self.conv = ExactLinear(27 * 64, 64)         # gathered 3x3x3 neighbours
            self.head = ExactLinear(64, 48)
        def forward(self, x, neighbours):
            h = torch.relu(self.stem(x))
            h = h + self.conv(torch.relu(h), gather=neighbours)   # (n, 27) rows, -1 where empty
            return self.head(torch.relu(h))

    set_mode(prior, "float")     # train; activations are observed
    set_mode(prior, "exact")     # go on training with quantisation, straight-through
    freeze(prior)                # prove bounds, fix weights: inference only
    arrays = export_arrays(prior); load_arrays(prior, arrays)     # int8 / int16 and exponents
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

Mode = Literal["float", "exact"]


def round_half_up(x: Tensor) -> Tensor:
    """floor(x + 1/2), with a straight-through gradient."""
    raise NotImplementedError


class ExactLinear(nn.Module):
    """y = W q(x) + b; the input is quantised to `in_bits`, the weights to `weight_bits` per output channel.

    With the default 8 x 8 bits float32 products are exact for up to about 1,000 inputs (worst case), in practice more.
    `in_frac` fixes the input's step to 2**-in_frac (0: integers, such as symbols or occupancy bits) instead of
    observing its range.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        in_bits: int = 8,
        weight_bits: int = 8,
        in_frac: int | None = None,
    ) -> None:
        raise NotImplementedError

    def forward(self, x: Tensor, gather: Tensor | None = None) -> Tensor:
        """(..., in) -> (..., out); with `gather` (n, taps) int64, rows of x (m, in // taps), -1 = zeros."""
        raise NotImplementedError


class ExactConv3d(nn.Module):
    """Dense convolution (b, c, d, h, w), zero padding kernel // 2, optional causal mask on the kernel."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        bias: bool = True,
        mask: Tensor | None = None,
        in_bits: int = 8,
        weight_bits: int = 8,
        in_frac: int | None = None,
    ) -> None:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class ExactLayerNorm(nn.Module):
    """Layer norm over the last axis: exact sums of quantised values, one correctly rounded root and division."""

    def __init__(self, features: int, *, in_bits: int = 8) -> None:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class ExactSoftmax(nn.Module):
    """Softmax over the last axis: exponentials from an integer table, exact sum, weights on a grid of 2**-bits."""

    def __init__(self, *, bits: int = 8) -> None:
        raise NotImplementedError

    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """Scores and an optional mask (True = may be attended)."""
        raise NotImplementedError


class ExactMatmul(nn.Module):
    """Product of two activations (queries by keys, weights by values), both quantised."""

    def __init__(self, *, bits: int = 8) -> None:
        raise NotImplementedError

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """(..., n, k) @ (..., k, m)."""
        raise NotImplementedError


class ExactEmbedding(nn.Module):
    """Rows of a quantised table by integer index."""

    def __init__(self, entries: int, features: int, *, weight_bits: int = 8) -> None:
        raise NotImplementedError

    def forward(self, index: Tensor) -> Tensor:
        raise NotImplementedError


def set_mode(module: nn.Module, mode: Mode) -> None:
    """Put all exact layers inside `module` into that mode."""
    raise NotImplementedError


def freeze(module: nn.Module) -> None:
    """Fix quantised weights and ranges, and prove that no sum leaves the exact range."""
    raise NotImplementedError
