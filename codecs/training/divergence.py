"""Divergence: a training whose numbers are no numbers any more stops at once, in one line."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor

from ..errors import PccbenchError

#: No weight of these networks is ever so large unless the training went wrong.
_LARGEST_WEIGHT = 1e4


class DivergedError(PccbenchError):
    """A training diverged: says at which step, and what to do."""


def expect_finite(stage: str, step: int, **values: float | Tensor) -> None:
    """Check figures of a step before it changes the weights.

    Args:
        stage: of the training.
        step: the steps done before this one.
        values: by name, single numbers.

    Raises:
        DivergedError: one of them is not finite.
    """
    for name, value in values.items():
        number = float(value.detach() if isinstance(value, Tensor) else value)
        if not math.isfinite(number):
            raise DivergedError(_text(stage, step, f"the {name.replace('_', ' ')} is {number}"))


@contextmanager
def diverging(stage: str, step: int, parameters: Iterable[Tensor]) -> Iterator[None]:
    """Around a step: what weights beyond all measure make other parts stumble over is told as what it is.

    Raises:
        DivergedError: the step failed, and the weights are not finite or far too large.
    """
    try:
        yield
    except (RuntimeError, ValueError, ArithmeticError, IndexError) as error:
        largest = max((float(one.detach().abs().max()) for one in parameters if one.numel()), default=0.0)
        if isinstance(error, PccbenchError) or largest <= _LARGEST_WEIGHT:  # false for NaN
            raise
        raise DivergedError(_text(stage, step, f"the largest weight is {largest:.3g}")) from error


def _text(stage: str, step: int, what: str) -> str:
    return (
        f"{stage} diverged at step {step + 1}: {what}; lower the learning rate, and train in another checkpoint_dir "
        "(the last checkpoint here is as it was)"
    )
