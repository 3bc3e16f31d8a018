"""Sums over rows in vector instructions, against numpy."""

import numpy as np
import pytest
from numba import njit

from pccbench.codecs.entropy.rows import LANES, add_to_row, sum_rows


@njit
def summed(table, rows, total):
    sum_rows(table, rows, total)


@njit
def added(table, row, values):
    add_to_row(table, row, values)


@pytest.fixture
def table():
    return np.random.default_rng(5).integers(-(2**31), 2**31, (50, 3 * LANES)).astype(np.int32)


@pytest.mark.parametrize("rows", [[], [7], [0, 49, 0, 3, 3]])
def test_sum_of_rows(table, rows):
    total = np.full(table.shape[1], 9, np.int32)
    summed(table, np.array(rows, np.int64), total)
    np.testing.assert_array_equal(total, table[rows].sum(axis=0, dtype=np.int32))


def test_sum_goes_where_it_is_told(table):
    """The row before the one that is asked for, and what lies around the sum, stay as they are."""
    room = np.zeros(5 * LANES, np.int32)
    summed(table, np.array([4], np.int64), room[LANES : 4 * LANES])
    np.testing.assert_array_equal(room, np.pad(table[4], LANES))


def test_values_added_to_a_row(table):
    expected = table.copy()
    expected[31] += table[2]
    added(table, np.int64(31), table[2].copy())
    np.testing.assert_array_equal(table, expected)


def test_other_types_are_refused(table):
    with pytest.raises(Exception, match="sum_rows"):
        summed(table.astype(np.int64), np.array([1], np.int64), table[0])
