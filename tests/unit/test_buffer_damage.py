"""Damage of a run's files: one error for every kind, and a repair as far as the counts allow."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quietbeam.buffer import MapHistory, RunBuffer
from quietbeam.buffer.examination import damages, stored_runs
from quietbeam.buffer.repair import can_be_described, mend
from quietbeam.core.errors import DamagedRunError
from quietbeam.core.model.types import RowBlock, RunInfo

INFO = RunInfo(
    uid="run-1", lines=("P_Ka", "Fe_Ka"), detectors=("a", "b", "c"), shape=(4, 5), has_i0=True, has_live_time=True
)


def block(row: int) -> RowBlock:
    rng = np.random.default_rng(row)
    return RowBlock(
        counts=(rng.poisson(5, (3, 2, 5)) + 1).astype(np.uint32),
        measured=np.ones(5, bool),
        i0=np.ones(5, np.float32),
        live_time_s=np.ones((3, 5), np.float32),
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    buffer = RunBuffer.create(root, INFO)
    for row in range(4):
        buffer.write_row(row, block(row))
    ones = np.ones((2, 4, 5), np.float32)
    buffer.write_maps(0, ones, ones, ones, chi2=ones, version=3, rows=4, final=True)
    buffer.update_state({"state": "complete"})
    return root


@pytest.fixture
def path(model: Path, tmp_path: Path) -> Path:
    shutil.copytree(model, tmp_path, dirs_exist_ok=True)
    return tmp_path / "run-1"


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def rot(path: Path) -> None:
    """Change a file behind its header, where only the checksum tells."""
    data = path.read_bytes()
    path.write_bytes(data[:20] + os.urandom(len(data) - 20))


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


COUNTS, MARK = Path("counts/c/0/0/2/0"), Path("measured/c/1/0")
MAP, MAPS = Path("maps/0/denoised/c/0/0/0"), Path("maps/0/denoised/zarr.json")
NOTHING_LOST: dict[str, Callable[[Path], object]] = {
    "garbage": lambda path: (path / "zarr.json").write_text("{garbage"),
    "empty": lambda path: (path / "zarr.json").write_text(""),
    "a folder": lambda path: as_folder(path / "zarr.json"),
    "a list": lambda path: (path / "zarr.json").write_text("[1]"),
    "info is a number": lambda path: edit(path / "zarr.json", lambda d: d["attributes"].update(info=5)),
    "info of another size": lambda path: edit(
        path / "zarr.json", lambda d: d["attributes"]["info"].update(shape=[10**9, 10**9])
    ),
    "attributes are a list": lambda path: edit(path / "zarr.json", lambda d: d.update(attributes=[1])),
    "unknown state": lambda path: edit(path / "zarr.json", lambda d: d["attributes"]["state"].update(state="zzz")),
    "state is a number": lambda path: edit(path / "zarr.json", lambda d: d["attributes"].update(state=3)),
    "array described as a list": lambda path: (path / "measured/zarr.json").write_text("[]"),
    "array not described": lambda path: (path / "counts/zarr.json").unlink(),
    "torn mark": lambda path: (path / MARK).write_bytes(b"abc"),
    "lost mark": lambda path: (path / MARK).unlink(),
    "lost description": lambda path: (path / "zarr.json").unlink(),
    "garbage in the copy": lambda path: (path / "info.json").write_text("{garbage"),
    "the copy is a folder": lambda path: as_folder(path / "info.json"),
}
A_ROW_LOST: dict[str, Callable[[Path], object]] = {
    "torn counts": lambda path: (path / COUNTS).write_bytes(b"abcdefg"),
    "counts of zeros": lambda path: zeros(path / COUNTS),
    "no counts": lambda path: (path / COUNTS).unlink(),
    "counts are a folder": lambda path: as_folder(path / COUNTS),
    "empty I0": lambda path: (path / "i0/c/2/0").write_bytes(b""),
    "lost row": lambda path: [shutil.rmtree((path / file).parent) for file in (COUNTS, Path("measured/c/2/0"))],
}
MISSING_FILES = (  # they read as zeros, or are read only for a repair: damages() alone tells
    *("no counts", "counts are a folder", "lost mark", "lost row", "lost description"),
    *("garbage in the copy", "the copy is a folder"),
)
MAPS_LOST: dict[str, Callable[[Path], object]] = {
    "garbage in a map": lambda path: (path / MAP).write_bytes(os.urandom(200)),
    "map not described": lambda path: (path / MAPS).write_text(""),
    "version is a word": lambda path: edit(path / MAPS, lambda d: d["attributes"].update(version="x")),
    "evidence is a list": lambda path: edit(path / MAPS, lambda d: d["attributes"].update(evidence=[1])),
}


def read_everything(root: Path) -> None:
    buffer = RunBuffer.open(root, "run-1")
    buffer.state(), buffer.measured(), buffer.evidence(), buffer.map_attributes(), buffer.read_counts()
    for row in range(4):
        buffer.read_row(row)
    for kind in ("raw", "denoised", "uncertainty", "chi2"):
        buffer.read_map(kind)


@pytest.mark.parametrize("kind", [*NOTHING_LOST, *A_ROW_LOST, *MAPS_LOST])
def test_every_damage_is_found_and_mended(tmp_path: Path, path: Path, kind: str) -> None:
    before = RunBuffer.open(tmp_path, "run-1").read_counts()
    assert not list(damages(tmp_path, "run-1"))
    (NOTHING_LOST | A_ROW_LOST | MAPS_LOST)[kind](path)
    assert "run-1 is damaged" in next(damages(tmp_path, "run-1"))
    if kind not in MISSING_FILES:
        with pytest.raises(DamagedRunError, match=r"run-1 is damaged.*doctor --repair"):
            read_everything(tmp_path)
    repair = mend(tmp_path, "run-1", version=7)
    assert repair.sentences and not list(damages(tmp_path, "run-1"))
    read_everything(tmp_path)
    buffer = RunBuffer.open(tmp_path, "run-1")
    lost = [2] if kind in A_ROW_LOST else []
    assert repair.lost_rows == (lost if kind != "lost row" else []) and repair.is_incomplete is (kind == "lost row")
    assert bool(repair.maps_lost) is (kind not in NOTHING_LOST)
    np.testing.assert_array_equal(~buffer.measured().any(axis=1), np.isin(np.arange(4), lost))
    np.testing.assert_array_equal(buffer.read_counts(), np.where(buffer.measured(), before, 0))
    assert buffer.state()["state"] == ("incomplete" if lost else "complete")
    if repair.maps_lost:
        attributes = buffer.map_attributes()
        assert attributes["version"] > 7 and not attributes.get("final"), "no version is used twice"
        assert not buffer.read_map("denoised").any()


def test_values_that_changed_on_disk_fail_their_checksum(tmp_path: Path, path: Path) -> None:
    rot(path / COUNTS)
    with pytest.raises(DamagedRunError, match="counts"):
        RunBuffer.open(tmp_path, "run-1").read_row(2)
    assert mend(tmp_path, "run-1").lost_rows == [2]


def test_a_lost_mark_is_not_guessed_where_a_pixel_holds_no_count(tmp_path: Path, path: Path) -> None:
    empty = block(1)
    empty.counts[:, :, 3] = 0
    RunBuffer.open(tmp_path, "run-1", writable=True).write_row(1, empty)
    (path / MARK).write_bytes(b"")
    assert mend(tmp_path, "run-1").lost_rows == [1], "pixels with counts alone would be a biased choice"


def test_rows_that_were_being_written_when_a_run_broke_off_are_no_damage(tmp_path: Path, path: Path) -> None:
    RunBuffer.open(tmp_path, "run-1", writable=True).update_state({"state": "aborted"})
    edit(path / MAPS, lambda d: d["attributes"].update(rows=3))
    (path / MARK).unlink()
    assert not list(damages(tmp_path, "run-1")), "their documents may come again"


def test_a_lost_mark_of_a_row_that_holds_a_pixel_without_counts(tmp_path: Path, path: Path) -> None:
    empty = block(1)
    empty.counts[:, :, 3] = 0
    RunBuffer.open(tmp_path, "run-1", writable=True).write_row(1, empty)
    (path / MARK).unlink()
    assert mend(tmp_path, "run-1").lost_rows == [1] and not list(damages(tmp_path, "run-1"))
    assert RunBuffer.open(tmp_path, "run-1").state()["state"] == "incomplete"


def test_without_any_description_nothing_is_guessed(tmp_path: Path, path: Path) -> None:
    (path / "zarr.json").write_text("{")
    (path / "info.json").write_text("{")
    assert stored_runs(tmp_path) == ["run-1"] and not can_be_described(tmp_path, "run-1")
    with pytest.raises(DamagedRunError, match=r"repair is not possible: restore .*run-1/zarr.json from a backup"):
        mend(tmp_path, "run-1")
    assert can_be_described(tmp_path, "run-1", INFO)
    assert mend(tmp_path, "run-1", info=INFO).sentences
    assert RunBuffer.open(tmp_path, "run-1").measured().all()


def test_a_torn_history_costs_that_state_alone(tmp_path: Path, path: Path) -> None:
    folder = path / "maps/0/history"
    folder.mkdir()
    good = {"version": 1, "time": 1.0, "rows": 2, "state": "live", "fine_tune_steps": 0, "loss": None, "lines": {}}
    (folder / "states.jsonl").write_text(json.dumps({**good, "maps": False}) + "\n{torn\n[]\n5\n")
    assert [s.version for s in MapHistory(RunBuffer.open(tmp_path, "run-1")).states()] == [1]
