"""Arrays in files that say little of themselves: .npy, TIFF stacks, and a dataset of HDF5 or zarr that a user names."""

from __future__ import annotations

import json
from pathlib import Path
from tokenize import TokenError
from typing import Any

import h5py
import numpy as np

from quietbeam.core.errors import FileFormatError, InputError, ServiceError
from quietbeam.core.hdf5 import refuse_missing_filters
from quietbeam.spectra import LineMap, MapInfo, SpectralMap

from ..choice import ReadChoice, command_line
from ..names import line_name
from .arrays import NO_I0, NamedArray, axes_for, map_of_array
from .calibration import calibration_of, refuse_giants
from .hdf5_spectra import open_spectra
from .points import in_order

COUNTS = ("detector", "line", "row", "col")
EXTRA = "pip install 'quietbeam[formats]'"


def read_npy(path: Path, calibration: Path | None, choice: ReadChoice) -> SpectralMap | LineMap:
    """Read an .npy array: with four axes counts (detector, line, row, col), else as ``axes`` says."""
    choice.refuse_others(path, "an .npy file", "axes", "shape", "snake", "energy")
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, SyntaxError, TokenError) as error:
        raise FileFormatError(f"{path} cannot be read: it holds Python objects, or is not whole ({error})") from error
    axes = axes_for(path, values.shape, choice, COUNTS if values.ndim == 4 else None)
    return map_of_array(path, NamedArray(values=values, axes=axes), calibration, choice)


def read_tiff(path: Path, calibration: Path | None, choice: ReadChoice) -> SpectralMap | LineMap:
    """Read a TIFF stack: one page a line of one detector, or as ``axes`` says."""
    choice.refuse_others(path, "a TIFF stack", "axes", "shape", "snake", "energy")
    try:
        import tifffile
    except ImportError as error:
        raise ServiceError(f"{path}: reading TIFF needs tifffile: {EXTRA}") from error
    try:
        with tifffile.TiffFile(path) as file:
            labels = [getattr(page, "description", "") or "" for page in file.pages]
            refuse_giants(path, int(np.prod(file.series[0].shape)) * file.series[0].dtype.itemsize)
            values = file.asarray()
    except (tifffile.TiffFileError, ArithmeticError, LookupError) as error:
        raise FileFormatError(f"{path} is no whole TIFF file: {error}") from error
    lines, pages, remarks = _pages(path, labels)
    if pages is not None:
        values = values[pages]
    axes = axes_for(path, values.shape, choice, {2: ("row", "col"), 3: ("line", "row", "col")}.get(values.ndim))
    array = NamedArray(values=values, axes=axes, lines=lines, remarks=remarks)
    return map_of_array(path, array, calibration, choice)


def _pages(path: Path, labels: list[str]) -> tuple[tuple[str, ...], list[int] | None, tuple[str, ...]]:
    """Return the lines of the pages, and of our own stack which pages are its raw maps."""
    descriptions: list[dict[str, Any]] = []
    for label in labels:
        try:
            entry = json.loads(label)
        except ValueError:
            entry = None
        descriptions.append(entry if isinstance(entry, dict) else {})
    if descriptions and all({"line", "kind"} <= set(entry) for entry in descriptions):
        raw = [n for n, entry in enumerate(descriptions) if entry["kind"] == "raw"]
        remark = f"{path.name} is a result of quietbeam: what is denoised is its raw map, the sum of its detectors"
        return tuple(str(descriptions[n]["line"]) for n in raw), raw, (remark,)
    names = tuple(line_name(label) for label in labels)
    return (names if all(names) and len(set(names)) == len(names) else ()), None, ()


def read_dataset(path: Path, file: h5py.File, calibration: Path | None, choice: ReadChoice) -> SpectralMap | LineMap:
    """Read the dataset that a user names; several, separated by commas, are one detector each."""
    choice.refuse_others(path, "an array of HDF5", "entry", "dataset", "axes", "shape", "snake", "energy")
    found = [_dataset(path, file, f"{choice.entry}/{name}" if choice.entry else name) for name in choice.datasets]
    first = found[0]
    usual = COUNTS if first.ndim == 4 and len(found) == 1 else None
    axes = axes_for(path, first.shape, choice, usual)
    if "channel" not in axes:
        if len({data.shape for data in found}) > 1:
            raise FileFormatError(f"{path}: the datasets have different shapes: {[data.shape for data in found]}")
        for data in found:
            refuse_missing_filters(path, data)
        stacked = first if len(found) == 1 else np.stack([data[()] for data in found])
        array = NamedArray(values=stacked, axes=axes if len(found) == 1 else ("detector", *axes))
        return map_of_array(path, array, calibration, choice)
    return _spectra(path, file, [(data.name, axes) for data in found], calibration, choice)


def read_zarr_array(path: Path, calibration: Path | None, choice: ReadChoice) -> SpectralMap | LineMap:
    """Read the array of a zarr group that a user names."""
    import zarr

    choice.refuse_others(path, "an array of zarr", "entry", "dataset", "axes", "shape", "snake", "energy")
    name = f"{choice.entry}/{choice.dataset}" if choice.entry else choice.dataset
    values = zarr.open_group(path, mode="r").get(name)
    if not isinstance(values, zarr.Array):
        raise InputError(f"{path} has no array {name}")
    axes = axes_for(path, values.shape, choice, COUNTS if values.ndim == 4 else None)
    return map_of_array(path, NamedArray(values=values, axes=axes), calibration, choice)


def _dataset(path: Path, file: h5py.File, name: str) -> h5py.Dataset:
    data = file.get(name)
    if isinstance(data, h5py.Dataset):
        return data
    present: list[str] = []

    def collect(key: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim > 1:
            present.append(f"{key} {item.shape}")

    file.visititems(collect)
    example = present[0].split()[0] if present else "entry/data/data"
    raise InputError(
        f"{path} has no dataset {name}; arrays in it: {', '.join(present[:12]) or 'none'}. Name one, as in: "
        f"{command_line(path, f'--dataset {example}', '--axes row,col,channel')}"
    )


def _spectra(
    path: Path, file: h5py.File, parts: list[tuple[str, tuple[str, ...]]], calibration: Path | None, choice: ReadChoice
) -> SpectralMap:
    spectra = open_spectra(path, file, parts)
    points, detectors, _ = spectra.source.shape
    shape = choice.shape or spectra.grid
    if shape is None:
        raise FileFormatError(
            f"{path}: {parts[0][0]} is a list of {points} points: say rows x columns, as in: "
            f"{command_line(path, f'--dataset {choice.dataset}', '--shape 6x8')}"
        )
    placed = in_order(points, shape, snake=bool(choice.snake))
    energies = calibration_of(path, calibration, detectors, None, choice)
    named = len(parts) == detectors > 1
    info = MapInfo(
        source=path.name,
        detectors=tuple(parts[d][0].strip("/") if named else f"det{d + 1}" for d in range(detectors)),
        shape=shape,
        measured=np.asarray(placed.sum((~spectra.present).astype(int)) == 0) & placed.measured,
        order="assumed",
        remarks=(*spectra.remarks, *energies.remarks, NO_I0),
    )
    return SpectralMap(info=info, spectra=spectra.source, calibration=energies.kev, pixels=placed.pixels)
