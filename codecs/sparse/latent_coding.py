"""Latent coding: the latents of a stream, and the logits that they correct, alike on every machine.

Made of trained `LatentModel` and `LatentEncoder`.  What the decoder computes is exact as in `exact`: whatever several
groups or voxels contribute to is a sum of integers.  The encoder's own network is plain floating point.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..._jit import njit
from ...metrics.workers import Workers
from ..entropy.rangecoder import SymbolDecoder, SymbolEncoder
from ..entropy.tables import FrequencyTables
from ..errors import BitstreamError
from ..threads import one_torch_thread
from .exact import (
    ROW_LIMIT,
    SEEN_LIMIT,
    SEEN_SCALE,
    ExactBlocks,
    ExactNorm,
    ExactProduct,
    ExactSurface,
    Floats,
    Keys,
    Perceptron,
    Use,
    gathered,
    pieces_of,
)
from .header import REFINED_STEP
from .latents import BASIS_GAIN, CHILDREN, MEMBERS, Groups, LatentPair, make_conditional
from .neighbours import neighbours_of
from .surface import Block

#: Largest latent.
LATENT_LIMIT = 63
#: The basis is rounded to multiples of 2**-8, up to 32.
_BASIS_FRACTION, _BASIS_LIMIT = 8, 1 << 13

Latents = npt.NDArray[np.int16]
Mask = npt.NDArray[np.bool_]


class _Beside:
    """Two products with a relu between, the first of latents around a group and of its own features."""

    def __init__(self, first: nn.Linear, second: nn.Linear, features: int) -> None:
        split = first.in_features - features
        self._around = Perceptron(_columns(first, slice(split)), second, LATENT_LIMIT)
        self._own = ExactProduct(_columns(first, slice(split, None)), ROW_LIMIT)

    def __call__(self, latents: Floats, features: Floats) -> Floats:
        return self._around.after(self._around.first(latents) + self._own(features))


def _columns(layer: nn.Linear, which: slice) -> nn.Linear:
    """A layer that reads some of the inputs alone."""
    weight = layer.weight.detach()[:, which].contiguous()
    part = nn.Linear(weight.shape[1], weight.shape[0])
    part.weight, part.bias = nn.Parameter(weight), nn.Parameter(layer.bias.detach().clone())
    return part


@dataclass(frozen=True, eq=False)
class Prepared:
    """What both sides know of a coarse grid.

    Attributes:
        keys: (n,) of the coarse voxels.
        groups: of them.
        x: (n, channels) features of the surface network.
        seen: (n, channels) uint8, the same as others see them.
        logits: (n, 8) of the surface network.
        features: (m, features) of the groups.
        point: operating point.
    """

    keys: Keys
    groups: Groups
    x: Floats
    seen: npt.NDArray[np.uint8]
    logits: Floats
    features: Floats
    point: int


class ExactLatents:
    """Trained networks, ready for use.

    Attributes:
        trade_offs: wrong children that a bit is worth, one for each operating point.
        channels: latents of a group.
    """

    def __init__(self, pair: LatentPair, surface: ExactSurface, tables: FrequencyTables) -> None:
        """From trained networks, the one that completes the surface, and tables of `make_conditional`.

        Raises:
            ValueError: a weight is not finite.
        """
        model, self._encoder = pair.decoder, pair.encoder.eval()
        features = model.config.features
        self.trade_offs, self.channels = model.config.trade_offs, model.config.channels
        self._surface, self._tables, self._conditional = surface, tables, make_conditional()
        self._down = ExactProduct(model.down, SEEN_LIMIT)
        self._of_point: Floats = model.of_point.detach().float().numpy().copy()
        self._blocks = ExactBlocks(model.blocks)  # type: ignore[arg-type]
        self._norm = ExactNorm(model.norm)
        self._basis = Perceptron(model.basis[0], model.basis[2], ROW_LIMIT)  # type: ignore[arg-type]
        self._gain: Floats = model.gain.detach().float().numpy().copy()
        self._prior = Perceptron(model.prior[0], model.prior[2], ROW_LIMIT)  # type: ignore[arg-type]
        self._beside, self._spread = (
            _Beside(part[0], part[2], features)  # type: ignore[arg-type]
            for part in (model.beside, model.spread)
        )
        self._look = ExactBlocks([model.look])
        self._last_norm = ExactNorm(model.last_norm)
        self._head = ExactProduct(model.head, ROW_LIMIT)

    def prepare(self, keys: Keys, point: int) -> Prepared:
        """What is known of coarse voxels with these sorted distinct keys before any latent."""
        workers, surface = Workers(), self._surface
        with one_torch_thread():
            x = surface.features(keys, REFINED_STEP, workers)
            seen, logits = np.empty(x.shape, np.uint8), np.empty((len(x), CHILDREN), np.float32)

            def end(rows: slice) -> None:
                surface.norm.see(x[rows], seen[rows])
                logits[rows] = surface.logits_of(x[rows].copy(), REFINED_STEP)

            workers.map(end, pieces_of(len(x)))
            groups = Groups.of(keys)
            shift = self._down.bias + self._of_point[point]
            features = np.empty((len(groups.keys), len(shift)), np.float32)

            def begin(rows: slice) -> None:
                features[rows] = self._down(gathered(seen, groups.members[rows], SEEN_SCALE)) + shift

            pieces = pieces_of(len(features))
            workers.map(begin, pieces)
            self._blocks(features, groups.keys, workers)
            workers.map(lambda rows: self._norm.apply(features[rows]), pieces)
        return Prepared(keys, groups, x, seen, logits, features, point)

    def choose(self, known: Prepared, occupied: npt.NDArray[np.uint8]) -> Latents:
        """The encoder's latents (m, channels) for the occupancy (n, 8) of the children, x slowest and z fastest."""
        network, workers, groups = self._encoder, Workers(), known.groups
        missing = occupied - 1 / (1 + np.exp(-known.logits))
        with one_torch_thread():

            def enter(rows: slice) -> Tensor:
                seen = known.seen[rows] * np.float32(SEEN_SCALE)
                return network.enter(torch.from_numpy(np.concatenate([missing[rows], seen], axis=1)))

            x = _through(network.look, _joined(workers, enter, len(missing)), known.keys, workers)

            def down(rows: slice) -> Tensor:
                inside = torch.from_numpy(gathered(x, groups.members[rows], 1.0))
                return torch.relu(network.down(inside) + network.of_point[known.point])

            x_groups = _joined(workers, down, len(groups.keys))
            x_groups = _through(network.block, x_groups, groups.keys, workers)

            def out(rows: slice) -> Tensor:
                wanted = torch.from_numpy(gathered(missing, groups.members[rows], 1.0))
                basis = torch.from_numpy(
                    self._basis(known.features[rows]).reshape(-1, MEMBERS * CHILDREN, self.channels)
                )
                projected = torch.einsum("mk,mkc->mc", wanted, basis)
                return network.out(torch.relu(torch.from_numpy(x_groups[rows]))) + BASIS_GAIN * projected

            found = _joined(workers, out, len(x_groups))
        return np.rint(found).clip(-LATENT_LIMIT, LATENT_LIMIT).astype(np.int16)

    def encode(self, known: Prepared, latents: Latents, coded: Mask) -> tuple[bytes, float]:
        """Write the latents (m, channels) of some groups; also their bits."""
        encoder, bits = SymbolEncoder(), 0.0
        first = known.groups.first
        for which in (coded & first, coded & ~first):
            whole, index = self._distribution(known, np.where(first[:, None], latents, 0), which)
            symbols = latents[which].astype(np.int32) - whole
            encoder.put(symbols, self._tables, index)
            bits += float(self._tables.bits(symbols, index).sum())
        return encoder.finish(), bits

    def decode(self, known: Prepared, data: bytes, coded: Mask) -> Latents:
        """Read what `encode` wrote; zeros elsewhere.

        Raises:
            BitstreamError: the data are damaged.
        """
        decoder, latents = SymbolDecoder(data), np.zeros((len(coded), self.channels), np.int16)
        first = known.groups.first
        for which in (coded & first, coded & ~first):
            whole, index = self._distribution(known, latents, which)
            values = decoder.get(self._tables, index) + whole
            largest = int(np.abs(values.astype(np.int64)).max(initial=0))
            if largest > LATENT_LIMIT:
                raise BitstreamError(f"latent of size {largest}, expected at most {LATENT_LIMIT}")
            latents[which] = values
        decoder.finish()
        return latents

    def _distribution(
        self, known: Prepared, first: Latents, which: Mask
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint16]]:
        """Whole parts of the means, and tables, of the chosen groups, given the latents of those that come first."""
        groups = known.groups
        later = ~groups.first

        def some(rows: slice) -> Floats:
            chosen = which[rows]
            features = known.features[rows][chosen]
            parameters = self._prior(features)
            if later[rows][chosen].any():
                around = gathered(first, neighbours_of(groups.keys, 1, rows)[chosen], 1.0)
                parameters += self._beside(around, features)
            return parameters

        with one_torch_thread():
            found = Workers().map(some, [rows for rows in pieces_of(len(which)) if which[rows].any()])
        both = np.concatenate(found) if found else np.empty((0, 2 * self.channels), np.float32)
        mean, place = torch.from_numpy(both).chunk(2, dim=1)
        whole, fraction = self._conditional.split_mean(mean)
        index = self._conditional.table_index(self._conditional.index_of_place(place), fraction)
        return whole.numpy(), index

    def complete(self, known: Prepared, latents: Latents, use: Use) -> None:
        """Hand over corrected logits (rows, 8) as `ExactSurface.logits` does; `known` is used up."""
        workers, groups, gain = Workers(), known.groups, self._gain[known.point]
        x, logits = known.x, known.logits
        with one_torch_thread():

            def correct(rows: slice) -> None:
                around = gathered(latents, neighbours_of(groups.keys, 1, rows), 1.0)
                spread = self._spread(around, known.features[rows])
                basis = self._basis(known.features[rows])
                _correct(groups.members[rows], latents[rows], basis, gain, spread, x, logits)

            def end(rows: slice) -> None:
                self._last_norm.apply(x[rows])
                use(rows, logits[rows] + (self._head(x[rows]) + self._head.bias))

            workers.map(correct, pieces_of(len(groups.keys)))
            self._look(x, known.keys, workers)
            workers.map(end, pieces_of(len(x)))


@njit(nogil=True, fastmath={"nnan", "nsz"})
def _correct(members, latents, basis, gain, spread, x, logits):  # type: ignore[no-untyped-def]
    """Add what groups tell of their members."""
    channels, width = len(gain), x.shape[1]
    up, half, limit = np.float32(1 << _BASIS_FRACTION), np.float32(0.5), np.float32(_BASIS_LIMIT)
    down = np.float32(1.0 / (1 << _BASIS_FRACTION))
    for i in range(len(members)):
        for member in range(MEMBERS):
            node = members[i, member]
            if node >= len(x):
                continue
            for k in range(width):
                x[node, k] += spread[i, member * width + k]
            for child in range(CHILDREN):
                first, total = (member * CHILDREN + child) * channels, np.int64(0)
                for c in range(channels):
                    step = np.floor(basis[i, first + c] * gain[c] * up + half)
                    total += np.int64(latents[i, c]) * np.int64(min(max(step, -limit), limit))
                logits[node, child] += np.float32(total) * down


def _joined(workers: Workers, function: Callable[[slice], Tensor], n: int) -> Floats:
    found: Floats = torch.cat(workers.map(torch.no_grad()(function), pieces_of(n))).numpy()
    return found


def _through(block: Block, x: Floats, keys: Keys, workers: Workers) -> Floats:
    """What a block makes of the features of voxels."""
    shown = _joined(workers, lambda rows: torch.relu(block.norm(torch.from_numpy(x[rows]))), len(x))

    def look(rows: slice) -> Tensor:
        around = torch.from_numpy(gathered(shown, neighbours_of(keys, 1, rows), 1.0))
        return torch.from_numpy(x[rows]) + block.out(torch.relu(block.around(around)))

    return _joined(workers, look, len(x))
