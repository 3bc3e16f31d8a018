"""Proxy: the prior that stands in for an entropy model while the transforms are trained.

It knows what is cheap and useful to know: which neighbours are occupied, the rate, and, for every second cell of a
three-dimensional checkerboard, the latents of the others.  The real entropy models are trained afterwards on the
finished latents, so that all six code the same symbols.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .transforms import CellConv

_KNOTS = 9
_LIKELIHOOD_FLOOR = 1e-9


class ProxyPrior(nn.Module):
    """Mean and scale of a logistic distribution for each latent, in two passes over a checkerboard."""

    def __init__(self, latent_channels: int, hidden: int = 64, radius: int = 1) -> None:
        super().__init__()
        offsets = torch.arange((2 * radius + 1) ** 3)
        self.inputs = nn.Linear(len(offsets) + _KNOTS, hidden)
        self.around = CellConv(hidden, hidden, offsets)
        self.first = nn.Sequential(nn.ReLU(), nn.Linear(hidden, 2 * latent_channels))
        self.context = CellConv(latent_channels, hidden, offsets)
        self.second = nn.Sequential(
            nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 2 * latent_channels)
        )

    def bits(self, y: Tensor, neighbours: Tensor, place: Tensor, odd: Tensor) -> Tensor:
        """Bits of each latent, (n, latent_channels).

        Args:
            y: noisy or rounded latents.
            neighbours: (n, 27).
            place: (n,) of `rate_place`.
            odd: (n,) bool, the cells of the second pass.
        """
        knots = torch.linspace(0, 1, _KNOTS, device=y.device)
        rate = torch.relu(1 - (place[:, None] - knots).abs() * (_KNOTS - 1))
        x = self.inputs(torch.cat([(neighbours < len(y)).to(y.dtype), rate], 1))
        x = x + self.around(torch.relu(x), neighbours)
        known = torch.where(odd[:, None], 0.0, y) * 0.3
        parameters = torch.where(odd[:, None], self.second(x + self.context(known, neighbours)), self.first(x))
        return logistic_bits(y, *parameters.float().chunk(2, dim=1))


def logistic_bits(y: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """-log2 of the mass of a logistic distribution within half a step of y."""
    scale = torch.exp(log_scale.clamp(-4, 5))
    # On the side where both sigmoids are small their difference keeps its digits.
    distance = (y - mean).abs()
    mass = torch.sigmoid((0.5 - distance) / scale) - torch.sigmoid((-0.5 - distance) / scale)
    return -torch.log2(mass.clamp_min(_LIKELIHOOD_FLOOR))
