"""Bjøntegaard: BD-rate and BD-PSNR of two rate-quality curves, with a certificate of what they rest on.

The `bjontegaard` package (Herglotz et al., "Beyond Bjøntegaard", ICIP 2022) interpolates and integrates; this
module decides which points it may see, over which interval, and whether the outcome deserves belief.  Nothing is
extrapolated: BD-rate is the mean difference of log rate over the qualities that both curves reach, BD-PSNR the
mean difference of quality over the log rates that both reach.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .errors import MetricError

Method = Literal["akima", "pchip", "cubic"]
Verdict = Literal["OK", "WEAK", "REFUSED"]
CurveName = Literal["anchor", "test"]

#: The default first; the others are computed beside it for the spread.
METHODS: tuple[Method, ...] = ("akima", "pchip", "cubic")

#: Points that a method needs: the cubic is one least-squares polynomial of degree 3, the others are piecewise.
_POINTS_NEEDED: Mapping[str, int] = {"akima": 2, "pchip": 2, "cubic": 4}

_Array = npt.NDArray[np.float64]


class CurveError(MetricError):
    """The arguments are no rate-quality curve at all: lengths differ, or a name is unknown."""


@dataclass(frozen=True)
class Thresholds:
    """When a figure is believed.  What fails one of these is WEAK: printed, with the reason beside it.

    The values are ours; each is placed between cases that practice accepts and cases that it regrets.

    Attributes:
        min_overlap: overlap of the quality ranges, as a fraction of their union.  PCGCv2 against G-PCC octree has
            0.4, a learned codec that begins where octree is half-way up has 0.2, and the notorious 2 % of
            pcc_geo_cnn_v2 c4-ws must fail.
        min_overlap_of_narrower: the same as a fraction of the narrower range: at least a third of one codec's
            working range must have been compared.
        min_points_inside: measured points of each curve inside the common interval; with fewer, the curve there
            is the interpolator's invention.
        min_curve_points: points of each curve; Bjøntegaard's method (VCEG-M33) was defined on four.
        max_dominated: share of a curve's points that may be dropped as dominated by cheaper and better ones.
        max_spread: disagreement of the interpolating methods allowed, in log rate (0.01 is 1 % of rate) ...
        max_spread_of_effect: ... or as a share of the effect itself, whichever is more.
        max_dip: fall of rate allowed along the drawn curve where quality rises, as a share of rate; akima dips
            a little beside steep stretches, which the spread would show if it mattered.
        sign_floor_pct: methods that disagree about the sign matter only above this size of BD-rate.
    """

    min_overlap: float = 0.10
    min_overlap_of_narrower: float = 1 / 3
    min_points_inside: int = 2
    min_curve_points: int = 4
    max_dominated: float = 1 / 3
    max_spread: float = 0.01
    max_spread_of_effect: float = 0.10
    max_dip: float = 0.01
    sign_floor_pct: float = 0.1


DEFAULT_THRESHOLDS = Thresholds()


@dataclass(frozen=True)
class DroppedPoint:
    """A point that was given and not used.

    Attributes:
        curve: `anchor` or `test`.
        index: its place in the arguments.
        rate, quality: as given (None where it was not a number).
        reason: why.
        dominated: it was dropped because another point costs no more and is no worse; the curve as measured was
            not monotone.
    """

    curve: CurveName
    index: int
    rate: float | None
    quality: float | None
    reason: str
    dominated: bool = False


@dataclass(frozen=True)
class Overlap:
    """The interval that two curves share along one axis.

    Attributes:
        low, high: its ends; `high <= low` where they share nothing.
        of_union, of_anchor, of_test: its length as a fraction of the union of both ranges and of each; 0 where
            they share nothing.
        anchor_points, test_points: measured points inside, ends included.
    """

    low: float
    high: float
    of_union: float
    of_anchor: float
    of_test: float
    anchor_points: int
    test_points: int

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to integrate over."""
        return not self.high > self.low


@dataclass(frozen=True)
class BDResult:
    """BD-rate and BD-PSNR of a test codec against an anchor, and what they rest on.

    Attributes:
        bd_rate_pct: mean difference of rate at equal quality, in percent; negative when the test is cheaper.
            None when refused.
        bd_psnr_db: mean difference of quality at equal rate, in the unit of the quality; positive when the test is
            better.  None when refused, or when the curves share no rate.
        method: the interpolation of the two figures above.
        verdict: OK, WEAK (doubtful: see the reason) or REFUSED (no figure).
        reason: why not OK, one line; empty when OK.
        quality: the common interval of quality, over which BD-rate is taken; None when a curve has no points.
        rate: the common interval of rate (linear ends, fractions of log rate), for BD-PSNR.
        anchor_range, test_range: lowest and highest quality of each curve.
        anchor_points, test_points: points of each curve that were used.
        anchor_monotone, test_monotone: whether the curve as measured rises strictly in quality with rate.
        dropped: points that were not used, with the reasons.
        rate_by_method, psnr_by_method: the figures of every method that could be computed.
        spread_pct: largest minus smallest BD-rate of the methods, in points of percent; None below two methods.
        spread_db: the same for BD-PSNR.
        psnr_reason: why `bd_psnr_db` is missing although BD-rate is there, or doubtful; empty otherwise.
    """

    bd_rate_pct: float | None
    bd_psnr_db: float | None
    method: Method
    verdict: Verdict
    reason: str = ""
    quality: Overlap | None = None
    rate: Overlap | None = None
    anchor_range: tuple[float, float] | None = None
    test_range: tuple[float, float] | None = None
    anchor_points: int = 0
    test_points: int = 0
    anchor_monotone: bool = True
    test_monotone: bool = True
    dropped: tuple[DroppedPoint, ...] = ()
    rate_by_method: Mapping[str, float] = field(default_factory=dict)
    psnr_by_method: Mapping[str, float] = field(default_factory=dict)
    spread_pct: float | None = None
    spread_db: float | None = None
    psnr_reason: str = ""

    @property
    def overlap(self) -> float:
        """Common interval of quality as a fraction of the union of both ranges; 0 where there is none."""
        return 0.0 if self.quality is None else self.quality.of_union

    @property
    def monotone(self) -> bool:
        """Whether both curves were monotone as measured."""
        return self.anchor_monotone and self.test_monotone


def certified_bd(
    anchor_rate: Sequence[float | None] | _Array,
    anchor_quality: Sequence[float | None] | _Array,
    test_rate: Sequence[float | None] | _Array,
    test_quality: Sequence[float | None] | _Array,
    *,
    method: Method = "akima",
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
) -> BDResult:
    """BD-rate and BD-PSNR of `test` against `anchor`, with their certificate.

    The points may come in any order and need not match in number.  A point is dropped, and listed with its reason,
    when its rate is not a positive number, when it has no finite quality (a lossless point has infinite PSNR and
    cannot enter an integral), when it repeats another, or when another point costs no more and is no worse (Pareto
    front: a curve must be a function, and an encoder would never choose that point).

    Args:
        anchor_rate: (n,) rate of the anchor, in any positive unit; None or NaN where it is missing.
        anchor_quality: (n,) quality of the anchor in dB, higher is better; None or infinity where it is lossless.
        test_rate: (m,) rate of the codec under test, in the same unit.
        test_quality: (m,) quality of the codec under test.
        method: interpolation of the reported figure.
        thresholds: when a figure is WEAK.

    Raises:
        CurveError: rates and qualities differ in number, or the method is unknown.

    Example:
        >>> result = certified_bd([1, 2, 4, 8], [30, 33, 36, 39], [0.5, 1, 2, 4], [30, 33, 36, 39])
        >>> result.verdict, round(result.bd_rate_pct, 6), round(result.bd_psnr_db, 6)
        ('OK', -50.0, 3.0)
    """
    if method not in METHODS:
        raise CurveError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    anchor = _Curve.of("anchor", anchor_rate, anchor_quality)
    test = _Curve.of("test", test_rate, test_quality)
    common: dict[str, Any] = {
        "method": method,
        "anchor_range": anchor.range,
        "test_range": test.range,
        "anchor_points": len(anchor),
        "test_points": len(test),
        "anchor_monotone": anchor.monotone,
        "test_monotone": test.monotone,
        "dropped": anchor.dropped + test.dropped,
    }
    for curve in (anchor, test):
        if len(curve) < 2:
            return _refused(curve.too_short(), **common)
    quality = _overlap(anchor.quality, test.quality)
    rate = _overlap(anchor.log_rate, test.log_rate, as_rate=True)
    common |= {"quality": quality, "rate": rate}
    if quality.is_empty:
        shared = "no more than one quality" if quality.high == quality.low else "no quality"
        ranges = f"anchor {_span(anchor.quality)}, test {_span(test.quality)}"
        return _refused(f"the curves share {shared}: {ranges}", **common)

    log_ratios = _bd_by_method(anchor, test, along="quality")
    by_method = {name: 100 * (10**value - 1) for name, value in log_ratios.items() if abs(value) < 300}
    if method not in by_method:
        return _refused(_uncomputable(method, anchor, test), rate_by_method=by_method, **common)
    psnr, psnr_reason = _bd_psnr(anchor, test, rate, method, thresholds)
    doubts = [
        *_doubts_of_curves(anchor, test, thresholds),
        *_doubts_of_overlap(quality, anchor, test, thresholds),
        *_doubts_of_methods(
            {name: log_ratios[name] for name in by_method},
            method,
            thresholds,
            interpolating=_interpolating(anchor, test, method),
        ),
        *_doubts_of_shape(anchor, test, quality, method, limits=thresholds),
    ]
    return BDResult(
        bd_rate_pct=by_method[method],
        bd_psnr_db=psnr.get(method),
        verdict="WEAK" if doubts else "OK",
        reason="; ".join(doubts),
        rate_by_method=by_method,
        psnr_by_method=psnr,
        spread_pct=_spread(by_method),
        spread_db=_spread(psnr),
        psnr_reason=psnr_reason,
        **common,
    )


@dataclass(frozen=True)
class _Curve:
    """A cleaned curve: strictly rising in rate and quality."""

    name: CurveName
    rate: _Array
    quality: _Array
    monotone: bool
    dropped: tuple[DroppedPoint, ...]
    n_given: int

    @classmethod
    def of(cls, name: CurveName, rates: Sequence[Any] | _Array, qualities: Sequence[Any] | _Array) -> _Curve:
        if len(rates) != len(qualities):
            raise CurveError(f"the {name} has {len(rates)} rates but {len(qualities)} qualities")
        points: list[tuple[float, float, int]] = []
        dropped: list[DroppedPoint] = []
        for index, (raw_rate, raw_quality) in enumerate(zip(rates, qualities, strict=True)):
            rate, quality = _number(raw_rate), _number(raw_quality)
            fault = _fault(rate, quality)
            if fault:
                dropped.append(DroppedPoint(name, index, rate, quality, fault))
            else:
                assert rate is not None and quality is not None  # noqa: S101  # _fault has refused None
                points.append((rate, quality, index))
        # Cheapest first and, at one rate, best first: a point is on the front when it beats all before it.
        points.sort(key=lambda point: (point[0], -point[1], point[2]))
        kept: list[tuple[float, float, int]] = []
        for rate, quality, index in points:
            if kept and quality <= kept[-1][1]:
                best_rate, best_quality, best_index = kept[-1]
                same = rate == best_rate and quality == best_quality
                why = (
                    f"repeats point {best_index}"
                    if same
                    else f"dominated: point {best_index} reaches {best_quality:.4g} for {best_rate:.4g}"
                )
                dropped.append(DroppedPoint(name, index, rate, quality, why, dominated=not same))
            else:
                kept.append((rate, quality, index))
        return cls(
            name=name,
            rate=np.array([point[0] for point in kept], dtype=np.float64),
            quality=np.array([point[1] for point in kept], dtype=np.float64),
            monotone=not any(point.dominated for point in dropped),
            dropped=tuple(sorted(dropped, key=lambda point: point.index)),
            n_given=len(rates),
        )

    def __len__(self) -> int:
        return len(self.rate)

    @property
    def log_rate(self) -> _Array:
        return np.log10(self.rate)

    @property
    def range(self) -> tuple[float, float] | None:
        return (float(self.quality[0]), float(self.quality[-1])) if len(self) else None

    @property
    def n_dominated(self) -> int:
        return sum(point.dominated for point in self.dropped)

    def too_short(self) -> str:
        """Why this curve cannot be compared."""
        text = f"the {self.name} has {len(self)} usable point{'' if len(self) == 1 else 's'}"
        if self.n_given != len(self):
            kinds = sorted({"dominated" if point.dominated else point.reason for point in self.dropped})
            text += f" of {self.n_given} ({'; '.join(kinds)})"
        return f"{text}, and 2 are needed"


def _number(value: Any) -> float | None:
    """A float, with None and NaN both None; infinities stay."""
    if value is None:
        return None
    number = float(value)
    return None if math.isnan(number) else number


def _fault(rate: float | None, quality: float | None) -> str:
    """Why a point cannot be used; empty when it can."""
    if rate is None or math.isinf(rate):
        return "no rate"
    if rate <= 0:
        return "rate is zero" if rate == 0 else "rate is negative"
    if quality is None:
        return "lossless or not measured"
    if quality == math.inf:
        return "lossless: infinite quality"
    return "quality is minus infinity" if quality == -math.inf else ""


def _overlap(anchor: _Array, test: _Array, *, as_rate: bool = False) -> Overlap:
    """Common interval of two sorted arrays; for log rates, with its ends as rates."""
    low, high = max(anchor[0], test[0]), min(anchor[-1], test[-1])
    length = max(high - low, 0.0)
    union = max(anchor[-1], test[-1]) - min(anchor[0], test[0])
    return Overlap(
        low=float(10**low if as_rate else low),
        high=float(10**high if as_rate else high),
        of_union=float(length / union),
        of_anchor=float(length / (anchor[-1] - anchor[0])),
        of_test=float(length / (test[-1] - test[0])),
        anchor_points=int(((anchor >= low) & (anchor <= high)).sum()),
        test_points=int(((test >= low) & (test <= high)).sum()),
    )


def _bd_by_method(anchor: _Curve, test: _Curve, *, along: Literal["quality", "rate"]) -> dict[str, float]:
    """Mean of test minus anchor over the common interval, for each method that the points allow.

    Along quality the difference is of log10 rate, along (log10) rate it is of quality.
    """
    import bjontegaard  # here, because it brings matplotlib

    values: dict[str, float] = {}
    for method in METHODS:
        if min(len(anchor), len(test)) < _POINTS_NEEDED[method]:
            continue
        pairs = [(curve.quality, curve.log_rate) for curve in (anchor, test)]
        if along == "rate":
            pairs = [(y, x) for x, y in pairs]
        with warnings.catch_warnings():
            # An ill-conditioned fit warns; such a value must not stand beside the others.
            warnings.simplefilter("error", np.exceptions.RankWarning)
            try:
                value = bjontegaard.bd_linear(
                    *pairs[0], *pairs[1], method=method, require_matching_points=False, min_overlap=0
                )
            except np.exceptions.RankWarning:
                continue
        if math.isfinite(value):
            values[method] = float(value)
    return values


def _bd_psnr(
    anchor: _Curve, test: _Curve, rate: Overlap, method: Method, limits: Thresholds
) -> tuple[dict[str, float], str]:
    """BD-PSNR of every method, and what is wrong with it."""
    if rate.is_empty:
        ranges = f"anchor {_span(anchor.rate)}, test {_span(test.rate)}"
        return {}, f"no BD-PSNR: the curves share no rate ({ranges})"
    values = _bd_by_method(anchor, test, along="rate")
    if method not in values:
        return values, f"no BD-PSNR: {_uncomputable(method, anchor, test)}"
    if rate.of_union < limits.min_overlap:
        return values, f"BD-PSNR is weak: the curves share {_percent(rate.of_union)} of their log rates"
    return values, ""


def _doubts_of_curves(anchor: _Curve, test: _Curve, limits: Thresholds) -> list[str]:
    doubts = []
    for curve in (anchor, test):
        if len(curve) < limits.min_curve_points:
            doubts.append(f"the {curve.name} has {len(curve)} points, {limits.min_curve_points} are asked for")
        share = curve.n_dominated / (curve.n_dominated + len(curve))
        if share > limits.max_dominated:
            total = curve.n_dominated + len(curve)
            doubts.append(f"{curve.n_dominated} of the {curve.name}'s {total} points are dominated by cheaper ones")
    return doubts


def _doubts_of_overlap(quality: Overlap, anchor: _Curve, test: _Curve, limits: Thresholds) -> list[str]:
    doubts = []
    narrower = max(quality.of_anchor, quality.of_test)
    if quality.of_union < limits.min_overlap:
        low, high = min(anchor.quality[0], test.quality[0]), max(anchor.quality[-1], test.quality[-1])
        doubts.append(
            f"overlap is {_percent(quality.of_union)} of the range "
            f"({quality.low:.2f} to {quality.high:.2f} of {low:.2f} to {high:.2f})"
        )
    elif narrower < limits.min_overlap_of_narrower:
        doubts.append(f"overlap is {_percent(narrower)} of the narrower curve's range")
    for curve, inside in ((anchor, quality.anchor_points), (test, quality.test_points)):
        if inside < limits.min_points_inside:
            number = "no point" if inside == 0 else f"only {inside} point{'s' if inside > 1 else ''}"
            doubts.append(f"{number} of the {curve.name} inside the overlap")
    return doubts


def _doubts_of_methods(
    log_ratios: Mapping[str, float], method: Method, limits: Thresholds, *, interpolating: Sequence[str]
) -> list[str]:
    """Whether the choice of the method makes the figure.

    The cubic is one polynomial of degree 3: through four points it interpolates, past that it is a fit that misses
    them, and its difference from the others says more of it than of the curves.  So it is always shown and, past four
    points, not held against the size of a figure; against its sign it always is.
    """
    logs = {name: math.log(10) * value for name, value in log_ratios.items()}
    by_method = {name: 100 * math.expm1(value) for name, value in logs.items()}
    values = list(by_method.values())
    figures = ", ".join(f"{name} {value:+.2f} %" for name, value in by_method.items())
    if min(values) < 0 < max(values) and max(map(abs, values)) > limits.sign_floor_pct:
        return [f"the sign depends on the interpolation ({figures})"]
    judged = [logs[name] for name in interpolating if name in logs]
    allowed = max(limits.max_spread, limits.max_spread_of_effect * abs(logs[method]))
    if judged and max(judged) - min(judged) > allowed:
        return [f"the interpolations disagree ({figures})"]
    return []


def _doubts_of_shape(
    anchor: _Curve, test: _Curve, quality: Overlap, method: Method, *, limits: Thresholds
) -> list[str]:
    """A curve drawn through rising points must rise; the cubic and, rarely, akima overshoot."""
    import bjontegaard

    pairs = (anchor.quality, anchor.log_rate, test.quality, test.log_rate)
    _, *curves = bjontegaard.bd_linear(
        *pairs, method=method, require_matching_points=False, interpolators=True, min_overlap=0
    )
    grid = np.linspace(quality.low, quality.high, 256)
    doubts = []
    for curve, drawn in zip((anchor, test), curves, strict=True):
        log_rate = drawn(grid)
        dip = 10 ** float((np.maximum.accumulate(log_rate) - log_rate).max()) - 1
        if dip > limits.max_dip:
            doubts.append(f"the {method} curve of the {curve.name} does not rise everywhere")
    return doubts


def _interpolating(anchor: _Curve, test: _Curve, method: Method) -> list[str]:
    """Methods whose curves go through the points, and the one that was asked for."""
    exact = max(len(anchor), len(test)) <= _POINTS_NEEDED["cubic"]
    return [name for name in METHODS if name != "cubic" or exact or method == "cubic"]


def _uncomputable(method: Method, anchor: _Curve, test: _Curve) -> str:
    needed = _POINTS_NEEDED[method]
    if min(len(anchor), len(test)) < needed:
        return f"{method} needs {needed} points a curve, got {len(anchor)} (anchor) and {len(test)} (test)"
    return f"{method} gives no finite figure on these points"


def _refused(reason: str, **known: Any) -> BDResult:
    return BDResult(bd_rate_pct=None, bd_psnr_db=None, verdict="REFUSED", reason=reason, **known)


def _spread(values: Mapping[str, float]) -> float | None:
    return max(values.values()) - min(values.values()) if len(values) > 1 else None


def _span(values: _Array) -> str:
    return f"{values[0]:.4g} to {values[-1]:.4g}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.{0 if fraction >= 0.01 else 1}f} %"
