"""Gaussian: conditional distributions with a table of scales, and of fractions of the mean.

Two ways to treat the mean:
 - `mean_steps=1`: symbols are round(y - mean), and the decoder adds the mean again.
 - `mean_steps > 1`: symbols are round(y) less the whole part of the mean, whose fraction, in `mean_steps` steps,
   chooses among as many tables.  y_hat is then an integer whatever the mean: an exact input of the next network.  The
   rounding of the fraction costs about 0.06 / (mean_steps * scale)**2 bit a symbol: with eight steps 0.001 bit at a
   scale of 1.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .bound import lower_bound
from .tables import MAX_ENTRIES, TAIL_MASS, FrequencyTables

Kind = Literal["gaussian", "logistic", "laplace"]

#: Means beyond this are clipped: far outside what a network gives for symbols that can be coded well.
MAX_ABS_MEAN = 2.0**20
_MAX_REACH = (MAX_ENTRIES - 4) // 2


def scale_table(low: float = 0.11, high: float = 64.0, levels: int = 64) -> npt.NDArray[np.float64]:
    """Log-spaced scales: standard deviations (gaussian), or the parameter s (logistic) or b (Laplace).

    Below 0.11 a Gaussian at an integer has all its 16 bits of mass on one symbol.

    Raises:
        ValueError: not 0 < low < high, or fewer than two levels.
    """
    if not 0 < low < high or levels < 2:
        raise ValueError(f"expected 0 < low < high and 2 levels or more, got {low}, {high}, {levels}")
    table = np.exp(np.linspace(math.log(low), math.log(high), levels))
    table[[0, -1]] = low, high
    return table


class ScaleTable:
    """Nearest entry of a rising table by binary search.

    A value half-way between two entries goes to the lower one.  The thresholds are not merely the mid-points, which
    round: each is the largest float that is not nearer to the upper entry when the two distances are computed in
    floating point, so that the answer is that of a search through all entries, ties included.

    Args:
        values: rising.

    Raises:
        ValueError: not rising.
    """

    def __init__(self, values: npt.NDArray[np.float64]) -> None:
        self.values = np.ascontiguousarray(values, np.float64)
        if self.values.ndim != 1 or not len(self.values) or not (np.diff(self.values) > 0).all():
            raise ValueError("expected a table of rising values")
        thresholds = (self.values[:-1] + self.values[1:]) / 2
        for place in range(len(thresholds)):
            lower, upper, at = self.values[place], self.values[place + 1], thresholds[place]
            while at - lower > upper - at:
                at = np.nextafter(at, -np.inf)
            while (above := np.nextafter(at, np.inf)) - lower <= upper - above:
                at = above
            thresholds[place] = at
        self.thresholds = thresholds

    def index(self, scales: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
        """Index of the nearest entry, as a search through all of them finds it (the first of equally near ones)."""
        found: npt.NDArray[np.int64] = np.searchsorted(self.thresholds, np.asarray(scales, np.float64), side="left")
        return found


class GaussianConditional(nn.Module):
    """Discretised Gaussian (or logistic, or Laplace) with mean and scale given for each element.

    A network gives its scales best as a real-valued PLACE in the log-spaced table: `scale_of` turns it into a scale
    for training, `index_of_place` rounds it for coding, which is exact where the network is.

    Args:
        scales: rising table of scales; for `scale_of` it must be log-spaced.
        kind: shape of the distribution.
        mean_steps: tables for each scale, by the fraction of the mean; see the module.
        likelihood_floor: lower bound of likelihoods in the estimate of the rate.
    """

    scales: Tensor
    thresholds: Tensor

    def __init__(
        self,
        scales: npt.NDArray[np.float64] | None = None,
        *,
        kind: Kind = "gaussian",
        mean_steps: int = 1,
        likelihood_floor: float = 1e-9,
    ) -> None:
        super().__init__()
        self.table = ScaleTable(scale_table() if scales is None else scales)
        self.kind = kind
        self.mean_steps = mean_steps
        self.likelihood_floor = likelihood_floor
        self.register_buffer("thresholds", torch.from_numpy(self.table.thresholds), persistent=False)

    @property
    def levels(self) -> int:
        """Number of scales."""
        return len(self.table.values)

    def forward(
        self, y: Tensor, scales: Tensor, means: Tensor | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Quantised (or noisy) values and their likelihoods, both of y's shape.

        In training mode y_hat is y plus uniform noise in (-1/2, 1/2), from `generator`; in eval mode it is what a
        decoder would see: rounded relative to the mean, or plainly with `mean_steps` above 1.
        """
        if self.training:
            noise = torch.rand(y.shape, generator=generator, device=y.device, dtype=torch.float32) - 0.5
            y_hat = y.float() + noise
        elif self.mean_steps > 1 or means is None:
            y_hat = torch.round(y.float())
        else:
            y_hat = torch.round(y.float() - means.float()) + means.float()
        return y_hat, self.likelihood(y_hat, scales, means)

    def likelihood(self, y_hat: Tensor, scales: Tensor, means: Tensor | None = None) -> Tensor:
        """F(y_hat + 1/2) - F(y_hat - 1/2), floored; float32 whatever the autocast.

        Scales below the table's smallest count as the smallest, with a gradient that can still raise them.
        """
        with torch.autocast(y_hat.device.type, enabled=False):
            distance = torch.abs(y_hat.float() if means is None else y_hat.float() - means.float())
            scale = lower_bound(scales.float(), float(self.table.values[0]))
            # Both arguments lie on the left side, where the cumulative keeps its relative precision.
            mass = self._cumulative((0.5 - distance) / scale) - self._cumulative((-0.5 - distance) / scale)
            return lower_bound(mass, self.likelihood_floor)

    def _cumulative(self, x: Tensor) -> Tensor:
        if self.kind == "gaussian":
            return 0.5 * torch.erfc(x * -math.sqrt(0.5))
        if self.kind == "logistic":
            return torch.sigmoid(x)
        tail = 0.5 * torch.exp(-torch.abs(x))
        return torch.where(x < 0, tail, 1.0 - tail)

    def scale_of(self, place: Tensor) -> Tensor:
        """Scale at a real-valued place (0 .. levels - 1) of a log-spaced table; differentiable."""
        low, high = float(self.table.values[0]), float(self.table.values[-1])
        step = math.log(high / low) / (self.levels - 1)
        bounded = -lower_bound(-lower_bound(place.float(), 0.0), -(self.levels - 1.0))
        return torch.exp(bounded * step + math.log(low))

    def index_of_place(self, place: Tensor) -> Tensor:
        """Nearest entry of a real-valued place, int64.  Exact: one addition, floor and a clamp."""
        return torch.floor(place + 0.5).clamp(0, self.levels - 1).to(torch.int64)

    def index_of_scale(self, scales: Tensor) -> Tensor:
        """Entry nearest to each scale, int64 (see `ScaleTable`); exact given exact scales."""
        return torch.searchsorted(self.thresholds, scales.double().contiguous())

    def split_mean(self, means: Tensor) -> tuple[Tensor, Tensor]:
        """Whole part of the mean (int32) and its fraction in steps (int64); exact given exact means."""
        steps = torch.floor(means.double().clamp(-MAX_ABS_MEAN, MAX_ABS_MEAN) * self.mean_steps + 0.5).to(torch.int64)
        whole = torch.div(steps, self.mean_steps, rounding_mode="floor")
        return whole.to(torch.int32), steps - whole * self.mean_steps

    def table_index(self, scale_index: Tensor, fraction: Tensor | None = None) -> npt.NDArray[np.uint16]:
        """Number of the table for `SymbolEncoder.put`, on the CPU as numpy; `fraction` with `mean_steps` above 1."""
        index = scale_index if fraction is None else scale_index * self.mean_steps + fraction
        return index.cpu().numpy().astype(np.uint16)

    def tables(self) -> FrequencyTables:
        """`levels * mean_steps` integer tables, those of one scale together."""
        probabilities, first = [], []
        for scale in self.table.values:
            for step in range(self.mean_steps):
                mean = step / self.mean_steps
                reach = min(max(1, math.ceil(self._tail(float(scale)) + 0.5)), _MAX_REACH)
                # The fraction shifts the mass upwards by less than one symbol.
                edges = np.arange(-reach, reach + (2 if step == 0 else 3)) - 0.5 - mean
                masses = _masses(edges / scale, self.kind)
                probabilities.append(masses)
                first.append(-reach)
        return FrequencyTables.from_probabilities(probabilities, first)

    def _tail(self, scale: float) -> float:
        """Distance beyond which (both sides together) the tail mass lies."""
        from scipy import special

        if self.kind == "gaussian":
            return -scale * float(special.ndtri(TAIL_MASS / 2))
        if self.kind == "logistic":
            return -scale * float(special.logit(TAIL_MASS / 2))
        return -scale * math.log(TAIL_MASS)


def _below(z: npt.NDArray[np.float64], kind: Kind) -> npt.NDArray[np.float64]:
    """Standard cumulative distribution, precise where it is small."""
    from scipy import special

    if kind == "gaussian":
        mass: npt.NDArray[np.float64] = special.ndtr(z)
    elif kind == "logistic":
        mass = special.expit(z)
    else:
        tail = 0.5 * np.exp(-np.abs(z))
        mass = np.where(z < 0, tail, 1.0 - tail)
    return mass


def _masses(edges: npt.NDArray[np.float64], kind: Kind) -> npt.NDArray[np.float64]:
    """Probability of each interval between the edges, then what lies outside of all."""
    lower, upper = edges[:-1], edges[1:]
    # All three shapes are even: intervals on the right are mirrored to the left, where differences keep precision.
    mirrored = lower > 0
    left, right = np.where(mirrored, -upper, lower), np.where(mirrored, -lower, upper)
    inside = _below(right, kind) - _below(left, kind)
    outside = _below(edges[:1], kind) + _below(-edges[-1:], kind)
    return np.concatenate([inside, outside])
