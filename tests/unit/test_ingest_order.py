"""Positions decide: the announced order is checked, and levels of a grid are found from positions alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from quietbeam.core.model.levels import even_step, levels_of, nearest
from quietbeam.ingest.rows.order import OrderCheck


def frames(
    slow: np.ndarray, fast: np.ndarray, *, snake: bool = False, swapped: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return (slow, fast) positions in the order of a scan; swapped: the slow axis is the one that moves fast."""
    if swapped:
        a, b = np.meshgrid(fast, slow, indexing="ij")
        return b.ravel(), a.ravel()
    rows, cols = np.meshgrid(slow, fast, indexing="ij")
    if snake:
        cols = cols.copy()
        cols[1::2] = cols[1::2, ::-1]
    return rows.ravel(), cols.ravel()


def check(
    slow: np.ndarray,
    fast: np.ndarray,
    shape: tuple[int, int],
    step: tuple[float, float] | None,
    snake: bool,
    at_once: int = 1,
) -> tuple[OrderCheck, int]:
    """Send frames in the announced order; return the check and how many agreed."""
    order, agreed, width = OrderCheck(shape, step), 0, shape[1]
    for first in range(0, len(slow), at_once):
        index = np.arange(first, min(first + at_once, len(slow)))
        for row in np.unique(index // width):
            mine = index[index // width == row]
            cols = mine % width
            cols = width - 1 - cols if snake and row % 2 else cols
            agreed += int(order.check(int(row), cols, slow[mine], fast[mine]).sum())
        if order.contradicted:
            break
    return order, agreed


AXES = st.one_of(
    st.lists(st.integers(-200, 200), min_size=3, max_size=9, unique=True).map(lambda v: np.sort(np.array(v, float))),
    st.tuples(st.floats(-50, 50), st.floats(0.01, 5), st.integers(3, 9)).map(lambda t: t[0] + t[1] * np.arange(t[2])),
)


@settings(deadline=None, max_examples=150)
@given(
    slow=AXES, fast=AXES, falling=st.tuples(st.booleans(), st.booleans()), snake=st.booleans(), seed=st.integers(0, 99)
)
def test_a_right_order_is_never_contradicted(slow, fast, falling, snake, seed) -> None:
    slow, fast = (axis[::-1] if down else axis for axis, down in zip((slow, fast), falling, strict=True))
    rng = np.random.default_rng(seed)
    s, f = frames(slow, fast, snake=snake)
    s = s + 0.1 * np.abs(np.diff(slow)).min() * rng.uniform(-1, 1, len(s))
    f = f + 0.1 * np.abs(np.diff(fast)).min() * rng.uniform(-1, 1, len(f))
    for at_once in (1, len(fast)):
        order, agreed = check(s, f, (len(slow), len(fast)), None, snake, at_once)
        assert not order.contradicted and agreed == len(s) == order.checked


@settings(deadline=None, max_examples=150)
@given(slow=AXES, fast=AXES, snake=st.booleans(), known=st.booleans())
def test_a_wrong_snake_is_contradicted_in_the_second_row(slow, fast, snake, known) -> None:
    s, f = frames(slow, fast, snake=snake)
    steps = (float(np.diff(slow).min()), float(np.diff(fast).min())) if known else None
    order, _ = check(s, f, (len(slow), len(fast)), steps, not snake)
    assert order.contradicted
    assert order.checked <= 2 * len(fast)


@settings(deadline=None, max_examples=150)
@given(slow=AXES, fast=AXES, known=st.booleans())
def test_swapped_axes_are_contradicted(slow, fast, known) -> None:
    s, f = frames(slow, fast, swapped=True)
    steps = (float(np.diff(slow).min()), float(np.diff(fast).min())) if known else None
    order, _ = check(s, f, (len(slow), len(fast)), steps, False)
    assert order.contradicted


def test_one_bad_reading_costs_one_pixel() -> None:
    s, f = frames(np.arange(4.0), np.arange(8.0))
    f[13] = 0.0
    order, agreed = check(s, f, (4, 8), None, False)
    assert not order.contradicted and agreed == 31


def test_frames_without_positions_contradict_nothing() -> None:
    s, f = frames(np.arange(4.0), np.arange(8.0))
    s[5:9] = np.nan
    order, agreed = check(s, f, (4, 8), None, False)
    assert not order.contradicted and agreed == 32 and order.checked == 28


@settings(deadline=None, max_examples=200)
@given(axis=AXES, repeats=st.integers(4, 9), seed=st.integers(0, 99), seen=st.floats(0.3, 1))
def test_levels_are_found_through_scatter(axis, repeats, seed, seen) -> None:
    rng = np.random.default_rng(seed)
    kept = axis[: max(2, round(seen * len(axis)))]
    step = np.abs(np.diff(axis)).min()
    positions = np.repeat(kept, repeats) + 0.02 * step * rng.uniform(-1, 1, len(kept) * repeats)
    assume(len(positions) > len(axis))
    levels = levels_of(rng.permutation(positions), len(axis))
    assert levels is not None and len(levels) == len(kept)
    np.testing.assert_allclose(levels, kept, atol=0.021 * step)
    np.testing.assert_array_equal(nearest(levels, positions), np.repeat(np.arange(len(kept)), repeats))


def test_a_spiral_lies_on_no_grid() -> None:
    turn = np.arange(1, 60)
    x = np.sqrt(turn) * np.cos(2.4 * turn)
    assert levels_of(x, 8) is None


@pytest.mark.parametrize(
    ("levels", "expected"),
    [((0, 1, 2, 3), (0, 1)), ((3, 2, 1), (3, -1)), ((0, 1, 5), None), ((0, np.nan, 2), (0, 1)), ((5,), None)],
)
def test_even_steps(levels, expected) -> None:
    found = even_step(np.array(levels, float))
    assert found == pytest.approx(expected) if expected else found is None


def test_positions_between_levels_have_none() -> None:
    assert nearest(np.array([0.0, 1.0, 2.0]), [0.4, 1.45, 7.0, np.nan]).tolist() == [0, 1, -1, -1]
    assert nearest(np.array([2.0, 0.0]), [0.1, 1.9]).tolist() == [1, 0]


@pytest.mark.parametrize("at_once", [1, 20])
@pytest.mark.parametrize("snake", [False, True])
@pytest.mark.parametrize("scatter", [0.8, 1.5])
def test_readings_that_scatter_beyond_a_step_contradict_nothing(scatter: float, snake: bool, at_once: int) -> None:
    rng = np.random.default_rng(3)
    s, f = frames(np.arange(20.0), np.arange(20.0), snake=snake)
    s, f = (axis + scatter * rng.normal(size=axis.size) for axis in (s, f))
    order, _ = check(s, f, (20, 20), (1.0, 1.0), snake, at_once)
    assert order.scatters and not order.contradicted
    wrong, _ = check(s, f, (20, 20), (1.0, 1.0), not snake, at_once)
    assert wrong.contradicted


def test_rows_that_lag_by_some_pixels_are_not_another_order() -> None:
    s, f = frames(np.arange(10.0), np.arange(40.0))
    f = f + np.where(s % 2 == 1, 2.0, 0.0)
    order, _ = check(s, f, (10, 40), (1.0, 1.0), False, 40)
    assert order.scatters and not order.contradicted
