"""Values that cross seams survive JSON and the run hash."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import orjson
import pytest

from quietbeam.core.model.evidence import VERDICT_REASONS, LineEvidence, RunEvidence, interval
from quietbeam.core.model.types import RunInfo, RunState
from quietbeam.core.wire import runs
from quietbeam.core.wire.bus import Connection

INFO = RunInfo(
    uid="u",
    lines=("P_Ka", "Fe_Ka"),
    detectors=("det1",),
    shape=(3, 4),
    step=(0.5, 0.25),
    snake=True,
    metadata={"sample": "cell", "nested": {"a": [1, 2]}},
)
EVIDENCE = RunEvidence(
    rows=8,
    lines=(
        LineEvidence(line="P_Ka", estimator="fine_tuned", verdict="improved", dwell_gain=4.5, candidates={"raw": 1.0}),
        LineEvidence(line="Fe_Ka", estimator="raw", verdict="kept_raw", excluded_detectors={"det1": "dead"}),
    ),
    notes=("a doubt",),
)


def test_values_survive_json() -> None:
    assert RunInfo.from_dict(orjson.loads(orjson.dumps(INFO.to_dict()))) == INFO
    assert RunEvidence.from_dict(orjson.loads(orjson.dumps(EVIDENCE.to_dict()))) == EVIDENCE


def test_unknown_entries_of_newer_versions_are_ignored() -> None:
    assert RunInfo.from_dict(INFO.to_dict() | {"colour": "red"}) == INFO
    newer = EVIDENCE.to_dict() | {"mood": 1}
    newer["lines"][0]["mood"] = 2
    assert RunEvidence.from_dict(newer) == EVIDENCE
    assert EVIDENCE.line("Fe_Ka") is not None and EVIDENCE.line("Au_La") is None


@pytest.mark.parametrize(
    ("old", "verdict"),
    [
        ({"proven": True, "estimator": "fine_tuned", "dwell_gain": 3.0}, "improved"),
        ({"proven": True, "estimator": "raw", "dwell_gain": 1.0, "candidates": {"smoother": 0.9}}, "kept_raw"),
        ({"proven": True, "estimator": "raw", "dwell_gain": 1.0, "candidates": {}}, "not_tested"),
        ({"proven": False, "estimator": "raw", "dwell_gain": None}, "not_tested"),
        ({"proven": False, "estimator": "pretrained", "dwell_gain": None}, "not_tested"),
    ],
)
def test_evidence_of_version_0_1_gets_the_verdict_that_it_meant(old: dict[str, Any], verdict: str) -> None:
    line = RunEvidence.from_dict({"rows": 3, "lines": [{"line": "Fe_Ka", **old}]}).lines[0]
    assert (line.verdict, line.improved, line.estimator) == (verdict, verdict == "improved", old["estimator"])
    assert line.verdict_reason.endswith(".")
    assert RunEvidence.from_dict({"rows": 3, "lines": [asdict(line)]}).lines[0] == line


def test_a_verdict_always_has_a_reason() -> None:
    usual = LineEvidence(line="Fe_Ka", estimator="raw", verdict="not_tested")
    assert usual.verdict_reason == VERDICT_REASONS["not_tested"]
    told = LineEvidence(line="Fe_Ka", estimator="raw", verdict="not_tested", verdict_reason="Nothing was measured.")
    assert told.verdict_reason == "Nothing was measured."


@pytest.mark.parametrize(
    ("low", "high", "words"), [(1.23, 4.0, "1.2 to 4.0"), (1.23, None, "at least 1.2"), (None, None, "not known")]
)
def test_an_interval_is_never_a_bare_number(low: float | None, high: float | None, words: str) -> None:
    line = LineEvidence(
        line="Fe_Ka",
        estimator="fine_tuned",
        verdict="improved",
        dwell_gain=9.0,
        dwell_gain_low=low,
        dwell_gain_high=high,
    )
    assert interval(line) == words
    assert interval(LineEvidence(line="Fe_Ka", estimator="raw", verdict="kept_raw", dwell_gain=1.0)) == "-"


def test_the_run_hash_gives_back_what_was_written(redis: Connection) -> None:
    runs.register_run(redis, "u", 5.0)
    runs.register_run(redis, "older", 1.0)
    runs.write_status(redis, "u", info=INFO, state="running", warnings=["w"], evidence=EVIDENCE, rows_measured=3)
    runs.write_status(redis, "u", time_stop=7.5, reason="r")
    status = runs.read_status(redis, "u")
    assert status is not None
    assert (status.info, status.evidence, status.state) == (INFO, EVIDENCE, RunState.RUNNING)
    assert (status.warnings, status.rows_measured, status.time_stop, status.reason) == (("w",), 3, 7.5, "r")
    runs.write_status(redis, "u", time_stop=None)
    status = runs.read_status(redis, "u")
    assert status is not None and status.time_stop is None
    assert runs.list_runs(redis) == ["u", "older"] and runs.list_runs(redis, limit=1) == ["u"]
    assert runs.read_status(redis, "unknown") is None


@pytest.mark.parametrize("state", list(RunState))
def test_only_running_paused_and_stale_runs_may_go_on(state: RunState) -> None:
    assert state.ended == (state not in {RunState.RUNNING, RunState.PAUSED, RunState.STALE})
