"""Scans as they go wrong at beamlines: pulses and readings that are lost, rows measured twice, units as bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from quietbeam.core.model.types import PixelOrder, RunState
from quietbeam.ingest.offline import ingest_recorded
from quietbeam.ingest.offline.assemble import RecordedRun
from quietbeam.ingest.profile import load_profile

ROWS, COLS = 6, 10
TRUTH = 1000 + 37 * np.arange(ROWS)[:, None] + np.arange(COLS)
ALL = np.arange(COLS)
X = 0.5 * ALL


def line(row: int, cols: np.ndarray, **more: Any) -> dict[str, Any]:
    """An Event of a fly scan: the columns that were counted, in the order of acquisition."""
    return {"det1_Fe_Ka": TRUTH[row, cols], "my": float(row), "mx": X[cols]} | more


def ingest(
    events: Iterable[Mapping[str, Any]],
    folder: Path,
    *,
    snake: bool = False,
    keys: tuple[str, ...] = ("my", "mx"),
    units: Any = None,
) -> RecordedRun:
    start = {
        "uid": "odd",
        "time": 0.0,
        "shape": [ROWS, COLS],
        "snaking": [False, snake],
        "extents": [[0, 5], [0, 4.5]],
        "hints": {"dimensions": [[["my"], "primary"], [["mx"], "primary"]]},
    }
    entry = {"dtype": "number", "shape": [], "source": "test"} | ({"units": units} if units else {})
    descriptor = {"uid": "d", "run_start": "odd", "name": "primary", "time": 0.0}
    docs: list[tuple[str, dict[str, Any]]] = [
        ("start", start),
        ("descriptor", descriptor | {"data_keys": dict.fromkeys(("det1_Fe_Ka", *keys), entry)}),
    ]
    numbered = list(enumerate(events, 1))
    docs += [
        ("event", {"uid": f"{n}", "descriptor": "d", "seq_num": n, "time": 0.0, "data": dict(e)}) for n, e in numbered
    ]
    docs.append(("stop", {"uid": "s", "run_start": "odd", "time": 9.0, "num_events": {"primary": len(numbered)}}))
    geometry = {"shape": {"start": "shape"}, "snake": {"start": "snaking"}, "extents": {"start": "extents"}}
    profile = {"name": "odd", "counts": {"keys": r"^(?P<detector>det\d)_(?P<line>\w+)$"}, "geometry": geometry}
    path = folder / "profile.yaml"
    path.write_text(yaml.safe_dump(profile))
    run, _ = ingest_recorded(docs, "odd", [load_profile(path)], [], folder / "scratch")
    return run


def assert_right(run: RecordedRun, missing: Iterable[tuple[int, int]] = ()) -> None:
    """Every pixel holds what was counted there, or is not measured."""
    assert run.buffer is not None
    measured = np.ones((ROWS, COLS), bool)
    for pixel in missing:
        measured[pixel] = False
    np.testing.assert_array_equal(run.buffer.measured(), measured)
    np.testing.assert_array_equal(run.buffer.read_counts()[0, 0], np.where(measured, TRUTH, 0))


@pytest.mark.supports("damage", "fly rows whose first pulse was lost: pixels lie where they were measured")
@pytest.mark.parametrize("snake", [False, True])
def test_a_lost_first_pulse_moves_no_count(snake: bool, tmp_path: Path) -> None:
    columns = [ALL if n % 2 == 0 else (ALL[::-1] if snake else ALL)[1:] for n in range(ROWS)]
    run = ingest([line(n, cols) for n, cols in enumerate(columns)], tmp_path, snake=snake)
    assert run.info is not None and run.info.order is PixelOrder.FROM_POSITIONS
    assert_right(run, [(n, COLS - 1 if snake else 0) for n in (1, 3, 5)])


def test_rows_that_lag_beyond_the_map_are_kept_in_their_order(tmp_path: Path) -> None:
    run = ingest([line(n, ALL, mx=X + (0.5 if n % 2 else 0)) for n in range(ROWS)], tmp_path)
    assert run.info is not None and run.info.order is PixelOrder.ASSUMED
    assert any("scatter" in text for text in run.warnings)
    assert_right(run)


@pytest.mark.supports("damage", "a row that was measured twice and counted as two rows: the last one counts")
def test_a_row_that_came_twice_as_two_rows_costs_no_other_row(tmp_path: Path) -> None:
    run = ingest([line(n, ALL) for n in (0, 1, 2, 2, 3, 4, 5)], tmp_path)
    assert run.state is RunState.COMPLETE and run.info is not None and run.info.order is PixelOrder.FROM_POSITIONS
    assert any("measured again" in text for text in run.warnings)
    assert_right(run)


def test_the_reading_of_the_fast_motor_alone_mends_a_snake(tmp_path: Path) -> None:
    events = [line(n, ALL if n % 2 == 0 else ALL[::-1]) for n in range(ROWS)]
    run = ingest([{k: v for k, v in event.items() if k != "my"} for event in events], tmp_path, keys=("mx",))
    assert run.info is not None and run.info.order is PixelOrder.FROM_POSITIONS
    assert_right(run)


@pytest.mark.parametrize("mx", [np.full(COLS, np.nan), np.arange(COLS + 1) * 0.5])
def test_readings_that_cannot_be_used_are_named(mx: np.ndarray, tmp_path: Path) -> None:
    run = ingest([line(n, ALL, mx=mx) for n in range(ROWS)], tmp_path)
    assert run.info is not None and run.info.order is PixelOrder.ASSUMED
    assert any("no reading in my and mx could be used" in text for text in run.warnings)


def test_nan_in_the_middle_of_a_row_leaves_its_pixels_unchecked(tmp_path: Path) -> None:
    run = ingest([line(n, ALL, mx=np.where((n == 2) & (X > 1) & (X < 3), np.nan, X)) for n in range(ROWS)], tmp_path)
    assert run.info is not None and run.info.order is PixelOrder.VERIFIED
    assert_right(run)


def test_units_as_bytes_are_read(tmp_path: Path) -> None:
    run = ingest([line(n, ALL) for n in range(ROWS)], tmp_path, units=b"mm")
    assert run.info is not None and run.info.units == "mm"
