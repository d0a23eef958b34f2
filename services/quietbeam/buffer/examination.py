"""Finds the damage of a run: what of its files cannot be read, is torn or is missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson

from quietbeam.core.errors import NotMeasuredError, QuietbeamError
from quietbeam.core.model.types import RunInfo, RunState

from .damage import is_whole
from .layout import MAP_KINDS, row_arrays
from .run_buffer import INFO_COPY, RunBuffer
from .run_paths import is_uid, run_path


def stored_runs(root: Path) -> list[str]:
    """Return the uids of all runs below `root`, also of those that lost what describes them."""
    if not root.is_dir():
        return []
    return sorted(p.name for p in root.iterdir() if is_uid(p.name) and ((p / "zarr.json").exists() or has_counts(p)))


def has_counts(path: Path) -> bool:
    """Return whether the run at `path` has any counts."""
    return next((path / "counts" / "c").rglob("*"), None) is not None


def damages(root: Path, uid: str, *, maps: bool = True) -> Iterator[str]:
    """Yield what of a run, with or without its maps, cannot be read or is lost.

    Its descriptions are read, of its values only how long their files are.
    """
    path = run_path(root, uid)
    try:
        buffer = RunBuffer.open(root, uid)
        state = buffer.state().get("state", "")
        attributes = buffer.map_attributes()
        if maps:
            buffer.evidence()
        for name in (*row_arrays(buffer.info), "measured"):
            buffer.check_array(name)
    except NotMeasuredError:
        if has_counts(path):
            yield f"run {uid} is damaged: its description (zarr.json) is missing"
        return
    except QuietbeamError as error:
        yield error.message
        return
    yield from (f"run {uid} is damaged: {what}" for what in _of_files(buffer, state))
    if maps:
        yield from (f"run {uid} is damaged: {what}" for what in _of_maps(buffer, attributes))


def _of_files(buffer: RunBuffer, state: str) -> Iterator[str]:
    if copy_is_garbage(buffer.path):
        yield f"the copy of its description ({INFO_COPY}) cannot be read"
    for name in (*row_arrays(buffer.info), "measured"):
        if bad := torn(buffer.path, name):
            yield f"{len(bad)} file(s) of {name} are torn, the first is {bad[0]}"
    marks = _rows_of(buffer.path, "measured")
    for name in row_arrays(buffer.info):
        if lost := sorted(marks - _rows_of(buffer.path, name)):
            yield f"{len(lost)} file(s) of {name} are missing, the first is {name}/{lost[0]}"
    if state == RunState.COMPLETE and (lost := unmarked(buffer.path)):
        yield f"{len(lost)} commit mark(s) of a complete run are missing, the first is measured/{lost[0]}"


def _of_maps(buffer: RunBuffer, attributes: dict[str, object]) -> Iterator[str]:
    if int(str(attributes.get("version") or 0)) > 0 and (bad := torn(buffer.maps_folder, *MAP_KINDS)):
        yield f"{len(bad)} file(s) of its maps are torn, the first is {bad[0]}"
    if lost := rows_lost(buffer):
        yield f"{lost} row(s) that its final maps show are missing"


def rows_lost(buffer: RunBuffer) -> int:
    """Return how many rows fewer have a commit mark than the final maps show; 0 while the maps are not final."""
    attributes = buffer.map_attributes()
    shown = int(attributes.get("rows") or 0) if attributes.get("final") else 0
    return max(0, shown - len(buffer.rows_written()))


def unmarked(path: Path) -> list[Path]:
    """Return the parts of rows, as ROW/PART, that have counts and no commit mark: lost marks, if a run is complete."""
    return sorted(_rows_of(path, "counts") - _rows_of(path, "measured"))


def copy_of_info(path: Path) -> RunInfo | None:
    """Return what the copy says of the run at `path`; None where there is none that can be read."""
    try:
        info = RunInfo.from_dict(orjson.loads((path / INFO_COPY).read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return info if info.uid == path.name else None


def copy_is_garbage(path: Path) -> bool:
    """Return whether there is a copy that cannot be read; runs of earlier versions have none."""
    return (path / INFO_COPY).exists() and copy_of_info(path) is None


def chunks(path: Path, name: str) -> list[Path]:
    """Return the files of an array of the run at `path`, in order."""
    return sorted(p for p in (path / name / "c").rglob("*") if p.is_file() and p.suffix != ".partial")


def torn(path: Path, *names: str) -> list[Path]:
    """Return the files of arrays that are not as long as they say, as paths below `path`."""
    return [p.relative_to(path) for name in names for p in chunks(path, name) if not is_whole(p)]


def _rows_of(path: Path, name: str) -> set[Path]:
    """Return the parts of rows of which an array has a file, as ROW/PART."""
    return {Path(*p.relative_to(path / name / "c").parts[-2:]) for p in chunks(path, name)}
