"""Maps of a stopped worker never cover those of its successor, at whichever step it goes on."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from quietbeam.buffer import MapHistory, RunBuffer
from quietbeam.core.errors import NotMeasuredError
from quietbeam.core.model.evidence import RunEvidence
from quietbeam.core.model.types import RunInfo

INFO = RunInfo(uid="run-1", lines=("Ca_Ka", "Fe_Ka"), detectors=("det1", "det2"), shape=(130, 5))


def maps(value: float) -> np.ndarray:
    return np.full((2, 130, 5), value, np.float32)


def write(buffer: RunBuffer, value: float, **attributes) -> None:
    buffer.write_maps(0, maps(value), maps(value), maps(value), chi2=maps(value), **attributes)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    RunBuffer.create(tmp_path, INFO)
    return tmp_path


def test_a_run_without_maps_reads_as_zeros(runs: Path) -> None:
    buffer = RunBuffer.open(runs, "run-1")
    assert buffer.map_attributes() == {} and buffer.evidence() is None and buffer.largest_token() == 0
    assert buffer.read_map("denoised").shape == (2, 130, 5) and not buffer.read_map("denoised", 1, rows=slice(3)).any()
    assert MapHistory(buffer).states() == []
    shutil.rmtree(buffer.path)
    with pytest.raises(NotMeasuredError, match="deleted"):
        buffer.map_attributes()


def test_the_maps_before_are_read_until_the_first_version_of_a_lease(runs: Path) -> None:
    first, reader = RunBuffer.open(runs, "run-1", writable=True), RunBuffer.open(runs, "run-1")
    first.begin_maps(3)
    write(first, 1, version=1)
    second = RunBuffer.open(runs, "run-1", writable=True)
    second.begin_maps(4)
    second.write_maps(0, *(maps(2)[:, :64] for _ in range(3)))
    assert reader.largest_token() == 4 and reader.map_attributes()["token"] == 3
    assert (reader.read_map("denoised") == 1).all()
    second.update_map_attributes(version=2)
    assert reader.map_attributes() == {"version": 2, "token": 4}
    found = reader.read_map("denoised")
    assert (found[:, :64] == 2).all() and (found[:, 64:] == 1).all(), "rows that the second has not written stay"


@pytest.mark.parametrize("stopped_at", ["before its first version", "after a version", "between number and version"])
def test_a_worker_that_lost_its_lease_changes_nothing(runs: Path, stopped_at: str) -> None:
    stopped, successor = (RunBuffer.open(runs, "run-1", writable=True) for _ in range(2))
    reader = RunBuffer.open(runs, "run-1")
    stopped.begin_maps(1)
    write(stopped, 1)
    if stopped_at == "after a version":
        stopped.update_map_attributes(version=1, final=False)
    successor.begin_maps(2)
    write(successor, 2, version=3, final=True)
    before = reader.map_attributes()
    write(stopped, 1)  # it goes on
    if stopped_at != "before its first version":
        stopped.update_map_attributes(version=2, final=True)
    assert reader.map_attributes() == before
    for kind in ("raw", "denoised", "uncertainty", "chi2"):
        assert (reader.read_map(kind) == 2).all()
    third = RunBuffer.open(runs, "run-1", writable=True)
    third.begin_maps(third.largest_token() + 1)
    assert (third.read_map("raw") == 2).all()
    third.update_map_attributes(version=4)
    assert third.map_attributes()["version"] == 4 and (third.read_map("raw") == 2).all()
    assert not list(third.path.glob("maps/1*")), "what the stopped one left is removed"


def test_history_goes_with_the_maps(runs: Path) -> None:
    evidence = RunEvidence(rows=3, lines=(), fine_tune_steps=1, loss=0.5, model="m", model_sha256="", final=False)
    measured = np.ones((130, 5), bool)
    first, second = (RunBuffer.open(runs, "run-1", writable=True) for _ in range(2))
    first.begin_maps(1)
    write(first, 1, version=1)
    MapHistory(first).add(1, evidence, measured)
    second.begin_maps(2)
    write(second, 2, version=5)
    MapHistory(second).add(5, evidence, measured)
    MapHistory(first).add(2, evidence, measured)  # the first was stopped, and goes on
    history = MapHistory(RunBuffer.open(runs, "run-1"))
    assert [state.version for state in history.states()] == [1, 5]
    assert (history.read(1, "denoised")[0] == 1).all() and (history.read(5, "denoised")[0] == 2).all()


def test_maps_beside_the_counts_are_read_and_taken_over(runs: Path) -> None:
    """Runs of version 0.2 have their maps and history in the run's own folder."""
    buffer = RunBuffer.open(runs, "run-1", writable=True)
    write(buffer, 1, version=7, final=True)
    for path in (buffer.path / "maps" / "0").iterdir():
        if path.is_dir() and path.name != "chi2":
            path.rename(buffer.path / path.name)
    shutil.rmtree(buffer.path / "maps")
    old = RunBuffer.open(runs, "run-1", writable=True)
    assert old.map_attributes()["version"] == 7 and (old.read_map("raw", rows=slice(1)) == 1).all()
    with pytest.raises(NotMeasuredError, match="kept no chi2"):
        old.read_map("chi2")
    old.begin_maps(1)
    old.write_maps(0, *(maps(2)[:, :64] for _ in range(3)), version=8)
    found = RunBuffer.open(runs, "run-1").read_map("denoised")
    assert (found[:, :64] == 2).all() and (found[:, 64:] == 1).all()


def test_a_half_written_map_of_a_living_worker_is_not_swept(runs: Path) -> None:
    """Ingest sweeps when it starts, while a worker may be writing."""
    buffer = RunBuffer.open(runs, "run-1", writable=True)
    write(buffer, 1, version=1)
    half = [buffer.path / "maps" / "0" / name / "x.partial" for name in ("raw", "denoised")]
    for path in half:
        path.write_bytes(b"half")
    mine = buffer.path / "counts" / "zarr.0123.partial"
    mine.write_bytes(b"half")
    assert buffer.sweep_partials() == 1
    assert all(path.exists() for path in half) and not mine.exists()
