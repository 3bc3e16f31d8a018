"""Training of the latents: rate and distortion at several operating points in one network."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..blocks import Blocks
from ..entropy.exact import gathered
from ..training.checkpoint import Identity
from ..training.schedule import rate_share
from .config import TrainingConfig
from .header import REFINED_STEP
from .latents import Around, Groups, LatentPair, Surface, distortion_of
from .samples import Sample, Sampler
from .surface import SurfaceModel
from .training import VALIDATION_SAMPLES, Network, Run


class _Terms(NamedTuple):
    """Of a sample, for each point: wrong children softly counted, bits of cross-entropy, bits of the latents."""

    wrong: Tensor
    bits: Tensor
    rate: Tensor


class LatentTrainer(Run):
    """A training run.

    Args:
        config: its configuration.
        surface: trained network of the factor `REFINED_STEP`, which stays as it is.
        identity: of its training.
        sampler: of the training blocks.
        held_out: blocks to validate on, if any.
    """

    name, ledger_name, kind = "latents", "latents.csv", "operating_point"
    figures = ("wrong_per_point", "bits_per_point")

    def __init__(
        self,
        config: TrainingConfig,
        surface: SurfaceModel,
        identity: Identity,
        sampler: Sampler,
        held_out: Blocks | None,
    ) -> None:
        self.latents, self.surface = config.latents, surface
        torch.manual_seed(config.training.seed)
        make = partial(LatentPair, self.latents.shape(), surface.config.channels)
        pair = Network.of(make, self.latents.learning_rate)
        latents = self.latents.model_dump(mode="json", exclude={"steps", "decay_from"})
        super().__init__(
            config.training,
            self.latents.steps,
            Identity({**identity.ingredients, "latents": latents}),
            sampler,
            held_out,
            [pair],
        )
        self.pair = pair

    def draw(self, rng: np.random.Generator) -> tuple[int, Sample]:
        """An operating point, and a sample."""
        return int(rng.integers(len(self.latents.trade_offs))), self.sampler.draw(REFINED_STEP, rng)

    def learn(self, kind: int, sample: Sample, rng: np.random.Generator) -> tuple[float, ...]:
        """One step at the operating point `kind`: wrong children and bits for each point."""
        latents = self.latents
        terms = self._terms(self.pair.model, sample, kind, rng)
        price = latents.trade_offs[kind] * rate_share(self.step, self.steps, latents.rate_warm_up)
        loss = terms.wrong + latents.cross_entropy * terms.bits + price * terms.rate
        self.pair.descend(self, loss, latents.learning_rate * self.share(latents.decay_from))
        return terms.wrong.item(), terms.rate.item()

    @torch.no_grad()
    def validate(self) -> dict[int, tuple[float, ...]]:
        """Wrong children and bits for each point on the held-out blocks, integers rounded, by operating point."""
        if self.held_out is None:
            return {}
        sampler = Sampler(self.held_out, 0.0)
        samples = [sampler.draw(REFINED_STEP, np.random.default_rng(i)) for i in range(VALIDATION_SAMPLES)]
        found = {}
        for point in range(len(self.latents.trade_offs)):
            terms = [self._terms(self.pair.averaged, sample, point, None) for sample in samples]
            found[point] = tuple(np.mean([(one.wrong.item(), one.rate.item()) for one in terms], axis=0).tolist())
        return found

    def _terms(self, pair: LatentPair, sample: Sample, point: int, rng: np.random.Generator | None) -> _Terms:
        groups = Groups.of(sample.keys)
        around = Around.of(groups)
        n = len(sample.keys)
        neighbours = sample.neighbours[:n].clamp(max=n)
        surface = Surface.of(self.surface, sample.windows[:n], neighbours, REFINED_STEP)
        noise = None
        if rng is not None:
            shape = len(groups.keys), self.latents.channels
            noise = torch.from_numpy(rng.random(shape, np.float32) - np.float32(0.5))
        occupied, weight = sample.targets[:n], sample.weight[:n]
        logits, bits = pair(surface, occupied, neighbours, around, point, noise)
        wrong, entropy = distortion_of(logits, occupied)
        # A group counts as its members do.
        counted = gathered(weight[:, None], around.members).amax(1)
        sums = (wrong * weight).sum(), (entropy * weight).sum(), (bits.sum(1) * counted).sum()
        return _Terms(*(one / sample.points for one in sums))
