"""Finds the damage of a run: what of its files cannot be read, is torn or is missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from quietbeam.core.errors import NotMeasuredError, QuietbeamError

from .damage import is_whole
from .layout import MAP_KINDS, row_arrays
from .run_buffer import RunBuffer, run_path


def damages(root: Path, uid: str, *, maps: bool = True) -> Iterator[str]:
    """Yield what of a run, with or without its maps, cannot be read.

    Its descriptions are read, of its values only how long their files are.
    """
    path = run_path(root, uid)
    try:
        buffer = RunBuffer.open(root, uid)
        buffer.state()
        has_maps = maps and int(buffer.map_attributes().get("version") or 0) > 0
        if maps:
            buffer.evidence()
        for name in (*row_arrays(buffer.info), "measured"):
            buffer.check_array(name)
    except NotMeasuredError:
        return
    except QuietbeamError as error:
        yield error.message
        return
    for name in (*row_arrays(buffer.info), "measured"):
        if bad := torn(path, name):
            yield f"run {uid} is damaged: {len(bad)} file(s) of {name} are torn, the first is {bad[0]}"
    marks = {p.relative_to(path / "measured" / "c") for p in chunks(path, "measured")}
    for name in row_arrays(buffer.info):
        there = {Path(*p.relative_to(path / name / "c").parts[-2:]) for p in chunks(path, name)}
        if lost := sorted(marks - there):
            yield f"run {uid} is damaged: {len(lost)} file(s) of {name} are missing, the first is {name}/{lost[0]}"
    if has_maps and (bad := torn(buffer.maps_folder, *MAP_KINDS)):
        yield f"run {uid} is damaged: {len(bad)} file(s) of its maps are torn, the first is {bad[0]}"


def chunks(path: Path, name: str) -> list[Path]:
    """Return the files of an array of the run at `path`, in order."""
    return sorted(p for p in (path / name / "c").rglob("*") if p.is_file() and p.suffix != ".partial")


def torn(path: Path, *names: str) -> list[Path]:
    """Return the files of arrays that are not as long as they say, as paths below `path`."""
    return [p.relative_to(path) for name in names for p in chunks(path, name) if not is_whole(p)]
