"""Coding: from the points of a cloud to latents and their symbols, and from these to points."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..entropy.rangecoder import SymbolDecoder, SymbolEncoder
from .config import expansion
from .hierarchy import Floats, Latents, build
from .layers import family
from .model import State, children_of, neighbourhood_tensors
from .sampling import split
from .weights import Quantised, Trained

#: Points that a block has at most: what the network saw in training.
BLOCK_POINTS = 4096
#: Fewer latents tell nothing of what lies between them.
LEAST_LATENTS = 16
#: Children of the last stage are shifted by multiples of 1/64 before rounding.
SHIFT_STEPS = 64
MAX_SHIFT = 255
#: Shifts that the encoder tries, to end with as many points as there were.
_SHIFTS_TRIED = 5
_NEAR_SHARE = 0.02
#: Of the points that are added, so many at least are taken to be left when voxels have merged.
_LEAST_LEFT = 0.2


@dataclass(frozen=True, eq=False)
class Coded:
    """What the decoder is told of a cloud.

    Attributes:
        latents: places.
        symbols: (m, dim) int32.
        point: number of the operating point.
        shift: of the last counts, in 1/64.
    """

    latents: Latents
    symbols: npt.NDArray[np.int32]
    point: int
    shift: int


def operating_point(trained: Trained, wanted: int, points: int) -> int | None:
    """The point asked for, or the next one that leaves enough latents of so many points; None if none does."""
    for number in range(wanted, len(trained.config.points)):
        if points / expansion(trained.config, trained.config.points[number]) >= LEAST_LATENTS:
            return number
    return None


@torch.no_grad()
def analyse(
    trained: Quantised,
    xyz: Floats,
    point: int,
    grid: Any,
    distinct: Callable[[Floats], int] = len,
    towards_zero: float = 0.0,
) -> tuple[Coded, Floats]:
    """Code distinct points; also the cloud that the decoder will make of it, (n, 3).

    Args:
        trained: the model.
        xyz: (n, 3), in an order that depends on the points alone.
        point: number of the operating point.
        grid: as for `hierarchy.build`.
        distinct: how many points of a decoded cloud are left when voxels merge.
        towards_zero: of the features, how much farther than halfway one must lie to be rounded away from zero.
    """
    config = trained.config
    workers = torch.get_num_threads()
    order, offsets = split(xyz, BLOCK_POINTS)
    ratios = (config.points[point].ratio,) * config.stages
    hierarchy = build(xyz[order], offsets, ratios, grid, k=config.neighbours, workers=workers)
    latents = hierarchy.latents
    block = np.zeros(len(latents), np.int64)
    block[hierarchy.owner[0]] = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    neighbourhood = _neighbourhood(trained, latents)
    centre = None if trained.patch is None else _middles(hierarchy.xyz, offsets)[block]
    y = trained.model.analysis(hierarchy, neighbourhood[2].numpy(), block, point, centre)
    symbols = _rounded(y * trained.gain[point] - trained.median[point], towards_zero)
    state = _before_last(
        trained, _features(trained, symbols, point), torch.from_numpy(latents.xyz), neighbourhood, point, None
    )
    last = _LastStage(trained, state)
    target = len(xyz)
    tried: dict[int, tuple[int, Floats]] = {}
    before = (0, 0)
    for _ in range(_SHIFTS_TRIED):
        shift = best_shift(last.counts, target, config.max_children)
        if shift in tried:
            break
        made = last.points(shift)
        left = distinct(made)
        tried[shift] = (abs(left - len(xyz)), made)
        if abs(left - len(xyz)) <= _NEAR_SHARE * len(xyz):
            break
        # Where voxels merge, more have to be grown: as many more as the last two tries tell.
        share = (left - before[1]) / (len(made) - before[0]) if len(made) != before[0] else 0.0
        target = len(made) + round((len(xyz) - left) / max(share, _LEAST_LEFT))
        before = (len(made), left)
    shift = min(tried, key=lambda one: (tried[one][0], one))
    return Coded(latents, symbols.numpy(), point, shift), tried[shift][1]


class _LastStage:
    """The last stage of the decoder, whose children are grown once however many shifts are tried."""

    def __init__(self, trained: Quantised, state: State) -> None:
        self.model, self.state = trained.model, state
        self.counts = trained.model.counts(state)
        self.places = torch.empty((len(state.x), trained.config.max_children, 3), dtype=torch.float64)
        self.known = torch.zeros(self.places.shape[:2], dtype=torch.bool)

    def points(self, shift: int) -> Floats:
        """What `PointModel.advance` makes at a shift, (n, 3)."""
        parent, sibling = family(children_of(self.counts, shift / SHIFT_STEPS, self.places.shape[1]))
        new = ~self.known[parent, sibling]
        if new.any():
            self.places[parent[new], sibling[new]] = self.model.offspring(self.state, parent[new], sibling[new])[0]
            self.known[parent[new], sibling[new]] = True
        points: Floats = self.places[parent, sibling].numpy()
        return points


def _rounded(values: torch.Tensor, towards_zero: float) -> torch.Tensor:
    """The symbols of scaled features: whole numbers near them, rather those nearer to zero, which cost fewer bits."""
    return (torch.sign(values) * torch.floor(values.abs() + (0.5 - towards_zero))).to(torch.int32)


def _before_last(
    trained: Quantised,
    features: torch.Tensor,
    xyz: torch.Tensor,
    neighbourhood: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    point: int,
    most: int | None,
) -> State:
    """The decoder before its last stage."""
    state = trained.model.start(features, xyz, neighbourhood, point)
    for _ in range(trained.config.stages - 1):
        _, state = trained.model.advance(state, most=most)
    return state


def best_shift(counts: torch.Tensor, points: int, most: int) -> int:
    """The shift, in 1/64, with which the children of these counts come nearest to a number of points."""
    low, high = -MAX_SHIFT, MAX_SHIFT
    while low < high:  # the sum rises with the shift
        middle = (low + high) // 2
        if int(children_of(counts, middle / SHIFT_STEPS, most).sum()) < points:
            low = middle + 1
        else:
            high = middle
    return min(
        (max(low - 1, -MAX_SHIFT), low),
        key=lambda shift: abs(int(children_of(counts, shift / SHIFT_STEPS, most).sum()) - points),
    )


@torch.no_grad()
def synthesise(trained: Trained, coded: Coded, points: int) -> Floats:
    """The points of a coded cloud, (n, 3) float64.

    Args:
        trained: the model.
        coded: what the decoder was told.
        points: how many there are to be.

    Raises:
        TooManyError: there would be more.
    """
    neighbourhood = _neighbourhood(trained, coded.latents)
    state = _before_last(
        trained,
        _features(trained, torch.from_numpy(coded.symbols), coded.point),
        torch.from_numpy(coded.latents.xyz),
        neighbourhood,
        coded.point,
        points,
    )
    xyz: Floats = trained.model.advance(state, coded.shift / SHIFT_STEPS, points)[0].xyz.numpy()
    return xyz


def _neighbourhood(trained: Quantised, latents: Latents) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of the latents, with the scale that their children's places are told in.

    Patches have one scale for all, as in training; a median picks one of the scales, or the middle of two, and is
    the same everywhere.
    """
    near, relative, scale = neighbourhood_tensors(latents, trained.config.context_neighbours)
    if trained.patch is not None:
        scale = torch.full_like(scale, float(np.median(scale.numpy())) * trained.patch)
    return near, relative, scale


def _middles(xyz: Floats, offsets: npt.NDArray[np.int64]) -> Floats:
    """Middle of the box around each block, (blocks, 3)."""
    parts = [xyz[start:end] for start, end in itertools.pairwise(offsets)]
    return np.array([(part.min(axis=0) + part.max(axis=0)) / 2 for part in parts])


def _features(trained: Quantised, symbols: torch.Tensor, point: int) -> torch.Tensor:
    """One sum and one division in float32, the same everywhere."""
    return (symbols.float() + trained.median[point]) / trained.gain[point]


def encode_symbols(trained: Trained, coded: Coded) -> tuple[bytes, float]:
    """Bytes of the features, and the bits that their tables predicted."""
    encoder = SymbolEncoder()
    index = np.broadcast_to(np.arange(coded.symbols.shape[1], dtype=np.uint16), coded.symbols.shape)
    encoder.put(coded.symbols, trained.tables[coded.point], index)
    return encoder.finish(), encoder.estimated_bits


def decode_symbols(trained: Trained, data: bytes, latents: int, point: int) -> npt.NDArray[np.int32]:
    """The features of so many latents, (latents, dim).

    Raises:
        BitstreamError: the data are damaged.
    """
    decoder = SymbolDecoder(data)
    shape = (latents, trained.config.dim)
    index = np.broadcast_to(np.arange(shape[1], dtype=np.uint16), shape)
    symbols = decoder.get(trained.tables[point], index)
    decoder.finish()
    return symbols
