"""Bound: a lower bound whose gradient still pulls values up that lie below it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _LowerBound(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bound = bound
        return x.clamp(min=bound)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        # A step against a negative gradient raises x: that one is let through below the bound.
        passes = (x >= ctx.bound) | (gradients[0] < 0)
        return gradients[0] * passes, None


def lower_bound(x: Tensor, bound: float) -> Tensor:
    """max(x, bound); the gradient is 0 only where it would push x further below the bound."""
    result: Tensor = _LowerBound.apply(x, bound)
    return result
