"""Distortion: the figures that pc_error printed for the golden pairs, the definitions, and what has no value."""

import dataclasses
import doctest
import json
import math
import pickle

import numpy as np
import pytest

from pccbench.bench.row import Row
from pccbench.metrics import distortion as module
from pccbench.metrics.distortion import COLUMNS, PEAK_FROM_SPACING, Reference, distortion
from pccbench.metrics.errors import MetricError
from pccbench.metrics.secondary import Secondary
from pccbench.metrics.transcript import transcribe

GOLDEN_NAMES = [
    "loot8_octree",
    "loot8_trisoup",
    "loot10_crop_octree",
    "longdress8_octree",
    "longdress8_trisoup",
    "longdress10_crop_octree",
    "duplicates",
    "no_normals",
    "identical",
    "sparse_b",
    "jitter",
    "lidar_peak_nn",
    "lidar_peak_59.7",
]
#: What pc_error prints -> our column.
PRINTED = {
    "mse{i} ({p})": "{d}_mse{ab}",
    "mse{i},PSNR ({p})": "{d}_psnr{ab}_db",
    "h. {h}({p})": "hausdorff_{d}_sq{ab}",
    "h.,PSNR {h}({p})": "hausdorff_{d}_psnr_db",
}


IDENTICAL = "identical: mse is 0"
#: Pairs without an error in one direction only.
NO_ERROR = {("sparse_b", "ba_db"): "every decoded point is one of the input: mse is 0"}


def golden_columns():
    for printed, column in PRINTED.items():
        for p, d in (("p2point", "d1"), ("p2plane", "d2")):
            for i, h, ab in (("1", "1", "_ab"), ("2", "2", "_ba"), ("F", "", "")):
                if "psnr" in column and "hausdorff" in column and ab:
                    continue  # we keep the symmetric one only
                yield printed.format(i=i, h=h, p=p), column.format(d=d, ab=ab)


def golden_pair(clouds, shared, name):
    folder = shared / "golden" / "pc_error"
    pairs = {pair["name"]: pair for pair in json.loads((folder / "expected.json").read_text())}
    assert set(pairs) == set(GOLDEN_NAMES)
    pair = pairs[name]
    points, normals = clouds.read_ply(folder / pair["a"])
    decoded, _ = clouds.read_ply(folder / pair["b"])
    return pair, distortion(points, decoded, normals=normals, peak=pair["peak"])


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_golden_pairs_of_pc_error(clouds, shared, name):
    pair, result = golden_pair(clouds, shared, name)
    expected = pair["expected"]
    for printed, column in golden_columns():
        value = getattr(result, column)
        if printed not in expected:
            assert value is None and result.missing[column] == "the input cloud has no normals", column
        elif math.isinf(float(expected[printed])):
            assert value is None and result.missing[column] == NO_ERROR.get((name, column[-5:]), IDENTICAL), column
        elif float(expected[printed]) < 1e-300:  # where its maxima start
            assert value == 0.0, column
        else:
            assert value == pytest.approx(float(expected[printed]), rel=1e-8), column
    assert result.peak == pytest.approx(pair["peak_used"], rel=1e-8)


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_golden_pairs_as_text(clouds, shared, name):
    pair, result = golden_pair(clouds, shared, name)
    printed = {}
    for line in transcribe(result).splitlines():
        if line.startswith("   "):
            key, value = line.split(": ")
            printed[" ".join(key.split())] = value
    assert printed == pair["expected"]


def brute_force(points, decoded, normals, peak):
    """The definitions, written down for clouds without repeats whose distances are exact in float64."""
    d_sq = ((points[:, None].astype(float) - decoded[None]) ** 2).sum(axis=2)
    ties_ab, ties_ba = d_sq == d_sq.min(axis=1)[:, None], d_sq == d_sq.min(axis=0)[None]
    weight = ties_ab / ties_ab.sum(axis=0).clip(1)
    decoded_normals = weight.T @ normals
    lonely = ~ties_ab.any(axis=0)
    decoded_normals[lonely] = (ties_ba / ties_ba.sum(axis=0)).T[lonely] @ normals
    difference = points[:, None].astype(float) - decoded[None]
    plane_ab = np.einsum("ijk,jk->ij", difference, decoded_normals) ** 2
    plane_ba = np.einsum("ijk,ik->ij", difference, normals) ** 2
    ab = (plane_ab * ties_ab).sum(axis=1) / ties_ab.sum(axis=1)
    ba = (plane_ba * ties_ba).sum(axis=0) / ties_ba.sum(axis=0)
    d_ab, d_ba = d_sq.min(axis=1), d_sq.min(axis=0)
    psnr = lambda mse: 10 * math.log10(3 * peak**2 / mse)  # noqa: E731
    return {
        "d1_mse_ab": d_ab.mean(),
        "d1_mse_ba": d_ba.mean(),
        "d1_mse": max(d_ab.mean(), d_ba.mean()),
        "d1_psnr_ab_db": psnr(d_ab.mean()),
        "d1_psnr_ba_db": psnr(d_ba.mean()),
        "d1_psnr_db": psnr(max(d_ab.mean(), d_ba.mean())),
        "d2_mse_ab": ab.mean(),
        "d2_mse_ba": ba.mean(),
        "d2_mse": max(ab.mean(), ba.mean()),
        "d2_psnr_ab_db": psnr(ab.mean()),
        "d2_psnr_ba_db": psnr(ba.mean()),
        "d2_psnr_db": psnr(max(ab.mean(), ba.mean())),
        "hausdorff_d1_sq_ab": d_ab.max(),
        "hausdorff_d1_sq_ba": d_ba.max(),
        "hausdorff_d1_sq": max(d_ab.max(), d_ba.max()),
        "hausdorff_d1_psnr_db": psnr(max(d_ab.max(), d_ba.max())),
        "hausdorff_d2_sq_ab": ab.max(),
        "hausdorff_d2_sq_ba": ba.max(),
        "hausdorff_d2_sq": max(ab.max(), ba.max()),
        "hausdorff_d2_psnr_db": psnr(max(ab.max(), ba.max())),
        "chamfer_sq_mean_sum": d_ab.mean() + d_ba.mean(),
        "chamfer_mean_sum": np.sqrt(d_ab).mean() + np.sqrt(d_ba).mean(),
        "point_ratio": len(decoded) / len(points),
    }


@pytest.mark.parametrize("spacing", [1, 2, 5], ids=lambda spacing: f"decoded on every {spacing}th voxel")
def test_brute_force(clouds, generator, spacing):
    points = np.unique(generator.integers(-12, 20, (700, 3)), axis=0)
    decoded = np.unique(generator.integers(-12, 20, (500, 3)) // spacing * spacing, axis=0)
    normals = clouds.unit_vectors(generator, len(points))
    columns = distortion(points, decoded, normals=normals, peak=31).columns()
    for name, value in brute_force(points, decoded, normals.astype(float), 31).items():
        assert columns[name] == pytest.approx(value, rel=1e-5), name  # D2 is computed in float32
    assert None not in columns.values()


def test_columns_are_those_of_a_row():
    assert set(COLUMNS) <= set(Row.__dataclass_fields__)
    prefixes = ("d1_", "d2_", "hausdorff_", "chamfer_", "point_ratio")
    secondary = {field.name for field in dataclasses.fields(Secondary)}
    assert secondary <= set(Row.__dataclass_fields__)
    assert {name for name in Row.__dataclass_fields__ if name.startswith(prefixes)} - secondary == set(COLUMNS)


def test_order_of_points_does_not_matter(clouds, generator):
    points = clouds.voxel_surface(generator)
    decoded = np.unique(points // 2 * 2, axis=0)
    normals = clouds.unit_vectors(generator, len(points))
    expected = distortion(points, decoded, normals=normals, peak=63)
    order, other = generator.permutation(len(points)), generator.permutation(len(decoded))
    mixed = distortion(points[order], decoded[other], normals=normals[order], peak=63)
    assert mixed == expected  # all figures to the last bit, and the passport with its hash


def test_number_type_does_not_matter(clouds, generator):
    points = clouds.voxel_surface(generator)
    decoded = points // 2 * 2
    expected = distortion(points, decoded, peak=63)
    for dtype in (np.uint8, np.int64, np.float32, np.float64):
        assert distortion(points.astype(dtype), np.asfortranarray(decoded.astype(dtype)), peak=63) == expected


@pytest.mark.parametrize("kind", ["voxels", "floats", "lidar"])
def test_threads_do_not_matter(clouds, generator, kind):
    points = clouds.voxel_surface(generator, 60_000, 300).astype(np.float64)
    decoded = points // 2 * 2
    if kind == "floats":
        points, decoded = points * 0.37, np.round(points * 0.75) / 0.75 * 0.37
    elif kind == "lidar":
        points = points * np.exp(points[:, :1] / 60)
        decoded = points + generator.normal(size=points.shape) * 0.01
    normals = clouds.unit_vectors(generator, len(points))
    one, two, five = (distortion(points, decoded, normals=normals, threads=threads) for threads in (1, 2, 5))
    assert one == two == five


def test_symmetric_figures_are_the_worse_direction(clouds, generator):
    points, decoded = clouds.voxel_surface(generator), generator.integers(0, 60, (300, 3))
    result = distortion(points, decoded, normals=clouds.unit_vectors(generator, len(points)), peak=63)
    for d in ("d1", "d2"):
        for name in (f"{d}_mse", f"hausdorff_{d}_sq"):
            columns = result.columns()
            assert columns[name] == max(columns[f"{name}_ab"], columns[f"{name}_ba"])
        assert columns[f"{d}_psnr_db"] == min(columns[f"{d}_psnr_ab_db"], columns[f"{d}_psnr_ba_db"])
    swapped = distortion(decoded, points, peak=63)
    assert (swapped.d1_mse_ab, swapped.d1_mse_ba) == (result.d1_mse_ba, result.d1_mse_ab)


@pytest.mark.parametrize("scale", [0.001, 0.5, 3.0, 1024.0])
def test_psnr_is_the_same_when_clouds_and_peak_scale_together(clouds, generator, scale):
    points = clouds.voxel_surface(generator)
    decoded = points // 2 * 2
    normals = clouds.unit_vectors(generator, len(points))
    expected = distortion(points, decoded, normals=normals, peak=63)
    scaled = distortion(points * scale, decoded * scale, normals=normals, peak=63 * scale)
    exact = scale in (0.5, 1024.0)  # powers of two keep every tie
    assert scaled.d1_psnr_db == pytest.approx(expected.d1_psnr_db, rel=1e-5)
    assert scaled.hausdorff_d1_psnr_db == pytest.approx(expected.hausdorff_d1_psnr_db, rel=1e-5)
    if exact:
        assert scaled.d2_psnr_db == pytest.approx(expected.d2_psnr_db, rel=1e-9)


def test_duplicates_count_once_and_the_first_keeps_its_normal(clouds, generator):
    points = clouds.voxel_surface(generator)
    normals = clouds.unit_vectors(generator, len(points))
    decoded = np.unique(points // 2 * 2, axis=0)
    expected = distortion(points, decoded, normals=normals, peak=63)
    again = generator.integers(0, len(points), 500)
    repeated = distortion(
        np.r_[points, points[again]],
        np.r_[decoded, decoded[:100]],
        normals=np.r_[normals, clouds.unit_vectors(generator, 500)],
        peak=63,
    )
    assert repeated == expected
    assert repeated.points_reference == len(points) and repeated.points_decoded == len(decoded)


def test_a_reference_measures_many_clouds(clouds, generator):
    points = clouds.voxel_surface(generator)
    normals = clouds.unit_vectors(generator, len(points))
    reference = Reference(points, normals, peak=63)
    for spacing in (1, 2, 4):
        decoded = points // spacing * spacing
        assert reference.measure(decoded) == distortion(points, decoded, normals=normals, peak=63)
    assert len(reference) == len(points)


def test_identical_clouds_have_no_psnr(clouds, generator):
    points = clouds.voxel_surface(generator)
    result = distortion(points, points, normals=clouds.unit_vectors(generator, len(points)), peak=63)
    columns = result.columns()
    zero = {name for name, value in columns.items() if value == 0.0}
    absent = {name for name, value in columns.items() if value is None}
    assert absent == {name for name in COLUMNS if "psnr" in name} == set(result.missing)
    assert zero == set(COLUMNS) - absent - {"point_ratio"}
    assert set(result.missing.values()) == {"identical: mse is 0"}
    assert result.point_ratio == 1.0


def test_no_normals_no_d2(clouds, generator):
    points = clouds.voxel_surface(generator)
    result = distortion(points, points // 2 * 2, peak=63)
    assert set(result.missing) == {name for name in COLUMNS if "d2" in name}
    assert set(result.missing.values()) == {"the input cloud has no normals"}
    assert result.passport["normals"] is None
    zero = distortion(points, points // 2 * 2, normals=np.zeros((len(points), 3)), peak=63)
    assert zero.d2_mse is None and zero.missing["d2_psnr_db"] == "all normals of the input cloud are zero"


@pytest.mark.parametrize("bad", [0.0, math.nan, math.inf], ids=["zero", "NaN", "infinite"])
def test_normals_without_direction_are_missing_normals(clouds, generator, bad):
    points = clouds.voxel_surface(generator)
    normals = clouds.unit_vectors(generator, len(points))
    normals[:7] = bad
    result = distortion(points, points // 2 * 2, normals=normals, peak=63)
    kind = "zero" if bad == 0.0 else "not finite"
    reason = f"7 of {len(points)} normals of the input cloud are no directions (7 {kind})"
    assert {name: reason for name in COLUMNS if "d2" in name} == result.missing
    assert result.passport["normals"] is None and result.d1_psnr_db is not None


@pytest.mark.parametrize("length", [1e-30, 1e-3, 6.27, 127.0, 1e30])
def test_normals_of_another_length_are_brought_to_one(clouds, generator, length):
    points = clouds.voxel_surface(generator)
    normals = clouds.unit_vectors(generator, len(points))
    expected = distortion(points, points // 2 * 2, normals=normals, peak=63)
    result = distortion(points, points // 2 * 2, normals=normals * np.float32(length), peak=63)
    assert result.d2_mse == pytest.approx(expected.d2_mse, rel=1e-6)
    assert result.passport["normals"]["normalised"] is True
    assert "normalised" not in expected.passport["normals"]


def test_a_plane_with_errors_inside_it_is_not_identical(generator):
    axis = np.arange(40.0)
    for normal in ([0, 0, 1.0], [0.6, 0, 0.8]):
        u, v = (grid.ravel() for grid in np.meshgrid(axis, axis))
        across = np.array([normal[2], 0, -normal[0]])
        points = u[:, None] * across + v[:, None] * [0, 1, 0]
        decoded = (u + 0.3)[:, None] * across + (v - 0.1)[:, None] * [0, 1, 0]
        result = distortion(points, decoded, normals=np.tile(normal, (len(points), 1)), peak=39)
        assert result.d1_mse == pytest.approx(0.1) and result.d1_psnr_db is not None
        assert result.d2_mse == result.hausdorff_d2_sq == 0.0
        for name in ("d2_psnr_db", "d2_psnr_ab_db", "d2_psnr_ba_db", "hausdorff_d2_psnr_db"):
            assert getattr(result, name) is None
            assert result.missing[name] == "all errors lie in the tangent planes: mse is 0 within rounding"


def test_errors_within_rounding_are_no_figure(generator):
    points = generator.random((300, 3)) * 100 + 5e6
    decoded = np.nextafter(points, np.inf)
    result = distortion(points, decoded, peak=100)
    assert 0 < result.d1_mse < 1e-17 and result.d1_psnr_db is None
    assert result.missing["d1_psnr_db"] == "all errors are within the rounding of the coordinates"
    decoded[5] += 0.25
    assert distortion(points, decoded, peak=100).d1_psnr_db == pytest.approx(
        10 * math.log10(3e4 / (3 * 0.25**2 / 300)), abs=1e-4
    )


def test_reasons_say_which_direction_has_no_error(clouds, generator):
    points = clouds.voxel_surface(generator)
    normals = clouds.unit_vectors(generator, len(points))
    for shift in (0, 0.1):  # in float32 and in float64
        moved = points + shift
        subset = distortion(moved, moved[::3], normals=normals, peak=63)
        assert subset.missing["d1_psnr_ba_db"] == subset.missing["d2_psnr_ba_db"]
        assert subset.missing["d1_psnr_ba_db"] == "every decoded point is one of the input: mse is 0"
        assert subset.d1_psnr_db is not None and subset.d2_psnr_db is not None
        superset = distortion(moved[::3], moved, normals=normals[::3], peak=63)
        assert superset.missing["d1_psnr_ab_db"] == "every point of the input is a decoded one: mse is 0"
        assert set(distortion(moved, moved[::-1], normals=normals, peak=63).missing.values()) == {IDENTICAL}
    nearly = distortion(points, points.astype(float) + 1e-9, peak=63)  # equal as float32 numbers
    assert nearly.d1_mse == pytest.approx(3e-18, rel=1e-3) and nearly.d1_psnr_db == pytest.approx(216.0, abs=0.1)


def test_peak_is_the_largest_spacing_where_none_is_given():
    points = np.array([[0, 0, 0], [1, 0, 0], [5, 0, 0], [5, 7, 0]])
    result = distortion(points, points + np.array([0, 0, 1]))
    assert result.peak == 7.0 and result.spacing == (1.0, 7.0)
    assert result.passport["peak"] == 7.0 and result.passport["peak_rule"] == PEAK_FROM_SPACING
    assert result.d1_psnr_db == pytest.approx(10 * math.log10(3 * 49))
    lone = distortion([[1, 2, 3]], [[1, 2, 4]])
    assert lone.d1_mse == 1.0 and lone.d1_psnr_db is None and "no peak" in lone.missing["d1_psnr_db"]


def test_passport_says_how_it_was_measured(clouds, generator):
    points = clouds.voxel_surface(generator)
    normals = clouds.unit_vectors(generator, len(points))
    origin = {"source": "file", "neighbours": 12, "orientation": "outward"}
    passport = Reference(points, normals, peak=59.7, normals_origin=origin).passport
    assert passport["peak"] == 59.7 and passport["peak_rule"] == "given"
    assert passport["psnr_factor"] == 3 and passport["reference_tool"] == "pc_error 0.14.2"
    assert {**passport["normals"], **origin} == passport["normals"]
    other = Reference(points, -normals, peak=59.7, normals_origin=origin).passport
    assert other["normals"]["sha256"] != passport["normals"]["sha256"]
    assert other | {"normals": None} == passport | {"normals": None}
    assert json.loads(json.dumps(passport)) == passport


def test_result_is_plain_data(clouds, generator):
    points = clouds.voxel_surface(generator)
    result = distortion(points, points // 2 * 2, peak=63)
    assert pickle.loads(pickle.dumps(result)) == result
    assert list(result.columns()) == list(COLUMNS)
    assert all(value is None or type(value) is float for value in result.columns().values())


@pytest.mark.parametrize(
    ("points", "decoded", "options", "message"),
    [
        (np.zeros((0, 3)), [[0, 0, 0]], {}, "input cloud has no points"),
        ([[0, 0, 0]], np.zeros((0, 3)), {}, "decoded cloud has no points"),
        ([[0, 0]], [[0, 0, 0]], {}, r"input cloud must have shape \(n, 3\), got \(1, 2\)"),
        ([[0, 0, 0]], [0, 0, 0], {}, r"decoded cloud must have shape \(n, 3\), got \(3,\)"),
        ([[0, np.nan, 0], [0, 0, 0]], [[0, 0, 0]], {}, "1 of 2 points of the input cloud"),
        ([[0, 0, 0]], [[0, np.inf, 0]], {}, "1 of 1 points of the decoded cloud"),
        ([[0, 0, 0]], [[0, 1e200, 0]], {}, "spread over 1e[+]200"),
        ([[0, 0, 0]], [[0, 1e-310, 0]], {}, "spread over 1e-310"),
        ([["a", "b", "c"]], [[0, 0, 0]], {}, "must be integers or real numbers"),
        ([[0, 0, 0], [1]], [[0, 0, 0]], {}, "rows of different lengths"),
        ([[0, 0, 1j]], [[0, 0, 0]], {}, "must be integers or real numbers, got complex128"),
        ([[0, 0, 0]], [[0, 0, 0]], {"peak": 0}, "peak must be positive and finite, got 0"),
        ([[0, 0, 0]], [[0, 0, 0]], {"peak": math.inf}, "got inf"),
        ([[0, 0, 0]], [[0, 0, 0]], {"normals": np.ones((2, 3))}, r"shape \(1, 3\) like the points, got \(2, 3\)"),
        ([[0, 0, 0]], [[0, 0, 0]], {"threads": 0}, "threads must be at least 1, got 0"),
    ],
)
def test_errors_say_what_came(points, decoded, options, message):
    with pytest.raises(MetricError, match=message):
        distortion(points, decoded, **options)


def test_examples_of_the_module():
    assert doctest.testmod(module) == (0, 4)
