"""I0 that is not positive costs its pixels; a run in which it never is positive is mapped without it, and says so."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quietbeam.ingest.offline import ingest_recorded
from quietbeam.ingest.offline.assemble import RecordedRun
from quietbeam.ingest.profile import load_profile

ROWS, COLS = 3, 4
NOT_NORMALISED = "I0 is never positive"


def scan(flux: list[float]) -> tuple[RecordedRun, np.ndarray, np.ndarray]:
    """Ingest a step scan with these I0; return the run, its counts (row, col) and what is measured."""
    start = {"uid": "u", "time": 1.7e9, "plan_name": "grid_scan", "shape": [ROWS, COLS]}
    keys = {key: {"source": "t", "dtype": "number", "shape": []} for key in ("Det1_Fe", "Det2_Fe", "i0")}
    common: dict[str, Any] = {"time": 1.7e9, "configuration": {}}
    docs: list[tuple[str, dict[str, Any]]] = [("start", start)]
    docs.append(("descriptor", {"uid": "d", "run_start": "u", "name": "primary", "data_keys": keys, **common}))
    for n, i0 in enumerate(flux):
        data = {"Det1_Fe": 10 + n, "Det2_Fe": 20 + n, "i0": i0}
        docs.append(("event", {"uid": f"e{n}", "descriptor": "d", "seq_num": n + 1, "time": 1.7e9, "data": data}))
    stop = {"uid": "s", "run_start": "u", "time": 1.8e9, "exit_status": "success", "num_events": {"primary": len(flux)}}
    docs.append(("stop", stop))
    with tempfile.TemporaryDirectory() as folder:
        run, _ = ingest_recorded(docs, "u", [load_profile("generic")], [], Path(folder))
        assert run.buffer is not None
        return run, run.buffer.read_counts()[0, 0], run.buffer.measured()


@pytest.mark.supports("damage", "I0 that is never positive: mapped without it, loudly")
@pytest.mark.parametrize("value", [0.0, -3.2e-9, float("nan")])
def test_a_run_without_any_flux_is_mapped_and_says_so(value: float) -> None:
    run, counts, measured = scan([value] * ROWS * COLS)
    assert measured.all() and np.array_equal(counts.ravel(), 10 + np.arange(ROWS * COLS))
    assert any(NOT_NORMALISED in warning for warning in run.warnings)


@pytest.mark.parametrize("first", [1, 5, 11])
def test_pixels_before_the_first_flux_are_not_measured(first: int) -> None:
    run, counts, measured = scan([0.0] * first + [2.0] * (ROWS * COLS - first))
    assert np.array_equal(measured.ravel(), np.arange(ROWS * COLS) >= first)
    assert not counts[~measured].any()
    assert not any(NOT_NORMALISED in warning for warning in run.warnings)


@pytest.mark.supports("damage", "one I0 that is not positive: its pixel")
def test_one_reading_without_flux_costs_one_pixel() -> None:
    run, counts, measured = scan([2.0] * 6 + [0.0] + [2.0] * 5)
    assert np.flatnonzero(~measured).tolist() == [6]
    assert counts[1, 2] == 0 and counts[1, 3] == 17
    assert any("I0 that is not positive" in warning for warning in run.warnings)
