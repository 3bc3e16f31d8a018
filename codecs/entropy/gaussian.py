"""Gaussian: conditional distributions with a table of scales, and of fractions of the mean.

Symbols are `round(y - mean)` as usual (`mean_steps=1`: pass the mean as an exact fixed-point number), or plain
`round(y)` with `mean_steps > 1`: the whole part of the mean shifts the symbol, its fraction (in `mean_steps` steps)
chooses among as many tables, so that y_hat stays an integer whatever the mean (and is an exact input of the next
network).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .tables import FrequencyTables

Kind = Literal["gaussian", "logistic", "laplace"]


def scale_table(low: float = 0.11, high: float = 64.0, levels: int = 64) -> npt.NDArray[np.float64]:
    """Log-spaced standard deviations (gaussian) or scale parameters (logistic, laplace)."""
    raise NotImplementedError


class ScaleTable:
    """Nearest entry of a sorted table by binary search over the mid-points; ties go to the lower entry."""

    def __init__(self, values: npt.NDArray[np.float64]) -> None:
        raise NotImplementedError

    def index(self, scales: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
        """Index of the nearest entry, as brute force finds it."""
        raise NotImplementedError


class GaussianConditional(nn.Module):
    """Discretised Gaussian (or logistic, Laplace) with mean and scale given for each element.

    The head of a network best gives the LOG index t of the scale: sigma = low * (high/low)**(t / (levels - 1)) while
    training (`scale_of`), and round_half_up(t), clamped, when coding (`index_of`), an exact operation.
    """

    def __init__(
        self,
        scales: npt.NDArray[np.float64] | None = None,
        *,
        kind: Kind = "gaussian",
        mean_steps: int = 1,
        likelihood_floor: float = 1e-9,
    ) -> None:
        raise NotImplementedError

    def forward(
        self, y: Tensor, scales: Tensor, means: Tensor | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """(y_hat, likelihoods): noise in training mode, rounding in eval mode."""
        raise NotImplementedError

    def likelihood(self, y_hat: Tensor, scales: Tensor, means: Tensor | None = None) -> Tensor:
        """F(y_hat + 1/2) - F(y_hat - 1/2), floored."""
        raise NotImplementedError

    def scale_of(self, log_index: Tensor) -> Tensor:
        """Scale at a real-valued place in the table, differentiable."""
        raise NotImplementedError

    def index_of(self, log_index: Tensor, means: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(table index, whole part of the mean) for coding: symbol = y_int - whole part. Exact given exact inputs."""
        raise NotImplementedError

    def tables(self) -> FrequencyTables:
        """levels * mean_steps integer tables."""
        raise NotImplementedError
