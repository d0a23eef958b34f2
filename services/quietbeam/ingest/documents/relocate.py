"""Detector files of a recording that lie elsewhere now: found by the end of their recorded path."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import structlog

from quietbeam.core.errors import InputError

log = structlog.get_logger()

_SUFFIXES = (".h5", ".hdf5", ".hdf", ".nxs", ".nx5")
_MOST_FILES = 200_000
"""That are looked at below the folders: a recording may lie in a home folder."""

Recorded = tuple[str, dict[str, Any]]


def relocate(recorded: Sequence[Recorded], folders: Sequence[Path]) -> list[Recorded]:
    """Point documents at files below `folders` where the file is not at its recorded place any more.

    Of several files of one name the one is taken whose folders are those of the recorded path.

    Raises
    ------
    InputError
        Several files fit equally well; the message names them.
    """
    by_name: dict[str, list[Path]] | None = None

    def found(path: Path) -> Path | None:
        nonlocal by_name
        if path.exists():
            return None
        by_name = _files(folders) if by_name is None else by_name
        return _best(path, by_name.get(path.name, []))

    def moved(name: str, doc: dict[str, Any]) -> dict[str, Any]:
        if name == "stream_resource" and "uri" in doc:
            path = Path("/", unquote(str(doc["uri"]).partition("://")[2].partition("/")[2]))
            new = found(path)
            return doc if new is None else {**doc, "uri": f"file://localhost{quote(str(new.resolve()))}"}
        if name in ("resource", "stream_resource") and "resource_path" in doc:
            new = found(Path(str(doc.get("root") or "/"), str(doc["resource_path"])))
            return doc if new is None else {**doc, "root": str(new.resolve().parent), "resource_path": new.name}
        return doc

    return [(name, moved(name, doc)) for name, doc in recorded]


def _files(folders: Sequence[Path]) -> dict[str, list[Path]]:
    """Return the HDF5 files below folders by name."""
    files: dict[str, list[Path]] = {}
    n_files = 0
    for top in folders:
        for folder, _, names in os.walk(top):
            n_files += len(names)
            if n_files > _MOST_FILES:
                log.warning("relocation_stopped", folder=str(top), files=_MOST_FILES)
                return files
            for name in names:
                if name.lower().endswith(_SUFFIXES):
                    files.setdefault(name, []).append(Path(folder, name))
    return files


def _best(path: Path, candidates: Sequence[Path]) -> Path | None:
    """Return the file whose path ends like the recorded one, for as many folders as possible."""
    unique = list({candidate.resolve(): candidate for candidate in candidates}.values())
    if not unique:
        return None
    same = [
        len(list(takewhile(lambda pair: pair[0] == pair[1], _from_the_end(path, candidate)))) for candidate in unique
    ]
    best = [candidate for candidate, n in zip(unique, same, strict=True) if n == max(same)]
    if len(best) > 1:
        raise InputError(
            f"{path} is not there, and may be any of {', '.join(map(str, best[:4]))}: "
            "keep the folders in which the detector wrote, or give the folder of this scan alone"
        )
    return best[0]


def _from_the_end(path: Path, other: Path) -> list[tuple[str, str]]:
    return list(zip(reversed(path.parts), reversed(other.parts), strict=False))
