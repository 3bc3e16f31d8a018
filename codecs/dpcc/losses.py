"""Losses: the parts that D-PCC is trained with, each a function of its own.

The project's text of origin (its blog) names three: chamfer, density and point count.  The published code has six,
and where both differ these functions follow the code and say so.  Coordinates may be in any unit; `scale` arguments
divide distances, so that clouds of uneven density weigh the same everywhere.
Gradients flow through distances; which point is nearest is decided without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from .neighbours import nearest, nearest_k


@dataclass(frozen=True, eq=False)
class Parts:
    """The total loss in its parts, weights included; each one number.

    Attributes:
        chamfer: `multi_stage_chamfer`.
        density: `density_loss`.
        point_count: `point_count_loss`.
        latent_coordinates: `latent_coordinate_loss`.
        rate: bits per point, by their weight.
    """

    chamfer: Tensor
    density: Tensor
    point_count: Tensor
    latent_coordinates: Tensor
    rate: Tensor

    @property
    def total(self) -> Tensor:
        """Their sum."""
        return torch.stack([getattr(self, field.name) for field in fields(self)]).sum()

    def figures(self) -> dict[str, float]:
        """Plain numbers for the ledger, the total first."""
        parts = {f"{field.name}_loss": float(getattr(self, field.name).detach()) for field in fields(self)}
        return {"loss": float(self.total.detach()), **parts}


def chamfer(
    truth: Tensor, made: Tensor, truth_scale: Tensor | None = None, made_scale: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Mean squared distance of each point to the nearest of the other cloud, both directions added.

    Args:
        truth: (n, 3).
        made: (m, 3).
        truth_scale: (n,) unit of the distances from `truth`, None for 1.
        made_scale: (m,) likewise.

    Returns:
        The distance, and the nearest of `truth` for each made point, (m,).
    """
    a, b = _numpy(truth), _numpy(made)
    to_made = torch.from_numpy(nearest(a, b)[1])
    to_truth = torch.from_numpy(nearest(b, a)[1])
    there = ((truth - made[to_made]) ** 2).sum(1)
    back = ((made - truth[to_truth]) ** 2).sum(1)
    if truth_scale is not None:
        there = there / truth_scale**2
    if made_scale is not None:
        back = back / made_scale**2
    return there.mean() + back.mean(), to_truth


def multi_stage_chamfer(distances: Sequence[Tensor], stage_weight: float) -> Tensor:
    """Chamfer distances of the stages of the decoder: the last one counts in full, the others by `stage_weight`.

    Stage i is compared with level L - 1 - i of the encoder, so that the last is compared with the cloud itself.
    """
    early = [stage_weight * distance for distance in distances[:-1]]
    return torch.stack([*early, distances[-1]]).sum()


def mean_distance(parents: Tensor, children: Tensor, counts: Tensor, k: int = 16) -> Tensor:
    """Mean distance of the decoder's points to the children around them, (n,).

    Built as the encoder's (`hierarchy.density`): distances to those of the k nearest children for which no other
    parent is nearer, summed, and divided by the number of children that was *predicted*, a real number through which
    the gradient reaches the counts.

    Args:
        parents: (n, 3).
        children: (m, 3).
        counts: (n,) predicted children.
        k: neighbours looked at.
    """
    a, b = _numpy(parents), _numpy(children)
    owner = nearest(b, a)[1]
    found = min(k, len(b))
    near = nearest_k(a, b, found)
    mask = torch.from_numpy(owner[near] == np.arange(len(a))[:, None])
    squares = ((children[torch.from_numpy(near)] - parents[:, None]) ** 2).sum(2)
    distances = torch.sqrt(squares + 1e-12)  # the root of nothing has no gradient
    return (distances * mask).sum(1) / counts


def density_loss(
    counts: Sequence[Tensor],
    true_counts: Sequence[Tensor],
    distances: Sequence[Tensor],
    true_distances: Sequence[Tensor],
    match: Sequence[Tensor],
    distance_weight: float = 50.0,
) -> Tensor:
    """L1 of children per point, and of mean distances, each averaged over its points and summed over the stages.

    As in the published code.  The blog leaves out the weight 50 of distances, and matches stage i by
    `match[i]`; but a stage's counts belong to the points that go *into* it: those of stage 0 are the latents, in
    their own order, those of stage i the points that stage i - 1 made, matched by `match[i - 1]`.

    Args:
        counts: per stage (n_i,) predicted children.
        true_counts: per stage the counts of the encoder's level L - 1 - i.
        distances: per stage (n_i,) of `mean_distance`.
        true_distances: per stage those of the encoder.
        match: per stage the nearest true point of each point it made, as `chamfer` gives it.
        distance_weight: of the distances.

    Raises:
        ValueError: a stage has another number of points than its matches.
    """
    total = counts[0].new_zeros(())
    for stage, (count, distance) in enumerate(zip(counts, distances, strict=True)):
        true_count, true_distance = true_counts[stage], true_distances[stage]
        if stage:
            true_count, true_distance = true_count[match[stage - 1]], true_distance[match[stage - 1]]
        if not len(count) == len(distance) == len(true_count) == len(true_distance):
            raise ValueError(f"stage {stage}: {len(count)} counts for {len(true_count)} matched points")
        total = total + (count - true_count).abs().mean()
        total = total + distance_weight * (distance - true_distance).abs().mean()
    return total


def point_count_loss(counts: Sequence[Tensor], true_points: Sequence[int]) -> Tensor:
    """How far the sum of all children is from the points of the level that a stage rebuilds, summed over stages.

    Args:
        counts: per stage (n_i,) predicted children, of all blocks of the batch.
        true_points: per stage the points of level L - 1 - i, of all blocks.
    """
    return torch.stack([(c.sum() - n).abs() for c, n in zip(counts, true_points, strict=True)]).sum()


def latent_coordinate_loss(truth: Tensor, coded: Tensor) -> Tensor:
    """Mean squared error of the coordinates of latents, (m, 3) both; in the published code, not in the blog."""
    return ((truth - coded) ** 2).mean()


def rate_loss(bits: Tensor, points: int) -> Tensor:
    """Bits per point of the input cloud (all blocks of the batch), estimated from likelihoods."""
    return bits / points


def _numpy(xyz: Tensor) -> np.ndarray:
    found: np.ndarray = xyz.detach().double().numpy()
    return found
