"""Mends the damage of a run as far as its counts allow; :mod:`.examination` finds it.

What can be made anew is: descriptions of arrays, maps and their attributes. Rows are mended by :mod:`.row_repair`.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from quietbeam.core.errors import DamagedRunError, NotMeasuredError, QuietbeamError
from quietbeam.core.model.types import RunInfo, RunState

from .durable import make_durable, replace_file
from .examination import copy_is_garbage, copy_of_info, rows_lost, torn
from .layout import MAP_KINDS, layout_of, row_arrays
from .row_repair import Repair, mend_marks, mend_rows, reads
from .run_buffer import INFO_COPY, REPAIRED, UNSYNCED, RunBuffer, run_path

_VERSION_STEP = 1000
"""A lost version of maps goes on so far above every one that is known."""


def mend(
    root: Path, uid: str, *, info: RunInfo | None = None, state: str = "", version: int = 0, unpack: bool = True
) -> Repair:
    """Mend a run; only for who may write all of it.

    Parameters
    ----------
    info
        What is known of the run from elsewhere, where its own description cannot be read.
    state
        The state of the run as Redis has it, where its own cannot be read; '' when unknown.
    version
        Highest version of maps that anybody saw.
    unpack
        Read the values of every file, too; otherwise only whether it is whole.

    Raises
    ------
    DamagedRunError
        Nothing says what the run is: it can only be deleted, or restored from a backup.
    """
    path, repair = run_path(root, uid), Repair()
    buffer = _with_description(root, path, info, repair)
    kept = _with_state(buffer, repair)
    _with_arrays(buffer, repair)
    if buffer.state().get("state", state) == RunState.COMPLETE:
        mend_marks(buffer, repair)
    mend_rows(buffer, repair, unpack=unpack)
    _mend_maps(buffer, repair, version, unpack=unpack)
    if repair.lost_rows or repair.is_incomplete or not kept:
        _say_state(buffer, state)
    if repair.sentences:
        warnings = [*buffer.state().get("warnings", []), *(f"repaired: {s}" for s in repair.sentences)]
        buffer.update_state({"warnings": warnings})
    make_durable(buffer.writes.take(), root)
    buffer.end_writing()
    return repair


def _with_description(root: Path, path: Path, info: RunInfo | None, repair: Repair) -> RunBuffer:
    try:
        buffer = RunBuffer.open(root, path.name, writable=True, durable=True)
        if _fits(path, buffer.info):
            if copy_is_garbage(path):
                _replace(path / INFO_COPY, orjson.dumps(buffer.info.to_dict(), option=orjson.OPT_SERIALIZE_NUMPY))
                repair.sentences.append("the copy of its description was written again")
            return buffer
        why = f"run {path.name} is damaged: its description is of another shape than its arrays"
    except (DamagedRunError, NotMeasuredError) as error:
        why = error.message
    known = _known(path, info)
    if known is None:
        raise DamagedRunError(f"{why}; nothing else says what the run is", remedy=beyond_repair(path), uid=path.name)
    attributes: dict[str, Any] = {"info": known.to_dict()}
    with suppress(OSError, ValueError, KeyError, TypeError):  # an `info` that cannot be used costs nothing else
        attributes = {**orjson.loads((path / "zarr.json").read_bytes())["attributes"], **attributes}
    description = {"attributes": attributes, "zarr_format": 3, "node_type": "group"}
    _replace(path / "zarr.json", orjson.dumps(description, option=orjson.OPT_SERIALIZE_NUMPY))
    repair.sentences.append("its description was written again")
    return RunBuffer.open(root, path.name, writable=True, durable=True)


def can_be_described(root: Path, uid: str, info: RunInfo | None = None) -> bool:
    """Return whether something says what a run is, so that it can be mended; `info` as in :func:`mend`."""
    path = run_path(root, uid)
    with suppress(DamagedRunError, NotMeasuredError):
        if _fits(path, RunBuffer.open(root, uid).info):
            return True
    return _known(path, info) is not None


def beyond_repair(path: Path) -> str:
    """Return what to do about a run of which nothing says what it is."""
    return f"a repair is not possible: restore {path / 'zarr.json'} from a backup, or delete the folder"


def _known(path: Path, info: RunInfo | None) -> RunInfo | None:
    return next((i for i in (copy_of_info(path), info) if i is not None and _fits(path, i)), None)


def _fits(path: Path, info: RunInfo) -> bool:
    """Return whether the arrays, as far as they can be read, are those of the run."""
    for name in ("measured", "counts"):
        try:
            shape = tuple(orjson.loads((path / name / "zarr.json").read_bytes())["shape"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if shape != layout_of(info)[name].shape:
            return False
    return True


def _replace(path: Path, data: bytes) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, data, durable=True)


def _with_state(buffer: RunBuffer, repair: Repair) -> bool:
    """Return whether the state can be read; one that cannot is removed."""
    try:
        return "state" in buffer.state()
    except DamagedRunError:
        buffer.replace_state({})
        repair.sentences.append("its state was not readable")
        return False


def _with_arrays(buffer: RunBuffer, repair: Repair) -> None:
    """Write the descriptions of arrays again that cannot be read; they follow from what the run is."""
    for name in (*row_arrays(buffer.info), "measured"):
        try:
            buffer.check_array(name)
        except QuietbeamError:
            scratch = buffer.path.parent / f".repair-{buffer.path.name}"
            shutil.rmtree(scratch, ignore_errors=True)
            try:
                model = RunBuffer.create(scratch, buffer.info)
                _replace(buffer.path / name / "zarr.json", (model.path / name / "zarr.json").read_bytes())
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
            buffer.forget_arrays()
            repair.sentences.append(f"the description of {name} was written again")


def _mend_maps(buffer: RunBuffer, repair: Repair, version: int, *, unpack: bool) -> None:
    try:
        known = int(buffer.map_attributes().get("version") or 0)
        damaged = not reads(buffer, buffer.evidence) or bool(torn(buffer.maps_folder, *MAP_KINDS))
        if known and unpack and not damaged:
            kinds = [kind for kind in MAP_KINDS if (buffer.maps_folder / kind).exists()]  # older runs have no chi2
            damaged = not all(reads(buffer, partial(buffer.read_map, kind)) for kind in kinds)
        if known and (lost := rows_lost(buffer)) and not repair.lost_rows:
            repair.is_incomplete = True
            repair.sentences.append(f"{lost} row(s) that its final maps showed are lost: only a backup has them")
    except DamagedRunError:
        known, damaged = 0, True
    if not damaged and not (known and (repair.lost_rows or repair.is_incomplete)):
        return
    repair.maps_lost = True
    known = max(known, version, *_history_versions(buffer.path), 0)
    buffer.replace_maps({"version": known + _VERSION_STEP, "rows": 0, "final": False})
    repair.sentences.append("its maps are made anew")


def _history_versions(path: Path) -> list[int]:
    return [int(p.stem) for p in path.rglob("history/*.npz") if p.stem.isdecimal()]


def _say_state(buffer: RunBuffer, state: str) -> None:
    """Say what the run is after its repair."""
    try:
        known = RunState(state or buffer.state().get("state", ""))
    except ValueError:
        known = RunState.COMPLETE
    if known in (RunState.COMPLETE, RunState.UNUSABLE) or not known.ended:
        known = RunState.COMPLETE if buffer.measured().all() else RunState.INCOMPLETE
    reason = "files of it were damaged and repaired"
    buffer.update_state({"state": known.value, "reason": reason})


def mend_unsynced(root: Path, uid: str) -> list[int]:
    """Unmark the rows of which a power failure left a part, and bring the others to disk; return the unmarked rows.

    Their documents were not acknowledged, so they come again.

    Raises
    ------
    DamagedRunError
        What describes the run cannot be read.
    """
    buffer, repair = RunBuffer.open(root, uid, writable=True), Repair()
    mend_rows(buffer, repair, unpack=False)
    make_durable((p for p in buffer.path.rglob("*") if p.is_file()), root)
    buffer.end_writing()
    return sorted(set(repair.lost_rows))


def is_unsynced(root: Path, uid: str) -> bool:
    """Return whether rows of a run may have been written that are not on disk."""
    return (run_path(root, uid) / UNSYNCED).exists()


def leave_note(root: Path, uid: str, repair: Repair) -> None:
    """Leave a note for ingest, for a repair that Redis cannot be told of now."""
    replace_file(run_path(root, uid) / REPAIRED, b"maps" if repair.maps_lost else b"", durable=True)


def take_note(root: Path, uid: str) -> Repair | None:
    """Return what :func:`leave_note` left, which is gone then; None where nothing was left."""
    note = run_path(root, uid) / REPAIRED
    try:
        repair = Repair(maps_lost=note.read_bytes() == b"maps")
    except OSError:
        return None
    note.unlink(missing_ok=True)
    return repair
