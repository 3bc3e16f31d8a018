"""Bjøntegaard: BD-rate and BD-PSNR of two rate-quality curves, with a certificate of what they rest on.

The `bjontegaard` package (Herglotz et al., "Beyond Bjøntegaard", ICIP 2022) interpolates and integrates; this
module decides which points it may see, over which interval, and whether the outcome deserves belief.  Nothing is
extrapolated: BD-rate is the mean difference of log rate over the qualities that both curves reach, BD-PSNR the
mean difference of quality over the log rates that both reach.  The two are figures of their own: each is judged by
the same tests in its own direction, and each has a verdict.

A measured point and the curve drawn through the points are two things.  The points are made to rise by dropping
those that a cheaper and better one dominates; the curve drawn through rising points may still fall between them,
which the reason then says in these words.
"""

from __future__ import annotations

import math
import reprlib
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
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

#: Rates and qualities outside of these are no measurements in any unit, and would overflow what is made of them.
_RATE_LIMITS = (1e-100, 1e100)
_QUALITY_LIMIT = 1e9

_Array = npt.NDArray[np.float64]


class CurveError(MetricError):
    """The arguments are no rate-quality curve: no numbers, of different lengths, or with an unknown method."""


@dataclass(frozen=True)
class Thresholds:
    """When a figure is believed.  What fails one of these is WEAK: printed, with the reason beside it.

    Each holds for both figures, along quality for BD-rate and along log rate for BD-PSNR.

    The values are ours; each is placed between cases that practice accepts and cases that it regrets.

    Attributes:
        min_overlap: overlap of the ranges, as a fraction of their union.  PCGCv2 against G-PCC octree has
            0.4, a learned codec that begins where octree is half-way up has 0.2, and the notorious 2 % of
            pcc_geo_cnn_v2 c4-ws must fail.
        min_overlap_of_narrower: the same as a fraction of the narrower range: at least a third of one codec's
            working range must have been compared.
        min_points_inside: measured points of each curve inside the common interval; with fewer, the curve there
            is the interpolator's invention.
        min_curve_points: points of each curve; Bjøntegaard's method (VCEG-M33) was defined on four.
        max_dominated: share of a curve's points that may be dropped as dominated by cheaper and better ones.
        max_spread: disagreement of the interpolating methods allowed in BD-rate, in natural log of
            rate (0.01 is 1 % of rate) ...
        max_spread_db: ... and in BD-PSNR, in dB ...
        max_spread_of_effect: ... or as a share of the effect itself, whichever is more.
        max_dip: fall of rate allowed along the drawn curve where quality rises, as a share of rate; akima dips
            a little beside steep stretches, which the spread would show if it mattered.
        max_dip_db: fall of quality allowed along the drawn curve where rate rises, in dB.
        sign_floor_pct: methods that disagree about the sign matter only above this size of BD-rate ...
        sign_floor_db: ... and of BD-PSNR.
        max_rate_factor: a codec that needs more than this many times another's rate at equal quality is no finding
            but an artefact of the points; what exceeds it is REFUSED ...
        max_bd_psnr_db: ... and so is a larger difference of quality at equal rate.

    The limits in dB are those of rate carried over by the slope of G-PCC octree on longdress: 12 dB for ten times the
    rate, so that 1 % of rate is 0.05 dB.
    """

    min_overlap: float = 0.10
    min_overlap_of_narrower: float = 1 / 3
    min_points_inside: int = 2
    min_curve_points: int = 4
    max_dominated: float = 1 / 3
    max_spread: float = 0.01
    max_spread_db: float = 0.05
    max_spread_of_effect: float = 0.10
    max_dip: float = 0.01
    max_dip_db: float = 0.05
    sign_floor_pct: float = 0.1
    sign_floor_db: float = 0.005
    max_rate_factor: float = 10_000.0
    max_bd_psnr_db: float = 100.0


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
            better.  None when refused.
        method: the interpolation of the two figures above.
        verdict: of BD-rate: OK, WEAK (doubtful: see the reason) or REFUSED (no figure).
        reason: why not OK, one line; empty when OK.
        psnr_verdict: of BD-PSNR, by the same tests along the other axis.
        psnr_reason: why BD-PSNR is not OK, one line; empty when OK.
        quality: the common interval of quality, over which BD-rate is taken; None when a curve has no points.
        rate: the common interval of rate (linear ends, fractions of log rate), for BD-PSNR.
        anchor_range, test_range: lowest and highest quality of each curve.
        anchor_points, test_points: points of each curve that were used.
        anchor_monotone, test_monotone: whether the points as measured rise strictly in quality with rate.
        anchor_drawn_rises, test_drawn_rises: whether the curve of `method` drawn through the points that were used
            rises along quality over the common interval; None where none was drawn.
        dropped: points that were not used, with the reasons.
        rate_by_method, psnr_by_method: the figures of every method that could be computed.
        spread_pct: largest minus smallest BD-rate of the methods, in points of percent; None below two methods.
        spread_db: the same for BD-PSNR.
    """

    bd_rate_pct: float | None
    bd_psnr_db: float | None
    method: Method
    verdict: Verdict
    reason: str = ""
    psnr_verdict: Verdict = "REFUSED"
    psnr_reason: str = ""
    quality: Overlap | None = None
    rate: Overlap | None = None
    anchor_range: tuple[float, float] | None = None
    test_range: tuple[float, float] | None = None
    anchor_points: int = 0
    test_points: int = 0
    anchor_monotone: bool = True
    test_monotone: bool = True
    anchor_drawn_rises: bool | None = None
    test_drawn_rises: bool | None = None
    dropped: tuple[DroppedPoint, ...] = ()
    rate_by_method: Mapping[str, float] = field(default_factory=dict)
    psnr_by_method: Mapping[str, float] = field(default_factory=dict)
    spread_pct: float | None = None
    spread_db: float | None = None

    @property
    def overlap(self) -> float:
        """Common interval of quality as a fraction of the union of both ranges; 0 where there is none."""
        return 0.0 if self.quality is None else self.quality.of_union

    @property
    def monotone(self) -> bool:
        """Whether the points of both curves rose as measured."""
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

    Whatever the numbers are, the answer is a verdict: a figure that cannot be computed, that no rising curve through
    the points could have, or that is out of all proportion, is REFUSED with its reason.

    Args:
        anchor_rate: (n,) rate of the anchor, in any positive unit; None or NaN where it is missing.
        anchor_quality: (n,) quality of the anchor in dB, higher is better; None or infinity where it is lossless.
        test_rate: (m,) rate of the codec under test, in the same unit.
        test_quality: (m,) quality of the codec under test.
        method: interpolation of the reported figure.
        thresholds: when a figure is WEAK.

    Raises:
        CurveError: the arguments are no sequences of numbers, rates and qualities differ in number, or the method is
            unknown.

    Example:
        >>> result = certified_bd([1, 2, 4, 8], [30, 33, 36, 39], [0.5, 1, 2, 4], [30, 33, 36, 39])
        >>> result.verdict, round(result.bd_rate_pct, 6)
        ('OK', -50.0)
        >>> result.psnr_verdict, round(result.bd_psnr_db, 6)
        ('OK', 3.0)
    """
    if not isinstance(method, str) or method not in METHODS:
        raise CurveError(f"method must be one of {', '.join(METHODS)}, got {reprlib.repr(method)}")
    if not isinstance(thresholds, Thresholds):
        raise CurveError(f"thresholds must be Thresholds, got {reprlib.repr(thresholds)}")
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
            reason = curve.too_short()
            return BDResult(None, None, verdict="REFUSED", reason=reason, psnr_reason=reason, **common)
    # What overflows here is found by looking at the outcome; a warning would reach the user without a place.
    with np.errstate(all="ignore"):
        of_rate = _judge(_BD_RATE, anchor, test, method, thresholds)
        of_psnr = _judge(_BD_PSNR, anchor, test, method, thresholds)
    return BDResult(
        bd_rate_pct=of_rate.value,
        verdict=of_rate.verdict,
        reason=of_rate.reason,
        quality=of_rate.overlap,
        rate_by_method=of_rate.by_method,
        spread_pct=of_rate.spread,
        anchor_drawn_rises=of_rate.drawn_rises.get("anchor"),
        test_drawn_rises=of_rate.drawn_rises.get("test"),
        bd_psnr_db=of_psnr.value,
        psnr_verdict=of_psnr.verdict,
        psnr_reason=of_psnr.reason,
        rate=of_psnr.overlap,
        psnr_by_method=of_psnr.by_method,
        spread_db=of_psnr.spread,
        **common,
    )


@dataclass(frozen=True)
class _Curve:
    """A cleaned curve: strictly rising in rate and quality."""

    name: CurveName
    rate: _Array
    log_rate: _Array
    quality: _Array
    monotone: bool
    dropped: tuple[DroppedPoint, ...]
    n_given: int

    @classmethod
    def of(cls, name: CurveName, rates: Any, qualities: Any) -> _Curve:
        rates, qualities = _numbers(rates, f"the {name}'s rates"), _numbers(qualities, f"the {name}'s qualities")
        if len(rates) != len(qualities):
            raise CurveError(f"the {name} has {len(rates)} rates but {len(qualities)} qualities")
        points: list[tuple[float, float, float, int]] = []
        dropped: list[DroppedPoint] = []
        for index, (rate, quality) in enumerate(zip(rates, qualities, strict=True)):
            fault = _fault(rate, quality)
            if fault:
                dropped.append(DroppedPoint(name, index, rate, quality, fault))
            else:
                assert rate is not None and quality is not None  # noqa: S101  # _fault has refused None
                points.append((math.log10(rate), quality, rate, index))
        # Cheapest first and, at one rate, best first: a point is on the front when it beats all before it.  Rates are
        # compared as the logarithms that are interpolated: two that these do not tell apart are one rate.
        points.sort(key=lambda point: (point[0], -point[1], point[3]))
        kept: list[tuple[float, float, float, int]] = []
        for log_rate, quality, rate, index in points:
            if kept and quality <= kept[-1][1]:
                best_log, best_quality, best_rate, best_index = kept[-1]
                same = log_rate == best_log and quality == best_quality
                why = (
                    f"repeats point {best_index}"
                    if same
                    else f"dominated: point {best_index} reaches {best_quality:.4g} for {best_rate:.4g}"
                )
                dropped.append(DroppedPoint(name, index, rate, quality, why, dominated=not same))
            else:
                kept.append((log_rate, quality, rate, index))
        return cls(
            name=name,
            rate=np.array([point[2] for point in kept], dtype=np.float64),
            log_rate=np.array([point[0] for point in kept], dtype=np.float64),
            quality=np.array([point[1] for point in kept], dtype=np.float64),
            monotone=not any(point.dominated for point in dropped),
            dropped=tuple(sorted(dropped, key=lambda point: point.index)),
            n_given=len(rates),
        )

    def __len__(self) -> int:
        return len(self.rate)

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


def _numbers(values: Any, what: str) -> list[float | None]:
    """The values as floats, with None and NaN both None; infinities stay."""
    if isinstance(values, str | bytes | bytearray | Mapping | Set) or not isinstance(values, Iterable):
        raise CurveError(f"{what} must be a sequence of numbers, got {reprlib.repr(values)}")
    try:
        listed = list(values)
    except TypeError:  # an array without dimensions
        raise CurveError(f"{what} must be a sequence of numbers, got {reprlib.repr(values)}") from None
    return [_number(value, index, what) for index, value in enumerate(listed)]


_NO_NUMBERS = (str, bytes, bytearray, bool, np.bool_, complex, np.complexfloating)


def _number(value: Any, index: int, what: str) -> float | None:
    if value is None or value is np.ma.masked:
        return None
    if not isinstance(value, _NO_NUMBERS) and not np.ndim(value):
        try:
            number = float(value)
        except OverflowError:  # an integer beyond the floats
            return math.inf if value > 0 else -math.inf
        except (TypeError, ValueError):
            pass  # refused below, as all that is no number
        else:
            return None if math.isnan(number) else number
    raise CurveError(f"{what} must be numbers, got {reprlib.repr(value)} at {index}")


def _fault(rate: float | None, quality: float | None) -> str:
    """Why a point cannot be used; empty when it can."""
    if rate is None or math.isinf(rate):
        return "no rate"
    if not _RATE_LIMITS[0] <= rate <= _RATE_LIMITS[1]:
        known = {0: "zero", -1: "negative"}.get(int(np.sign(rate)), f"{rate:.4g}, out of all proportion")
        return f"rate is {known}"
    if quality is None:
        return "lossless or not measured"
    if math.isinf(quality):
        return "lossless: infinite quality" if quality > 0 else "quality is minus infinity"
    return "" if abs(quality) <= _QUALITY_LIMIT else f"quality {quality:.4g} is out of all proportion"


# --- one figure -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Kind:
    """One of the two figures: the axis it is taken along, and the units and limits that go with it.

    Attributes:
        name: for the reasons.
        along, across: what is integrated over, and what is integrated.
        x, y: a curve's values of these two, strictly rising.
        ends: a curve's values along the axis as a person reads them (rate, where `x` is its logarithm).
        figure: an integral as the reported figure.
        text: the figure with sign and unit.
        spread: disagreement of methods allowed, in the unit of the integral.
        dip: fall of the drawn curve allowed, in the unit of the integral.
        sign_floor: size of the figure above which its sign matters.
        largest: size of the integral above which it is out of all proportion ...
        too_large: ... and what is said then.
    """

    name: str
    along: str
    x: Callable[[_Curve], _Array]
    y: Callable[[_Curve], _Array]
    ends: Callable[[_Curve], _Array]
    figure: Callable[[float], float]
    text: Callable[[float], str]
    spread: Callable[[Thresholds], float]
    dip: Callable[[Thresholds], float]
    sign_floor: Callable[[Thresholds], float]
    largest: Callable[[Thresholds], float]
    too_large: Callable[[float, Thresholds], str]


_BD_RATE = _Kind(
    name="BD-rate",
    along="quality",
    x=lambda curve: curve.quality,
    y=lambda curve: curve.log_rate,
    ends=lambda curve: curve.quality,
    figure=lambda value: 100 * math.expm1(math.log(10) * value) if value < 300 else math.inf,
    text=lambda figure: f"{figure:+.2f} %",
    spread=lambda limits: limits.max_spread / math.log(10),
    dip=lambda limits: math.log10(1 + limits.max_dip),
    sign_floor=lambda limits: limits.sign_floor_pct,
    largest=lambda limits: math.log10(limits.max_rate_factor),
    too_large=lambda value, limits: (
        f"the {'test' if value > 0 else 'anchor'} would need more than {limits.max_rate_factor:,.0f} times the rate "
        f"of the {'anchor' if value > 0 else 'test'}, which is out of all proportion"
    ),
)
_BD_PSNR = _Kind(
    name="BD-PSNR",
    along="rate",
    x=lambda curve: curve.log_rate,
    y=lambda curve: curve.quality,
    ends=lambda curve: curve.rate,
    figure=lambda value: value,
    text=lambda figure: f"{figure:+.2f} dB",
    spread=lambda limits: limits.max_spread_db,
    dip=lambda limits: limits.max_dip_db,
    sign_floor=lambda limits: limits.sign_floor_db,
    largest=lambda limits: limits.max_bd_psnr_db,
    too_large=lambda value, limits: (
        f"a difference of {value:+.4g} dB at equal rate is more than {limits.max_bd_psnr_db:g} dB, which is out of "
        "all proportion"
    ),
)


@dataclass(frozen=True)
class _Figure:
    """A figure with its verdict; fields as in `BDResult`."""

    value: float | None
    verdict: Verdict
    reason: str
    overlap: Overlap
    by_method: Mapping[str, float] = field(default_factory=dict)
    spread: float | None = None
    drawn_rises: Mapping[CurveName, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class _Drawn:
    """The mean of test minus anchor over the common interval by one method, and the two curves that it drew."""

    difference: float
    curves: tuple[Callable[[_Array], _Array], Callable[[_Array], _Array]]


def _judge(kind: _Kind, anchor: _Curve, test: _Curve, method: Method, limits: Thresholds) -> _Figure:
    """One of the two figures of curves that have two points at least."""
    overlap, low, high = _overlap(kind, anchor, test)

    def refused(reason: str, by_method: Mapping[str, float] | None = None) -> _Figure:
        others = {name: value for name, value in (by_method or {}).items() if name != method}
        return _Figure(None, "REFUSED", reason, overlap, others, _spread(others))

    if overlap.is_empty:
        shared = f"no more than one {kind.along}" if overlap.high == overlap.low else f"no {kind.along}"
        spans = f"anchor {_span(kind.ends(anchor))}, test {_span(kind.ends(test))}"
        return refused(f"the curves share {shared}: {spans}")
    drawn, faults = _draw(kind, anchor, test)
    differences = {name: result.difference for name, result in drawn.items()}
    by_method = {name: kind.figure(value) for name, value in differences.items()}
    by_method = {name: value for name, value in by_method.items() if math.isfinite(value)}
    if method not in drawn:
        return refused(_uncomputable(method, anchor, test, faults.get(method, "")), by_method)
    value = differences[method]
    least, most = _possible(kind, anchor, test, low, high)
    if not least <= value <= most:  # also where one of them is NaN
        reason = (
            f"the {method} curve leaves the measured points: it gives {_size(kind, value)}, where curves that rise "
            f"through these points give {_size(kind, least)} to {_size(kind, most)}"
        )
        return refused(reason, by_method)
    if abs(value) > kind.largest(limits):
        return refused(kind.too_large(value, limits), by_method)
    dips = _dips(kind, anchor, test, drawn[method], low, high)
    rises = {name: dip <= kind.dip(limits) for name, dip in dips.items()}
    doubts = [
        *_doubts_of_curves(anchor, test, limits),
        *_doubts_of_overlap(kind, overlap, anchor, test, limits),
        *_doubts_of_methods(kind, differences, by_method, method, limits, _interpolating(anchor, test, method)),
        *_doubts_of_shape(rises, anchor, test, method),
    ]
    verdict: Verdict = "WEAK" if doubts else "OK"
    return _Figure(by_method[method], verdict, "; ".join(doubts), overlap, by_method, _spread(by_method), rises)


def _overlap(kind: _Kind, anchor: _Curve, test: _Curve) -> tuple[Overlap, float, float]:
    """The common interval for people, and its ends as integrated over."""
    a, t = kind.x(anchor), kind.x(test)
    low, high = float(max(a[0], t[0])), float(min(a[-1], t[-1]))
    length = max(high - low, 0.0)
    ends = kind.ends(anchor), kind.ends(test)
    overlap = Overlap(
        low=float(max(ends[0][0], ends[1][0])),
        high=float(min(ends[0][-1], ends[1][-1])),
        of_union=length / float(max(a[-1], t[-1]) - min(a[0], t[0])),
        of_anchor=length / float(a[-1] - a[0]),
        of_test=length / float(t[-1] - t[0]),
        anchor_points=int(((a >= low) & (a <= high)).sum()),
        test_points=int(((t >= low) & (t <= high)).sum()),
    )
    return overlap, low, high


def _draw(kind: _Kind, anchor: _Curve, test: _Curve) -> tuple[dict[str, _Drawn], dict[str, str]]:
    """What each method makes of the points, and why some make nothing of them."""
    import bjontegaard  # here, because it brings matplotlib

    drawn: dict[str, _Drawn] = {}
    faults: dict[str, str] = {}
    columns = (kind.x(anchor), kind.y(anchor), kind.x(test), kind.y(test))
    for method in METHODS:
        if min(len(anchor), len(test)) < _POINTS_NEEDED[method]:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # An ill-conditioned fit warns; such a value must not stand beside the others.
            warnings.simplefilter("error", np.exceptions.RankWarning)
            try:
                difference, *curves = bjontegaard.bd_linear(
                    *columns, method=method, require_matching_points=False, interpolators=True, min_overlap=0
                )
            except Exception as error:  # whatever the points made of numpy or scipy: of one pair, not of a report
                faults[method] = " ".join(f"{type(error).__name__}: {error}".split())
                continue
        if math.isfinite(difference):
            drawn[method] = _Drawn(float(difference), (curves[0], curves[1]))
    return drawn, faults


def _possible(kind: _Kind, anchor: _Curve, test: _Curve, low: float, high: float) -> tuple[float, float]:
    """Least and largest difference of any two curves that rise through the points.

    Between two points such a curve is at least at the first and at most at the second.
    """
    bounds = []
    for curve in (anchor, test):
        x, y = kind.x(curve), kind.y(curve)
        edges = np.concatenate([[low], x[(x > low) & (x < high)], [high]])
        first = int(np.searchsorted(x, low, side="right")) - 1
        widths, at = np.diff(edges) / (high - low), np.arange(first, first + len(edges) - 1)
        bounds.append((float(widths @ y[at]), float(widths @ y[np.minimum(at + 1, len(y) - 1)])))
    (anchor_least, anchor_most), (test_least, test_most) = bounds
    rounding = 1e-9 * max(1.0, *(abs(value) for pair in bounds for value in pair))
    return test_least - anchor_most - rounding, test_most - anchor_least + rounding


def _size(kind: _Kind, value: float) -> str:
    """An integral as a figure with its unit; percent beyond belief as a factor."""
    figure = kind.figure(value)
    if kind is _BD_RATE and not -99.99 < figure < 1e5:
        return f"10^{value:.0f} times the rate"
    return kind.text(figure) if abs(figure) < 1e5 else f"{figure:+.3g} dB"


def _dips(
    kind: _Kind, anchor: _Curve, test: _Curve, drawn: _Drawn, low: float, high: float
) -> dict[CurveName, float]:
    """How far each drawn curve falls where it should rise; the cubic and, rarely, akima overshoot."""
    dips: dict[CurveName, float] = {}
    for curve, draw in zip((anchor, test), drawn.curves, strict=True):
        x = kind.x(curve)
        # Evenly, and within every stretch between two points, however short.
        inner = x[:-1, None] + np.diff(x)[:, None] * np.linspace(0, 1, 9)
        grid = np.unique(np.clip(np.concatenate([np.linspace(low, high, 256), inner.ravel()]), low, high))
        values = draw(grid)
        dip = float((np.maximum.accumulate(values) - values).max())
        dips[curve.name] = dip if math.isfinite(dip) else math.inf
    return dips


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


def _doubts_of_overlap(kind: _Kind, overlap: Overlap, anchor: _Curve, test: _Curve, limits: Thresholds) -> list[str]:
    doubts = []
    narrower = max(overlap.of_anchor, overlap.of_test)
    what = "range" if kind is _BD_RATE else "range of log rates"
    if overlap.of_union < limits.min_overlap:
        ends = kind.ends(anchor), kind.ends(test)
        low, high = min(ends[0][0], ends[1][0]), max(ends[0][-1], ends[1][-1])
        digits = ".2f" if kind is _BD_RATE else ".4g"
        doubts.append(
            f"overlap is {_percent(overlap.of_union)} of the {what} "
            f"({overlap.low:{digits}} to {overlap.high:{digits}} of {low:{digits}} to {high:{digits}})"
        )
    elif narrower < limits.min_overlap_of_narrower:
        doubts.append(f"overlap is {_percent(narrower)} of the narrower curve's {what}")
    for curve, inside in ((anchor, overlap.anchor_points), (test, overlap.test_points)):
        if inside < limits.min_points_inside:
            number = "no point" if inside == 0 else f"only {inside} point{'s' if inside > 1 else ''}"
            doubts.append(f"{number} of the {curve.name} inside the overlap")
    return doubts


def _doubts_of_methods(
    kind: _Kind,
    differences: Mapping[str, float],
    by_method: Mapping[str, float],
    method: Method,
    limits: Thresholds,
    interpolating: Sequence[str],
) -> list[str]:
    """Whether the choice of the method makes the figure.

    The cubic is one polynomial of degree 3: through four points it interpolates, past that it is a fit that misses
    them, and its difference from the others says more of it than of the curves.  So it is always shown and, past four
    points, not held against the size of a figure; against its sign it always is.
    """
    values = list(by_method.values())
    figures = ", ".join(f"{name} {kind.text(value)}" for name, value in by_method.items())
    if min(values) < 0 < max(values) and max(map(abs, values)) > kind.sign_floor(limits):
        return [f"the sign depends on the interpolation ({figures})"]
    judged = [differences[name] for name in interpolating if name in differences]
    allowed = max(kind.spread(limits), limits.max_spread_of_effect * abs(differences[method]))
    if judged and max(judged) - min(judged) > allowed:
        return [f"the interpolations disagree ({figures})"]
    return []


def _doubts_of_shape(rises: Mapping[CurveName, bool], anchor: _Curve, test: _Curve, method: Method) -> list[str]:
    """A curve drawn through rising points must rise."""
    return [
        f"the {'measured points' if curve.monotone else 'points kept'} of the {curve.name} rise, but the {method} "
        "curve drawn through them falls in places"
        for curve in (anchor, test)
        if not rises[curve.name]
    ]


def _interpolating(anchor: _Curve, test: _Curve, method: Method) -> list[str]:
    """Methods whose curves go through the points, and the one that was asked for."""
    exact = max(len(anchor), len(test)) <= _POINTS_NEEDED["cubic"]
    return [name for name in METHODS if name != "cubic" or exact or method == "cubic"]


def _uncomputable(method: Method, anchor: _Curve, test: _Curve, fault: str) -> str:
    needed = _POINTS_NEEDED[method]
    if min(len(anchor), len(test)) < needed:
        return f"{method} needs {needed} points a curve, got {len(anchor)} (anchor) and {len(test)} (test)"
    return f"{method} gives no finite figure on these points{f' ({fault})' if fault else ''}"


def _spread(values: Mapping[str, float]) -> float | None:
    return max(values.values()) - min(values.values()) if len(values) > 1 else None


def _span(values: _Array) -> str:
    return f"{values[0]:.4g} to {values[-1]:.4g}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.{0 if fraction >= 0.01 else 1}f} %"
