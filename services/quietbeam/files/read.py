"""Any file of a measured map: what it is, it says itself."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from quietbeam.core.errors import FileFormatError, InputError, QuietbeamError
from quietbeam.core.hdf5 import open_hdf5
from quietbeam.spectra import LineMap, SpectralMap, spectra_to_lines
from quietbeam.spectra.fit import fit_lines

from .choice import ReadChoice
from .map_file import MapFile
from .readers import own
from .readers.mda import is_mda
from .readers.measured import FORMATS, SUFFIXES, read_measured
from .target import is_our_hdf5

_DAMAGED = (OSError, ValueError, LookupError, EOFError, RuntimeError, TypeError, zipfile.BadZipFile, zlib.error)
"""What h5py, zarr and zipfile raise on files that are cut or overwritten."""

_GEOPIXE = {".dai", ".lmf", ".mpd"}


def read_map(
    path: Path,
    lines: Sequence[str] = (),
    calibration: Path | None = None,
    *,
    fit: bool = False,
    choice: ReadChoice | None = None,
    scan: str = "",
) -> MapFile:
    """Read a measured map.

    Ours (HDF5, zarr, .npz with ``counts``; the raw maps of a NeXus file that we wrote), or spectra and fits of PyXRF,
    MAPS, BLISS and MDA.

    Parameters
    ----------
    lines
        Lines to take; of spectra the lines to cut out, by default every line with a peak.
    calibration
        JSON with the energy calibration of spectra; see :func:`read_measured`.
    fit
        Fit spectra instead of summing windows; see :func:`quietbeam.spectra.fit.fit_lines`.
    choice
        What to take where the file leaves a choice.
    scan
        Short for ``choice=ReadChoice(scan=...)``.

    Raises
    ------
    FileFormatError
        The file is not there, not readable, or of no known kind.
    InputError
        A line is not in the file, or the choice does not fit it; the message shows what would work.
    """
    path = Path(path)
    choice = choice or ReadChoice()
    choice = replace(choice, scan=scan) if scan else choice
    if not path.exists():
        raise FileFormatError(f"{path} does not exist")
    if not os.access(path, os.R_OK):
        raise FileFormatError(f"{path} may not be read by you: ask for its permissions to be changed")
    try:
        by_ending = path.is_file() and path.suffix.lower() in SUFFIXES
        found = None if by_ending or choice.dataset else _read_quietbeam(path)
        if found is None:
            return _foreign(path, lines, calibration, fit=fit, choice=choice)
    except QuietbeamError:
        raise
    except _DAMAGED as error:
        raise FileFormatError(f"{path} cannot be read (is it whole?): {error or type(error).__name__}") from error
    choice.refuse_others(path, "a file of quietbeam")
    _no_options_for_spectra(path, fit, calibration)
    return found.select(lines) if lines else found


def read_spectra(path: Path, calibration: Path | None = None, choice: ReadChoice | None = None) -> SpectralMap | None:
    """Return the spectra of a measured map; None where the file holds counts or fits of lines.

    Raises
    ------
    FileFormatError
        See :func:`read_map`.
    """
    choice = choice or ReadChoice()
    try:
        by_ending = path.is_file() and path.suffix.lower() in SUFFIXES
        if not by_ending and not choice.dataset and _read_quietbeam(path) is not None:
            return None
        measured = read_measured(path, calibration, choice)
    except QuietbeamError:
        raise
    except _DAMAGED as error:
        raise FileFormatError(f"{path} cannot be read (is it whole?): {error or type(error).__name__}") from error
    return measured if isinstance(measured, SpectralMap) else None


def _read_quietbeam(path: Path) -> MapFile | None:
    """Return our own kind of file, None for another's."""
    if path.is_dir():
        return own.read_zarr(path)
    if path.suffix == ".npz":
        if not zipfile.is_zipfile(path):
            raise FileFormatError(f"{path} is no .npz archive, or only a part of one")
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            if "spectra" in archive and "counts" not in archive:
                return None
        return own.read_npz(path)
    if h5py.is_hdf5(path):
        with open_hdf5(path) as file:
            return own.read_hdf5(path, file)
    if is_mda(path):
        return None
    if path.suffix.lower() in _GEOPIXE:
        raise FileFormatError(
            f"{path}: of GeoPIXE only pixel lists (.GeoPIXE) are read: save the image of each element and detector "
            "there as TIFF, and give the stack with --axes (docs/reference/files.md, Files of GeoPIXE)"
        )
    raise FileFormatError(f"{path} is neither HDF5, zarr, .npz nor MDA; {own.WANTED}, or be of {', '.join(FORMATS)}")


def _no_options_for_spectra(path: Path, fit: bool, calibration: Path | None) -> None:
    if fit or calibration is not None:
        option = "--fit" if fit else "--calibration"
        raise InputError(f"{path} holds counts or fits of lines, no spectra: leave {option} out")


def _foreign(path: Path, lines: Sequence[str], calibration: Path | None, *, fit: bool, choice: ReadChoice) -> MapFile:
    measured = read_measured(path, calibration, choice)
    cut = not isinstance(measured, LineMap)
    if isinstance(measured, LineMap):
        _no_options_for_spectra(path, fit, calibration)
        found = measured
    else:
        found = (fit_lines if fit else spectra_to_lines)(measured, list(lines) or None)
    info = found.info
    is_result = h5py.is_hdf5(path) and is_our_hdf5(path)
    remarks = (
        [f"{path.name} is a result of quietbeam: what is denoised once more is its denoised map"] if is_result else []
    )
    file = MapFile(
        counts=found.counts,
        lines=found.lines,
        detectors=info.detectors,
        i0=info.i0,
        live_time_s=info.live_time_s,
        measured=found.measured,
        axes=info.axes,
        order=info.order,
        metadata={"source": info.source, **({} if info.dwell_s is None else {"dwell_s": info.dwell_s})},
        remark="; ".join((*info.remarks, *remarks)),
    )
    return file if cut or not lines else file.select(lines)
