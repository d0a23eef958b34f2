"""Denoised maps into files of the programs that people have open: chosen by the name's ending, or by name."""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from quietbeam.core.errors import InputError, ServiceError
from quietbeam.core.version import __version__
from quietbeam.spectra.maps import Axes

from ..map_file import MapFile
from ..names import ascii_name, maps_name, short_name, unlike_names
from ..result import Provenance, Result, kinds, new_hdf5
from ..target import check_target
from .coordinates import coordinates
from .nexus import maps_of_result, nexus_bytes

_OME_UNITS = {"nm": "nanometer", "um": "micrometer", "µm": "micrometer", "μm": "micrometer", "mm": "millimeter"}


def write_pyxrf(path: Path, result: Result, about: Provenance) -> None:
    """Write ``xrfmap/detsum/xrf_fit`` (line, row, col) as a fit of the sum, which PyXRF shows; raw maps beside it."""
    rows, cols = result.denoised.shape[1:]
    with new_hdf5(path) as file:
        group = file.create_group("xrfmap/detsum")
        names = np.array(unlike_names(result.lines, lambda line: ascii_name(short_name(line)))).astype("S")
        for name, image in kinds(result).items():
            suffix = "" if name == "denoised" else f"_{name}"
            group.create_dataset(f"xrf_fit{suffix}", data=image, compression="gzip").attrs["comments"] = name
            group.create_dataset(f"xrf_fit{suffix}_name", data=names).attrs["comments"] = " "
        # PyXRF asks for spectra of the sum: there are none
        group.create_dataset("counts", data=np.zeros((rows, cols, 1), np.float32)).attrs["comments"] = "no spectra"
        y, x = np.meshgrid(*(one.values for one in coordinates(about.axes, (rows, cols))), indexing="ij")
        file["xrfmap/positions/name"] = np.array(["x_pos", "y_pos"]).astype("S20")
        file["xrfmap/positions/pos"] = np.stack([x, y])
        file["xrfmap/scalers/name"] = np.array(["quietbeam_measured"]).astype("S20")
        file["xrfmap/scalers/val"] = result.measured[:, :, None].astype(np.float32)
        metadata = file.create_group("xrfmap/scan_metadata")
        metadata.attrs.update(file_software="quietbeam", file_software_version=__version__, file_format="NSLS2-XRF-MAP")
        metadata.attrs["param_quietbeam"] = json.dumps(
            {"source": about.source, "lines": result.lines, **about.settings}
        )


def write_maps(path: Path, result: Result, about: Provenance) -> None:
    """Write ``MAPS/XRF_Analyzed/ROI`` as XRF-Maps 10 does; counts, not counts per second."""
    names = unlike_names(result.lines, lambda line: ascii_name(maps_name(line)))
    with new_hdf5(path) as file:
        for name, image in kinds(result).items():
            group = file.create_group("MAPS/XRF_Analyzed/" + ("ROI" if name == "denoised" else f"ROI_{name}"))
            data = group.create_dataset("Counts_Per_Sec", data=image, compression="gzip")
            data.attrs["units"] = about.units or "counts"
            group["Channel_Names"] = np.array(names).astype("S256")
            group["Channel_Units"] = np.array([about.units or "counts"] * len(result.lines)).astype("S256")
        rows, cols = coordinates(about.axes, (image.shape[1], image.shape[2]))
        file["MAPS/Scan/x_axis"], file["MAPS/Scan/y_axis"] = cols.values, rows.values
        file["MAPS/version"] = np.float32(10.0)
        file["MAPS/quietbeam"] = json.dumps(
            {"version": __version__, "source": about.source, "lines": result.lines, **about.settings}
        )


def write_tiff(path: Path, result: Result, about: Provenance) -> None:
    """Write float32 pages: all lines denoised, then raw, then uncertainty; each page's description names it."""
    from PIL import Image, TiffImagePlugin

    pages = []
    for name, stack in kinds(result).items():
        for line, image in zip(result.lines, stack, strict=True):
            page = Image.fromarray(image)
            tags = TiffImagePlugin.ImageFileDirectory_v2()
            tags[270] = json.dumps(
                {"line": line, "kind": name, "source": about.source} | ({"units": about.units} if about.units else {})
            )
            tags[305] = f"quietbeam {__version__}"
            page.encoderinfo = {"tiffinfo": tags}
            pages.append(page)
    pages[0].save(path, "TIFF", save_all=True, append_images=pages[1:], tiffinfo=pages[0].encoderinfo["tiffinfo"])


def write_csv(path: Path, result: Result, about: Provenance) -> None:
    """Write the evidence, one row a line."""
    rows = [asdict(line) for line in result.evidence.lines]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow({k: json.dumps(v) if isinstance(v, dict) else v for k, v in row.items()})
    _ = about


def write_ome_zarr(path: Path, result: Result, about: Provenance) -> None:
    """Write OME-Zarr 0.5: axes (c, y, x), one channel a line and kind."""
    import zarr

    stack = np.concatenate(list(kinds(result).values()))
    labels = [f"{line} {name}" for name in kinds(result) for line in result.lines]
    group = zarr.open_group(path, mode="w", zarr_format=3)
    group.create_array("0", data=stack, chunks=(1, *stack.shape[1:]), dimension_names=["c", "y", "x"])
    axes, placed = _ome_axes(about.axes)
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [
            {"name": about.source, "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": placed}]}
        ],
        "omero": {"channels": [_channel(label, image) for label, image in zip(labels, stack, strict=True)]},
    }
    group.attrs["quietbeam"] = {
        "version": __version__,
        "settings": dict(about.settings),
        "evidence": result.evidence.to_dict(),
    }


def _ome_axes(axes: Axes | None) -> tuple[list[Any], list[Any]]:
    """Return the axes (c, y, x) and where they lie: in pixels where steps are unknown."""
    named: list[Any] = [
        {"name": "c", "type": "channel"},
        {"name": "y", "type": "space"},
        {"name": "x", "type": "space"},
    ]
    if axes is None or axes.step is None or 0.0 in axes.step:
        return named, [{"type": "scale", "scale": [1.0, 1.0, 1.0]}]
    if unit := _OME_UNITS.get(axes.units):
        named = [named[0], *(axis | {"unit": unit} for axis in named[1:])]
    origin = axes.origin or (0.0, 0.0)
    return named, [
        {"type": "scale", "scale": [1.0, *axes.step]},
        {"type": "translation", "translation": [0.0, *origin]},
    ]


def _channel(label: str, image: np.ndarray) -> dict[str, Any]:
    low, high = float(image.min()), float(image.max())
    window = {"min": low, "max": high, "start": low, "end": float(np.quantile(image, 0.999)) or high or 1.0}
    return {"label": label, "color": "FFFFFF", "active": label.endswith("denoised"), "window": window}


def _nexus(path: Path, result: Result, about: Provenance) -> None:
    path.write_bytes(nexus_bytes(maps_of_result(result, about)))


FORMATS: dict[str, tuple[tuple[str, ...], Callable[[Path, Result, Provenance], None]]] = {
    "pyxrf": ((".pyxrf.h5",), write_pyxrf),
    "maps": ((".maps.h5",), write_maps),
    "ome-zarr": ((".ome.zarr", ".zarr"), write_ome_zarr),
    "tiff": ((".tif", ".tiff"), write_tiff),
    "csv": ((".csv",), write_csv),
    "nexus": ((".h5", ".hdf5", ".nxs", ".nx"), _nexus),
}
"""Formats with their endings; the first that fits is taken."""


def format_of(path: Path, wanted: str = "") -> str:
    """Return the format of an output file.

    Raises
    ------
    InputError
        Unknown; the message lists formats and endings.
    """
    if wanted:
        if wanted in FORMATS:
            return wanted
        raise InputError(f"no format {wanted!r}; there are {', '.join(FORMATS)}")
    for name, (endings, _) in FORMATS.items():
        if path.name.lower().endswith(endings):
            return name
    every = "; ".join(f"{name} ({', '.join(endings)})" for name, (endings, _) in FORMATS.items())
    raise InputError(f"{path.name} does not say what to write; formats are {every}, or name one with --format")


def _provenance(source: str, settings: Mapping[str, Any], read: MapFile | None, units: str) -> Provenance:
    if read is None:
        return Provenance(source=source, settings=settings, units=units)
    return Provenance(
        source=source,
        settings=settings,
        axes=read.axes,
        order=read.order,
        run_uid=str(read.metadata.get("uid") or read.metadata.get("run_uid") or ""),
        plan=str(read.metadata.get("plan") or ""),
        units=units,
    )


def write_result(
    path: Path,
    result: Result,
    *,
    source: str,
    settings: Mapping[str, Any],
    format: str = "",
    read: MapFile | None = None,
    units: str = "",
) -> str:
    """Write a denoised map, whole or not at all; return the format.

    Parameters
    ----------
    source
        Name of what was denoised.
    settings
        How, plain JSON types.
    read
        What was denoised: its positions and the uid of its run are written, too.
    units
        Of the maps, where these are not as they were counted.

    Raises
    ------
    InputError
        See :func:`check_target`.
    ServiceError
        The disk or the folder failed while it was written.
    """
    path = Path(path)
    name = format_of(path, format)
    check_target(path, name)
    target = path.resolve()
    about = _provenance(source, settings, read, units)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".quietbeam-", dir=target.parent, ignore_cleanup_errors=True) as folder:
            partial = Path(folder) / target.name
            FORMATS[name][1](partial, result, about)
            if target.is_dir():
                target.rename(Path(folder) / "replaced")
            partial.replace(target)
    except OSError as error:
        raise ServiceError(f"{path} could not be written: {error.strerror or error}") from error
    return name
