"""Priors: six entropy models of the same integer latents.

Each gives, for every latent, the mean and the log-scale index of a distribution; they differ in what they look at:

    gaussian    nothing but the channel and the rate
    hyperprior  which cells around are occupied, and hyper-latents sent beforehand [Balle2018]
    channel     that, and the channel groups decoded before, here and around [Minnen2020]
    context     that of hyperprior, and the neighbours decoded before in raster order [Minnen2018]
    attention   that of hyperprior, and, by attention within windows, the channel groups decoded before
    hybrid      all: hyper-latents, four interleaved sets of cells, two channel groups, attention

A model codes in passes; what a pass is given are latents of earlier passes only, so that a decoder can follow.  All
layers that the decoder runs are exact (see `entropy.exact`).

[Balle2018] Variational image compression with a scale hyperprior, ICLR 2018.
[Minnen2018] Joint autoregressive and hierarchical priors for learned image compression, NeurIPS 2018.
[Minnen2020] Channel-wise autoregressive entropy models for learned image compression, ICIP 2020.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..entropy.bottleneck import EntropyBottleneck
from ..entropy.exact import ExactEmbedding, ExactLinear, ExactMatmul, ExactSoftmax
from .structure import RATE_KNOTS, WINDOW_CELLS, Structure
from .transforms import Gather

TAPS = 27
HIDDEN = 48
HYPER_CHANNELS = 8
CHANNEL_GROUPS = 4
HYBRID_GROUPS = 2
COSETS = 4
HEADS = 2

#: A head's output times this is a step in the table of scales: heads start with outputs well below 1.
_SCALE_STEP = 8.0
_SCALE_START = 14.0
_RATE_FRACTION = 3


@dataclass(frozen=True, eq=False)
class Pass:
    """A set of latents that is coded together.

    Attributes:
        number: of the pass.
        rows: (k,) int64 rows of its cells, None for all.
        channels: its channels.
    """

    number: int
    rows: Tensor | None
    channels: slice


@dataclass(frozen=True, eq=False)
class Parameters:
    """Distributions of the latents of a pass, (k, channels) each.

    Attributes:
        mean: in steps of the latents.
        log_index: place in the table of scales.
    """

    mean: Tensor
    log_index: Tensor


class Prior(nn.Module):
    """An entropy model; `features` and `parameters` are what a decoder runs.

    Attributes:
        has_hyper: it sends hyper-latents.
    """

    has_hyper = True

    def __init__(self, latent_channels: int) -> None:
        super().__init__()
        self.latent_channels = latent_channels

    @abstractmethod
    def features(self, structure: Structure, hyper: Tensor | None) -> Tensor:
        """What is known of each cell before its latents, (n, features).

        Args:
            structure: of the cells.
            hyper: (m, HYPER_CHANNELS) integer hyper-latents, None for a model without.
        """

    def hyper_symbols(self, y: Tensor, structure: Structure) -> Tensor:
        """Integer hyper-latents (m, HYPER_CHANNELS) of latents, int32; for models that have them."""
        raise NotImplementedError

    @abstractmethod
    def passes(self, structure: Structure) -> Iterator[Pass]:
        """The passes in their order; together they cover every latent once."""

    @abstractmethod
    def parameters_of(self, one: Pass, structure: Structure, features: Tensor, known: Tensor) -> Parameters:
        """Distributions of the latents of a pass.

        Args:
            one: the pass.
            structure: of the cells.
            features: of `features`.
            known: (n, latent_channels) latents; only those of earlier passes are looked at.
        """

    def all_parameters(self, structure: Structure, features: Tensor, y: Tensor) -> Parameters:
        """Distributions of all latents (n, latent_channels), each as its pass would find it, for training."""
        mean, log_index = torch.zeros_like(y), torch.zeros_like(y)
        for one in self.passes(structure):
            found = self.parameters_of(one, structure, features, y)
            if one.rows is None:
                mean = _put_channels(mean, one.channels, found.mean)
                log_index = _put_channels(log_index, one.channels, found.log_index)
            else:
                mean = _put(mean, one, found.mean)
                log_index = _put(log_index, one, found.log_index)
        return Parameters(mean, log_index)


def _put_channels(target: Tensor, channels: slice, values: Tensor) -> Tensor:
    return torch.cat([target[:, : channels.start], values, target[:, channels.stop :]], 1)


def _put(target: Tensor, one: Pass, values: Tensor) -> Tensor:
    assert one.rows is not None  # noqa: S101  # the caller has looked
    columns = torch.arange(one.channels.start, one.channels.stop)
    return target.index_put((one.rows[:, None], columns[None, :]), values)


class Head(nn.Module):
    """From features to mean and log-scale index."""

    def __init__(self, features: int, channels: int) -> None:
        super().__init__()
        self.hidden = ExactLinear(features, features)
        self.out = ExactLinear(features, 2 * channels)

    def forward(self, x: Tensor) -> Parameters:
        """Parameters (n, channels) of features (n, features) before their ReLU."""
        h = torch.relu(self.hidden(torch.relu(x)))
        mean, scale = self.out(h).chunk(2, dim=1)
        return Parameters(mean, scale * _SCALE_STEP + _SCALE_START)


class GaussianPrior(Prior):
    """One distribution a channel and rate."""

    has_hyper = False

    def __init__(self, latent_channels: int) -> None:
        super().__init__(latent_channels)
        self.of_rate = ExactLinear(RATE_KNOTS, 2 * latent_channels, weight_bits=16, in_frac=_RATE_FRACTION)

    def features(self, structure: Structure, hyper: Tensor | None) -> Tensor:
        """The rate alone."""
        return structure.rate

    def passes(self, structure: Structure) -> Iterator[Pass]:
        """One."""
        yield Pass(0, None, slice(0, self.latent_channels))

    def parameters_of(self, one: Pass, structure: Structure, features: Tensor, known: Tensor) -> Parameters:
        """The same for all cells of a rate."""
        mean, scale = self.of_rate(features).chunk(2, dim=1)
        return Parameters(mean, scale * _SCALE_STEP + _SCALE_START)


class HyperAnalysis(nn.Module):
    """From latents to hyper-latents, at the encoder only, hence in plain floating point."""

    def __init__(self, latent_channels: int) -> None:
        super().__init__()
        self.cell = nn.Linear(latent_channels, HIDDEN)
        self.cube = nn.Linear(8 * HIDDEN, 2 * HIDDEN)
        self.out = nn.Linear(2 * HIDDEN, HYPER_CHANNELS)

    def forward(self, y: Tensor, structure: Structure) -> Tensor:
        """(m, HYPER_CHANNELS) of latents (n, latent_channels)."""
        # asinh keeps the large latents of high rates in the range of the small ones of low rates.
        h = torch.relu(self.cell(torch.asinh(y)))
        slots = h.new_zeros(structure.parents * 8, HIDDEN).index_copy(0, structure.parent * 8 + structure.child, h)
        return self.out(torch.relu(self.cube(slots.view(structure.parents, -1))))


class HyperPrior(Prior):
    """Occupancy of the neighbours and hyper-latents; also the trunk of the models below."""

    def __init__(self, latent_channels: int) -> None:
        super().__init__(latent_channels)
        self.analysis = HyperAnalysis(latent_channels)
        self.bottleneck = EntropyBottleneck(HYPER_CHANNELS, init_scale=4.0, channel_axis=-1)
        self.occupancy = ExactLinear(TAPS + RATE_KNOTS, HIDDEN, in_frac=_RATE_FRACTION)
        self.from_hyper = ExactLinear(TAPS * HYPER_CHANNELS, HIDDEN, in_frac=0)
        self.to_cells = ExactLinear(HIDDEN, 8 * HIDDEN)
        self.around = ExactLinear(TAPS * HIDDEN, HIDDEN)
        self._add_heads()

    def _add_heads(self) -> None:
        self.head = Head(HIDDEN, self.latent_channels)

    def hyper_symbols(self, y: Tensor, structure: Structure) -> Tensor:
        """Integer hyper-latents (m, HYPER_CHANNELS) of latents, int32."""
        return self.bottleneck.symbols(self.analysis(y, structure))

    def features(self, structure: Structure, hyper: Tensor | None) -> Tensor:
        """(n, HIDDEN)."""
        if hyper is None:
            raise ValueError("this entropy model needs its hyper-latents")
        around = (structure.neighbours >= 0).to(structure.rate.dtype)
        x = self.occupancy(torch.cat([around, structure.rate], 1))
        cubes = torch.relu(_around(self.from_hyper, hyper, structure.parent_neighbours))
        cubes = self.to_cells(cubes).view(-1, HIDDEN)
        x = x + cubes[structure.parent * 8 + structure.child]
        return x + _around(self.around, torch.relu(x), structure.neighbours)

    def passes(self, structure: Structure) -> Iterator[Pass]:
        """One."""
        yield Pass(0, None, slice(0, self.latent_channels))

    def parameters_of(self, one: Pass, structure: Structure, features: Tensor, known: Tensor) -> Parameters:
        """Of the features alone."""
        found: Parameters = self.head(features)
        return found


def _around(layer: ExactLinear, x: Tensor, neighbours: Tensor) -> Tensor:
    """`layer(x, gather=neighbours)`; in training by a gather whose way back is fast."""
    if torch.is_grad_enabled():
        return layer(Gather.apply(x, torch.where(neighbours >= 0, neighbours, len(x))))
    return layer(x, gather=neighbours)


def _groups(channels: int, groups: int) -> list[slice]:
    cuts = [channels * g // groups for g in range(groups + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(cuts)]


class ChannelPrior(HyperPrior):
    """Channel groups, each given those before it in the cell and around it."""

    def _add_heads(self) -> None:
        self.groups = _groups(self.latent_channels, CHANNEL_GROUPS)
        self.contexts = nn.ModuleList(
            ExactLinear(TAPS * group.start, HIDDEN, in_frac=0) for group in self.groups if group.start
        )
        self.heads = nn.ModuleList(Head(HIDDEN, group.stop - group.start) for group in self.groups)

    def passes(self, structure: Structure) -> Iterator[Pass]:
        """One a group."""
        for number, group in enumerate(self.groups):
            yield Pass(number, None, group)

    def parameters_of(self, one: Pass, structure: Structure, features: Tensor, known: Tensor) -> Parameters:
        """Of the features and a convolution over the groups before."""
        if one.number:
            before = known[:, : one.channels.start].contiguous()
            features = features + self.contexts[one.number - 1](before, gather=structure.neighbours)
        found: Parameters = self.heads[one.number](features)
        return found


class ContextPrior(HyperPrior):
    """Autoregressive: cell after cell in raster order of each block, all blocks at the same time."""

    def _add_heads(self) -> None:
        self.context = ExactLinear(TAPS * self.latent_channels, HIDDEN, in_frac=0)
        self.head = Head(HIDDEN, self.latent_channels)

    def passes(self, structure: Structure) -> Iterator[Pass]:
        """One for each place in the raster of a block that has a cell anywhere."""
        step = structure.raster_step()
        order = torch.argsort(step, stable=True)
        places, counts = torch.unique_consecutive(step[order], return_counts=True)
        for place, rows in zip(places.tolist(), order.split(counts.tolist()), strict=True):
            yield Pass(int(place), rows, slice(0, self.latent_channels))

    def parameters_of(self, one: Pass, structure: Structure, features: Tensor, known: Tensor) -> Parameters:
        """Of the features and a convolution over the neighbours before."""
        order = structure.raster_step()
        rows = one.rows if one.rows is not None else torch.arange(len(structure))
        near = structure.neighbours[rows]
        behind = (near >= 0) & (order[near.clamp_min(0)] < order[rows][:, None])
        found: Parameters = self.head(
            features[rows] + self.context(known, gather=torch.where(behind, near, torch.full_like(near, -1)))
        )
        return found

    def all_parameters(self, structure: Structure, features: Tensor, y: Tensor) -> Parameters:
        """At once, the neighbours masked by their order."""
        return self.parameters_of(Pass(0, None, slice(0, self.latent_channels)), structure, features, y)


class WindowAttention(nn.Module):
    """Attention among the cells of each window, by content and place in the window."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.place = ExactEmbedding(WINDOW_CELLS**3, features)
        self.query = ExactLinear(features, features)
        self.key = ExactLinear(features, features)
        self.value = ExactLinear(features, features)
        self.scores = ExactMatmul()
        self.softmax = ExactSoftmax()
        self.mixture = ExactMatmul()
        self.out = ExactLinear(features, features)

    def forward(self, x: Tensor, structure: Structure) -> Tensor:
        """(n, features) to the same."""
        windows = structure.windows
        w, most = windows.shape
        inside = torch.from_numpy(structure.positions.astype("int64") % WINDOW_CELLS)
        h = torch.relu(x) + self.place(inside @ torch.tensor([1, WINDOW_CELLS, WINDOW_CELLS**2]))

        def split(layer: nn.Module) -> Tensor:
            dense = h.new_zeros(w * most, h.shape[1]).index_copy(0, structure.window_slot, layer(h))
            return dense.view(w, most, HEADS, -1).transpose(1, 2)  # (w, heads, most, d)

        # A quarter keeps scores small at the start; a power of two, it rounds nothing.
        scores = self.scores(split(self.query), split(self.key).transpose(2, 3)) * 0.25
        mask = (windows >= 0)[:, None, None, :].expand(w, HEADS, most, most)
        weights = self.softmax(scores, mask)
        mixed = self.mixture(weights, split(self.value)).transpose(1, 2).reshape(w * most, -1)
        result: Tensor = self.out(mixed[structure.window_slot])
        return result


class AttentionPrior(HyperPrior):
    """Channel groups, each given those before it, by attention over the window of the cell."""

    def _add_heads(self) -> None:
        self.groups = _groups(self.latent_channels, CHANNEL_GROUPS)
        self.embeddings = nn.ModuleList(
            ExactLinear(group.start, HIDDEN, in_frac=0) for group in self.groups if group.start
        )
        self.attentions = nn.ModuleList(WindowAttention(HIDDEN) for _ in self.groups)
        self.heads = nn.ModuleList(Head(HIDDEN, group.stop - group.start) for group in self.groups)

    def passes(self, structure: Structure) -> Iterator[Pass]:
        """One a group."""
        for number, group in enumerate(self.groups):
            yield Pass(number, None, group)

    def parameters_of(self, one: Pass, structure: Structure, features: Tensor, known: Tensor) -> Parameters:
        """Of the features, and attention over features and groups before."""
        if one.number:
            features = features + self.embeddings[one.number - 1](known[:, : one.channels.start].contiguous())
        features = features + self.attentions[one.number](features, structure)
        found: Parameters = self.heads[one.number](features)
        return found


class HybridPrior(HyperPrior):
    """Interleaved sets of cells and channel groups: convolution and attention over all that came before."""

    def _add_heads(self) -> None:
        self.groups = _groups(self.latent_channels, HYBRID_GROUPS)
        count = COSETS * HYBRID_GROUPS
        self.contexts = nn.ModuleList(
            ExactLinear(TAPS * self.latent_channels, HIDDEN, in_frac=0) for _ in range(1, count)
        )
        # One attention serves all passes but the first, which has nothing to attend to.
        self.embedding = ExactLinear(self.latent_channels, HIDDEN, in_frac=0)
        self.attention = WindowAttention(HIDDEN)
        self.heads = nn.ModuleList(
            Head(HIDDEN, group.stop - group.start) for _ in range(COSETS) for group in self.groups
        )

    def passes(self, structure: Structure) -> Iterator[Pass]:
        """Set after set, in each group after group."""
        coset = structure.coset()
        for c in range(COSETS):
            rows = torch.nonzero(coset == c)[:, 0]
            for g, group in enumerate(self.groups):
                yield Pass(c * HYBRID_GROUPS + g, rows, group)

    def parameters_of(self, one: Pass, structure: Structure, features: Tensor, known: Tensor) -> Parameters:
        """Of the features, and convolution and attention over what came before."""
        rows = one.rows if one.rows is not None else torch.arange(len(structure))
        x = features[rows]
        if one.number:
            coset = structure.coset()
            before = self._known(known, coset, one.number)
            x = x + self.contexts[one.number - 1](before, gather=structure.neighbours[rows])
        if one.number and one.number % HYBRID_GROUPS == 0:
            # The second group of a set knows the first, and by it what attention had to tell.
            x = x + self.attention(features + self.embedding(before), structure)[rows]
        found: Parameters = self.heads[one.number](x)
        return found

    def _known(self, y: Tensor, coset: Tensor, number: int) -> Tensor:
        """Latents of the passes before a pass; zero elsewhere."""
        current, group = divmod(number, HYBRID_GROUPS)
        channel = torch.arange(self.latent_channels)
        early = channel < self.groups[group].start
        keep = (coset < current)[:, None] | ((coset == current)[:, None] & early)
        return torch.where(keep, y, torch.zeros_like(y))


PRIORS: dict[str, type[Prior]] = {
    "gaussian": GaussianPrior,
    "hyperprior": HyperPrior,
    "channel": ChannelPrior,
    "context": ContextPrior,
    "attention": AttentionPrior,
    "hybrid": HybridPrior,
}
