"""Bottleneck: the learned factorised prior of [Balle2018], one distribution a channel.

[Balle2018] Balle, Minnen, Singh, Hwang, Johnston, "Variational image compression with a scale hyperprior", ICLR 2018,
appendix 6.1.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from .bound import lower_bound
from .tables import MAX_ENTRIES, TAIL_MASS, FrequencyTables

_BISECTIONS = 80
_MAX_ABS_MEDIAN = 2.0**24


class EntropyBottleneck(nn.Module):
    """Learned density of each channel: noise and a rate in training, rounding and integer tables in use.

    The cumulative distribution of a channel is a small monotone network followed by a sigmoid.  Symbols are rounded
    relative to the median, not to zero, so that a channel of small spread costs nearly nothing whatever its offset.
    The median is found by bisection, not trained by a loss of its own.

    Args:
        channels: number of channels.
        filters: widths of the hidden layers of the network.
        init_scale: spread of the initial distributions.
        channel_axis: axis of the channels in what is coded (1: dense maps; -1: rows of sparse cells).
        likelihood_floor: lower bound of likelihoods in the estimate of the rate.
        generator: of the initial biases.
    """

    median: Tensor

    def __init__(
        self,
        channels: int,
        *,
        filters: tuple[int, ...] = (3, 3, 3),
        init_scale: float = 10.0,
        channel_axis: int = 1,
        likelihood_floor: float = 1e-9,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.channel_axis = channel_axis
        self.likelihood_floor = likelihood_floor
        widths = (1, *filters, 1)
        scale = init_scale ** (1 / (len(widths) - 1))
        self.matrices = nn.ParameterList()
        self.biases = nn.ParameterList()
        self.factors = nn.ParameterList()
        for n_in, n_out in pairwise(widths):
            # Through the softplus the layers together divide by `init_scale`.
            start = math.log(math.expm1(1.0 / (scale * n_out)))
            self.matrices.append(nn.Parameter(torch.full((channels, n_out, n_in), start)))
            self.biases.append(nn.Parameter(torch.rand((channels, n_out, 1), generator=generator) - 0.5))
        for n_out in filters:
            self.factors.append(nn.Parameter(torch.zeros((channels, n_out, 1))))
        self.register_buffer("median", torch.zeros(channels))
        self._stale = False
        self.update()

    def forward(self, y: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Quantised (or noisy) values and their likelihoods, both of y's shape.

        In training mode y_hat is y plus uniform noise in (-1/2, 1/2), from `generator`; in eval mode it is
        rounded relative to the median.
        """
        if self.training:
            self._stale = True
            noise = torch.rand(y.shape, generator=generator, device=y.device, dtype=torch.float32) - 0.5
            y_hat = y.float() + noise
        else:
            if self._stale:
                self.update()
            y_hat = self.dequantise(self.symbols(y))
        return y_hat, self.likelihood(y_hat)

    def likelihood(self, y_hat: Tensor) -> Tensor:
        """F(y_hat + 1/2) - F(y_hat - 1/2) of each element, floored; float32 whatever the autocast."""
        with torch.autocast(y_hat.device.type, enabled=False):
            rows = self._rows(y_hat.float())
            lower, upper = self.logits(rows - 0.5), self.logits(rows + 0.5)
            # On the side where both sigmoids are near 1 their difference would be lost: mirror it.
            sign = -torch.sign(lower + upper).detach()
            rows = torch.abs(torch.sigmoid(sign * upper) - torch.sigmoid(sign * lower))
            return lower_bound(self._back(rows, y_hat), self.likelihood_floor)

    def logits(self, x: Tensor) -> Tensor:
        """Logits of the cumulative distribution of each channel at x; (channels, n) both."""
        h = x[:, None, :]
        for layer, (matrix, bias) in enumerate(zip(self.matrices, self.biases, strict=True)):
            h = functional.softplus(matrix.to(x.dtype)) @ h + bias.to(x.dtype)
            if layer < len(self.factors):
                h = h + torch.tanh(self.factors[layer].to(x.dtype)) * torch.tanh(h)
        return h[:, 0, :]

    @torch.no_grad()
    def medians(self) -> Tensor:
        """Median of each channel by bisection, (channels,) float32."""
        zero = torch.zeros((self.channels, 1), dtype=torch.float64, device=self.median.device)
        return self._quantile(zero)[:, 0].float()

    def _quantile(self, logit: Tensor) -> Tensor:
        """Where the cumulative distribution has these logits, (channels, n) float64 both."""
        high = torch.ones_like(logit)
        while bool((self.logits(high) < logit).any()) and float(high.max()) < _MAX_ABS_MEDIAN:
            high = torch.where(self.logits(high) < logit, high * 2, high)
        low = -torch.ones_like(logit)
        while bool((self.logits(low) > logit).any()) and float(low.min()) > -_MAX_ABS_MEDIAN:
            low = torch.where(self.logits(low) > logit, low * 2, low)
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            above = self.logits(middle) > logit
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        return (low + high) / 2

    def update(self) -> None:
        """Find the medians anew and keep them; eval mode does so by itself after training steps."""
        self.median.copy_(self.medians())
        self._stale = False

    def symbols(self, y: Tensor) -> Tensor:
        """round(y - median), int32, of y's shape."""
        return torch.round(y.float() - self._per_channel(self.median, y)).to(torch.int32)

    def dequantise(self, symbols: Tensor) -> Tensor:
        """Symbols + median, float32."""
        return symbols.float() + self._per_channel(self.median, symbols)

    def table_index(self, shape: tuple[int, ...]) -> npt.NDArray[np.uint16]:
        """Channel number of each element of an array of that shape, for `SymbolEncoder.put`."""
        view = [1] * len(shape)
        view[self.channel_axis] = self.channels
        return np.broadcast_to(np.arange(self.channels, dtype=np.uint16).reshape(view), shape)

    @torch.no_grad()
    def tables(self, tail_mass: float = TAIL_MASS) -> FrequencyTables:
        """One integer table a channel, for symbols relative to the kept medians.

        Args:
            tail_mass: probability left to the escape.
        """
        if self._stale:
            self.update()
        tail = math.log(tail_mass / 2) - math.log1p(-tail_mass / 2)
        ends = torch.tensor([[tail, -tail]], dtype=torch.float64, device=self.median.device)
        quantiles = (self._quantile(ends.expand(self.channels, 2)) - self.median.double()[:, None]).cpu().numpy()
        # At least the symbols -1, 0, 1; at most what a table can hold, the rest being escapes.
        reach = (MAX_ENTRIES - 2) // 2
        first = np.clip(np.floor(quantiles[:, 0] + 0.5), -reach, -1).astype(np.int64)
        last = np.clip(np.ceil(quantiles[:, 1] - 0.5), 1, reach).astype(np.int64)
        probabilities = []
        for channel in range(self.channels):
            edges = torch.arange(int(first[channel]), int(last[channel]) + 2, dtype=torch.float64) - 0.5
            grid = (edges.to(self.median.device) + self.median[channel].double()).expand(self.channels, -1)
            logits = self.logits(grid)[channel]
            probabilities.append(_masses(logits).cpu().numpy())
        return FrequencyTables.from_probabilities(probabilities, first.tolist())

    def _per_channel(self, values: Tensor, like: Tensor) -> Tensor:
        view = [1] * like.dim()
        view[self.channel_axis] = self.channels
        return values.view(view)

    def _rows(self, y: Tensor) -> Tensor:
        return y.movedim(self.channel_axis, 0).reshape(self.channels, -1)

    def _back(self, rows: Tensor, like: Tensor) -> Tensor:
        shape = like.movedim(self.channel_axis, 0).shape
        return rows.reshape(shape).movedim(0, self.channel_axis)


def _masses(logits: Tensor) -> Tensor:
    """Probability of each interval between edges with these logits of the cumulative, then what lies outside."""
    lower, upper = logits[:-1], logits[1:]
    sign = -torch.sign(lower + upper)
    inside = torch.abs(torch.sigmoid(sign * upper) - torch.sigmoid(sign * lower))
    outside = torch.sigmoid(logits[:1]) + torch.sigmoid(-logits[-1:])
    return torch.cat([inside, outside])
