"""Losses: what a wrong voxel costs, in nats."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..._jit import njit


@njit()
def _voxel_kernel(  # type: ignore[no-untyped-def]  # a kernel takes arrays one by one
    logits, occupied, focal_share, alpha, gamma, scale, loss, grad
):
    """Loss of each cell (n,) and its gradient to the logits (n, 512), in place."""
    n, width = logits.shape
    for i in range(n):
        share = float(focal_share[i])
        total = 0.0
        for j in range(width):
            sign = np.float32(1) if occupied[i, j] else np.float32(-1)
            z = sign * logits[i, j]
            e = math.exp(-abs(z))
            small = e / (np.float32(1) + e)
            wrong = small if z >= 0 else np.float32(1) - small  # 1 - pt
            right = np.float32(1) - wrong
            nats = math.log1p(e) + (-z if z < 0 else np.float32(0))  # -log pt
            weight = scale * (alpha if occupied[i, j] else 1 - alpha)
            weight *= wrong * wrong if gamma == 2 else wrong**gamma
            total += (1 - share) * nats + share * weight * nats
            slope = -(1 - share) * wrong - share * weight * (gamma * right * nats + wrong)
            grad[i, j] = sign * slope
        loss[i] = total


class _VoxelLoss(torch.autograd.Function):
    """One pass over the voxels for the loss and its gradient: faster than a chain of torch operations."""

    @staticmethod
    def forward(  # torch passes them one by one
        ctx: Any, logits: Tensor, occupied: Tensor, share: Tensor, alpha: float, gamma: float, scale: float
    ) -> Tensor:
        loss = torch.empty(len(logits))
        grad = torch.empty(logits.shape)
        _voxel_kernel(
            logits.detach().float().contiguous().numpy(),
            occupied.to(torch.uint8).contiguous().numpy(),
            share.float().contiguous().numpy(),
            alpha,
            gamma,
            scale,
            loss.numpy(),
            grad.numpy(),
        )
        ctx.save_for_backward(grad)
        return loss

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        (grad,) = ctx.saved_tensors
        return grad.mul_(outer[:, None]), None, None, None, None, None


def focal_loss(logits: Tensor, occupied: Tensor, *, alpha: float = 0.75, gamma: float = 2.0) -> Tensor:
    """Focal loss of each voxel (Lin et al. 2017): alpha_t (1 - p_t)**gamma (-log p_t).

    Alpha weighs the occupied voxels and 1 - alpha the empty ones; alpha = 1/2 and gamma = 0 give half of the binary
    cross-entropy.
    """
    sign = torch.where(occupied > 0, 1.0, -1.0)
    nats = torch.nn.functional.softplus(-sign * logits)
    weight = torch.where(occupied > 0, alpha, 1 - alpha)
    return weight * (1 - torch.exp(-nats)) ** gamma * nats


def voxel_loss(
    logits: Tensor,
    occupied: Tensor,
    focal_share: Tensor,
    *,
    alpha: float = 0.75,
    gamma: float = 2.0,
    focal_scale: float = 6.0,
) -> Tensor:
    """Distortion of each cell, (n,): cross-entropy and focal loss, mixed.

    The cross-entropy is the better guide where the surface is known to the voxel, the focal loss where it is not.

    Args:
        logits: (n, 512).
        occupied: (n, 512), non-zero where there is a point.
        focal_share: (n,) share of the focal loss, in [0, 1].
        alpha: weight of occupied voxels in the focal loss.
        gamma: its focus.
        focal_scale: what the focal loss is multiplied with, to be of the size of the cross-entropy.
    """
    if logits.device.type == "cpu":
        return _VoxelLoss.apply(logits, occupied, focal_share, alpha, gamma, focal_scale)
    share = focal_share[:, None]
    sign = torch.where(occupied > 0, 1.0, -1.0)
    nats = torch.nn.functional.softplus(-sign * logits)
    focal = focal_loss(logits, occupied, alpha=alpha, gamma=gamma)
    return ((1 - share) * nats + share * focal_scale * focal).sum(1)
