"""Bottleneck: the learned factorised prior of [Balle2018], one distribution a channel.

[Balle2018] Balle, Minnen, Singh, Hwang, Johnston, "Variational image compression with a scale hyperprior", ICLR 2018,
appendix 6.1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .tables import FrequencyTables


class EntropyBottleneck(nn.Module):
    """Learned density of each channel: noise and a rate in training, rounding and integer tables in use.

    The channel axis is `channel_axis` of the input (1: dense maps; -1: rows of sparse cells).
    """

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
        raise NotImplementedError

    def forward(self, y: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """(y_hat, likelihoods), both of y's shape: noisy in training mode, rounded about the median in eval mode."""
        raise NotImplementedError

    def medians(self) -> Tensor:
        """Median of each channel, (channels,), by bisection; kept as a buffer by `update`."""
        raise NotImplementedError

    def symbols(self, y: Tensor) -> Tensor:
        """round(y - median), int32."""
        raise NotImplementedError

    def dequantise(self, symbols: Tensor) -> Tensor:
        """symbols + median."""
        raise NotImplementedError

    def update(self) -> None:
        """Freeze the medians; to be called after training, before `tables`."""
        raise NotImplementedError

    def tables(self, tail_mass: float = 2.0**-17) -> FrequencyTables:
        """One integer table a channel, for `SymbolEncoder.put(symbols, tables, channel index)`."""
        raise NotImplementedError

    def table_index(self, shape: tuple[int, ...]) -> Tensor:
        """Channel number of each element of such a shape."""
        raise NotImplementedError
