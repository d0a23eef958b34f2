"""The zarr buffer of one run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from quietbeam.buffer import RunBuffer, list_buffers
from quietbeam.core.errors import BufferConflictError, InputError, NotMeasuredError
from quietbeam.core.model.types import RowBlock, RunInfo

INFO = RunInfo(
    uid="run-1", lines=("P_Ka", "Fe_Ka"), detectors=("a", "b", "c"), shape=(4, 5), has_i0=True, has_live_time=True
)


def block(seed: int, measured: bool = True) -> RowBlock:
    rng = np.random.default_rng(seed)
    return RowBlock(
        counts=rng.poisson(5, (3, 2, 5)).astype(np.uint32),
        measured=np.full(5, measured),
        i0=rng.random(5, dtype=np.float32),
        live_time_s=rng.random((3, 5), dtype=np.float32),
    )


def test_rows_come_back_bit_for_bit(tmp_path: Path) -> None:
    buffer = RunBuffer.create(tmp_path, INFO)
    for row in (2, 0):
        buffer.write_row(row, block(row))
    reader = RunBuffer.open(tmp_path, "run-1")
    for row in (2, 0):
        there, written = reader.read_row(row), block(row)
        for name in ("counts", "measured", "i0", "live_time_s"):
            np.testing.assert_array_equal(getattr(there, name), getattr(written, name))
    np.testing.assert_array_equal(reader.measured().any(axis=1), [True, False, True, False])
    np.testing.assert_array_equal(reader.read_counts()[:, :, 2], block(2).counts)
    assert reader.info == INFO and list_buffers(tmp_path) == ["run-1"]


def test_one_row_is_one_file_of_counts_and_zeros_are_written(tmp_path: Path) -> None:
    buffer = RunBuffer.create(tmp_path, INFO)
    zeros = RowBlock(counts=np.zeros((3, 2, 5), np.uint32), measured=np.ones(5, bool))
    buffer.write_row(1, zeros)
    files = [p for p in (buffer.path / "counts").rglob("*") if p.is_file() and p.name != "zarr.json"]
    assert len(files) == 1
    assert buffer.measured()[1].all()


def test_the_last_write_wins(tmp_path: Path) -> None:
    buffer = RunBuffer.create(tmp_path, INFO)
    buffer.write_row(0, block(1))
    buffer.write_row(0, block(2))
    np.testing.assert_array_equal(buffer.read_row(0).counts, block(2).counts)


def test_creating_again_opens_and_conflicts_are_refused(tmp_path: Path) -> None:
    RunBuffer.create(tmp_path, INFO).write_row(0, block(1))
    assert RunBuffer.create(tmp_path, INFO).measured()[0].all()
    other = RunInfo.from_dict(INFO.to_dict() | {"shape": [5, 5]})
    with pytest.raises(BufferConflictError, match="shape"):
        RunBuffer.create(tmp_path, other)


@pytest.mark.parametrize("uid", ["../x", "a/b", "", "x" * 65, "ü", "a\n"])
def test_uids_cannot_leave_the_root(tmp_path: Path, uid: str) -> None:
    with pytest.raises(InputError, match="not allowed"):
        RunBuffer.open(tmp_path, uid)


@pytest.mark.parametrize(("row", "shape"), [(4, (3, 2, 5)), (-1, (3, 2, 5)), (0, (2, 2, 5)), (0, (3, 2, 6))])
def test_wrong_rows_are_refused(tmp_path: Path, row: int, shape: tuple[int, ...]) -> None:
    buffer = RunBuffer.create(tmp_path, INFO)
    with pytest.raises(InputError, match="row"):
        buffer.write_row(row, RowBlock(counts=np.zeros(shape, np.uint32), measured=np.ones(shape[-1], bool)))


def test_an_unfinished_folder_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "run-1").mkdir()
    with pytest.raises(NotMeasuredError):
        RunBuffer.open(tmp_path, "run-1")
    assert list_buffers(tmp_path) == []
    assert list_buffers(tmp_path / "nowhere") == []


def test_state_survives_beside_the_info(tmp_path: Path) -> None:
    buffer = RunBuffer.create(tmp_path, INFO)
    buffer.update_state({"state": "running"})
    buffer.update_state({"reason": "r"})
    assert RunBuffer.open(tmp_path, "run-1").state() == {"state": "running", "reason": "r"}
    assert RunBuffer.open(tmp_path, "run-1").info == INFO


def test_half_written_files_are_swept(tmp_path: Path) -> None:
    buffer = RunBuffer.create(tmp_path, INFO)
    buffer.write_row(0, block(0))
    (buffer.path / "counts" / "c.partial").write_bytes(b"half")
    assert buffer.sweep_partials() == 1 and buffer.sweep_partials() == 0
    np.testing.assert_array_equal(buffer.read_row(0).counts, block(0).counts)


def test_maps_carry_their_version(tmp_path: Path) -> None:
    buffer = RunBuffer.create(tmp_path, INFO)
    part = np.ones((2, 3, 5), np.float32)
    buffer.write_maps(1, part, 2 * part, 3 * part, chi2=4 * part, version=7)
    reader = RunBuffer.open(tmp_path, "run-1")
    np.testing.assert_array_equal(reader.read_map("denoised")[:, 1:], 2 * part)
    assert (reader.read_map("uncertainty", 0)[0] == 0).all()
    np.testing.assert_array_equal(reader.read_map("chi2")[:, 1:], 4 * part)
    assert reader.map_attributes()["version"] == 7 and reader.evidence() is None
    with pytest.raises(NotMeasuredError, match="no map kind"):
        reader.read_map("counts")  # type: ignore[arg-type]
