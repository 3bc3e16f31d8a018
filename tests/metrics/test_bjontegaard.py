"""BD-rate with its certificate, against the package's own cases, published curves and hand-made traps."""

import csv
import doctest
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pccbench.metrics import bjontegaard
from pccbench.metrics.bjontegaard import METHODS, CurveError, Thresholds, certified_bd

# The data of the three examples that the bjontegaard package is published with (README, example_usage.py).
README = {
    1: (
        [9487.76, 4593.60, 2486.44, 1358.24],
        [40.037, 38.615, 36.845, 34.851],
        [9787.80, 4469.00, 2451.52, 1356.24],
        [40.121, 38.651, 36.970, 34.987],
    ),
    2: (
        [82472.76, 26875.24, 9487.76, 4593.6],
        [43.825, 41.404, 40.037, 38.615],
        [99896.96, 33952.04, 9787.8, 4469.0],
        [44.731, 41.875, 40.121, 38.651],
    ),
    3: (
        [82472.76, 26875.24, 9487.76, 4593.6, 3600, 2900],
        [43.825, 41.404, 40.037, 38.615, 36.5, 35.1],
        [99896.96, 33952.04, 9787.8, 4469.0, 4040, 3300],
        [44.731, 41.875, 40.121, 38.651, 37, 36.5],
    ),
}
ANCHOR = ([0.02, 0.07, 0.22, 0.48, 0.61, 0.68], [52.8, 58.4, 63.2, 68.0, 69.7, 70.4])
TEST = ([0.03, 0.06, 0.11, 0.2, 0.3], [60.9, 66.3, 69.9, 73.6, 75.1])


@pytest.mark.parametrize(
    ("case", "cubic", "pchip", "akima"),
    [(1, -4.42, -4.42, -4.43), (2, -4.70, -4.47, -4.09), (3, -0.64, -2.95, -2.53)],
)
def test_examples_of_the_package(case, cubic, pchip, akima):
    expected = {"cubic": cubic, "pchip": pchip, "akima": akima}
    for method, value in expected.items():
        result = certified_bd(*README[case], method=method)
        assert result.bd_rate_pct == pytest.approx(value, abs=0.0051)
        assert result.method == method
        assert result.rate_by_method == pytest.approx(expected, abs=0.0051)


def test_verdicts_on_the_examples_of_the_package():
    assert certified_bd(*README[1]).verdict == "OK"
    assert certified_bd(*README[2]).verdict == "OK"
    result = certified_bd(*README[3])
    assert result.verdict == "WEAK"
    assert result.reason == (
        "the measured points of the test rise, but the akima curve drawn through them falls in places"
    )
    assert result.test_monotone  # the points
    assert not result.test_drawn_rises  # the curve
    assert result.anchor_drawn_rises
    assert result.spread_pct == pytest.approx(2.31, abs=0.01)


def test_methods_that_disagree_are_weak():
    # A kink that each method rounds in its own way; four points, so that the cubic interpolates too.
    result = certified_bd([1, 2, 4, 8], [30, 33, 36, 39], [0.9, 1.0, 3.9, 4.0], [30, 35, 36, 39])
    assert result.verdict == "WEAK"
    assert "the interpolations disagree (akima " in result.reason
    assert result.spread_pct > 1


def test_cubic_fit_past_four_points_is_shown_but_not_judged():
    """Six points: akima and pchip agree on -9.9 %, the least-squares cubic says -10.8 %."""
    # G-PCC octree and pccbench's octree on longdress, measured
    anchor = [0.0220, 0.0689, 0.2165, 0.4805, 0.6146, 0.6790], [52.777, 58.442, 63.212, 67.984, 69.679, 70.385]
    test = [0.0201, 0.0575, 0.1805, 0.4137, 0.5339, 0.5865], [52.777, 58.442, 63.212, 66.2, 69.2, 72.2]
    result = certified_bd(*anchor, *test)
    assert abs(result.rate_by_method["cubic"] - result.rate_by_method["akima"]) > 0.5
    assert result.verdict == "OK", result.reason
    assert result.spread_pct > 0.5
    asked = certified_bd(*anchor, *test, method="cubic", thresholds=Thresholds(max_spread_of_effect=0))
    assert "the interpolations disagree" in asked.reason


def _published(shared, codec, sequence, source):
    with (shared / "golden" / "published_rd.csv").open(newline="") as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if (row["codec"], row["sequence"]) == (codec, sequence) and source in row["source"] and row["d1_psnr_db"]
        ]
    assert rows
    return [float(row["bpp"]) for row in rows], [float(row["d1_psnr_db"]) for row in rows]


@pytest.mark.parametrize(
    ("sequence", "rate_pct", "psnr_db"),
    [
        ("longdress_vox10_1300", -89.10, 10.49),
        ("loot_vox10_1200", -90.36, 10.83),
        ("redandblack_vox10_1550", -88.47, 9.89),
        ("soldier_vox10_0690", -89.38, 10.47),
    ],
)
def test_pcgcv2_against_octree(shared, sequence, rate_pct, psnr_db):
    anchor = _published(shared, "G-PCC octree", sequence, "pcc_geo_cnn_v2")
    test = _published(shared, "PCGCv2", sequence, "PCGCv2")
    result = certified_bd(*anchor, *test, method="pchip")
    # loot is -90.355; published with two digits as -90.36 (half up), hence 0.006
    assert result.bd_rate_pct == pytest.approx(rate_pct, abs=0.006)
    assert result.bd_psnr_db == pytest.approx(psnr_db, abs=0.01)
    assert result.verdict == "OK", result.reason
    assert 0.38 < result.overlap < 0.43
    assert not result.dropped
    assert result.monotone


def test_tiny_overlap_is_weak(shared):
    anchor = _published(shared, "G-PCC octree", "longdress_vox10_1300", "pcc_geo_cnn_v2")
    test = _published(shared, "pcc_geo_cnn_v2-c4-ws-opt-d1", "longdress_vox10_1300", "pcc_geo_cnn_v2")
    result = certified_bd(*anchor, *test, method="pchip")
    assert result.verdict == "WEAK"
    assert result.bd_rate_pct == pytest.approx(-77.57, abs=0.005)
    assert result.overlap == pytest.approx(0.0216, abs=0.0005)
    assert "overlap is 2 % of the range (69.91 to 70.39 of 52.78 to 74.80)" in result.reason
    assert "only 1 point of the anchor" in result.reason
    assert "only 1 point of the test" in result.reason


def test_lossless_point_of_the_published_curve_is_left_out(shared):
    anchor = _published(shared, "G-PCC octree", "longdress_vox10_1300", "SparsePCGC")
    assert math.inf in anchor[1]
    result = certified_bd(*anchor, *_published(shared, "PCGCv2", "longdress_vox10_1300", "PCGCv2"))
    assert result.verdict == "OK"
    assert [point.reason for point in result.dropped] == ["lossless: infinite quality"]
    assert result.dropped[0].curve == "anchor"
    assert result.anchor_monotone


def test_trisoup_against_octree_of_tmc3(shared):
    rows = json.loads((shared / "golden" / "tmc3_v23_ctc.json").read_text())["rows"]
    curves = {
        codec: [
            (row["bpp"], row["d1_psnr_db"])
            for row in rows
            if row["codec"] == codec and row["sequence"] == "longdress_vox10_1300"
        ]
        for codec in ("gpcc-octree", "gpcc-trisoup")
    }
    octree, trisoup = (tuple(zip(*curves[codec], strict=True)) for codec in ("gpcc-octree", "gpcc-trisoup"))
    result = certified_bd(*octree, *trisoup)
    assert result.verdict == "OK", result.reason
    assert result.bd_rate_pct == pytest.approx(-86.35, abs=0.01)
    assert [point.reason for point in result.dropped] == ["lossless or not measured"]
    reverse = certified_bd(*trisoup, *octree)
    assert (1 + result.bd_rate_pct / 100) * (1 + reverse.bd_rate_pct / 100) == pytest.approx(1)
    assert reverse.bd_psnr_db == pytest.approx(-result.bd_psnr_db)


def test_known_shift():
    rates, qualities = np.geomspace(0.02, 1, 7), np.linspace(50, 70, 7)
    result = certified_bd(rates, qualities, 0.8 * rates, qualities)
    assert result.bd_rate_pct == pytest.approx(-20)
    assert result.overlap == 1
    assert result.verdict == "OK"
    assert result.quality.anchor_points == result.quality.test_points == 7
    assert result.rate_by_method == pytest.approx(dict.fromkeys(METHODS, -20.0))
    better = certified_bd(rates, qualities, rates, qualities + 1)
    assert better.bd_psnr_db == pytest.approx(1)
    assert better.rate.low == pytest.approx(0.02)
    assert better.rate.high == pytest.approx(1)


def test_same_curve_is_zero_and_order_does_not_matter():
    result = certified_bd(*ANCHOR, *ANCHOR)
    assert (result.bd_rate_pct, result.bd_psnr_db, result.verdict) == (0, 0, "OK")
    order = [3, 0, 5, 1, 4, 2]
    shuffled = tuple([column[i] for i in order] for column in ANCHOR)
    assert certified_bd(*shuffled, *TEST).bd_rate_pct == certified_bd(*ANCHOR, *TEST).bd_rate_pct


def test_disjoint_curves_are_refused():
    result = certified_bd([1, 2, 3, 4], [30, 31, 32, 33], [1, 2, 3, 4], [40, 41, 42, 43])
    assert result.verdict == "REFUSED"
    assert result.bd_rate_pct is None
    assert result.overlap == 0
    assert result.reason == "the curves share no quality: anchor 30 to 33, test 40 to 43"
    # At equal rate they can be compared very well: BD-PSNR has a verdict of its own.
    assert (result.psnr_verdict, result.psnr_reason) == ("OK", "")
    assert result.bd_psnr_db == pytest.approx(10)


def test_touching_curves_are_refused():
    result = certified_bd([1, 2, 3, 4], [30, 31, 32, 33], [1, 2, 3, 4], [33, 41, 42, 43])
    assert result.verdict == "REFUSED"
    assert "no more than one quality" in result.reason


def test_curves_without_a_common_rate_have_no_bd_psnr():
    result = certified_bd([10, 20, 30, 40], [30, 31, 32, 33], [1, 2, 3, 4], [30, 31, 32, 33])
    assert result.bd_rate_pct == pytest.approx(-90)
    assert result.verdict == "OK"
    assert result.bd_psnr_db is None
    assert result.psnr_verdict == "REFUSED"
    assert result.psnr_reason == "the curves share no rate: anchor 10 to 40, test 1 to 4"


@pytest.mark.parametrize(
    ("rates", "qualities", "reason"),
    [
        ([], [], "the test has 0 usable points, and 2 are needed"),
        ([0.5], [60], "the test has 1 usable point, and 2 are needed"),
        ([0.7], [math.inf], "the test has 0 usable points of 1 (lossless: infinite quality), and 2 are needed"),
        ([0.5, 0.7], [60, None], "the test has 1 usable point of 2 (lossless or not measured), and 2"),
        ([0.5, 0.7], [60, math.nan], "the test has 1 usable point of 2 (lossless or not measured)"),
        ([0, 0.7], [60, 61], "the test has 1 usable point of 2 (rate is zero)"),
        ([-1, 0.7], [60, 61], "the test has 1 usable point of 2 (rate is negative)"),
        ([None, 0.7], [60, 61], "the test has 1 usable point of 2 (no rate)"),
        ([math.inf, 0.7], [60, 61], "the test has 1 usable point of 2 (no rate)"),
        ([0.5, 0.7], [60, -math.inf], "the test has 1 usable point of 2 (quality is minus infinity)"),
        ([0.5, 0.5], [60, 60], "the test has 1 usable point of 2 (repeats point 0)"),
        ([0.5, 0.7], [61, 60], "the test has 1 usable point of 2 (dominated)"),
    ],
)
def test_curves_that_are_none_are_refused_with_the_reason(rates, qualities, reason):
    result = certified_bd(*ANCHOR, rates, qualities)
    assert result.verdict == "REFUSED"
    assert result.reason.startswith(reason)
    assert result.bd_rate_pct is None
    reverse = certified_bd(rates, qualities, *ANCHOR)
    assert reverse.reason == result.reason.replace("the test", "the anchor")


def test_dominated_points_are_dropped_and_named():
    rates, qualities = [*TEST[0], 0.15], [*TEST[1], 69.0]
    result = certified_bd(*ANCHOR, rates, qualities)
    clean = certified_bd(*ANCHOR, *TEST)
    assert result.bd_rate_pct == clean.bd_rate_pct
    assert not result.test_monotone
    assert result.anchor_monotone
    assert not result.monotone
    (dropped,) = result.dropped
    assert (dropped.curve, dropped.index, dropped.rate, dropped.quality) == ("test", 5, 0.15, 69.0)
    assert dropped.reason == "dominated: point 2 reaches 69.9 for 0.11"
    assert result.verdict == "OK"


def test_a_curve_of_mostly_dominated_points_is_weak():
    rates = [1, 2, 3, 4, 5, 6, 7, 8]
    result = certified_bd(rates, [30, 31, 32, 33, 34, 35, 36, 37], rates, [30, 29, 28, 33, 27, 26, 36, 37.5])
    assert result.verdict == "WEAK"
    assert "4 of the test's 8 points are dominated" in result.reason


def test_equal_rate_keeps_the_better_point():
    result = certified_bd(*ANCHOR, [*TEST[0], 0.11], [*TEST[1], 69.0])
    assert [(point.index, point.dominated) for point in result.dropped] == [(5, True)]


def test_duplicates_do_not_make_a_curve_non_monotone():
    result = certified_bd(*ANCHOR, [*TEST[0], TEST[0][2]], [*TEST[1], TEST[1][2]])
    assert result.test_monotone
    assert [point.reason for point in result.dropped] == ["repeats point 2"]


def test_few_points():
    two = certified_bd(*ANCHOR, [0.1, 0.3], [60, 70])
    assert two.verdict == "WEAK"
    assert "the test has 2 points, 4 are asked for" in two.reason
    assert set(two.rate_by_method) == {"akima", "pchip"}
    cubic = certified_bd(*ANCHOR, [0.1, 0.3], [60, 70], method="cubic")
    assert cubic.verdict == "REFUSED"
    assert cubic.reason == "cubic needs 4 points a curve, got 6 (anchor) and 2 (test)"


def test_sign_that_depends_on_the_method_is_weak():
    # The third of the package's examples, with the test 1.5 % dearer: cubic and pchip differ in sign.
    anchor_rate, anchor_quality, test_rate, test_quality = README[3]
    result = certified_bd(anchor_rate, anchor_quality, [1.015 * rate for rate in test_rate], test_quality)
    assert result.verdict == "WEAK"
    assert "the sign depends on the interpolation" in result.reason


def test_thresholds_are_arguments():
    strict = certified_bd(*ANCHOR, *TEST, thresholds=Thresholds(min_overlap=0.9))
    assert strict.verdict == "WEAK"
    assert certified_bd(*ANCHOR, *TEST).verdict == "OK"


def test_wrong_arguments():
    with pytest.raises(CurveError, match="the anchor has 2 rates but 1 qualities"):
        certified_bd([1, 2], [30], [1, 2], [30, 31])
    with pytest.raises(CurveError, match="method must be one of akima, pchip, cubic, got 'linear'"):
        certified_bd(*ANCHOR, *TEST, method="linear")


SATURATED = ([0.1, 0.2, 0.9, 1.0, 1.2], [60.0, 63.0, 63.001, 66.0, 70.0])
STEADY = ([0.1, 0.25, 0.5, 0.9, 1.2], [60.0, 63.5, 65.0, 67.0, 70.0])


def test_saturating_curves_are_refused_with_a_reason():
    """A nearly level stretch (FAU-LMS/bjontegaard#3): akima shoots off, by 10^149 and more."""
    # Two codecs that saturate: one pads, and repairs one point of the cloud by it.
    plateau = ([22.14, 25.384, 205.314, 248.26, 329.008], [54.7996, 63.28375, 63.28522, 67.5082, 79.5905])
    steady = ([22.14, 44.36, 147.532, 248.26, 329.008], [54.7996, 63.8696, 65.3498, 67.5082, 79.5905])
    result = certified_bd(*steady, *plateau)
    assert (result.verdict, result.bd_rate_pct) == ("REFUSED", None)
    assert result.reason == (
        "the akima curve leaves the measured points: it gives 10^-149 times the rate, where curves that rise through "
        "these points give -28.52 % to +47.59 %"
    )
    assert set(result.rate_by_method) == {"pchip", "cubic"}
    assert result.psnr_verdict == "WEAK"
    assert "the sign depends on the interpolation" in result.psnr_reason
    refused = certified_bd([1, 2, 4, 8, 16], [30, 33, 36, 39, 42], [1, 2, 64, 65, 66], [30, 36, 36 + 1e-9, 39, 42])
    assert refused.verdict == "REFUSED"
    assert refused.bd_rate_pct is None
    assert "the akima curve leaves the measured points" in refused.reason


def test_steep_curves_have_no_bd_psnr_of_hundreds_of_db():
    """Two rates that nearly agree: akima over log rate shoots off; once +1170 dB and OK."""
    rates, qualities = [1, 2, 2 * (1 + 1e-9), 4, 8], [30, 33, 36, 38, 40]
    result = certified_bd([1, 2, 4, 8, 16], [30, 33, 36, 39, 42], rates, qualities)
    assert result.psnr_verdict == "REFUSED"
    assert result.bd_psnr_db is None
    assert result.psnr_reason.startswith("the akima curve leaves the measured points: it gives ")
    assert result.psnr_reason.endswith(" dB")


@pytest.mark.parametrize("curve", [SATURATED, STEADY])
def test_both_figures_are_judged_by_the_same_tests(curve):
    """A curve with rate and quality swapped (on a log scale) has the two verdicts swapped."""
    anchor = ([0.1, 0.3, 0.6, 1.0, 1.3], [60.0, 63.2, 65.1, 67.5, 70.5])

    def swapped(points):
        rates, qualities = points
        return [10 ** (quality / 100) for quality in qualities], [100 * math.log10(rate) for rate in rates]

    # Everything in units in which log rate and quality weigh alike: decibels of a hundredth of a decade.
    limits = Thresholds(
        max_spread=0.01 * math.log(10), max_spread_db=1, max_dip=10**0.01 - 1, max_dip_db=1, sign_floor_pct=1e-6
    )
    straight = certified_bd(*anchor, *curve, thresholds=limits)
    turned = certified_bd(*swapped(anchor), *swapped(curve), thresholds=limits)
    assert (turned.psnr_verdict, turned.verdict) == (straight.verdict, straight.psnr_verdict)
    if straight.verdict != "REFUSED":
        assert turned.bd_psnr_db == pytest.approx(100 * math.log10(1 + straight.bd_rate_pct / 100), rel=1e-6)


def test_few_points_few_inside_and_small_overlap_make_bd_psnr_weak():
    few = certified_bd(*ANCHOR, [0.1, 0.3], [60, 70])
    assert few.psnr_verdict == "WEAK"
    assert "the test has 2 points, 4 are asked for" in few.psnr_reason
    aside = certified_bd(*ANCHOR, [0.6, 0.9, 1.4, 2.5], [60, 63, 66, 69])
    assert aside.verdict == "OK"
    assert aside.psnr_verdict == "WEAK"
    assert aside.psnr_reason == (
        "overlap is 3 % of the range of log rates (0.6 to 0.68 of 0.02 to 2.5); only 1 point of the test inside the "
        "overlap"
    )


def test_figures_out_of_all_proportion_are_refused():
    qualities = [30, 33, 36, 39]
    result = certified_bd([1, 2, 4, 8], qualities, [1e5, 2e5, 4e5, 8e5], qualities)
    assert (result.verdict, result.bd_rate_pct) == ("REFUSED", None)
    assert "more than 10,000 times the rate of the anchor" in result.reason
    result = certified_bd([1, 2, 4, 8], qualities, [1, 2, 4, 8], [quality + 290 for quality in qualities])
    assert (result.psnr_verdict, result.bd_psnr_db) == ("REFUSED", None)
    assert "+290 dB at equal rate is more than 100 dB" in result.psnr_reason


def test_failure_of_an_interpolation_is_a_verdict(monkeypatch):
    import bjontegaard as package

    def fails(*_, **__):
        raise OverflowError("(34, 'Numerical result out of range')")

    monkeypatch.setattr(package, "bd_linear", fails)
    result = certified_bd(*ANCHOR, *TEST)
    assert (result.verdict, result.psnr_verdict) == ("REFUSED", "REFUSED")
    assert "OverflowError" in result.reason
    assert "OverflowError" in result.psnr_reason


def test_rates_that_logarithms_do_not_tell_apart_are_one():
    anchor, test = ([1e6 * rate for rate in rates] for rates in (ANCHOR[0], TEST[0]))
    again = float(np.nextafter(test[2], math.inf))
    result = certified_bd(anchor, ANCHOR[1], [*test, again], [*TEST[1], TEST[1][2] + 1])
    assert result.test_points == len(TEST[0])
    assert [point.dominated for point in result.dropped] == [True]


@pytest.mark.parametrize(
    ("rates", "qualities", "text"),
    [
        (["1", "2"], [30, 31], r"the test's rates must be numbers, got '1' at 0"),
        ("12", [30, 31], r"the test's rates must be a sequence of numbers, got '12'"),
        ([1, 2], b"ab", r"the test's qualities must be a sequence of numbers, got b'ab'"),
        ([1, 2], None, "the test's qualities must be a sequence of numbers, got None"),
        ([1, 2], 3.5, "the test's qualities must be a sequence of numbers, got 3.5"),
        ([1, 2], {1: 30, 2: 31}, "the test's qualities must be a sequence of numbers"),
        ([1, 2], np.float64(3), "the test's qualities must be a sequence of numbers"),
        ([1, 2], np.zeros((2, 2)), "the test's qualities must be numbers, got array"),
        ([True, 2], [30, 31], "the test's rates must be numbers, got True at 0"),
        ([1 + 2j, 2], [30, 31], "the test's rates must be numbers"),
        ([1, [2]], [30, 31], r"the test's rates must be numbers, got \[2\] at 1"),
        (["x" * 10_000_000], [30], "the test's rates must be numbers, got 'xxx"),
    ],
)
def test_no_numbers_are_a_typed_error(rates, qualities, text):
    with pytest.raises(CurveError, match=text) as caught:
        certified_bd(*ANCHOR, rates, qualities)
    assert len(str(caught.value)) < 200


def test_numbers_of_other_types_are_numbers():
    from decimal import Decimal
    from fractions import Fraction

    expected = certified_bd(*ANCHOR, *TEST).bd_rate_pct
    assert certified_bd(*ANCHOR, [Decimal(str(rate)) for rate in TEST[0]], TEST[1]).bd_rate_pct == expected
    assert certified_bd(*ANCHOR, [Fraction(str(rate)) for rate in TEST[0]], TEST[1]).bd_rate_pct == expected
    assert certified_bd(*ANCHOR, [*TEST[0], 10**400], [*TEST[1], 80]).bd_rate_pct == expected


_values = st.one_of(
    st.none(),
    st.just(math.nan),
    st.just(math.inf),
    st.floats(min_value=-1, max_value=80, allow_nan=False),
    st.floats(),
    st.sampled_from([0.0, 0.1, 0.2, 60.0, 60.001, 0.2 * (1 + 1e-15), 1e308, 5e-324]),
)
# What breaks interpolation are rates and qualities that almost agree.
_close = st.builds(
    lambda base, steps: [base + step for step in np.cumsum(steps)],
    st.sampled_from([0.01, 1.0, 60.0]),
    st.lists(st.sampled_from([1e-15, 1e-12, 1e-9, 1e-3, 1.0, 10.0]), min_size=4, max_size=6),
)
_curves = st.one_of(
    st.lists(st.tuples(_values, _values), max_size=7),
    st.tuples(_close, _close).map(lambda pair: list(zip(*pair, strict=False))),
)


def _check(figure, verdict, reason, by_method):
    assert verdict in ("OK", "WEAK", "REFUSED")
    assert (verdict == "OK") == (reason == "")
    assert (figure is None) == (verdict == "REFUSED")
    assert figure is None or math.isfinite(figure)
    assert all(map(math.isfinite, by_method.values()))


@settings(max_examples=300, deadline=None)
@given(_curves, _curves)
@pytest.mark.filterwarnings("error")
def test_any_input_has_an_answer(anchor, test):
    columns = [[point[axis] for point in curve] for curve in (anchor, test) for axis in range(2)]
    result = certified_bd(*columns)
    _check(result.bd_rate_pct, result.verdict, result.reason, result.rate_by_method)
    _check(result.bd_psnr_db, result.psnr_verdict, result.psnr_reason, result.psnr_by_method)
    if result.verdict != "REFUSED":
        assert -100 < result.bd_rate_pct < 1e6
        low, high = result.quality.low, result.quality.high
        assert low >= max(result.anchor_range[0], result.test_range[0])
        assert high <= min(result.anchor_range[1], result.test_range[1])
    if result.psnr_verdict != "REFUSED":
        assert abs(result.bd_psnr_db) <= 100
    assert 0 <= result.overlap <= 1
    assert result.anchor_points + result.test_points + len(result.dropped) == len(anchor) + len(test)


_nonsense = st.one_of(
    st.text(), st.binary(), st.booleans(), st.complex_numbers(), st.dictionaries(st.text(), st.text())
)
_arguments = st.one_of(_nonsense, st.none(), st.integers(), st.lists(st.one_of(_nonsense, _values, st.integers())))


@settings(max_examples=150, deadline=None)
@given(st.tuples(*(_arguments for _ in range(4))))
@pytest.mark.filterwarnings("error")
def test_any_type_has_an_answer_or_a_typed_error(arguments):
    try:
        result = certified_bd(*arguments)
    except CurveError as error:
        assert str(error).count("\n") == 0
    else:
        _check(result.bd_rate_pct, result.verdict, result.reason, result.rate_by_method)


def test_docstring_examples():
    assert doctest.testmod(bjontegaard).failed == 0
