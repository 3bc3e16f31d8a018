"""Speed of a whole report: pages, tables and plots of a run of eight clouds, from rows alone."""

import importlib.util
from pathlib import Path

import pytest

CLOUDS = {f"cloud_{number}": 800_000 for number in range(8)}


def _rows_module():
    """The generator of rows that the tests of the reports use."""
    path = Path(__file__).resolve().parent.parent / "reports" / "conftest.py"
    spec = importlib.util.spec_from_file_location("report_rows", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generator():
    return _rows_module()


@pytest.fixture(scope="module")
def certify():
    from pccbench.metrics.bjontegaard import certified_bd

    certified_bd([1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4])  # loads what it needs
    return certified_bd


def test_report(benchmark, generator, certify, tmp_path):
    from pccbench.reports import write_report

    rows = generator.make_rows(clouds=CLOUDS)
    benchmark.pedantic(write_report, (rows, generator.PROVENANCE, tmp_path), {"certify": certify}, rounds=3)


def test_bd_table(benchmark, generator, certify):
    from pccbench.reports.bd import bd_table
    from pccbench.reports.frame import prepare

    frame = prepare(generator.make_rows(clouds=CLOUDS))
    benchmark.pedantic(bd_table, (frame, ["gpcc-octree", "gpcc-trisoup"], certify), rounds=3)


def test_certificate(benchmark, certify):
    anchor = [0.02, 0.07, 0.22, 0.48, 0.61, 0.68], [52.8, 58.4, 63.2, 68.0, 69.7, 70.4]
    test = [0.03, 0.06, 0.11, 0.2, 0.3], [60.9, 66.3, 69.9, 73.6, 75.1]
    benchmark(certify, *anchor, *test)


def test_compare(benchmark, generator, certify):
    from pccbench.reports import compare

    old, new = (generator.make_rows(clouds=CLOUDS, repeats=6, seed=seed) for seed in (0, 1))
    options = {"certify": certify}
    benchmark.pedantic(compare, (old, new, generator.PROVENANCE, generator.PROVENANCE), options, rounds=3)
