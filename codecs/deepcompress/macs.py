"""Macs: multiply-accumulates of the entropy models, counted as they run over a piece of surface."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from ..entropy.exact import ExactLinear, ExactMatmul
from .priors import Prior
from .structure import structure_of

#: Cells along a side of the surface; whole windows and whole cubes of hyper-latents.
_SIDE = 16
_HEIGHTS = (0, 21)


@torch.no_grad()
def prior_macs_per_cell(prior: Prior) -> float:
    """Multiply-accumulates of encoder and decoder together, for a cell of a plane.

    One for each weight that is used: a convolution counts all its neighbours, as the transforms' do, and four of the
    eight cells of a cube are there.  Both sides run all of an entropy model but the encoder's own hyper-analysis.
    """
    # Two planes, of which one lies at odd heights: the interleaved sets of cells are of equal size on both together.
    x, y, z = np.meshgrid(np.arange(_SIDE), np.arange(_SIDE), _HEIGHTS, indexing="ij")
    positions = np.stack([x.ravel(), y.ravel(), z.ravel()], 1).astype(np.int32)
    structure = structure_of(positions, np.zeros(len(positions), np.int64))
    latents = torch.zeros(len(positions), prior.latent_channels)
    total = 0.0

    def count(module: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, ExactMatmul):
            total += 2 * output.numel() * inputs[0].shape[-1]
        elif isinstance(module, ExactLinear):
            total += 2 * len(output) * module.weight.numel()
        elif isinstance(module, nn.Linear):
            total += len(output) * module.weight.numel()

    hooks = [module.register_forward_hook(count) for module in prior.modules()]
    try:
        hyper = None
        if prior.has_hyper:
            hyper = prior.hyper_symbols(latents, structure).to(latents.dtype)
        features = prior.features(structure, hyper)
        for one in prior.passes(structure):
            prior.parameters_of(one, structure, features, latents)
    finally:
        for hook in hooks:
            hook.remove()
    return total / len(positions)
