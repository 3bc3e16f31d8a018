"""Integer tables: sums, optimality, escapes, storage."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pccbench.codecs.entropy.tables import LENGTH_TABLE, MAX_LENGTH, TOTAL, FrequencyTables, quantise


@given(st.lists(st.floats(0, 1), min_size=1, max_size=300).filter(lambda values: sum(values) > 0))
@settings(max_examples=60, deadline=None)
def test_frequencies_sum_to_the_total_and_are_positive(values):
    frequencies = quantise(np.array(values))
    assert int(frequencies.sum()) == TOTAL
    assert int(frequencies.min()) >= 1


def test_quantise_is_optimal_for_a_small_total(monkeypatch):
    import pccbench.codecs.entropy.tables as tables

    monkeypatch.setattr(tables, "TOTAL", 16)
    rng = np.random.default_rng(0)
    for _ in range(20):
        p = rng.dirichlet(np.full(4, 0.4))

        def length(frequencies, p=p):
            return -float(p @ np.log2(np.array(frequencies) / 16))

        best = min(length(c) for c in itertools.product(range(1, 14), repeat=4) if sum(c) == 16)
        assert length(quantise(p)) == pytest.approx(best, abs=1e-12)


def test_one_entry_takes_everything():
    assert quantise(np.array([0.3])).tolist() == [TOTAL]


@pytest.mark.parametrize(
    "values", [[], [0.0, 0.0], [-0.1, 1.1], [np.nan, 1.0], [np.inf, 1.0], np.ones((2, 2)), np.ones(20_000)]
)
def test_quantise_refuses_what_is_no_distribution(values):
    with pytest.raises(ValueError, match="table|probabilities"):
        quantise(np.asarray(values, float))


def make_tables() -> FrequencyTables:
    return FrequencyTables.from_probabilities(
        [np.array([0.25, 0.5, 0.25, 0.0]), np.array([0.9, 0.1]), np.array([0.1] * 9 + [0.1])], [-1, 7, -4]
    )


def test_bits_are_those_of_the_frequencies():
    tables = make_tables()
    got = tables.bits(np.array([-1, 0, 7]), np.array([0, 0, 1]))
    expected = 16 - np.log2([tables.frequencies[0, 0], tables.frequencies[0, 1], tables.frequencies[1, 0]])
    assert got == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("table", [0, 1, 2])
def test_escapes_hold_every_int32(table):
    tables = make_tables()
    ends = np.iinfo(np.int32)
    near = np.arange(-20, 21)
    symbols = np.concatenate([near, near * 7919 * 7919, [ends.min, ends.min + 1, ends.max - 1, ends.max]])
    entry = tables.entries(symbols, table)
    low, size = int(tables.minimum[table]), int(tables.sizes[table])
    inside = (symbols >= low) & (symbols < low + size - 1)
    assert ((entry != size - 1) == inside).all()
    assert (entry[inside] == symbols[inside] - low).all()
    outside = symbols[~inside]
    side, length, rest = tables.escapes(outside, table)
    assert int(length.min()) >= 1
    assert int(length.max()) <= MAX_LENGTH
    assert ((rest >= 0) & (rest < 2 ** (length - 1))).all()
    assert (tables.from_escapes(side, length, rest, table) == outside).all()


def test_lengths_of_escapes_follow_elias_gamma():
    bits = LENGTH_TABLE.entry_bits(0)
    assert bits[:10] == pytest.approx(np.arange(1, 11), abs=0.01)
    assert np.isfinite(bits).all()


def test_arrays_round_trip():
    tables = make_tables()
    arrays = tables.arrays("y.")
    assert arrays["y.frequencies"].dtype == np.uint16
    assert len(arrays["y.frequencies"]) == int(tables.sizes.sum())
    again = FrequencyTables.from_arrays(arrays, "y.")
    for field in ("frequencies", "sizes", "minimum"):
        assert (getattr(again, field) == getattr(tables, field)).all()


@pytest.mark.parametrize("change", ["frequencies", "sizes", "minimum"])
def test_damaged_arrays_are_refused(change):
    arrays = make_tables().arrays()
    arrays[change] = arrays[change].copy()
    arrays[change][0] = {"frequencies": 1, "sizes": 1, "minimum": -(2**31)}[change]
    with pytest.raises(ValueError, match="table|frequencies|first symbols"):
        FrequencyTables.from_arrays(arrays)


@pytest.mark.parametrize("index", [-1, 3, np.array([0, -1]), np.array([0, 3])])
def test_an_index_of_no_table_is_refused(index):
    with pytest.raises(IndexError, match="of 3"):
        make_tables().bits(np.array([0, 0]), index)
