"""Transforms: analysis and synthesis of stride 8, computed in the occupied cells alone.

They are the three-dimensional convolutions of DeepCompress (Killea et al. 2021), restricted to the cells of 8 x 8 x 8
voxels that hold points: those are known to the decoder, and where they are not, nothing is computed, coded or
decoded.  Inside a cell the strides fold voxels into channels; from cell to cell, kernels reach over the neighbours.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .cells import CELL_SIDE, CELL_VOXELS

#: Cells that are computed together where memory must be bounded.
CHUNK_CELLS = 8192

Activation = Literal["relu", "gdn", "cenic_gdn"]
ConvType = Literal["standard", "separable"]


@dataclass(frozen=True)
class TransformConfig:
    """Architecture of the transforms.

    Attributes:
        filters: channels of the features of a cell.
        kernel_size: cells that a kernel spans on each axis; 1, 3 or 5 on each.
        strides: how the total stride of 8 is divided; their product is 8.
        activation: `relu`, `gdn` (Balle et al. 2016) or `cenic_gdn`: the divisor is a weighted sum of magnitudes,
            without root (Johnston et al. 2019, CENIC).
        conv_type: `standard`, or `separable`: a kernel over one axis, then one over the other two.
        latent_channels: channels of the latents of a cell.
        bottleneck: channels that a kernel over cells reads, fewer than `filters` to save its cost.
        sub_filters: channels of a cube between two strides.
        analysis_blocks: residual blocks over cells in the analysis.
        synthesis_blocks: the same in the synthesis.
        mixers: residual layers that mix the cubes of one cell in the synthesis.
        mixer_filters: width of those.
    """

    filters: int = 128
    kernel_size: tuple[int, int, int] = (3, 3, 3)
    strides: tuple[int, ...] = (4, 2)
    activation: Activation = "relu"
    conv_type: ConvType = "standard"
    latent_channels: int = 24
    bottleneck: int = 32
    sub_filters: int = 64
    analysis_blocks: int = 2
    synthesis_blocks: int = 3
    mixers: int = 2
    mixer_filters: int = 256

    def __post_init__(self) -> None:
        if math.prod(self.strides) != CELL_SIDE or not set(self.strides) <= {2, 4, 8}:
            raise ValueError(f"strides must be 2, 4 or 8 and multiply to {CELL_SIDE}, got {self.strides}")
        if len(self.kernel_size) != 3 or not set(self.kernel_size) <= {1, 3, 5}:
            raise ValueError(f"kernel_size must be three of 1, 3 or 5, got {self.kernel_size}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> TransformConfig:
        """The config of a record made by `to_dict`."""
        plain = dict(record)
        for key in ("kernel_size", "strides"):
            if key in plain:
                plain[key] = tuple(plain[key])
        return cls(**plain)


class Gather(torch.autograd.Function):
    """Rows of the neighbours side by side; the way back gathers too, over opposite offsets, and never scatters."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, neighbours: Tensor) -> Tensor:
        """From x (n, c) and rows (n, k) with n for none to (n, k * c)."""
        ctx.save_for_backward(neighbours)
        padded = torch.cat([x, x.new_zeros(1, x.shape[1])])
        return padded.index_select(0, neighbours.reshape(-1)).view(len(x), -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Sum over k of the gradient that the neighbour at the opposite offset holds for us."""
        (neighbours,) = ctx.saved_tensors
        n, k = neighbours.shape
        padded = torch.cat([grad, grad.new_zeros(1, grad.shape[1])]).view((n + 1) * k, -1)
        column = torch.arange(k - 1, -1, -1, device=grad.device)
        rows = neighbours * k + column
        return padded.index_select(0, rows.reshape(-1)).view(n, k, -1).sum(1), None


class CellConv(nn.Module):
    """A convolution over cells: every occupied cell sees the occupied ones around it."""

    def __init__(self, channels: int, out_channels: int, offsets: Tensor) -> None:
        super().__init__()
        self.register_buffer("offsets", offsets, persistent=False)
        self.linear = nn.Linear(channels * len(offsets), out_channels)

    def forward(self, x: Tensor, neighbours: Tensor) -> Tensor:
        """From (n, channels) to (n, out_channels)."""
        columns = neighbours[:, self.offsets]  # type: ignore[index]
        if torch.is_grad_enabled():
            return self.linear(Gather.apply(x, columns))
        # The gathered rows are many times as large as the features: in use, only a piece of them exists at a time.
        padded = torch.cat([x, x.new_zeros(1, x.shape[1])])
        pieces = columns.split(CHUNK_CELLS)
        return torch.cat([self.linear(padded[piece.reshape(-1)].view(len(piece), -1)) for piece in pieces])


class GDN(nn.Module):
    """Generalised divisive normalisation over channels: x / sqrt(beta + gamma x**2), or x / (beta + gamma |x|)."""

    def __init__(self, channels: int, *, inverse: bool, cenic: bool) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.ones(channels))
        self.gamma = nn.Parameter(0.1 * torch.eye(channels))
        self.inverse = inverse
        self.cenic = cenic

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as x, channels last."""
        beta = self.beta.clamp_min(1e-3)
        gamma = self.gamma.clamp_min(0)
        norm = nn.functional.linear(x.abs() if self.cenic else x.square(), gamma, beta)
        if not self.cenic:
            norm = norm.sqrt()
        return x * norm if self.inverse else x / norm


def make_activation(config: TransformConfig, channels: int, *, inverse: bool) -> nn.Module:
    """The activation that a config names, on the last axis."""
    if config.activation == "relu":
        return nn.ReLU()
    return GDN(channels, inverse=inverse, cenic=config.activation == "cenic_gdn")


def kernel_offsets(kernel_size: tuple[int, int, int], radius: int) -> Tensor:
    """Columns of `neighbours_of(.., radius)` that lie inside a kernel; symmetric about the middle."""
    span = range(-radius, radius + 1)
    inside = [
        all(abs(step) <= size // 2 for step, size in zip((x, y, z), kernel_size, strict=True))
        for x in span
        for y in span
        for z in span
    ]
    return torch.tensor([k for k, yes in enumerate(inside) if yes])


class CellBlock(nn.Module):
    """Residual block over cells: normalise, narrow, look around, widen."""

    def __init__(self, config: TransformConfig, *, inverse: bool) -> None:
        super().__init__()
        radius = neighbour_radius(config)
        self.norm = nn.LayerNorm(config.filters)
        self.narrow = nn.Linear(config.filters, config.bottleneck)
        self.activation = make_activation(config, config.bottleneck, inverse=inverse)
        x, y, z = config.kernel_size
        self.first: CellConv | None = None
        kernel = config.kernel_size
        if config.conv_type == "separable":
            offsets = kernel_offsets((x, 1, 1), radius)
            self.first = CellConv(config.bottleneck, config.bottleneck, offsets)
            kernel = (1, y, z)
        self.around = CellConv(config.bottleneck, config.filters, kernel_offsets(kernel, radius))
        self.widen_activation = make_activation(config, config.filters, inverse=inverse)
        self.widen = nn.Linear(config.filters, config.filters)

    def forward(self, x: Tensor, neighbours: Tensor) -> Tensor:
        """(n, filters) to the same."""
        h = self.activation(self.narrow(self.norm(x)))
        if self.first is not None:
            h = self.first(h, neighbours)
        h = self.around(h, neighbours)
        return x + self.widen(self.widen_activation(h))


def neighbour_radius(config: TransformConfig) -> int:
    """Radius that `neighbours_of` must have for the kernels of a config."""
    return max(1, max(config.kernel_size) // 2)


class Analysis(nn.Module):
    """From the voxels of cells to their latents."""

    def __init__(self, config: TransformConfig) -> None:
        super().__init__()
        self.strides = config.strides
        self.folds = nn.ModuleList()
        self.activations = nn.ModuleList()
        channels = 1
        for i, stride in enumerate(config.strides):
            out = config.filters if i == len(config.strides) - 1 else config.sub_filters
            self.folds.append(nn.Linear(channels * stride**3, out))
            self.activations.append(make_activation(config, out, inverse=False))
            channels = out
        self.blocks = nn.ModuleList(CellBlock(config, inverse=False) for _ in range(config.analysis_blocks))
        self.norm = nn.LayerNorm(config.filters)
        self.latents = nn.Linear(config.filters, config.latent_channels)

    def cell_features(self, voxels: Tensor) -> Tensor:
        """From occupancy (n, 512) in Morton order to features (n, filters), each cell by itself."""
        n = len(voxels)
        x = voxels.view(n, CELL_VOXELS, 1)
        for stride, fold, activation in zip(self.strides, self.folds, self.activations, strict=True):
            x = x.view(n, x.shape[1] // stride**3, -1)
            x = fold(x)
            if fold is not self.folds[-1]:
                x = activation(x)
        return x.view(n, -1)

    def around(self, x: Tensor, neighbours: Tensor, rate_bias: Tensor) -> Tensor:
        """From those features to y (n, latent_channels)."""
        x = self.activations[-1](x + rate_bias)
        for block in self.blocks:
            x = block(x, neighbours)
        return self.latents(self.norm(x))

    def forward(self, voxels: Tensor, neighbours: Tensor, rate_bias: Tensor) -> Tensor:
        """From occupancy (n, 512) in Morton order to y (n, latent_channels), before the gain of the rate."""
        return self.around(self.cell_features(voxels), neighbours, rate_bias)

    def packed(self, voxels: npt.NDArray[np.uint8], neighbours: Tensor, rate_bias: Tensor) -> Tensor:
        """`forward` of packed occupancy (n, 64), of which only a piece is unpacked at a time."""
        pieces = [
            self.cell_features(torch.from_numpy(np.unpackbits(voxels[start : start + CHUNK_CELLS], axis=1)).float())
            for start in range(0, len(voxels), CHUNK_CELLS)
        ]
        return self.around(torch.cat(pieces), neighbours, rate_bias)


class Mixer(nn.Module):
    """Residual layer over all that is inside one cell."""

    def __init__(self, config: TransformConfig, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.narrow = nn.Linear(channels, config.mixer_filters)
        self.activation = make_activation(config, config.mixer_filters, inverse=True)
        self.widen = nn.Linear(config.mixer_filters, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels) to the same."""
        return x + self.widen(self.activation(self.narrow(self.norm(x))))


class Synthesis(nn.Module):
    """From the latents of cells to the logits of their voxels."""

    def __init__(self, config: TransformConfig) -> None:
        super().__init__()
        radius = neighbour_radius(config)
        kernel = kernel_offsets((3, 3, 3), radius)
        self.register_buffer("occupancy_offsets", kernel, persistent=False)
        self.from_latents = CellConv(config.latent_channels, config.filters, kernel)
        self.from_occupancy = nn.Linear(len(kernel), config.filters)
        self.blocks = nn.ModuleList(CellBlock(config, inverse=True) for _ in range(config.synthesis_blocks))
        self.norm = nn.LayerNorm(config.filters)
        strides = config.strides[::-1]
        cubes = strides[0] ** 3 if len(strides) > 1 else 1
        channels = config.sub_filters if len(strides) > 1 else CELL_VOXELS
        self.channels = channels
        self.unfold = nn.Linear(config.filters, cubes * channels)
        self.mixers = nn.ModuleList(Mixer(config, cubes * channels) for _ in range(config.mixers))
        self.out_norm = nn.LayerNorm(cubes * channels)
        self.activations = nn.ModuleList()
        self.unfolds = nn.ModuleList()
        for i, stride in enumerate(strides[1:]):
            last = i == len(strides) - 2
            self.activations.append(make_activation(config, channels, inverse=True))
            self.unfolds.append(nn.Linear(channels, stride**3 * (1 if last else channels)))
        self.bias = nn.Parameter(torch.full((CELL_VOXELS,), -2.0))

    def features(self, y: Tensor, neighbours: Tensor, rate_bias: Tensor) -> Tensor:
        """From dequantised latents (n, latent_channels) to what is known of each cell, (n, filters)."""
        n = len(y)
        around = (neighbours[:, self.occupancy_offsets] < n).to(y.dtype)  # type: ignore[index]
        x = self.from_latents(y, neighbours) + self.from_occupancy(around) + rate_bias
        for block in self.blocks:
            x = block(x, neighbours)
        return x

    def mixed(self, x: Tensor) -> Tensor:
        """From features (n, filters) to what is inside each cell, cube by cube, (n, cubes * channels)."""
        x = self.unfold(self.norm(x))
        for mixer in self.mixers:
            x = mixer(x)
        return x

    def logits(self, x: Tensor) -> Tensor:
        """From features (n, filters) to logits of the voxels (n, 512) in Morton order, each cell by itself."""
        n = len(x)
        x = self.out_norm(self.mixed(x))
        for activation, unfold in zip(self.activations, self.unfolds, strict=True):
            x = x.view(n, -1, self.channels)
            x = unfold(activation(x))
        return x.reshape(n, CELL_VOXELS) + self.bias

    def forward(self, y: Tensor, neighbours: Tensor, rate_bias: Tensor) -> Tensor:
        """From dequantised latents (n, latent_channels) to logits (n, 512)."""
        return self.logits(self.features(y, neighbours, rate_bias))
