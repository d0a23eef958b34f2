"""What is known of a finished file, beside its result: by it a batch that is started again skips the file.

A file is skipped when what is read of it, the options, the weights and the version of quietbeam are those of the
record, and the result is still as it was written. Names and times of files say nothing here.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from quietbeam.core.settings import Settings
from quietbeam.core.version import __version__
from quietbeam.denoiser.options import DenoiseOptions
from quietbeam.files import MapFile

from .in_units import calibration_for
from .offline import Writing

_HOW = ("device", "threads", "tile", "weights")
"""Options that say where and how a map is computed; weights are named by their checksum."""


def path_of(target: Path) -> Path:
    """Return where the record of a result lies."""
    return target.with_name(f"{target.name}.json")


def key_of(file: MapFile, options: DenoiseOptions, weights_sha256: str, writing: Writing, site: Settings) -> str:
    """Return the checksum of everything that a result depends on."""
    chosen = {name: value for name, value in asdict(options).items() if name not in _HOW}
    said = {
        "options": chosen,
        "weights": weights_sha256,
        "format": writing.format,
        "units": _what_units_take(file, writing, site),
        "version": __version__,
    }
    text = json.dumps(said, sort_keys=True, default=str)
    return hashlib.sha256(f"{_digest_of_map(file)} {text}".encode()).hexdigest()


def _what_units_take(file: MapFile, writing: Writing, site: Settings) -> list[Any]:
    """Return what the unit of a result is made with: dwell, beam and calibration."""
    if writing.units == "counts":
        return []
    calibration = calibration_for(writing.units, writing.areal_calibration, site)
    known = {} if calibration is None else calibration.to_dict()
    return [writing.units, known, file.metadata.get("dwell_s"), file.metadata.get("start")]


def _digest_of_map(file: MapFile) -> str:
    """Return the checksum of what was read, whichever files it lay in."""
    digest = hashlib.sha256()
    axes = file.axes
    arrays = {
        "counts": file.counts,
        "i0": file.i0,
        "live_time_s": file.live_time_s,
        "measured": file.measured,
        "positions": None if axes is None else axes.positions,
    }
    for name, values in arrays.items():
        if values is None:
            continue
        whole = np.ascontiguousarray(np.ma.filled(values.astype(float), np.nan) if np.ma.isMA(values) else values)
        digest.update(f"{name} {whole.dtype.str} {whole.shape} ".encode())
        digest.update(whole.reshape(-1).view(np.uint8).data)
    placed = None if axes is None else (axes.origin, axes.step, axes.units, axes.names)
    digest.update(json.dumps([file.lines, file.detectors, file.order, placed]).encode())
    return digest.hexdigest()


def digest_of_path(path: Path) -> str:
    """Return the checksum of a file, or of the names and contents of all files in a folder; empty where nothing is."""
    if path.is_file():
        return _digest_of_file(path)
    if not path.is_dir():
        return ""
    digest = hashlib.sha256()
    for one in sorted(file for file in path.rglob("*") if file.is_file()):
        digest.update(f"{one.relative_to(path).as_posix()} {_digest_of_file(one)}\n".encode())
    return digest.hexdigest()


def _digest_of_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_record(target: Path, key: str) -> Mapping[str, Any] | None:
    """Return the record of a result; None where there is none, where it has another key, or the result has changed."""
    try:
        record = json.loads(path_of(target).read_text(encoding="utf-8"))
        fits = record["key"] == key and record["result_sha256"] == digest_of_path(target)
        return dict(record) if fits else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def write_record(target: Path, key: str, outcome: Mapping[str, Any]) -> None:
    """Write the record of a result, whole or not at all.

    Raises
    ------
    OSError
        The disk is full, or the folder cannot be written.
    """
    record = {"version": __version__, "key": key, "result_sha256": digest_of_path(target), "outcome": outcome}
    path = path_of(target)
    partial = path.with_name(f".quietbeam-{os.getpid()}-{path.name}")
    try:
        partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
