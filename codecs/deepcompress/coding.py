"""Coding: latents and thresholds to symbols and back, in the passes of an entropy model."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..entropy.gaussian import GaussianConditional, scale_table
from ..entropy.rangecoder import SymbolDecoder, SymbolEncoder
from ..entropy.tables import FrequencyTables
from ..errors import BitstreamError
from ..threads import one_torch_thread
from .decision import LIKELIEST, THRESHOLDS
from .priors import HYPER_CHANNELS, Parameters, Prior
from .structure import Structure

#: Tables for each scale, by the fraction of the mean.
MEAN_STEPS = 8
#: Latents and hyper-latents beyond this are no output of ours: a damaged stream.
_MAX_LATENT = 1 << 15
#: Ratio of successive probabilities of the differences between thresholds: of table s, (s + 1) / SPREADS.
SPREADS = 16


def make_conditional() -> GaussianConditional:
    """The distribution that all six entropy models share."""
    return GaussianConditional(scale_table(), mean_steps=MEAN_STEPS)


@dataclass(frozen=True, eq=False)
class Coder:
    """A trained entropy model with its tables.

    Attributes:
        prior: in exact mode, frozen.
        conditional: turns its outputs to indices.
        tables: of the latents.
        hyper_tables: of the hyper-latents, None for a model without.
    """

    prior: Prior
    conditional: GaussianConditional
    tables: FrequencyTables
    hyper_tables: FrequencyTables | None

    @torch.no_grad()
    @one_torch_thread()
    def encode(self, latents: Tensor, structure: Structure, encoder: SymbolEncoder) -> None:
        """Put latents (n, channels), integers as float32."""
        hyper = None
        if self.hyper_tables is not None:
            symbols = self.prior.hyper_symbols(latents, structure)
            encoder.put(symbols.numpy(), self.hyper_tables, _channels(symbols.shape[0]))
            hyper = symbols.float()
        features = self.prior.features(structure, hyper)
        for one in self.prior.passes(structure):
            whole, index = self._tables_of(self.prior.parameters_of(one, structure, features, latents))
            values = latents[:, one.channels] if one.rows is None else latents[one.rows][:, one.channels]
            encoder.put(values.numpy().astype(np.int32) - whole, self.tables, index)

    @torch.no_grad()
    @one_torch_thread()
    def decode(self, structure: Structure, decoder: SymbolDecoder) -> Tensor:
        """Get latents (n, channels), integers as float32.

        Raises:
            BitstreamError: the stream is damaged.
        """
        hyper = None
        if self.hyper_tables is not None:
            symbols = decoder.get(self.hyper_tables, _channels(structure.parents))
            hyper = torch.from_numpy(_checked(symbols).astype(np.float32))
        features = self.prior.features(structure, hyper)
        latents = torch.zeros(len(structure), self.prior.latent_channels)
        for one in self.prior.passes(structure):
            whole, index = self._tables_of(self.prior.parameters_of(one, structure, features, latents))
            values = _checked(decoder.get(self.tables, index) + whole)
            found = torch.from_numpy(values.astype(np.float32))
            if one.rows is None:
                latents[:, one.channels] = found
            else:
                latents[one.rows, one.channels] = found
        return latents

    def _tables_of(self, parameters: Parameters) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint16]]:
        whole, fraction = self.conditional.split_mean(parameters.mean)
        place = self.conditional.index_of_place(parameters.log_index)
        return whole.numpy(), self.conditional.table_index(place, fraction)


def _channels(n: int) -> npt.NDArray[np.uint16]:
    return np.broadcast_to(np.arange(HYPER_CHANNELS, dtype=np.uint16), (n, HYPER_CHANNELS))


def _checked(values: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    if values.size and (int(values.min()) < -_MAX_LATENT or int(values.max()) > _MAX_LATENT):
        raise BitstreamError(f"latents {values.min()}..{values.max()}, expected at most {_MAX_LATENT} in size")
    return values


@functools.cache
def _threshold_tables() -> FrequencyTables:
    """Two-sided geometric distributions of a threshold's distance from the most common one, one for each spread."""
    reach = len(THRESHOLDS) - 1
    distance = np.abs(np.arange(-reach, reach + 1))
    probabilities = []
    for spread in range(SPREADS):
        # Powers by repeated multiplication: correctly rounded, hence the same everywhere.
        powers = np.cumprod(np.r_[1.0, np.full(reach, (spread + 0.5) / SPREADS)])[distance]
        probabilities.append(np.r_[powers, 1e-9] / (powers.sum() + 1e-9))
    return FrequencyTables.from_probabilities(probabilities, [-reach] * SPREADS)


def encode_thresholds(picked: npt.NDArray[np.uint8], encoder: SymbolEncoder) -> None:
    """Put the threshold of each block, after the most common one and how far the others lie from it."""
    if not len(picked):
        return
    tables = _threshold_tables()
    middle = min(int(np.median(picked)), len(THRESHOLDS) - 1)
    steps = picked.astype(np.int32) - middle
    costs = [float(tables.bits(steps, spread).sum()) for spread in range(SPREADS)]
    spread = int(np.argmin(costs))
    encoder.put_uniform(np.array([middle]), len(THRESHOLDS))
    encoder.put_uniform(np.array([spread]), SPREADS)
    encoder.put(steps, tables, spread)


def decode_thresholds(blocks: int, decoder: SymbolDecoder) -> npt.NDArray[np.uint8]:
    """Get the thresholds of `blocks` blocks.

    Raises:
        BitstreamError: the stream is damaged.
    """
    if not blocks:
        return np.empty(0, np.uint8)
    middle = int(decoder.get_uniform(1, len(THRESHOLDS))[0])
    spread = int(decoder.get_uniform(1, SPREADS)[0])
    picked = decoder.get(_threshold_tables(), spread, blocks) + middle
    if int(picked.min()) < 0 or int(picked.max()) > LIKELIEST:
        raise BitstreamError(f"thresholds {picked.min()}..{picked.max()}, expected 0..{LIKELIEST}")
    return picked.astype(np.uint8)
