"""Exact: networks whose outputs come out the same on every machine, thread count and batch size.

The idea.  A layer rounds its inputs and its weights to multiples of powers of two.  Each output is then a sum of
integers times one power of two, and floating point adds integers without any rounding, IN ANY ORDER, while all
partial sums stay below 2**24 (float32) or 2**53 (float64).  The L1 norm of each row of integer weights times the
largest integer input bounds every partial sum.  A layer for which this does not prove 2**24 splits its sum into
parts for which it does, and adds those in float64; or computes in float64 altogether.

Between such layers everything must be elementwise: + - * / sqrt, relu, clamp, floor, where and gathers are single
operations that IEEE 754 rounds the same everywhere.  What sums (mean, softmax, LayerNorm) or approximates (exp,
sigmoid) must be one of the modules here; so must convolutions, which torch may compute by transforms.

Values keep their meaning - they are real numbers on a grid, no codes - so one forward code serves all stages:

    class Prior(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = ExactLinear(27, 64, in_frac=0)       # inputs are integers: occupancy bits, symbols
            self.conv = ExactLinear(27 * 64, 64)             # the 27 neighbours of each row, gathered
            self.head = ExactLinear(64, 48)

        def forward(self, x: Tensor, neighbours: Tensor) -> Tensor:
            h = torch.relu(self.stem(x))
            h = h + torch.relu(self.conv(h, gather=neighbours))
            return self.head(h)

    set_mode(prior, "float")   # train: plain floating point; the ranges of the inputs are observed
    set_mode(prior, "exact")   # train on: inputs and weights rounded, gradients straight through
    freeze(prior)              # prove the bounds, keep integers: inference only, and exact
    arrays = export_arrays(prior)    # int8 weights and exponents, for the weights file
    load_arrays(prior, arrays)       # on the decoder's machine, into a module built with the same arguments
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

Mode = Literal["float", "exact"]

#: Integers up to here have no gaps in each type.
FLOAT32_LIMIT, FLOAT64_LIMIT = 2.0**24, 2.0**53
#: How fast the observed range forgets a larger one.
_DECAY = 0.995
_MAX_FRACTION = 40
#: Float32 products that a sum is split into before float64 is the faster way.
_MOST_PARTS = 3
#: Rows of gathered inputs or patches that are held at a time in inference.
_ROWS = 8192


class ExactError(RuntimeError):
    """A network cannot be made exact, or is not in the state that a call needs."""


class _Round(torch.autograd.Function):
    """Nearest multiple of 1/scale (halves up) within limits; the gradient passes inside them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, low: float, high: float) -> Tensor:
        scaled = torch.floor(x * scale + 0.5)
        ctx.save_for_backward((scaled >= low) & (scaled <= high))
        return scaled.clamp(low, high) / scale

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None, None


def round_half_up(x: Tensor) -> Tensor:
    """floor(x + 1/2), with the gradient of x: exact, unlike torch.round also at halves the same direction."""
    rounded: Tensor = x + (torch.floor(x + 0.5) - x).detach() if x.requires_grad else torch.floor(x + 0.5)
    return rounded


def _fraction(peak: Tensor, limit: float) -> Tensor:
    """Bits behind the point with which numbers up to `peak` fit `limit` integers, as a float tensor."""
    return torch.floor(torch.log2(limit / peak.clamp(min=2.0**-_MAX_FRACTION))).clamp(-_MAX_FRACTION, _MAX_FRACTION)


def _round_rows(weight: Tensor, limit: float) -> Tensor:
    """Rows rounded as `_integers` does, with a gradient."""
    scale = torch.exp2(_fraction(weight.detach().abs().amax(dim=1, keepdim=True), limit))
    rounded: Tensor = _Round.apply(weight, scale, -limit, limit)
    return rounded


def _integers(weight: npt.NDArray[np.float64], limit: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Integers up to `limit`, and the bits behind the point of each row, that come nearest to the rows of weights.

    Raises:
        ExactError: a weight is not finite.
    """
    peak = np.abs(weight).max(axis=1)
    if not np.isfinite(peak).all():
        raise ExactError("weights are not finite")
    # floor(log2) by mantissa and exponent: a logarithm's last bit may differ.
    _, exponent = np.frexp(limit / np.maximum(peak, 2.0**-_MAX_FRACTION))
    frac = np.clip(exponent.astype(np.int64) - 1, -_MAX_FRACTION, _MAX_FRACTION)
    whole = np.floor(np.ldexp(weight, frac[:, None]) + 0.5).clip(-limit, limit)
    return whole, frac


class Grid(nn.Module):
    """The grid that one activation is rounded to: multiples of 2**-frac, `bits` bits.

    Args:
        bits: 2 to 16; integers -limit .. limit with limit = 2**(bits - 1) - 1, or 0 .. 2**bits - 1 if not signed.
        frac: bits behind the point; None to observe the range in training mode.
        signed: whether values may be negative (behind a relu they are not).
    """

    peak: Tensor
    frac: Tensor

    def __init__(self, bits: int = 8, frac: int | None = None, *, signed: bool = True) -> None:
        super().__init__()
        if not 2 <= bits <= 16:
            raise ValueError(f"activations have 2 to 16 bits, got {bits}")
        self.limit = float((1 << (bits - 1)) - 1 if signed else (1 << bits) - 1)
        self.low = -self.limit if signed else 0.0
        self.given = frac is not None
        self.frozen = False
        self.register_buffer("peak", torch.zeros(()))
        self.register_buffer("frac", torch.tensor(float(frac or 0)))

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        """Widen, or slowly narrow, the range to what came."""
        if self.given or self.frozen or not self.training or not x.numel():
            return
        largest = x.detach().abs().amax().float()
        self.peak.copy_(torch.maximum(largest, self.peak * _DECAY + largest * (1.0 - _DECAY)))
        self.frac.copy_(_fraction(self.peak, self.limit))

    def forward(self, x: Tensor) -> Tensor:
        """The nearest value of the grid."""
        if self.frozen:
            # Multiplying by a power of two rounds nothing; the addition is one operation, the same everywhere.
            return torch.floor(x * self._up + 0.5).clamp_(self.low, self.limit).mul_(self._down)
        self.observe(x)
        rounded: Tensor = _Round.apply(x, torch.exp2(self.frac), self.low, self.limit)
        return rounded

    def freeze(self) -> None:
        """Fix the grid.

        Raises:
            ExactError: no range was ever observed.
        """
        if not self.given and not float(self.peak) > 0:
            raise ExactError("the range of an input was never observed: run data through it in training mode first")
        self.set_frac(int(self.frac))

    def set_frac(self, frac: int) -> None:
        """Fix the grid to multiples of 2**-frac."""
        if not -_MAX_FRACTION <= frac <= _MAX_FRACTION:
            raise ExactError(f"a grid has -{_MAX_FRACTION} to {_MAX_FRACTION} bits behind the point, got {frac}")
        self.frac.fill_(float(frac))
        self._up, self._down = 2.0**frac, 2.0**-frac
        self.frozen = True


class ExactModule(nn.Module):
    """Base of the layers: mode, and what `freeze`, `export_arrays` and `load_arrays` need of each."""

    mode: Mode = "float"
    frozen: bool = False

    def freeze(self) -> None:
        """Fix grids and integers; inference only from here on."""
        for child in self.children():
            if isinstance(child, Grid):
                child.freeze()
        self.frozen = True

    def integers(self) -> dict[str, npt.NDArray[Any]]:
        """What defines a frozen layer, by name."""
        return {
            f"{name}.frac": np.array(int(child.frac), np.int8)
            for name, child in self.named_children()
            if isinstance(child, Grid)
        }

    def load_integers(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Freeze into what `integers` gave."""
        for name, child in self.named_children():
            if isinstance(child, Grid):
                child.set_frac(int(arrays[f"{name}.frac"]))
        self.frozen = True


class _Weighted(ExactModule):
    """A layer with a matrix of weights, one row an output."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def _set_up(self, rows: int, columns: int, *, bias: bool, weight_bits: int, grid: Grid) -> None:
        if not 2 <= weight_bits <= 16:
            raise ValueError(f"weights have 2 to 16 bits, got {weight_bits}")
        self.grid = grid
        self.weight_limit = float((1 << (weight_bits - 1)) - 1)
        spread = 1.0 / math.sqrt(columns)
        self.weight = nn.Parameter(torch.empty(rows, columns))
        self.bias = nn.Parameter(torch.zeros(rows)) if bias else None
        self._spread = spread
        self._parts: list[tuple[slice, Tensor]] = []  # of a frozen layer: columns, and their (columns, rows) weights

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Uniform weights of variance 1 / (3 inputs), zero bias."""
        with torch.no_grad():
            drawn = torch.rand(self.weight.shape, generator=generator, device=self.weight.device)
            self.weight.copy_((drawn * 2 - 1) * self._spread)
            if self.bias is not None:
                self.bias.zero_()

    def _masked(self) -> Tensor:
        return self.weight

    def _rounded_weight(self) -> Tensor:
        return _round_rows(self._masked(), self.weight_limit)

    @torch.no_grad()
    def freeze(self) -> None:
        """Round the weights for good, and find the type in which their sums are exact."""
        super().freeze()
        weight = self._masked().detach().cpu().double().numpy()
        whole, frac = _integers(weight, self.weight_limit)
        self._keep(whole, frac)

    def _keep(self, whole: npt.NDArray[np.float64], frac: npt.NDArray[np.int64]) -> None:
        bound = float(np.abs(whole).sum(axis=1).max(initial=0.0)) * self.grid.limit
        if bound > FLOAT64_LIMIT:
            raise ExactError(f"sums of up to {bound:.3g} are not exact in float64: use fewer bits or inputs")
        self.bound = bound
        self._whole, self._frac = whole.astype(np.int16), frac.astype(np.int8)
        values = torch.from_numpy(np.ldexp(whole, -frac[:, None])).to(self.weight.device)
        self.weight.data = values.float()
        self.weight.requires_grad_(False)
        if self.bias is not None:
            self.bias.requires_grad_(False)
        columns = _float32_parts(np.abs(whole) * self.grid.limit)
        if columns is None:
            self._parts = [(slice(None), values.t().contiguous())]
        else:
            self._parts = [(part, values[:, part].t().contiguous().float()) for part in columns]

    def integers(self) -> dict[str, npt.NDArray[Any]]:
        """Weights, their exponents, and the bias (float32: it is added in one operation)."""
        narrow = np.int8 if self.weight_limit < 128 else np.int16
        arrays = super().integers() | {"weight": self._whole.astype(narrow), "weight_frac": self._frac}
        if self.bias is not None:
            arrays["bias"] = self.bias.detach().cpu().numpy().astype(np.float32)
        return arrays

    def load_integers(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Freeze into what `integers` gave; the bounds are proved again."""
        super().load_integers(arrays)
        whole = np.asarray(arrays["weight"], np.float64)
        if whole.shape != tuple(self.weight.shape) or np.abs(whole).max(initial=0) > self.weight_limit:
            raise ExactError(f"expected weights of shape {tuple(self.weight.shape)}, got {whole.shape}")
        if self.bias is not None:
            self.bias.data = torch.from_numpy(np.array(arrays["bias"], np.float32)).to(self.bias.device)
        self._keep(whole, np.asarray(arrays["weight_frac"], np.int64))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Take the frozen matrix along when the module moves to another device."""
        result = super()._apply(fn, recurse)
        self._parts = [(part, matrix.to(self.weight.device)) for part, matrix in self._parts]
        return result

    def _product(self, x: Tensor) -> Tensor:
        """Exact x @ W' + b for x on the grid, (..., columns) -> (..., rows), float32."""
        full = float32_is_whole()
        with torch.autocast(x.device.type, enabled=False):
            total: Tensor | None = None
            for part, matrix in self._parts:
                dtype = matrix.dtype if full else torch.float64
                one = x[..., part].to(dtype) @ matrix.to(dtype)
                total = one if total is None else total.double() + one.double()
            if total is None:
                raise ExactError("the layer is not frozen")
            # The bias apart from the product, whose sums must stay integers; in float32 whatever the sums were
            # computed in, so that there is one rounding and not two.
            return total.float() if self.bias is None else total.float() + self.bias


def float32_is_whole() -> bool:
    """Whether float32 products keep all their bits: not so where a user allows TF32 or bfloat16 inside of them."""
    try:
        return torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # the newer settings, by backend, are in use
        return False


def _float32_parts(sizes: npt.NDArray[np.float64]) -> list[slice] | None:
    """Runs of columns within which the sum of every row stays below 2**24; None if they would be too many.

    Args:
        sizes: (rows, columns) largest size of each product, in integers.
    """
    parts: list[slice] = []
    start = 0
    while start < sizes.shape[1] and len(parts) < _MOST_PARTS:
        sums = np.cumsum(sizes[:, start:], axis=1).max(axis=0)  # rising
        fits = int(np.searchsorted(sums, FLOAT32_LIMIT, side="right"))
        if not fits:
            return None
        parts.append(slice(start, start + fits))
        start += fits
    return parts if start == sizes.shape[1] else None


class ExactLinear(_Weighted):
    """y = W q(x) + b, with q the rounding to the input's grid.

    Args:
        in_features: inputs (with `gather`: taps * features of a row).
        out_features: outputs.
        bias: whether to add one.
        in_bits: bits of the inputs.
        weight_bits: bits of the weights, with an exponent for each output.
        in_frac: bits behind the point of the inputs (0 for integers such as symbols); None to observe their range.
        in_signed: False where inputs are never negative: one bit more for the same bound.
        generator: of the initial weights.
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
        in_signed: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        grid = Grid(in_bits, in_frac, signed=in_signed)
        self._set_up(out_features, in_features, bias=bias, weight_bits=weight_bits, grid=grid)
        self.reset_parameters(generator)

    def forward(self, x: Tensor, gather: Tensor | None = None) -> Tensor:
        """Apply the layer.

        Args:
            x: (..., in_features), or (m, in_features / taps) with `gather`.
            gather: (n, taps) int64 rows of x that are laid side by side, -1 for a row of zeros.

        Returns:
            (..., out_features), or (n, out_features).
        """
        if self.frozen:
            return self._frozen_forward(self.grid(x), gather)
        if self.mode == "float":
            self.grid.observe(x)
            return functional.linear(gathered(x, gather), self.weight, self.bias)
        return functional.linear(gathered(self.grid(x), gather), self._rounded_weight(), self.bias)

    def _frozen_forward(self, x: Tensor, gather: Tensor | None) -> Tensor:
        if gather is None:
            return self._product(x)
        padded = torch.cat([x, x.new_zeros(1, x.shape[1])])
        parts = [self._product(padded[rows].flatten(1)) for rows in gather.split(_ROWS)]
        return torch.cat(parts) if parts else x.new_zeros(0, self.weight.shape[0])


def gathered(x: Tensor, gather: Tensor | None) -> Tensor:
    """Rows of x (m, c) side by side, (n, taps * c), for (n, taps) row numbers, -1 for zeros; x itself for None."""
    if gather is None:
        return x
    return torch.cat([x, x.new_zeros(1, x.shape[1])])[gather].flatten(1)


class ExactConv3d(_Weighted):
    """Dense convolution of (b, c, d, h, w) with zero padding kernel // 2.

    Args:
        in_channels: channels in.
        out_channels: channels out.
        kernel: odd side of the kernel.
        stride: step.
        bias: whether to add one.
        mask: (kernel, kernel, kernel) of 0 and 1 that weights are multiplied with: a causal mask, say.
        in_bits: as in `ExactLinear`.
        weight_bits: as in `ExactLinear`.
        in_frac: as in `ExactLinear`.
        in_signed: as in `ExactLinear`.
        generator: of the initial weights.
    """

    mask: Tensor | None

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
        in_signed: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"expected an odd kernel, got {kernel}")
        self.kernel, self.stride, self.in_channels = kernel, stride, in_channels
        if mask is not None and tuple(mask.shape) != (kernel,) * 3:
            raise ValueError(f"expected a mask of shape {(kernel,) * 3}, got {tuple(mask.shape)}")
        row = None if mask is None else mask.float().reshape(1, 1, -1).expand(1, in_channels, -1).reshape(1, -1)
        self.register_buffer("mask", row, persistent=False)
        grid = Grid(in_bits, in_frac, signed=in_signed)
        self._set_up(out_channels, in_channels * kernel**3, bias=bias, weight_bits=weight_bits, grid=grid)
        self.reset_parameters(generator)

    def _masked(self) -> Tensor:
        return self.weight if self.mask is None else self.weight * self.mask

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, d, h, w) -> (b, out, d', h', w')."""
        if self.frozen:
            return self._frozen_forward(self.grid(x))
        shape = (-1, self.in_channels, self.kernel, self.kernel, self.kernel)
        if self.mode == "float":
            self.grid.observe(x)
            weight = self._masked()
        else:
            x, weight = self.grid(x), self._rounded_weight()
        return functional.conv3d(x, weight.view(shape), self.bias, self.stride, self.kernel // 2)

    def _frozen_forward(self, x: Tensor) -> Tensor:
        patches = self._windows(x)
        per_item = max(1, math.prod(patches.shape[1:4]))
        parts = [
            self._product(part.reshape(*part.shape[:4], -1)) for part in patches.split(max(1, _ROWS // per_item))
        ]  # (b, d', h', w', out)
        return torch.cat(parts).movedim(-1, 1).contiguous()

    def _windows(self, x: Tensor) -> Tensor:
        """(b, d', h', w', c, k, k, k) view of the padded input."""
        pad = self.kernel // 2
        windows = functional.pad(x, (pad,) * 6)
        for axis in (2, 3, 4):
            windows = windows.unfold(axis, self.kernel, self.stride)
        return windows.movedim(1, 4)

    def at(self, patches: Tensor) -> Tensor:
        """The layer at single places: (n, c, k, k, k) inputs around them -> (n, out).  For sequential decoding."""
        if self.frozen:
            return self._product(self.grid(patches).flatten(1))
        x, weight = (
            (patches, self._masked()) if self.mode == "float" else (self.grid(patches), self._rounded_weight())
        )
        return functional.linear(x.flatten(1), weight, self.bias)


class ExactMatmul(ExactModule):
    """Product of two activations, both rounded: queries by keys, attention by values.

    Args:
        bits: bits of each.
        frac_a: bits behind the point of the first factor; None to observe its range.
        frac_b: of the second.
    """

    def __init__(self, bits: int = 8, *, frac_a: int | None = None, frac_b: int | None = None) -> None:
        super().__init__()
        self.grid_a, self.grid_b = Grid(bits, frac_a), Grid(bits, frac_b)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """(..., n, k) @ (..., k, m)."""
        if not self.frozen:
            if self.mode == "float":
                self.grid_a.observe(a)
                self.grid_b.observe(b)
                return a @ b
            return self.grid_a(a) @ self.grid_b(b)
        bound = a.shape[-1] * self.grid_a.limit * self.grid_b.limit
        if bound > FLOAT64_LIMIT:
            raise ExactError(f"a product over {a.shape[-1]} terms is not exact in float64")
        exact32 = bound <= FLOAT32_LIMIT and float32_is_whole()
        dtype = torch.float32 if exact32 else torch.float64
        with torch.autocast(a.device.type, enabled=False):
            return (self.grid_a(a.float()).to(dtype) @ self.grid_b(b.float()).to(dtype)).float()


class ExactLayerNorm(ExactModule):
    """Layer norm over the last axis: sums of integers, then one division and one root, each correctly rounded.

    Args:
        features: length of the last axis.
        in_bits: bits of the inputs.
        eps: added to the variance.
    """

    def __init__(self, features: int, *, in_bits: int = 12, eps: float = 1e-5) -> None:
        super().__init__()
        self.grid = Grid(in_bits)
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        """(..., features) -> the same shape."""
        if self.frozen:
            with torch.autocast(x.device.type, enabled=False):
                return self._normalised(self.grid(x.float()).double()).float()
        if self.mode == "float":
            self.grid.observe(x)
            return functional.layer_norm(x, (x.shape[-1],), self.weight, self.bias, self.eps)
        return functional.layer_norm(self.grid(x), (x.shape[-1],), self.weight, self.bias, self.eps)

    def _normalised(self, x: Tensor) -> Tensor:
        n = x.shape[-1]
        # x has at most 16 bits, its square 32: sums of millions of them are exact in float64.
        mean = x.sum(dim=-1, keepdim=True) / n
        square = (x * x).sum(dim=-1, keepdim=True) / n
        variance = (square - mean * mean).clamp(min=0.0)
        scaled = (x - mean) / torch.sqrt(variance + self.eps)
        return scaled * self.weight + self.bias

    def integers(self) -> dict[str, npt.NDArray[Any]]:
        """Grid, weight and bias."""
        affine = {name: getattr(self, name).detach().cpu().numpy() for name in ("weight", "bias")}
        return super().integers() | affine

    def load_integers(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Freeze into what `integers` gave."""
        super().load_integers(arrays)
        for name in ("weight", "bias"):
            parameter = getattr(self, name)
            parameter.data = torch.from_numpy(np.array(arrays[name], np.float32)).to(parameter.device)


class ExactEmbedding(ExactModule):
    """Rows of a table by integer index.

    Look-ups are exact in any precision; the integers keep the weights file small.

    Args:
        entries: rows.
        features: numbers in each.
        weight_bits: bits of a number, with an exponent for each row.
        generator: of the initial weights, which are normal with deviation 0.02.
    """

    def __init__(
        self, entries: int, features: int, *, weight_bits: int = 8, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.weight_limit = float((1 << (weight_bits - 1)) - 1)
        self.weight = nn.Parameter(torch.randn(entries, features, generator=generator) * 0.02)

    def forward(self, index: Tensor) -> Tensor:
        """(...) int64 -> (..., features)."""
        if self.frozen or self.mode == "float":
            return functional.embedding(index, self.weight)
        return functional.embedding(index, _round_rows(self.weight, self.weight_limit))

    @torch.no_grad()
    def freeze(self) -> None:
        """Round the table for good."""
        super().freeze()
        self._keep(*_integers(self.weight.detach().cpu().double().numpy(), self.weight_limit))

    def _keep(self, whole: npt.NDArray[np.float64], frac: npt.NDArray[np.int64]) -> None:
        self._whole, self._frac = whole.astype(np.int16), frac.astype(np.int8)
        values = torch.from_numpy(np.ldexp(whole, -frac[:, None])).float()
        self.weight.data = values.to(self.weight.device)
        self.weight.requires_grad_(False)

    def integers(self) -> dict[str, npt.NDArray[Any]]:
        """Table and exponents."""
        narrow = np.int8 if self.weight_limit < 128 else np.int16
        return {"weight": self._whole.astype(narrow), "weight_frac": self._frac}

    def load_integers(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Freeze into what `integers` gave."""
        super().load_integers(arrays)
        whole = np.asarray(arrays["weight"], np.float64)
        if whole.shape != tuple(self.weight.shape):
            raise ExactError(f"expected a table of shape {tuple(self.weight.shape)}, got {whole.shape}")
        self._keep(whole, np.asarray(arrays["weight_frac"], np.int64))


class ExactLookup(ExactModule):
    """A function of one number, from a table over the grid of its input: sigmoid, softplus, exp, ...

    Args:
        function: elementwise, differentiable.
        in_bits: bits of the input; the table has 2**in_bits - 1 entries.
        in_frac: bits behind the point of the input; None to observe its range.
    """

    def __init__(
        self, function: Callable[[Tensor], Tensor], *, in_bits: int = 10, in_frac: int | None = None
    ) -> None:
        super().__init__()
        self.grid = Grid(in_bits, in_frac)
        self.function = function
        self._table: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise."""
        if self._table is not None:
            place = self.grid(x.float()) * self.grid._up + self.grid.limit
            return self._table.to(x.device)[place.to(torch.int64)]
        if self.mode == "float":
            self.grid.observe(x)
            return self.function(x)
        return self.function(self.grid(x))

    @torch.no_grad()
    def freeze(self) -> None:
        """Make the table."""
        super().freeze()
        limit = int(self.grid.limit)
        self._table = self.function(torch.arange(-limit, limit + 1, dtype=torch.float64) * self.grid._down).float()

    def integers(self) -> dict[str, npt.NDArray[Any]]:
        """Grid and table."""
        if self._table is None:
            raise ExactError("the layer is not frozen")
        return super().integers() | {"table": self._table.numpy()}

    def load_integers(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Freeze into what `integers` gave."""
        super().load_integers(arrays)
        table = np.array(arrays["table"], np.float32)
        if table.shape != (2 * int(self.grid.limit) + 1,):
            raise ExactError(f"expected a table of {2 * int(self.grid.limit) + 1} entries, got {table.shape}")
        self._table = torch.from_numpy(table)


class ExactSoftmax(ExactModule):
    """Softmax over the last axis: integer exponentials from a table, their exact sum, one division.

    Args:
        bits: weights are multiples of 2**-bits.
    """

    _STEP_BITS, _REACH = 4, 12  # distances to the largest score in sixteenths, up to 12: e**-12 is 6e-6

    def __init__(self, *, bits: int = 8) -> None:
        super().__init__()
        self.bits = bits
        distances = np.arange((self._REACH << self._STEP_BITS) + 1) / (1 << self._STEP_BITS)
        self._table = torch.from_numpy(np.floor(np.exp(-distances) * 2.0**20 + 0.5))

    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attention weights of the last axis.

        Args:
            scores: (..., n).
            mask: True where attention is allowed; a row with none gets all zeros.
        """
        if self.frozen:
            return self._exact(scores, mask)
        allowed = scores if mask is None else scores.masked_fill(~mask, -math.inf)
        # Rows without any allowed place: zeros instead of NaN.
        soft = torch.nan_to_num(torch.softmax(allowed.float(), dim=-1), nan=0.0)
        if self.mode == "float":
            return soft
        return soft + (self._exact(scores.detach(), mask) - soft).detach()

    def _exact(self, scores: Tensor, mask: Tensor | None) -> Tensor:
        scores = scores.double()
        if mask is not None:
            scores = torch.where(mask, scores, -math.inf)
        top = scores.amax(dim=-1, keepdim=True)
        distance = torch.where(torch.isfinite(top), top, 0.0) - scores
        place = torch.floor(distance * float(1 << self._STEP_BITS) + 0.5).clamp(max=float(len(self._table) - 1))
        weights = self._table.to(scores.device)[place.to(torch.int64)]
        if mask is not None:
            weights = torch.where(mask, weights, 0.0)
        total = weights.sum(dim=-1, keepdim=True).clamp(min=1.0)
        return (torch.floor(weights * 2.0**self.bits / total + 0.5) * 2.0**-self.bits).float()

    def integers(self) -> dict[str, npt.NDArray[Any]]:
        """The table of exponentials."""
        return {"table": self._table.numpy().astype(np.int32)}

    def load_integers(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Freeze into what `integers` gave."""
        super().load_integers(arrays)
        table = np.array(arrays["table"], np.float64)
        if table.shape != self._table.shape:
            raise ExactError(f"expected a table of {len(self._table)} entries, got {table.shape}")
        self._table = torch.from_numpy(table)


def layers(module: nn.Module) -> Iterator[tuple[str, ExactModule]]:
    """The exact layers inside a module, with their names."""
    for name, child in module.named_modules():
        if isinstance(child, ExactModule):
            yield name, child


def set_mode(module: nn.Module, mode: Mode) -> None:
    """Put all exact layers inside `module` into a mode.

    Raises:
        ExactError: a layer is frozen.
    """
    for name, layer in layers(module):
        if layer.frozen:
            raise ExactError(f"layer {name or 'itself'} is frozen: its mode cannot change")
        layer.mode = mode


def freeze(module: nn.Module) -> None:
    """Fix weights and grids of all exact layers inside, and prove that none of their sums is ever rounded.

    Raises:
        ExactError: a layer's input was never observed, or its sums cannot be exact; names the layer.
    """
    for name, layer in layers(module):
        try:
            layer.freeze()
        except ExactError as error:
            raise ExactError(f"layer {name or 'itself'}: {error}") from None


def export_arrays(module: nn.Module, prefix: str = "") -> dict[str, npt.NDArray[Any]]:
    """The integers of all exact layers inside a frozen module, by name; other parameters are not included.

    Raises:
        ExactError: a layer is not frozen.
    """
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, layer in layers(module):
        if not layer.frozen:
            raise ExactError(f"layer {name or 'itself'} is not frozen")
        dot = f"{name}." if name else ""
        arrays |= {f"{prefix}{dot}{key}": value for key, value in layer.integers().items()}
    return arrays


def load_arrays(module: nn.Module, arrays: Mapping[str, npt.NDArray[Any]], prefix: str = "") -> None:
    """Freeze a module of the same structure into what `export_arrays` gave.

    Raises:
        ExactError: an array is missing or does not fit; names the layer.
    """
    for name, layer in layers(module):
        start = f"{prefix}{name}." if name else prefix
        mine = {key[len(start) :]: value for key, value in arrays.items() if key.startswith(start)}
        try:
            layer.load_integers(mine)
        except KeyError as error:
            raise ExactError(f"layer {name or 'itself'}: no array {error}") from None
        except ExactError as error:
            raise ExactError(f"layer {name or 'itself'}: {error}") from None


def fingerprint(module: nn.Module) -> str:
    """Hash of all integers of a frozen module: equal networks, equal hash, on every machine."""
    digest = hashlib.sha256()
    for name, array in sorted(export_arrays(module).items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()
