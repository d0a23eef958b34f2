"""Backups of a data folder: taken while rows are written, restored into an empty folder, read by a new ingest."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browser.synthetic_run import SyntheticRun
from quietbeam.app import backup as backup_module
from quietbeam.app.backup import back_up
from quietbeam.app.restore import restore
from quietbeam.buffer import RunBuffer, list_buffers, snapshot
from quietbeam.buffer.examination import damages
from quietbeam.core.errors import InputError, ServiceError
from quietbeam.core.model.types import RowBlock, RunInfo, RunState
from quietbeam.core.process.lock import acquire
from quietbeam.core.settings import Settings
from quietbeam.core.wire import keys, runs
from quietbeam.core.wire.bus import Connection
from quietbeam.ingest.stage.service import IngestStage
from quietbeam.ingest.transports import MemorySource

ROWS, COLS = 24, 8


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def data(settings: Settings, redis: Connection) -> Path:
    """A data folder with a finished run, a live one, weights, a calibration and a key."""
    done = SyntheticRun(settings.runs_dir, redis, uid="done", shape=(6, 5), lines=("Fe_Ka", "Zn_Ka"))
    done.buffer.begin_maps(3)
    done.add_rows(6)
    done.denoise(final=True)
    done.finish()
    live = SyntheticRun(settings.runs_dir, redis, uid="live", shape=(6, 5), lines=("Fe_Ka",))
    live.add_rows(2)
    for name in ("weights/mine.json", "calibrations/thin.json", "secrets/api_key", "logs/ingest.log"):
        path = settings.data_dir / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name, encoding="utf-8")
    return settings.data_dir


class Writer(threading.Thread):
    """Writes every row of a run, and every row again with other numbers, as a scan does that is rewound.

    Every array of a row carries the number of its pass, so that a row of two passes can be told.
    """

    def __init__(self, root: Path) -> None:
        super().__init__()
        info = RunInfo(
            uid="moving",
            lines=("Fe_Ka",),
            detectors=("a",),
            shape=(ROWS, COLS),
            has_i0=True,
            has_live_time=True,
        )
        self.buffer = RunBuffer.create(root, info)
        self.buffer.update_state({"state": "running"})
        self.stop = threading.Event()
        self.passes = 0

    def run(self) -> None:
        while not self.stop.is_set():
            self.passes += 1
            for row in range(ROWS):
                n = self.passes
                self.buffer.write_row(
                    row,
                    RowBlock(
                        counts=np.full((1, 1, COLS), n, np.uint32),
                        measured=np.ones(COLS, bool),
                        i0=np.full(COLS, n, np.float32),
                        live_time_s=np.full((1, COLS), n, np.float32),
                    ),
                )


@pytest.fixture
def writer(settings: Settings) -> Iterator[Writer]:
    writer = Writer(settings.runs_dir)
    writer.start()
    yield writer
    writer.stop.set()
    writer.join()


@pytest.mark.parametrize("suffix", ["tar", "tar.zst"])
def test_everything_that_counts_comes_back_and_nothing_else(data: Path, tmp_path: Path, suffix: str) -> None:
    file, target = tmp_path / f"b.{suffix}", tmp_path / "restored"
    made = back_up(data, file)
    assert (made.runs, made.rows) == ({"done", "live"}, 8)
    found = restore(file, target)
    assert (found.runs, found.rows, found.files, found.size) == (made.runs, made.rows, made.files, made.size)
    wanted = tree(data)
    for unwanted in ("secrets/api_key", "logs/ingest.log", "backup.lock"):
        wanted.pop(unwanted)
    assert tree(target) == wanted
    assert file.stat().st_mode & 0o777 == 0o600 and not list(tmp_path.glob(".*"))
    assert not [p for p in (data / "runs").iterdir() if p.name.startswith(".")]

    with_keys = tmp_path / "keys.tar"
    back_up(data, with_keys, secrets=True)
    restore(with_keys, tmp_path / "with keys")
    key = tmp_path / "with keys" / "secrets" / "api_key"
    assert key.read_bytes() == b"secrets/api_key" and key.stat().st_mode & 0o777 == 0o600


def test_a_backup_of_rows_that_are_written_at_that_moment_has_no_row_of_two_passes(
    settings: Settings, redis: Connection, writer: Writer, tmp_path: Path
) -> None:
    rows, times = 0, 4
    for number in range(times):
        file, target = tmp_path / f"{number}.tar", tmp_path / f"restored-{number}"
        made = back_up(settings.data_dir, file)
        left_out = made.left_out.get("moving", [])
        restore(file, target)
        found = RunBuffer.open(target / "runs", "moving")
        assert sorted([*found.rows_written(), *left_out]) == list(range(ROWS)) or number == 0
        for row in found.rows_written():
            block = found.read_row(row)
            assert block.i0 is not None and block.live_time_s is not None
            assert len({*block.counts.ravel(), *block.i0.ravel(), *block.live_time_s.ravel()}) == 1, row
            rows += 1
        assert not list(damages(target / "runs", "moving"))
    assert writer.passes > times, "rows were written again meanwhile"
    assert rows > times * ROWS / 2


def test_a_new_ingest_shows_the_runs_of_a_backup(
    settings: Settings, redis: Connection, data: Path, tmp_path: Path
) -> None:
    file, target = tmp_path / "b.tar.zst", tmp_path / "restored"
    back_up(data, file)
    restore(file, target)
    redis.flushall()
    restored = settings.model_copy(update={"data_dir": target})
    IngestStage(restored, redis, [MemorySource()]).close()
    done, live = runs.read_status(redis, "done"), runs.read_status(redis, "live")
    assert done is not None and (done.state, done.rows_measured, done.maps_version) == (RunState.COMPLETE, 6, 1)
    assert done.denoise_state == "final" and done.evidence is not None
    assert live is not None and (live.state, live.rows_measured) == (RunState.STALE, 2)
    before, after = (RunBuffer.open(folder / "runs", "done") for folder in (data, target))
    assert (after.read_counts() == before.read_counts()).all() and after.largest_token() == 3
    assert (after.read_map("denoised") == before.read_map("denoised")).all()
    assert redis.zscore(keys.RUNS, "done") is not None


def test_of_a_live_run_only_rows_with_a_commit_mark_are_taken_and_of_a_complete_one_all(
    data: Path, tmp_path: Path
) -> None:
    for uid in ("done", "live"):
        shutil.rmtree(data / "runs" / uid / "measured" / "c" / "1")
    restore_to = tmp_path / "restored"
    back_up(data, tmp_path / "b.tar")
    restore(tmp_path / "b.tar", restore_to)
    assert not (restore_to / "runs" / "live" / "counts" / "c" / "0" / "0" / "1").exists()
    assert (restore_to / "runs" / "done" / "counts" / "c" / "0" / "0" / "1").exists()
    assert "commit mark" in next(damages(restore_to / "runs", "done")), "doctor can mend it from its counts"


def test_a_run_that_is_deleted_meanwhile_is_left_out_whole(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link_maps = snapshot._link_maps

    def delete_first(run: Path, target: Path) -> None:
        if run.name == "done":
            run.rename(run.with_name(".deleted-done"))
        link_maps(run, target)

    monkeypatch.setattr(snapshot, "_link_maps", delete_first)
    assert back_up(data, tmp_path / "b.tar").runs == {"live"}


def test_a_damaged_backup_restores_nothing(data: Path, tmp_path: Path) -> None:
    file, target = tmp_path / "b.tar", tmp_path / "restored"
    back_up(data, file)
    whole = file.read_bytes()
    at = whole.index(b"weights/mine.json", whole.index(b"weights/mine.json") + 1)  # the bytes of the file itself
    file.write_bytes(whole[:at] + b"X" + whole[at + 1 :])
    with pytest.raises(InputError, match=r"1 file\(s\) in it are missing or changed, the first is weights/mine.json"):
        restore(file, target)
    for part in (0, 700, len(whole) // 2, len(whole) - 12_000):
        file.write_bytes(whole[:part])
        with pytest.raises(InputError, match="nothing was restored"):
            restore(file, target)
    packed = tmp_path / "p.tar.zst"
    back_up(data, packed)
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(InputError, match="nothing was restored"):
        restore(packed, target)
    assert not target.exists()


def test_nothing_is_overwritten(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "b.tar"
    back_up(data, file)
    with pytest.raises(InputError, match="is there already"):
        back_up(data, file)
    before = tree(data)
    with pytest.raises(InputError, match="is not empty"):
        restore(file, data)
    assert tree(data) == before
    with pytest.raises(InputError, match="no folder `runs`"):
        back_up(tmp_path / "elsewhere", tmp_path / "c.tar")
    with pytest.raises(InputError, match=r"a \.tar or \.tar\.zst file"):
        back_up(data, tmp_path / "c.zip")
    lock = acquire(data / "backup.lock")
    with pytest.raises(ServiceError, match="another backup"):
        back_up(data, tmp_path / "c.tar")
    lock.release()
    empty = tmp_path / "volume"
    (empty / "lost+found").mkdir(parents=True)
    restore(file, empty)
    assert list_buffers(empty / "runs") == ["done", "live"], "a new file system counts as empty"


def test_a_full_disk_leaves_no_file_and_no_folder(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/full stands for the disk: every write to it fails as on a full disk."""
    file, opened = tmp_path / "b.tar", os.open

    def full(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if str(path).endswith(".partial"):
            os.close(opened(path, flags, *args, **kwargs))
            path, flags = "/dev/full", os.O_WRONLY
        return opened(path, flags, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(backup_module.os, "open", full)
        with pytest.raises(ServiceError, match=r"no space left on device; no backup was written: make room"):
            back_up(data, file)
    assert not [p for p in tmp_path.iterdir() if "b.tar" in p.name]
    assert not (data / "runs" / ".backup").exists()
    back_up(data, file)

    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfileobj", no_room)
    with pytest.raises(ServiceError, match="nothing was restored: make room"):
        restore(file, tmp_path / "restored")
    assert not (tmp_path / "restored").exists()
