"""What a batch is made of: files named, in folders, by patterns, or runs that a Tiled server has."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import h5py

from quietbeam.core.errors import InputError
from quietbeam.core.settings import Settings
from quietbeam.files.readers.mda import is_mda
from quietbeam.files.readers.microscopy import SUFFIXES as MICROSCOPY
from quietbeam.ingest.documents.recording import is_recording

from .tiled_search import runs_in_tiled

_ENDINGS = (".h5", ".hdf5", ".hdf", ".nxs", ".nx", ".h50", ".npz", ".mda", *MICROSCOPY)
_OTHER_DETECTORS = re.compile(r"(?P<stem>.*\.h5)[1-9]\d*")
"""``stem.h51`` and so on are read with ``stem.h50``."""
_LONGEST_NAME = 200
"""Bytes; file systems allow 255, and results, their records and unfinished files add to it."""
_ZARR = ("zarr.json", ".zgroup", ".zarray")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One source: its path or address, and the name of its result below the output folder, without an ending."""

    source: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What was found, and what was not taken, each with the reason."""

    found: list[Found] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)


def find(sources: Sequence[str], site: Settings, output: Path, tiled: str = "") -> Search:
    """Return every map that the sources name, each once.

    A folder is searched with all folders in it. Its results are named after it and the path in it; those of single
    files and patterns after the file.

    Raises
    ------
    InputError
        A source is not there, the output lies in a source, two results would have the same name, or there is no map.
    """
    search, seen = Search(), set[str]()
    for source in sources:
        for one in _of_source(source, site, tiled, output, search):
            if one.source in seen:
                continue
            seen.add(one.source)
            if why := _unusable_name(one):
                search.unreadable.append((one.source, why))
            else:
                search.found.append(one)
    if not search.found:
        why = "".join(f"; {name}: {reason}" for name, reason in (*search.left_out[:3], *search.unreadable[:3]))
        raise InputError(f"no map found in {', '.join(sources)}{why}")
    _refuse_same_names(search.found)
    return search


def _unusable_name(found: Found) -> str:
    """Return why a result cannot be named after its source; empty when it can."""
    try:
        last = PurePosixPath(found.name).name.encode()
    except UnicodeEncodeError:
        return "its name is no text in UTF-8: rename the file"
    if len(last) > _LONGEST_NAME:
        return f"its name is too long for the name of a result (at most {_LONGEST_NAME} bytes): rename the file"
    return ""


def _of_source(source: str, site: Settings, tiled: str, output: Path, search: Search) -> Iterator[Found]:
    if "://" in source:
        runs, left_out = runs_in_tiled(source, site, tiled)
        search.left_out.extend(left_out)
        yield from (Found(source=uri, name=name) for uri, name in runs)
        return
    paths = [Path(source)]
    if not paths[0].exists():
        paths = [Path(match) for match in sorted(glob.glob(source, recursive=True))]  # noqa: PTH207
        if not paths:
            raise InputError(
                f"there is no {source}: name files, folders, a pattern in quotes, or the address of a Tiled"
            )
    for path in paths:
        if path.is_dir() and not _is_zarr(path):
            _refuse_output_in(path, output)
            yield from _of_folder(path, search)
        elif _stands_for_itself(path):
            yield Found(source=str(path.resolve()), name=_name(PurePosixPath(path.name)))


def _of_folder(folder: Path, search: Search) -> Iterator[Found]:
    """Yield the maps in a folder and those in it, in the order of their names."""
    top = folder.resolve()

    def unreadable(error: OSError) -> None:
        search.unreadable.append((str(error.filename), f"the folder cannot be read: {error.strerror}"))

    for place, folders, files in os.walk(top, onerror=unreadable):
        here = Path(place)
        stores = [name for name in folders if _is_zarr(here / name)]
        folders[:] = sorted(name for name in folders if name not in stores and not name.startswith("."))
        for name in sorted((*files, *stores)):
            path = here / name
            if name.startswith(".") or not (name in stores or (_is_map(path) and _stands_for_itself(path))):
                continue
            yield Found(
                source=str(path), name=_name(PurePosixPath(top.name or "root", path.relative_to(top).as_posix()))
            )


def _is_zarr(path: Path) -> bool:
    return any((path / name).exists() for name in _ZARR)


def _is_map(path: Path) -> bool:
    """Say whether a file may hold a map: by its name, so that damaged ones are reported, else by its first bytes."""
    if path.name.lower().endswith(_ENDINGS) or is_recording(path):
        return True
    try:
        return bool(path.is_file() and (h5py.is_hdf5(path) or is_mda(path)))
    except OSError:
        return False


def _stands_for_itself(path: Path) -> bool:
    match = _OTHER_DETECTORS.fullmatch(path.name)
    return not (match and path.with_name(f"{match['stem']}0").exists())


def _name(path: PurePosixPath) -> str:
    return str(path.with_name(path.name.removesuffix(".h5") or path.name))


def _refuse_output_in(folder: Path, output: Path) -> None:
    """Raise where results would be found as sources the next time."""
    if output.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"the output {output} lies in the source {folder}: choose a folder beside it")


def _refuse_same_names(found: Sequence[Found]) -> None:
    by_name: dict[str, Found] = {}
    for one in found:
        other = by_name.setdefault(one.name.casefold(), one)
        if other is not one:
            raise InputError(
                f"{other.source} and {one.source} would have the same result {one.name}: name the folder above them, "
                "or give them to separate batches with separate output folders"
            )
