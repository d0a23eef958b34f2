"""A run as it is at one moment, for a backup: hard links that are taken while ingest and a worker go on writing.

Files of a run are replaced and never changed, so that a link keeps what was there. A row counts when its commit mark is
no older than any of its files; else it is being written again, and its files may be of two passes. Such a row is
looked at again, and left out when it does not settle.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import orjson

from quietbeam.core.model.types import RunState

from .map_folders import newest_folder

_LEADING_AXES = {"counts": 2, "i0": 0, "live_time_s": 1, "positions": 1}
"""Axes of the arrays of rows before (row, col)."""
_TRIES = 40
_PAUSE_S = 0.05


def take_snapshot(run: Path, target: Path) -> list[int] | None:
    """Link the files of a run that count into a folder; copy them where links are not possible.

    Of the maps, those of the newest token are taken. Of a run that is complete, or whose state cannot be read, every
    row is taken as it is: a repair may still need it.

    Parameters
    ----------
    run
        Folder of the run.
    target
        Folder on the same file system, which is made.

    Returns
    -------
    list of int or None
        Rows that were left out because they were being written; None for a run that is not there (any more).

    Raises
    ------
    OSError
        The disk is full or cannot be read.
    """
    # The state first: rows that come later do not contradict it.
    for file in _files(run):
        place = file.relative_to(run)
        if place.parts[0] != "maps" and not (place.parts[0] in (*_LEADING_AXES, "measured") and "c" in place.parts):
            _link(file, target / place)
    state = _state(target)
    parts = _parts(run, "measured")
    for part in parts:
        _link_part(run, target, part)
    left_out = _settle(run, target, parts, keep=state is None or state.ended)
    if state in (None, RunState.COMPLETE):
        for name in _LEADING_AXES:
            for part in _parts(run, name):
                _link(_chunk(run, name, part), _chunk(target, name, part))
    _link_maps(run, target)
    if not run.is_dir() or not target.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        return None
    return sorted({int(part.parts[0]) for part in left_out})


def _state(target: Path) -> RunState | None:
    """Return the state of a run; None where it cannot be read."""
    try:
        attributes = orjson.loads((target / "zarr.json").read_bytes())["attributes"]
        return RunState(attributes.get("state", {}).get("state", RunState.RUNNING))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _chunk(run: Path, name: str, part: Path) -> Path:
    return run.joinpath(name, "c", *["0"] * _LEADING_AXES.get(name, 0)) / part


def _parts(run: Path, name: str) -> list[Path]:
    """Return the parts of rows, as ROW/PART, of which an array has a file."""
    folder = _chunk(run, name, Path())
    return [file.relative_to(folder) for file in _files(folder)]


def _link_part(run: Path, target: Path, part: Path) -> None:
    """Link a part of a row, the commit mark first: whatever is written again meanwhile is newer than it."""
    for name in ("measured", *_LEADING_AXES):
        _link(_chunk(run, name, part), _chunk(target, name, part))


def _settle(run: Path, target: Path, parts: list[Path], *, keep: bool) -> list[Path]:
    """Link the parts again that are being written; return those that stay so, which are removed unless `keep`."""
    for _ in range(_TRIES):
        parts = [part for part in parts if not _is_settled(target, part)]
        if not parts:
            return []
        time.sleep(_PAUSE_S)
        for part in parts:
            _link_part(run, target, part)
    parts = [part for part in parts if not _is_settled(target, part)]
    if keep:
        return []
    for part in parts:
        for name in ("measured", *_LEADING_AXES):
            _chunk(target, name, part).unlink(missing_ok=True)
    return parts


def _is_settled(target: Path, part: Path) -> bool:
    mark = _time(_chunk(target, "measured", part))
    return mark is not None and all((_time(_chunk(target, name, part)) or 0) <= mark for name in _LEADING_AXES)


def _time(file: Path) -> int | None:
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _link_maps(run: Path, target: Path) -> None:
    """Link the maps of the newest token, all of one version; those of a live run are made anew in any case."""
    for _ in range(_TRIES):
        shutil.rmtree(target / "maps", ignore_errors=True)
        newest = newest_folder(run)
        if newest is None:
            return
        version = newest / "denoised" / "zarr.json"
        before = _time(version)
        for file in _files(newest):
            _link(file, target / file.relative_to(run))
        if newest_folder(run) == newest and _time(version) == before:
            return
        time.sleep(_PAUSE_S)


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder without those that are half written."""
    for inner, _, names in os.walk(folder):
        yield from (Path(inner, name) for name in names if not name.endswith(".partial"))


def _link(source: Path, target: Path) -> None:
    """Link a file, in the place of an earlier link; nothing where it is gone."""
    target.unlink(missing_ok=True)
    try:
        if not target.parent.exists():
            if not source.exists():
                return
            target.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, target)
    except FileNotFoundError:
        return
    except OSError:  # a file system without hard links
        try:
            shutil.copy2(source, target)
        except FileNotFoundError:
            target.unlink(missing_ok=True)
