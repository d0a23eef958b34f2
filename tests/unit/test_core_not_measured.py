"""What counts as not measured, for every kind of value."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quietbeam.core.model.not_measured import (
    CORRECTED,
    NEGATIVE,
    NO_DATA_CODE,
    NOT_FINITE,
    NOT_WHOLE,
    as_numbers,
    fill_short_rows,
    padding,
    usable_areas,
    usable_counts,
    usable_i0,
    usable_live_time,
)

GOOD = np.arange(12).reshape(6, 2)


@pytest.mark.parametrize(
    ("dtype", "value", "reason"),
    [
        ("f4", np.nan, NOT_FINITE),
        ("f8", -np.inf, NOT_FINITE),
        ("f4", -1, NEGATIVE),
        ("i8", -1, NEGATIVE),
        ("i2", -7, NEGATIVE),
        ("f8", 3.5, NOT_WHOLE),
        ("u4", 2**32 - 1, NO_DATA_CODE),
        ("i4", 2**31 - 1, NO_DATA_CODE),
        ("u8", 2**64 - 1, NO_DATA_CODE),
        ("f8", 2.0**32 - 1, NO_DATA_CODE),
        ("f4", 1e30, NO_DATA_CODE),
        ("u2", 2**16 - 1, NO_DATA_CODE),
        ("i2", 2**15 - 1, NO_DATA_CODE),
    ],
)
def test_one_bad_value_costs_its_point_and_no_other(dtype: str, value: float, reason: str) -> None:
    values = GOOD.astype(dtype)
    values[4, 1] = value
    counts, good, problems = usable_counts(values)
    assert good.tolist() == [True] * 4 + [False, True] and problems == {reason: 1}
    np.testing.assert_array_equal(counts[good], GOOD[good])
    assert counts.dtype == np.uint32 and not counts[~good].any()


@pytest.mark.parametrize(("dtype", "value"), [("u1", 255), ("u4", 65535), ("f4", 65535), ("i4", 65535), ("u4", 2**31)])
def test_large_counts_are_counts(dtype: str, value: int) -> None:
    values = GOOD.astype(dtype)
    values[0, 0] = value
    counts, good, problems = usable_counts(values)
    assert good.all() and not problems and counts[0, 0] == value


@given(st.lists(st.lists(st.integers(0, 2**32 - 2), min_size=3, max_size=3), min_size=1, max_size=20))
def test_counts_are_exact_in_every_type_that_holds_them(rows: list[list[int]]) -> None:
    values = np.array(rows)
    for dtype in ("u4", "i8", "u8", "f8"):
        counts, good, _ = usable_counts(values.astype(dtype))
        assert good.all() and np.array_equal(counts, values)


def test_corrected_values_are_told_from_single_wrong_ones() -> None:
    values = np.full((4, 10), 3.0)
    values[1, 4] = 2.5
    values[2] *= 1.07
    _, good, problems = usable_counts(values, spectra=True)
    assert good.tolist() == [True, False, False, True] and problems == {NOT_WHOLE: 1, CORRECTED: 1}
    assert usable_counts(values)[2] == {NOT_WHOLE: 2}


def test_null_and_masked_are_not_measured() -> None:
    assert np.isnan(as_numbers([1, None, 3])[1])
    assert np.isnan(as_numbers(np.ma.masked_equal([1, 2, 3], 2))[1])
    assert as_numbers([True, False]).tolist() == [1, 0]
    for wrong in (["a"], [{}]):
        with pytest.raises((TypeError, ValueError)):
            as_numbers(wrong)


def test_areas_may_be_negative_but_not_infinite() -> None:
    areas, good, problems = usable_areas(np.array([[-1.5, 2], [np.inf, 1], [1e60, 1]]))
    assert good.tolist() == [True, False, False] and sum(problems.values()) == 2 and areas[0, 0] == -1.5


def test_i0_and_live_time() -> None:
    values, good = usable_i0(np.array([[5.0, 0.0, np.nan, -1e-9, np.inf]]))
    assert good.tolist() == [[True, False, False, False, False]] and np.isnan(values[~good]).all()
    live, alive = usable_live_time(np.array([[1.0, 0.0, np.nan], [0.0, 0.0, 2.0]]))
    assert alive.tolist() == [True, False, True] and live[0, 2] == 0


def totals(shape: tuple[int, int], level: float = 50.0) -> np.ndarray:
    return np.random.default_rng(0).poisson(level, shape)


def test_padding_is_the_end_of_a_stopped_scan() -> None:
    map_ = totals((6, 8))
    map_[3, 5:], map_[4:] = 0, 0
    assert np.array_equal(padding(map_), map_ == 0)
    back = totals((6, 8))
    back[3, :5], back[4:] = 0, 0  # row 3 was scanned backwards
    assert np.array_equal(padding(back), back == 0)
    whole_rows = totals((6, 8))
    whole_rows[4:] = 0
    assert np.array_equal(padding(whole_rows), whole_rows == 0)


def test_zeros_are_counts_where_they_may_be() -> None:
    hole = totals((6, 8))
    hole[2, 3:6] = 0
    assert not padding(hole).any(), "in the middle"
    assert not padding(totals((6, 8), 0.2)).any(), "so few counts that zeros are no wonder"
    assert not padding(np.zeros((3, 3))).any(), "nothing to compare with"
    one = totals((6, 8), 3.0)
    one[5, 7] = 0
    assert not padding(one).any()


def test_short_rows_lack_their_end() -> None:
    filled, there = fill_short_rows([np.array([1, 2, 3]), np.array([4]), np.zeros(0), np.array([7, 8, 9, 10])], 3)
    assert filled.tolist() == [[1, 2, 3], [4, 0, 0], [0, 0, 0], [7, 8, 9]]
    assert there.sum(axis=1).tolist() == [3, 1, 0, 3]
