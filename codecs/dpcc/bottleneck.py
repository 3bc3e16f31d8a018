"""Bottleneck: the shared one with the quantiles that the published code trains beside it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..entropy.bottleneck import EntropyBottleneck

#: Widths of the hidden layers of the published distributions.
FILTERS = (3, 3, 3, 3)
_TAIL_MASS = 1e-9


class QuantileBottleneck(EntropyBottleneck):
    """Rows of features (n, channels), with trained quantiles of each channel.

    The quantiles (tail, median, tail) have a loss and an optimiser of their own, as published; the tables of
    streams take the exact ones, which `EntropyBottleneck` finds by bisection.
    """

    def __init__(self, channels: int, *, init_scale: float = 10.0) -> None:
        super().__init__(channels, filters=FILTERS, init_scale=init_scale, channel_axis=-1)
        self.quantiles = nn.Parameter(torch.tensor([-init_scale, 0.0, init_scale]).repeat(channels, 1))
        tail = math.log(2 / _TAIL_MASS - 1)
        self.register_buffer("targets", torch.tensor([-tail, 0.0, tail]), persistent=False)

    def auxiliary_loss(self) -> Tensor:
        """Sum of the distances of the quantiles' logits from what they should be; moves the quantiles alone."""
        targets: Tensor = self.targets  # type: ignore[assignment]
        held = [parameter.requires_grad for parameter in self.distribution()]
        for parameter in self.distribution():
            parameter.requires_grad = False
        loss = (self.logits(self.quantiles) - targets).abs().sum()
        for parameter, was in zip(self.distribution(), held, strict=True):
            parameter.requires_grad = was
        return loss

    def distribution(self) -> list[nn.Parameter]:
        """All parameters but the quantiles."""
        return [*self.matrices, *self.biases, *self.factors]

    def bits(self, likelihood: Tensor) -> Tensor:
        """Bits of elements of these likelihoods, one number."""
        return -torch.log2(likelihood).sum()
