"""Where a result is to be written: refused before anything is computed, if it cannot be or would destroy something."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import h5py

from quietbeam.core.errors import InputError
from quietbeam.core.hdf5 import open_hdf5


def check_target(path: Path, format: str, source: Path | None = None) -> None:
    """Check that a result can be written.

    Parameters
    ----------
    format
        One of ``FORMATS``.
    source
        The file or folder that is denoised.

    Raises
    ------
    InputError
        The output is, holds or lies in the input; or something is there that quietbeam did not write; or nothing can be
        written there.
    """
    try:
        target = path.resolve()
        if source is not None and source.exists() and _overlap(target, source.resolve()):
            raise InputError(
                f"the output {path} would overwrite the input {source}, or lie inside it; choose another name"
            )
        if target.is_dir():
            if format != "ome-zarr" or not is_our_zarr(target):
                raise InputError(f"{path} is a folder that holds something else; choose another name")
        elif target.exists():
            if format == "ome-zarr" or not target.is_file():
                raise InputError(f"{path} is there already, and cannot be replaced by {format}; choose another name")
            if h5py.is_hdf5(target) and not is_our_hdf5(target):
                raise InputError(f"{path} holds data that quietbeam did not write; choose another name, or delete it")
        folder = next(parent for parent in target.parents if parent.exists())
        tempfile.TemporaryDirectory(prefix=".quietbeam-", dir=folder).cleanup()
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror or error}); choose another place") from error


def _overlap(target: Path, source: Path) -> bool:
    """Tell whether one is the other, or lies in it."""
    inside = any(folder.exists() and folder.samefile(source) for folder in (target, *target.parents))
    return inside or (target.exists() and any(folder.samefile(target) for folder in source.parents))


def is_our_zarr(path: Path) -> bool:
    """Tell an OME-Zarr that quietbeam wrote from any other folder, a run's buffer above all."""
    try:
        attributes = json.loads((path / "zarr.json").read_text(encoding="utf-8"))["attributes"]
        return {"ome", "quietbeam"} <= set(attributes)
    except (OSError, ValueError, LookupError, TypeError):
        return False


def is_our_hdf5(path: Path) -> bool:
    """Tell a result that quietbeam wrote from any other HDF5 file, such as one of a detector."""
    try:
        with open_hdf5(path) as file:
            if "entry/process/program" in file:
                return bool(file["entry/process/program"][()] == b"quietbeam")
            return "MAPS/quietbeam" in file or "xrfmap/detsum/xrf_fit_uncertainty" in file
    except (OSError, RuntimeError, LookupError, ValueError):  # what h5py raises on files that are cut or overwritten
        return False
