"""Lossy: the parts of a stream beyond the coarse grid, and the cloud that they give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..cloud import PointCloud
from ..container import get_varint, put_varint
from ..deepcompress.cells import CELL_VOXELS
from ..deepcompress.decision import THRESHOLDS, Costs
from ..errors import BitstreamError
from ..limits import check_decodable
from ..octree.occupancy import distinct, keys_of
from .choice import Choice, Normals, best_of, costs_at, costs_of, normals_of, real_costs, with_column, with_rows
from .completion import Candidates, Keys, TooManyCellsError, candidates_of, cells_of_children, coordinates_of
from .header import Header
from .kernel import LOSSLESS
from .modes import EXACT, GUESSED, UNCODED, Modes, decode_modes, encode_modes
from .occupancy import decode_children, encode_children
from .regions import CentreErrors, Regions, centre_errors
from .surface import child_of
from .weights import Weights

if TYPE_CHECKING:
    from .codec import Goal
    from .exact import Use
    from .latent_coding import Prepared

#: Points a node in a block below which guessing its children helps nobody: hardly one is sure.
_SPARSE_CHILDREN = 2.0
#: Centres are tried where completing leaves more than this share of the error that they would, roughly.
_DOUBTFUL = 0.4
#: Such blocks are looked at if they hold this share of the nodes, and centred if the error falls by this.
_WORTH_A_LOOK, _WORTH_A_PASS = 0.01, 0.01
#: One block of so many tells what coding children would cost.
_PROBED = 8
_LEAST_OF_NODE = 32
#: Completed points of which the real distances are searched for; of more of them, some stand for all.
_MAX_SEARCHED = 1 << 21


@dataclass(frozen=True, eq=False)
class Lossy:
    """Parts of a stream.

    Attributes:
        header: the header, complete.
        modes, refinement, latents: sections.
        predicted_bits: of all three, with what is known exactly.
        cloud: what the decoder will find.
        completed: coarse voxels that a network completes.
        notes: of the encoder.
    """

    header: Header
    modes: bytes
    refinement: bytes
    latents: bytes
    predicted_bits: float
    cloud: PointCloud
    completed: int
    notes: Mapping[str, Any]


def decode_lossy(
    header: Header,
    stages: tuple[int, ...],
    base: Keys,
    sections: tuple[bytes, bytes, bytes],
    weights: Weights,
    size_bytes: int,
) -> PointCloud:
    """The cloud of a stream whose coarse grid is `base` (not empty), and which has these modes, refinement, latents.

    Raises:
        BitstreamError: a section is damaged.
    """
    regions = Regions(base, header.step, header.block_side)
    modes, refinement, latents = sections
    found = decode_modes(modes, len(regions), has_centres=header.centred, has_children=header.refined)
    known = _decode_refinement(refinement, regions, found, header, weights) if header.refined else _NONE
    if (found.children > UNCODED).all():  # nothing is left to complete
        return PointCloud(coordinates_of(known), header.bit_depth)
    active, _ = regions.completed(found.centred)
    check_decodable(size_bytes, candidates=looked_at(len(active), stages))
    try:
        if header.point and len(active):
            candidates = _told(active, latents, regions, found, header, weights)
        else:
            candidates, _ = _completed(active, header, stages, weights, size_bytes=size_bytes)
    except TooManyCellsError as error:
        raise BitstreamError(str(error)) from None
    candidates = _with_known(regions, candidates, found.centred, found.children, known)
    check_decodable(size_bytes, points=candidates.count_passing(_levels(regions, candidates, found)))
    return _cloud(regions, candidates, found, known, header)


def looked_at(nodes: int, stages: tuple[int, ...]) -> int:
    """Voxels that a network has to look at between so many coarse voxels and what they are refined to at first.

    A coarse voxel costs as much as a few dozen of them, however few it has.
    """
    return nodes * max(_LEAST_OF_NODE, stages[0] ** 3)


_NONE: Keys = np.empty(0, np.int64)
_NOTHING = Candidates(np.empty((0, 3), np.int32), np.empty((0, CELL_VOXELS), np.uint8))


def _told(active: Keys, data: bytes, regions: Regions, modes: Modes, header: Header, weights: Weights) -> Candidates:
    """Candidates among the children of some coarse voxels, with what the latents tell of them."""
    if header.point > weights.operating_points:
        raise BitstreamError(f"stream has latents of operating point {header.point}, which these weights have not")
    latents = weights.with_latents
    known = latents.prepare(active, header.point - 1)
    values = latents.decode(known, data, _with_latents(known, regions, modes.centred, modes.children))
    return candidates_of(active, header.step, partial(latents.complete, known, values), header.side(1))


def _with_latents(
    known: Prepared, regions: Regions, centred: npt.NDArray[np.bool_], children: npt.NDArray[np.uint8]
) -> npt.NDArray[np.bool_]:
    """Which groups of the voxels that are completed have latents: those whose children are not coded."""
    block = np.empty(len(known.groups.keys), np.int64)
    _, block[known.groups.of_nodes] = regions.completed(centred)
    return children[block] == UNCODED


class LossyEncoder:
    """Codes what a coarse grid does not tell; good for one call of `run`.

    Args:
        cloud: the input.
        header: with all but `centred` and `stage_levels`.
        stages: factors of the completions, coarse to fine.
        base: sorted keys of the coarse voxels, at least one.
        base_bits: that they took.
        goal: what is asked for.
        weights: the networks and contexts.
    """

    def __init__(
        self,
        cloud: PointCloud,
        header: Header,
        stages: tuple[int, ...],
        base: Keys,
        base_bits: float,
        goal: Goal,
        weights: Weights,
    ) -> None:
        self.header, self.stages, self.base, self.bits = header, stages, base, base_bits
        self.goal, self.weights = goal, weights
        self.regions = Regions(base, header.step, header.block_side)
        self.points = np.asarray(cloud.points, np.int32)
        self.normals: Normals | None = normals_of(cloud) if goal.optimise == "d2" else None
        self.centred = self.regions.lonely()

    @cached_property
    def fine(self) -> Keys:
        """Sorted keys of the input's voxels."""
        return distinct(keys_of(self.points))

    @cached_property
    def voxels(self) -> npt.NDArray[np.int32]:
        """Coordinates of the input's voxels, (n, 3)."""
        return coordinates_of(self.fine)

    @cached_property
    def inside(self) -> npt.NDArray[np.int64]:
        """Number of the input's voxels in each block."""
        return np.bincount(self.regions.of_voxels(self.voxels), minlength=len(self.regions))

    def run(self) -> Lossy:
        """Choose, code, and say what comes of it."""
        if self.header.refined:
            children = self._children(np.zeros(len(self.regions)))
            if (children > UNCODED).all():
                return self._all_refined(children)
        told, choice, found = self._first_look()
        children = np.full(len(self.regions), UNCODED, np.uint8)
        if self.header.refined:
            children = self._children(choice.error_sq)
        refinement, refined_bits, known = self._refinement(children)
        latents, latent_bits = b"", 0.0
        if told is not None:
            found, latents, latent_bits = self._tell(told, children)
        if children.any() or told is not None:
            found = _with_known(self.regions, found, self.centred, children, known)
            choice = self._best(self._costs(found, children), refined_bits + latent_bits)
        self.header = replace(self.header, refined=bool(children.any()), centred=bool(self.centred.any()))
        modes = Modes(choice.levels, self.centred, children)
        data, mode_bits = encode_modes(modes, has_centres=self.header.centred, has_children=self.header.refined)
        notes = {
            "threshold_bits": mode_bits,
            "refined_bits": refined_bits,
            "latent_bits": latent_bits,
            "expected_mse": choice.mse,
        }
        if self.header.centred:
            notes["centred_share"] = float(self.centred[self.regions.of_nodes].mean())
        cloud = _cloud(self.regions, found, modes, known, self.header)
        return Lossy(
            self.header,
            data,
            refinement,
            latents,
            mode_bits + refined_bits + latent_bits,
            cloud,
            len(self._active()),
            notes,
        )

    def _is_scattered(self) -> bool:
        """Whether there are blocks that may be better off with centres, or must be."""
        active = self._active()
        scattered = self.inside < _SPARSE_CHILDREN * self.regions.nodes
        if not len(active) or self.regions.nodes[scattered].sum() > _WORTH_A_LOOK * len(self.base):
            return True
        try:
            cells_of_children(active, self.header.step)
        except TooManyCellsError:
            return True
        return False

    def _first_look(self) -> tuple[_Told | None, Choice, Candidates]:
        """What latents can be made of, if they are asked for; a choice without them, measured where it is needed."""
        if self.header.point and not self._is_scattered():
            told = self._prepared()
            return told, Choice(np.zeros(len(self.regions), np.uint8), np.inf, told.wrong), _NOTHING
        choice, found = self._choice_with_centres()
        if not self.header.point:
            return None, choice, found
        if not len(self._active()):
            self.header = replace(self.header, point=0)
            return None, choice, found
        told = self._prepared()
        return told, replace(choice, error_sq=np.where(self.centred, choice.error_sq, told.wrong)), found

    def _prepared(self) -> _Told:
        """What latents can be made of.

        Raises:
            CodecUnavailableError: the weights have no latents.
        """
        active, block = self.regions.completed(self.centred)
        known = self.weights.with_latents.prepare(active, self.header.point - 1)
        occupied = self._occupied(active)
        wrong = ((known.logits > 0) != occupied).sum(axis=1)
        return _Told(known, occupied, np.bincount(block, wrong, len(self.regions)).astype(np.float64))

    def _is_worth_it(self, told: _Told) -> bool:
        """Whether latents put more children right than as many bits spent on coding those, as some blocks tell."""
        probed = (np.arange(len(self.regions)) % _PROBED == 0) & (told.wrong > 0)
        skipped = (~probed[self.regions.of_nodes]).astype(np.uint8)
        _, bits, _ = encode_children(self.base, self.fine, skipped, self.header.bounds(), self.weights.experience)
        trade_off = self.weights.with_latents.trade_offs[told.known.point]
        return bool(told.wrong[probed].sum() <= trade_off * bits)

    def _tell(self, told: _Told, children: npt.NDArray[np.uint8]) -> tuple[Candidates, bytes, float]:
        """Candidates, with what latents tell of them if that is worth it; their section and its predicted bits."""
        latents, known, header = self.weights.with_latents, told.known, self.header
        coded = _with_latents(known, self.regions, self.centred, children)
        if coded.any() and self._is_worth_it(told):
            values = latents.choose(known, told.occupied)
            values[~coded] = 0
            data, bits = latents.encode(known, values, coded)
            compute = partial(latents.complete, known, values)
        else:
            self.header = replace(header, point=0)
            data, bits, compute = b"", 0.0, partial(_hand_over, known.logits)
        return candidates_of(known.keys, header.step, compute, header.side(1)), data, bits

    def _occupied(self, active: Keys) -> npt.NDArray[np.uint8]:
        """Whether the children of coarse voxels are there, (n, 8), x slowest and z fastest."""
        parents = keys_of(self.voxels >> 1)
        rows = np.minimum(np.searchsorted(active, parents), len(active) - 1)
        own = active[rows] == parents
        occupied = np.zeros((len(active), 8), np.uint8)
        occupied[rows[own], child_of(self.voxels[own], 2)] = 1
        return occupied

    def _all_refined(self, children: npt.NDArray[np.uint8]) -> Lossy:
        """What comes of it where no block is left to complete."""
        refinement, refined_bits, known = self._refinement(children)
        none = np.zeros(len(children), np.uint8)
        self.header = replace(self.header, point=0, stage_levels=(0,) * (len(self.stages) - 1))
        data, mode_bits = encode_modes(
            Modes(none, none.astype(np.bool_), children), has_centres=False, has_children=True
        )
        notes = {"threshold_bits": mode_bits, "refined_bits": refined_bits}
        cloud = PointCloud(coordinates_of(known), self.header.bit_depth)
        return Lossy(self.header, data, refinement, b"", mode_bits + refined_bits, cloud, 0, notes)

    def _choice_with_centres(self) -> tuple[Choice, Candidates]:
        """The levels, and the candidates, where the blocks are left out that are better off with centres."""
        found = self._complete()
        costs = self._costs(found)
        choice = self._best(costs)
        doubtful = self._doubtful(choice)
        if not doubtful.any():
            return choice, found
        completed = costs_at(costs, choice.levels)
        if self.normals is None:
            output = found.passing(choice.levels[self._blocks(found)])
            every = max(-(-len(output) // _MAX_SEARCHED), 1)
            completed = real_costs(self.regions, ~self.centred, self.voxels, output[::every], completed, every)
        errors = self._errors_of_centres(doubtful)
        with_centres = self._best(with_column(completed, doubtful, errors, self.regions.nodes))
        better = with_centres.levels == 1
        if with_centres.mse > (1 - _WORTH_A_PASS) * self._best(completed).mse or not better.any():
            return choice, found
        self.centred = self.centred | better
        # All levels stay: errors that are measured within a short reach only would now weigh too little.
        found, _ = _completed(self._active(), self.header, self.stages, self.weights)
        return replace(with_centres, levels=choice.levels), found

    def _doubtful(self, choice: Choice) -> npt.NDArray[np.bool_]:
        """Blocks in which centres may be nearer to the input than what is completed."""
        nodes = self.regions.nodes
        step = self.header.step
        expected = (len(self.points) / len(self.base) + 1) * (step * step - 1) / 4
        doubtful = ~self.centred & (choice.error_sq > _DOUBTFUL * expected * nodes) & (nodes > 0)
        return doubtful if nodes[doubtful].sum() > _WORTH_A_LOOK * len(self.base) else np.zeros_like(doubtful)

    def _complete(self) -> Candidates:
        choose = _StageChoice(self.points, self.bits)
        while True:
            try:
                found, levels = _completed(self._active(), self.header, self.stages, self.weights, choose)
                break
            except TooManyCellsError:  # a surface has fewer: it is none
                self.centred = self.centred | self.regions.emptier_half(~self.centred)
        self.header = replace(self.header, stage_levels=levels)
        return found

    def _active(self) -> Keys:
        """The coarse voxels whose surface is completed."""
        return self.regions.completed(self.centred)[0]

    def _blocks(self, found: Candidates) -> npt.NDArray[np.int64]:
        return self.regions.of_cells(found.positions)

    def _costs(self, found: Candidates, children: npt.NDArray[np.uint8] | None = None) -> Costs:
        """Costs of all blocks: those of the centred ones are the same at each level."""
        points = self.points
        if self.centred.any():
            points = points[~self.centred[self.regions.of_voxels(points)]]
        if len(found.positions):
            costs = costs_of(found, points, self._blocks(found), len(self.regions), self.normals)
        else:
            shape = len(self.regions), len(THRESHOLDS)
            costs = Costs(np.zeros(shape), np.zeros(shape), np.zeros(shape, np.int64), 0)
        if not self.centred.any():
            return costs
        errors, passed = self._errors_of_centres(self.centred), self.regions.nodes
        if children is not None:
            coded = self.centred & (children > UNCODED)
            kept = ~coded
            errors = CentreErrors(errors.from_input_sq * kept, errors.from_output_sq * kept, errors.points)
            passed = np.where(coded, errors.points, passed)
        return with_rows(costs, self.centred, errors, passed)

    def _errors_of_centres(self, which: npt.NDArray[np.bool_]) -> CentreErrors:
        normals = None if self.normals is None else self.normals.of(self.voxels)
        return centre_errors(self.regions, which, self.voxels, normals)

    def _best(self, costs: Costs, more_bits: float = 0.0) -> Choice:
        return best_of(costs, self.bits + more_bits)

    def _children(self, error_sq: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
        """Blocks whose children are coded: where they are hardly ever sure, fewer blocks, but those without error."""
        nodes = self.regions.nodes
        sparse = self.centred | (self.inside < _SPARSE_CHILDREN * nodes)
        children = np.full(len(nodes), UNCODED, np.uint8)
        share = self.goal.refine
        children[_worst(error_sq, np.where(sparse, 0, nodes), share)] = GUESSED
        children[_worst(error_sq, np.where(sparse, nodes, 0), share * (1 - self.goal.error))] = EXACT
        return children

    def _refinement(self, children: npt.NDArray[np.uint8]) -> tuple[bytes, float, Keys]:
        """The section, the predicted bits, and the children that the decoder will find."""
        if not children.any():
            return b"", 0.0, _NONE
        of_node = children[self.regions.of_nodes]
        parts, bits, known = [], 0.0, []
        for kind, band in ((GUESSED, self.header.bounds()), (EXACT, LOSSLESS)):
            skipped = (of_node != kind).astype(np.uint8)
            data, part_bits, found = encode_children(self.base, self.fine, skipped, band, self.weights.experience)
            parts.append(data)
            bits += part_bits
            known.append(found)
        head = put_varint(len(parts[0]))
        return head + parts[0] + parts[1], bits + 8 * len(head), np.sort(np.concatenate(known))


@dataclass(frozen=True, eq=False)
class _Told:
    """What latents are made of.

    Attributes:
        known: to the decoder, too.
        occupied: (n, 8) whether the children of the coarse voxels are there.
        wrong: (blocks,) children that the surface network alone has wrong.
    """

    known: Prepared
    occupied: npt.NDArray[np.uint8]
    wrong: npt.NDArray[np.float64]


def _hand_over(logits: npt.NDArray[np.float32], use: Use) -> None:
    use(slice(len(logits)), logits)


class _StageChoice:
    """The encoder's level of the voxels between two grids."""

    def __init__(self, points: npt.NDArray[np.int32], bits: float) -> None:
        self.points, self.bits = points, bits

    def __call__(self, found: Candidates, step: int) -> int:
        one = np.zeros(len(found.positions), np.int64)
        return int(best_of(costs_of(found, self.points // step, one, 1), self.bits).levels[0])


def _completed(
    active: Keys,
    header: Header,
    stages: tuple[int, ...],
    weights: Weights,
    choose: _StageChoice | None = None,
    size_bytes: int | None = None,
) -> tuple[Candidates, tuple[int, ...]]:
    """Candidates among the children of some coarse voxels, and the levels between the grids, chosen or given.

    A decoder says by `size_bytes` how long its stream is, which bounds what lies between the grids.
    """
    keys, rest, levels = active, header.step, []
    if not len(active):
        return _NOTHING, (0,) * (len(stages) - 1)
    for number, factor in enumerate(stages[:-1]):
        rest //= factor
        found = candidates_of(keys, factor, partial(weights.surface(factor).logits, keys, factor), header.side(rest))
        levels.append(header.stage_levels[number] if choose is None else choose(found, rest))
        if size_bytes is not None:
            passing = found.count_passing(levels[-1])
            check_decodable(size_bytes, candidates=looked_at(passing, stages[number + 1 :]))
        keys = found.keys_passing(levels[-1])
    last = stages[-1]
    compute = partial(weights.surface(last).logits, keys, last)
    return candidates_of(keys, last, compute, header.side(1)), tuple(levels)


def _decode_refinement(data: bytes, regions: Regions, modes: Modes, header: Header, weights: Weights) -> Keys:
    size, start = get_varint(data, 0)
    if size > len(data) - start:
        raise BitstreamError(f"refinement declares {size} bytes, and has {len(data) - start}")
    of_node = modes.children[regions.of_nodes]
    known = []
    for kind, band, part in (
        (GUESSED, header.bounds(), data[start : start + size]),
        (EXACT, LOSSLESS, data[start + size :]),
    ):
        skipped = (of_node != kind).astype(np.uint8)
        known.append(decode_children(part, regions.base, skipped, band, weights.experience))
    return np.sort(np.concatenate(known))


def _with_known(
    regions: Regions,
    found: Candidates,
    centred: npt.NDArray[np.bool_],
    children: npt.NDArray[np.uint8],
    known: Keys,
) -> Candidates:
    """Candidates that are certain where children are coded."""
    if not len(known):
        return found
    if centred.any():
        known = known[~centred[regions.of_voxels(coordinates_of(known))]]
    return found.with_known(((children > UNCODED) & ~centred)[regions.of_cells(found.positions)], known)


def _cloud(regions: Regions, found: Candidates, modes: Modes, known: Keys, header: Header) -> PointCloud:
    """What the decoder puts out, of candidates `_with_known`."""
    coded = modes.children > UNCODED
    points: list[npt.NDArray[Any]] = [found.passing(_levels(regions, found, modes))]
    if modes.centred.any():
        points.append(regions.centres(modes.centred & ~coded, header.bit_depth))
        own = coordinates_of(known)
        points.append(own[modes.centred[regions.of_voxels(own)]])
    joined = np.concatenate([part for part in points if len(part)] or points[:1])
    return PointCloud(joined, None if joined.dtype.kind == "f" else header.bit_depth)


def _levels(regions: Regions, found: Candidates, modes: Modes) -> npt.NDArray[np.uint8]:
    """The level that the voxels of each cell must pass, (n,)."""
    # A coarse voxel may reach into a block of another mode: of such voxels only the likeliest children pass.
    levels = np.where(modes.centred, np.uint8(len(THRESHOLDS) - 1), modes.levels)
    return levels[regions.of_cells(found.positions)]


def _worst(error_sq: npt.NDArray[np.float64], nodes: npt.NDArray[np.int64], share: float) -> npt.NDArray[np.bool_]:
    """The blocks with the largest error a node that together hold at least a share of the nodes."""
    order = np.argsort(-error_sq / np.maximum(nodes, 1), kind="stable")
    order = order[nodes[order] > 0]
    before = np.cumsum(nodes[order]) - nodes[order]
    mask = np.zeros(len(nodes), np.bool_)
    mask[order[before < share * nodes.sum()]] = True
    return mask
