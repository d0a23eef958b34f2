"""The driver of faults: what it calls a violation, its schedule, and its page. No process is started."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from quietbeam.beamline.truth import Truth
from quietbeam.benchmarks.faults import ELSEWHERE, TITLES, Trials, report
from quietbeam.buffer import RunBuffer
from quietbeam.chaos.engine import Extent, Outcome, in_decks
from quietbeam.chaos.faults import all_faults
from quietbeam.chaos.observe import errors_in
from quietbeam.chaos.progress import RunProgress
from quietbeam.chaos.record import Done, Log, Round, read_rounds
from quietbeam.chaos.summary import summary
from quietbeam.chaos.verify import compare_counts, maps_differ
from quietbeam.chaos.versions import Versions
from quietbeam.core.errors import InputError
from quietbeam.core.model.types import RowBlock, RunInfo

ROOT = Path(__file__).parents[2]
DONE = Done(
    fault="kill ingest",
    number="F1",
    detail="ingest",
    at_s=1,
    held_s=0,
    back_s=2,
    whole_s=3.5,
    start_cpu_s=1.5,
    runs=3,
    load=2.0,
)
BEFORE = RunProgress(pixels=10, maps=3, published=2, ended=False, final=False, tiled_final=False)


@pytest.fixture
def truth(tmp_path: Path) -> Truth:
    counts = np.random.default_rng(1).poisson(5, (2, 1, 3, 4)).astype(np.uint32)
    return Truth(
        run_uid="u",
        lines=("Fe_Ka",),
        detectors=("a", "b"),
        expected_counts=np.ones((1, 3, 4)),
        gains=np.ones((2, 1)),
        counts=counts,
        i0=np.ones((3, 4), np.int64),
        i0_nominal=1.0,
        live_time_s=np.ones((2, 3, 4)),
        dwell_s=1.0,
        measured=np.ones((3, 4), bool),
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda counts, measured: None, []),
        (lambda counts, measured: measured.__setitem__((1, slice(0, 3)), False), ["3 pixels lost"]),
        (
            lambda counts, measured: counts.__setitem__((0, 0, 2, 1), 2 * counts[0, 0, 2, 1] + 1),
            ["1 pixels with other"],
        ),
    ],
)
def test_every_count_is_compared(tmp_path: Path, truth: Truth, change, said: list[str]) -> None:
    counts, measured = truth.counts.copy(), truth.measured.copy()
    change(counts, measured)
    info = RunInfo(uid="u", lines=truth.lines, detectors=truth.detectors, shape=(3, 4))
    buffer = RunBuffer.create(tmp_path, info)
    for row in range(3):
        buffer.write_row(row, RowBlock(counts=counts[:, :, row], measured=measured[row]))
    compared = compare_counts(buffer, truth)
    assert compared.pixels == 12
    assert [text.startswith(start) for text, start in zip(compared.violations(), said, strict=True)] == [True] * len(
        said
    )


def test_a_pixel_that_was_never_measured_is_a_violation(tmp_path: Path, truth: Truth) -> None:
    info = RunInfo(uid="u", lines=truth.lines, detectors=truth.detectors, shape=(3, 4))
    buffer = RunBuffer.create(tmp_path, info)
    for row in range(3):
        buffer.write_row(row, RowBlock(counts=truth.counts[:, :, row], measured=np.ones(4, bool)))
    aborted = truth.measured.copy()
    aborted[2] = False
    assert compare_counts(buffer, replace(truth, measured=aborted)).violations() == [
        "4 pixels there, and never measured"
    ]


def test_maps_are_compared_bit_for_bit_and_holes_are_zero_or_nan() -> None:
    zarr = {"raw": np.array([[1.0, 0.0]], np.float32)}
    assert not maps_differ(zarr, {"raw": np.array([[1.0, np.nan]], np.float32)}, "REST")
    assert maps_differ(zarr, {"raw": np.array([[1.0000001, 0.0]], np.float32)}, "Tiled") == [
        "raw in Tiled is not that in zarr"
    ]


def test_versions_only_grow_and_are_used_once() -> None:
    versions = Versions()
    for version in (1, 2, 2, 5):
        versions.note("u", "Redis", version)
    versions.note_files("u", {"version": 4, "token": 1})
    versions.note_announcement({b"run": b"u", b"version": b"5", b"token": b"2"})
    versions.note_announcement({b"run": b"u", b"version": b"5", b"token": b"2"})
    assert not versions.violations
    versions.note("u", "Redis", 4)
    versions.note_announcement({b"run": b"u", b"version": b"5", b"token": b"3"})
    versions.note_files("u", {"version": 5, "token": 2})
    versions.note_files("u", {"version": 5, "token": 1})
    assert [text.partition(": ")[2] for text in versions.violations] == [
        "the version in Redis went from 5 back to 4",
        "two leases announced version 5",
        "version 5 on disk came back under the older lease 1",
    ]


@pytest.mark.parametrize(
    ("change", "goes_on"),
    [
        ({}, False),
        ({"pixels": 11}, False),
        ({"pixels": 11, "maps": 4}, False),
        ({"pixels": 11, "maps": 4, "published": 3}, True),
        ({"ended": True, "final": True, "published": 3}, True),
        ({"ended": True, "final": True, "tiled_final": True}, True),
    ],
)
def test_every_stage_must_go_on(change: dict[str, object], goes_on: bool) -> None:
    assert replace(BEFORE, **change).went_on(BEFORE) is goes_on


def test_a_seed_is_a_schedule() -> None:
    faults = all_faults()
    assert len({fault.name for fault in faults}) == len(faults)
    first, again, other = (
        [fault.name for fault in islice(in_decks(faults, seed), 2 * len(faults))] for seed in (5, 5, 6)
    )
    assert first == again != other
    assert sorted(first[: len(faults)]) == sorted(first[len(faults) :]) == sorted(fault.name for fault in faults)


def test_the_page_says_what_must_not_be() -> None:
    good = Outcome(extent=Extent(minutes=1, seed=3), rounds=[Round(number=1, faults=[DONE], runs=["u"], pixels=12)])
    page = summary(good, "quietbeam chaos")
    assert (
        "No violation." in page and "| kill ingest | F1 | 1 |  | 2.0 | 2.0 | 1.5 | 1.5 | 1.5 | 1.5 | 1 | 2.0 |" in page
    )
    good.exits = {"redis: exit code 1": 1}
    assert not good.violations, "a server that ends by itself is an outage like others"
    good.exits["ingest: exit code 1"] = 2
    good.rounds[0].violations.append("run u: 3 pixels lost")
    page = summary(good, "quietbeam chaos")
    assert "**2 violations.**" in page and "- run u: 3 pixels lost" in page and "- ingest: exit code 1, 2 times" in page


def test_trials_go_on_where_an_earlier_call_ended(tmp_path: Path) -> None:
    log = tmp_path / "chaos.jsonl"
    Log(log).add("fault", DONE)
    Log(log).add("round", Round(number=1, faults=[DONE, DONE], runs=["u"], pixels=12, lost=1))
    kept = Trials(tmp_path / "faults.json")
    kept.rounds += read_rounds(log)
    kept.save()
    kept = Trials(tmp_path / "faults.json")
    assert [len(one.faults) for one in kept.rounds] == [2] and kept.of("kill ingest") == [DONE, DONE]
    names = [fault.name for fault in kept.missing(all_faults(), 3)]
    assert len(names) == 3 * len(all_faults()) - 2 and names.count("kill ingest") == 1
    page = report(kept, "quietbeam benchmark faults")
    assert "| F1 | kill ingest | 2 | 1 | 0 |" in page and "not tried yet" in page
    log.write_text(json.dumps({"kind": "round", "number": 1, "faults": [{}]}), encoding="utf-8")
    with pytest.raises(InputError, match="no log of chaos"):
        read_rounds(log)


def test_every_fault_of_the_table_is_tried_here_or_says_where() -> None:
    tried = {fault.number for fault in all_faults()}
    assert list(TITLES) == [f"F{n}" for n in range(23)]
    assert tried | set(ELSEWHERE) == set(TITLES)
    named = [word for text in ELSEWHERE.values() for word in text.split("`") if word.startswith("tests/")]
    assert named and all((ROOT / path).is_file() for path in named)


def test_errors_in_logs_are_counted(tmp_path: Path) -> None:
    error = '{"level": "error", "event": "x"}\n'
    lines = error + '{"level": "info", "event": "y"}\nnoise "error"\n' + error
    (tmp_path / "ingest.log").write_text(lines, encoding="utf-8")
    assert errors_in(tmp_path) == {"ingest: x": 2}
