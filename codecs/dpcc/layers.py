"""Layers: attention of the encoder, sub-point convolutions of the decoder.

The encoder's are plain floating point.  The decoder's are exact (`entropy.exact`): once frozen, they give the same
points on every machine, thread count and batch size, so that the number of children never has to be coded.
Points are rows: (n, channels), neighbourhoods (m, k, channels).
"""

from __future__ import annotations

import functools
import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..entropy.exact import ExactLinear, ExactLookup, ExactSoftmax, Grid

#: Bits of activations and weights of the decoder's layers: sums of 64 products mostly stay exact in float32.
ACTIVATION_BITS, WEIGHT_BITS = 11, 10
#: Directions are multiples of 2**-12, weights of directions of 2**-10: their sums are exact in float64.
_DIRECTION_BITS, _SOFTMAX_BITS = 12, 10
_SMALL = 1e-9


class Norm(nn.Module):
    """Normalisation over a block and all channels (GroupNorm of one group), or over the channels of each row.

    Args:
        channels: of the last axis.
        mode: `patch` or `point`.
    """

    def __init__(self, channels: int, mode: str) -> None:
        super().__init__()
        self.mode = mode
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, block: Tensor) -> Tensor:
        """(m, ..., channels) with the block of each of the m rows, numbered from 0."""
        if self.mode == "point":
            return functional.layer_norm(x, x.shape[-1:], self.weight, self.bias)
        blocks = int(block.max()) + 1
        flat = x.flatten(1)
        size = torch.zeros(blocks, dtype=x.dtype).index_add_(0, block, torch.ones(len(block), dtype=x.dtype))
        size = size * flat.shape[1]
        mean = torch.zeros(blocks, dtype=x.dtype).index_add(0, block, flat.sum(1)) / size
        centred = flat - mean[block][:, None]
        variance = torch.zeros(blocks, dtype=x.dtype).index_add(0, block, (centred * centred).sum(1)) / size
        scaled = (centred * torch.rsqrt(variance + 1e-5)[block][:, None]).view_as(x)
        return scaled * self.weight + self.bias


class Perceptron(nn.Module):
    """Linear, norm, ReLU, linear."""

    def __init__(self, inputs: int, hidden: int, outputs: int, norm: str) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, hidden)
        self.norm = Norm(hidden, norm)
        self.second = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor, block: Tensor) -> Tensor:
        """(m, ..., inputs) -> (m, ..., outputs)."""
        hidden: Tensor = self.second(torch.relu(self.norm(self.first(x), block)))
        return hidden


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over axis 1 of (m, k, c) where mask (m, k) allows."""
    return torch.softmax(scores.masked_fill(~mask[..., None], -math.inf), dim=1)


class PointTransformer(nn.Module):
    """Vector attention of a kept point to those that it stands for (Zhao et al. 2021)."""

    def __init__(self, dim: int, hidden: int, norm: str) -> None:
        super().__init__()
        self.query = nn.Linear(dim, hidden)
        self.key = nn.Linear(dim, hidden)
        self.value = nn.Linear(dim, hidden)
        self.position = Perceptron(3, hidden, hidden, norm)
        self.score = Perceptron(hidden, hidden, hidden, norm)
        self.out = nn.Linear(hidden, dim)

    def forward(self, x: Tensor, kept: Tensor, near: Tensor, mask: Tensor, relative: Tensor, block: Tensor) -> Tensor:
        """New features of the kept points; the residual is on the query.

        Args:
            x: (n, dim).
            kept: (m,) rows of x.
            near: (m, k) rows of x.
            mask: (m, k) which of these to look at.
            relative: (m, k, 3) places of `near` less the kept point's.
            block: (m,).
        """
        query, key, value = self.query(x[kept]), self.key(x), self.value(x)
        position = self.position(-relative, block)
        scores = self.score(query[:, None] - key[near] + position, block) / math.sqrt(query.shape[1])
        weights = masked_softmax(scores, mask)
        out: Tensor = self.out((weights * (value[near] + position)).sum(1))
        return out + x[kept]


class PositionEmbedding(nn.Module):
    """How the points that a kept one stands for lie around it: directions and distances, attended and summed."""

    def __init__(self, dim: int, hidden: int, norm: str) -> None:
        super().__init__()
        self.pattern = Perceptron(4, hidden, dim, norm)
        self.score = Perceptron(dim, hidden, dim, norm)

    def forward(self, mask: Tensor, relative: Tensor, block: Tensor) -> Tensor:
        """(m, k) and (m, k, 3) -> (m, dim)."""
        distance = relative.norm(dim=2, keepdim=True)
        pattern = self.pattern(torch.cat([relative / distance.clamp(min=_SMALL), distance], 2), block)
        weights = masked_softmax(self.score(pattern, block), mask)
        return (pattern * weights).sum(1)


class Downsample(nn.Module):
    """One stage of the encoder: ancestor, position and density embeddings of the points that are kept."""

    def __init__(self, dim: int, hidden: int, norm: str) -> None:
        super().__init__()
        self.before = nn.Linear(dim, dim)
        self.ancestor = PointTransformer(dim, hidden, norm)
        self.position = PositionEmbedding(dim, hidden, norm)
        self.density = Perceptron(1, hidden, dim, norm)
        self.after = nn.Linear(3 * dim, dim)

    def forward(
        self, x: Tensor, kept: Tensor, near: Tensor, mask: Tensor, relative: Tensor, counts: Tensor, block: Tensor
    ) -> Tensor:
        """(n, dim) -> (m, dim); arguments as in `PointTransformer`, and (m,) counts of points they stand for."""
        inner = self.before(x)
        parts = [
            self.ancestor(inner, kept, near, mask, relative, block),
            self.position(mask, relative, block),
            self.density(counts[:, None], block),
        ]
        merged: Tensor = self.after(torch.cat(parts, 1))
        return merged + x[kept]


@functools.cache
def directions() -> npt.NDArray[np.float64]:
    """(43, 3): zero, and the corners of an icosahedron whose edges were halved once; multiples of 2**-12."""
    golden = (1 + math.sqrt(5)) / 2
    corners = []
    for one in (-1.0, 1.0):
        for other in (-golden, golden):
            corners += [(0.0, one, other), (one, other, 0.0), (other, 0.0, one)]
    found = list(corners)
    for number, a in enumerate(corners):
        for b in corners[number + 1 :]:
            if abs(math.dist(a, b) - 2.0) < 1e-9:  # the edges
                found.append(((a[0] + b[0]) / 2, (a[1] + b[1]) / 2, (a[2] + b[2]) / 2))
    unit = np.array(found) / np.linalg.norm(np.array(found), axis=1, keepdims=True)
    grid = np.floor(unit * 2.0**_DIRECTION_BITS + 0.5) * 2.0**-_DIRECTION_BITS
    return np.concatenate([np.zeros((1, 3)), grid])


def exact_linear(inputs: int, outputs: int) -> ExactLinear:
    """A layer of the decoder, with biases drawn as the weights are: at zero, all hinges would lie in one place."""
    layer = ExactLinear(inputs, outputs, in_bits=ACTIVATION_BITS, weight_bits=WEIGHT_BITS)
    with torch.no_grad():
        spread = 1.0 / math.sqrt(inputs)
        if layer.bias is not None:
            layer.bias.uniform_(-spread, spread)
    return layer


class ExactPerceptron(nn.Module):
    """Linear, ReLU, linear: the same everywhere once frozen."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.first = exact_linear(inputs, hidden)
        self.second = exact_linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs) -> (n, outputs)."""
        out: Tensor = self.second(torch.relu(self.first(x)))
        return out


class Offset(nn.Module):
    """Where a point goes: a direction, mixed from 43, times a signed length.

    Args:
        inputs: features of a point.
        hidden: of both perceptrons.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.weights = ExactPerceptron(inputs, hidden, len(directions()))
        self.length = ExactPerceptron(inputs, hidden, 1)
        self.softmax = ExactSoftmax(bits=_SOFTMAX_BITS)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs) -> (n, 3) float32, in units of the scale."""
        scores = self.weights(x)
        if self.softmax.frozen:
            mixed = self._exactly(scores)
        else:
            mixed = self.softmax(scores) @ torch.from_numpy(directions()).float()
        a, b, c = mixed[:, 0], mixed[:, 1], mixed[:, 2]
        size = torch.sqrt(a * a + b * b + c * c + _SMALL)  # the root of nothing has no gradient
        return mixed / size[:, None] * self.length(x)

    def _exactly(self, scores: Tensor) -> Tensor:
        """`softmax` and the sum of directions, exact: multiples of 2**-22, below 2, in float64."""
        from .mixing import mixed

        table = self.softmax._table.numpy()
        made = mixed(scores.numpy(), table, self.softmax._STEP_BITS, self.softmax.bits, directions())
        return torch.from_numpy(made)


class Upsample(nn.Module):
    """One stage of the decoder: each point says how many children it has, and where they lie; these are refined.

    Args:
        dim: features of a point, split among the children.
        hidden: of all perceptrons.
        max_children: of a point.
    """

    def __init__(self, dim: int, hidden: int, max_children: int) -> None:
        super().__init__()
        self.max_children = max_children
        part = dim // max_children
        self.offset = Offset(part, hidden)
        self.features = ExactPerceptron(part, hidden, dim)
        self.count = ExactPerceptron(dim, hidden, 1)
        self.sigmoid = ExactLookup(torch.sigmoid, in_bits=13, in_frac=8)
        self.refined_offset = Offset(dim, hidden)
        self.refined_features = ExactPerceptron(dim, hidden, dim)

    def counts(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """How many children each point has, (n,) real numbers from 1 to the most.

        Args:
            x: (n, dim).
            bias: one number, what the logits usually are.
        """
        logits = self.count(x) if bias is None else self.count(x) + bias
        share: Tensor = self.sigmoid(logits)[:, 0]
        return 1.0 + (self.max_children - 1) * share

    def grow(self, x: Tensor, parent: Tensor, number: Tensor, *, last: bool = False) -> tuple[Tensor, Tensor]:
        """Offsets (m, 3) and features (m, dim) of children.

        Args:
            x: (n, dim) features of the parents.
            parent: (m,) row of the parent of each child.
            number: (m,) which child of its parent it is.
            last: nobody asks for their features, which are not refined then.
        """
        groups = x.view(len(x), -1, self.max_children)
        mine = groups[parent, :, number]
        offset, features = self.offset(mine), self.features(mine) + x[parent]
        moved = offset + self.refined_offset(features)
        return moved, features if last else self.refined_features(features) + features


def family(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Row of the parent, and number among its siblings, of each child; (sum of counts,) int64 both."""
    parent = torch.repeat_interleave(torch.arange(len(counts)), counts)
    first = torch.cumsum(counts, 0) - counts
    return parent, torch.arange(len(parent)) - first[parent]


__all__ = ["Downsample", "ExactPerceptron", "Grid", "Norm", "Perceptron", "Upsample", "exact_linear", "family"]
